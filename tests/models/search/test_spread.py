"""How far a joint space is from collapse."""

import numpy as np
import pytest

from bleep_sc.models.search import spread
from bleep_sc.models.search.spread import measure_spread


def space(n: int = 400, d: int = 8, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def test_spots_that_all_look_alike_are_a_collapse() -> None:
    image, profile = space(), space(seed=1)
    assert not measure_spread(image, profile).collapsed
    alike = measure_spread(image + 100, profile)
    assert alike.image_cosine > 0.99
    assert alike.collapsed


def test_few_profiles_that_all_images_find_are_a_collapse() -> None:
    image, profile = space(), space(seed=1)
    found = measure_spread(np.abs(image), np.where(np.arange(400)[:, None] < 50, np.abs(profile), -np.abs(profile)))
    assert found.in_use <= 50
    assert found.collapsed


def test_of_very_many_spots_some_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    image, profile = space(), space(seed=1)
    whole = measure_spread(image, profile)
    expected = measure_spread(image[::4][:-1], profile[::4][:-1])
    monkeypatch.setattr(spread, "_MOST_SPOTS", 99)
    rows = np.linspace(0, 399, 99).astype(int)
    some = measure_spread(image, profile)
    assert some == measure_spread(image[rows], profile[rows])
    assert (some.n_reference, whole.n_reference) == (99, 400)
    assert some.image_cosine == pytest.approx(expected.image_cosine, abs=0.05)
