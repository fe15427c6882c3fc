"""How much of a hybrid prediction is retrieval, and how much regression."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from bleep_sc.methods.hybrid.blend import PREDICTORS, HeldOutPart, choose_blend

SETTINGS = {"retrieval": [(25,), (50,)], "linear": [(1.0, 5), (10.0, 5)], "kernel": [(0.1, 5), (1.0, 8)]}


def held_out(noise: Mapping[str, float], *, better: int = 1, seed: int = 0, n: int = 60) -> HeldOutPart:
    """One part whose truth each way predicts with noise of its own; one setting of each way is better."""
    rng = np.random.default_rng(seed)
    true, loadings = rng.normal(size=(n, 3)), rng.normal(size=(3, 20))
    scores = {
        one: {
            setting: true + (noise[one] + (0.5 if which != better else 0)) * rng.normal(size=true.shape)
            for which, setting in enumerate(SETTINGS[one])
        }
        for one in PREDICTORS
    }
    return HeldOutPart(0, np.arange(n), true @ loadings, loadings, np.arange(20) < 10, scores)


@pytest.mark.parametrize("best", PREDICTORS)
def test_chooses_the_one_way_that_is_the_truth(best: str) -> None:
    noise = dict.fromkeys(PREDICTORS, 9.0) | {best: 0.0}
    blend, score = choose_blend([held_out(noise, seed=seed) for seed in range(2)])
    assert blend.weights == {one: float(one == best) for one in PREDICTORS}
    assert blend.settings[best] == SETTINGS[best][1]
    assert score == pytest.approx(1)


@pytest.mark.parametrize("better", [0, 1])
def test_each_way_takes_its_own_best_setting(better: int) -> None:
    blend, _ = choose_blend([held_out(dict.fromkeys(PREDICTORS, 0.5), better=better, seed=seed) for seed in range(3)])
    assert blend.settings == {one: SETTINGS[one][better] for one in PREDICTORS}


def test_independent_errors_are_averaged_out() -> None:
    """Three ways equally good and with errors of their own: their mix beats each, and all take part."""
    parts = [held_out(dict.fromkeys(PREDICTORS, 1.0), seed=seed) for seed in range(4)]
    blend, score = choose_blend(parts)
    assert sum(blend.weights.values()) == pytest.approx(1)
    assert all(weight in (0.25, 0.5) for weight in blend.weights.values())
    for one in PREDICTORS:
        alone = [correlation(part, part.scores[one][blend.settings[one]]) for part in parts]
        assert score > np.mean(alone) + 0.05
    mixed = [
        correlation(part, sum(blend.weights[one] * part.scores[one][blend.settings[one]] for one in PREDICTORS))  # type: ignore[arg-type]
        for part in parts
    ]
    assert score == pytest.approx(np.mean(mixed))


def correlation(part: HeldOutPart, scores: np.ndarray) -> float:
    """Mean over all genes and over the leading ones, half each."""
    predicted = scores @ part.loadings
    by_gene = np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(part.truth.T, predicted.T, strict=True)])
    return float(by_gene.mean() + by_gene[part.leading].mean()) / 2


def test_parts_count_alike_whatever_their_size() -> None:
    """The way that is right on two small parts wins over the one that is right on a large part."""
    linear = dict.fromkeys(PREDICTORS, 9.0) | {"linear": 0.0}
    kernel = dict.fromkeys(PREDICTORS, 9.0) | {"kernel": 0.0}
    parts = [held_out(linear, seed=0, n=20), held_out(linear, seed=1, n=20), held_out(kernel, seed=2, n=400)]
    blend, _ = choose_blend(parts)
    assert blend.weights["linear"] > blend.weights["kernel"]


def test_shifts_between_parts_do_not_count() -> None:
    """Scores are taken within each part: a level of a whole section is no merit."""
    parts = [held_out(dict.fromkeys(PREDICTORS, 1.0), seed=seed) for seed in range(2)]
    moved = [
        replace(
            part,
            truth=part.truth + 100 * number,
            scores={one: {s: v + 50 * number for s, v in found.items()} for one, found in part.scores.items()},
        )
        for number, part in enumerate(parts)
    ]
    before, after = choose_blend(parts), choose_blend(moved)
    assert before[0] == after[0]
    assert before[1] == pytest.approx(after[1])


def test_only_settings_that_all_parts_have_are_chosen() -> None:
    """Folds of a few spots cannot average as many neighbours."""
    parts = [held_out(dict.fromkeys(PREDICTORS, 0.5), seed=seed) for seed in range(2)]
    for order in (parts, parts[::-1]):
        scores = {one: dict(found) for one, found in parts[1].scores.items()}
        del scores["retrieval"][50,]
        fewer = replace(parts[1], scores=scores)
        blend, _ = choose_blend([fewer if part is parts[1] else part for part in order])
        assert blend.settings["retrieval"] == (25,)


def test_genes_that_do_not_vary_count_as_nothing() -> None:
    part = held_out(dict.fromkeys(PREDICTORS, 9.0) | {"linear": 0.0})
    part.truth[:, :10] = 0
    blend, score = choose_blend([part])
    assert blend.weights["linear"] == 1
    assert score == pytest.approx((0.5 + 0) / 2)


def test_the_linear_way_keeps_a_share() -> None:
    """As with two patients, where the other ways look better than they are."""
    noise = dict.fromkeys(PREDICTORS, 0.0) | {"linear": 9.0}
    parts = [held_out(noise, seed=seed) for seed in range(2)]
    assert choose_blend(parts)[0].weights["linear"] == 0
    weights = choose_blend(parts, least_linear=1 / 3)[0].weights
    assert weights["linear"] == pytest.approx(1 / 3)
    assert sum(weights.values()) == pytest.approx(1)
    best = choose_blend([held_out(dict.fromkeys(PREDICTORS, 9.0) | {"linear": 0.0})], least_linear=1 / 3)[0]
    assert best.weights["linear"] == pytest.approx(1)
