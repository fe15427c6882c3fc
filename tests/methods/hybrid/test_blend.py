"""How much of a hybrid prediction is retrieval, how much regression, and how much each encoder counts."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bleep_sc.methods.hybrid.blend import (
    PREDICTORS,
    REGRESSIONS,
    Blend,
    HeldOutPart,
    Setting,
    choose_blend,
    equal_shares,
    possible_shares,
)

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
    return part_of(true, loadings, {(1.0,): scores["retrieval"]}, [{one: scores[one] for one in REGRESSIONS}])


def part_of(true: np.ndarray, loadings: np.ndarray, retrieved: Any, regressed: Any) -> HeldOutPart:
    leading = np.arange(loadings.shape[1]) < 10
    return HeldOutPart(retrieved, regressed, 0, np.arange(len(true)), true @ loadings, loadings, leading)


def predicted(part: HeldOutPart, one: str, setting: Setting) -> np.ndarray:
    """What one predictor says of a part that a single encoder sees."""
    by_setting = part.retrieved[1.0,] if one == "retrieval" else part.regressed[0][one]
    return by_setting[setting]


def settings_of(blend: Blend) -> dict[str, Setting]:
    return {"retrieval": blend.neighbors, **blend.settings[0]}


@pytest.mark.parametrize("best", PREDICTORS)
def test_chooses_the_one_way_that_is_the_truth(best: str) -> None:
    noise = dict.fromkeys(PREDICTORS, 9.0) | {best: 0.0}
    blend, score = choose_blend([held_out(noise, seed=seed) for seed in range(2)])
    assert blend.weights == {one: float(one == best) for one in PREDICTORS}
    assert settings_of(blend)[best] == SETTINGS[best][1]
    assert blend.shares == (1,)
    assert score == pytest.approx(1)


@pytest.mark.parametrize("better", [0, 1])
def test_each_way_takes_its_own_best_setting(better: int) -> None:
    blend, _ = choose_blend([held_out(dict.fromkeys(PREDICTORS, 0.5), better=better, seed=seed) for seed in range(3)])
    assert settings_of(blend) == {one: SETTINGS[one][better] for one in PREDICTORS}


def test_independent_errors_are_averaged_out() -> None:
    """Three ways equally good and with errors of their own: their mix beats each, and all take part."""
    parts = [held_out(dict.fromkeys(PREDICTORS, 1.0), seed=seed) for seed in range(4)]
    blend, score = choose_blend(parts)
    assert sum(blend.weights.values()) == pytest.approx(1)
    assert all(weight in (0.25, 0.5) for weight in blend.weights.values())
    for one in PREDICTORS:
        alone = [correlation(part, predicted(part, one, settings_of(blend)[one])) for part in parts]
        assert score > np.mean(alone) + 0.05
    mixed = [
        sum(blend.weights[one] * predicted(part, one, settings_of(blend)[one]) for one in PREDICTORS) for part in parts
    ]
    for part, expected in zip(parts, mixed, strict=True):
        np.testing.assert_allclose(blend.mix(part), expected, rtol=1e-12)
    assert score == pytest.approx(np.mean([correlation(part, blend.mix(part)) for part in parts]))


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
            retrieved={
                shares: {s: v + 50 * number for s, v in found.items()} for shares, found in part.retrieved.items()
            },
            regressed=[
                {one: {s: v + 50 * number for s, v in found.items()} for one, found in own.items()}
                for own in part.regressed
            ],
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
        fewer = replace(parts[1], retrieved={(1.0,): {(25,): parts[1].retrieved[1.0,][25,]}})
        blend, _ = choose_blend([fewer if part is parts[1] else part for part in order])
        assert blend.neighbors == (25,)


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


def seen_by(noise: Sequence[float], *, seed: int = 0, n: int = 60, several_shares: bool = True) -> HeldOutPart:
    """One part that encoders see with noise of their own; retrieval compares what all of them see."""
    rng = np.random.default_rng(seed)
    true, loadings = rng.normal(size=(n, 3)), rng.normal(size=(3, 20))
    of_encoders = [true + own * rng.normal(size=true.shape) for own in noise]
    shares_to_try = possible_shares(len(noise)) if several_shares else [equal_shares(len(noise))]
    retrieved = {
        shares: {(25,): sum(s * v for s, v in zip(shares, of_encoders, strict=True))} for shares in shares_to_try
    }
    regressed = [{"linear": {(1.0, 5): own}, "kernel": {(0.1, 5): own}} for own in of_encoders]
    return part_of(true, loadings, retrieved, regressed)


@pytest.mark.parametrize("n_encoders", [1, 2, 3, 5])
def test_shares_to_choose_from(n_encoders: int) -> None:
    found = possible_shares(n_encoders)
    assert found[0] == equal_shares(n_encoders) == (1 / n_encoders,) * n_encoders
    assert len(set(found)) == len(found) == (1 if n_encoders == 1 else n_encoders + 1)
    assert all(sum(shares) == pytest.approx(1) for shares in found)
    assert all(max(shares) == 0.75 and shares.index(0.75) == e for e, shares in enumerate(found[1:]))


@pytest.mark.parametrize("noisy", [0, 1])
def test_an_encoder_that_sees_nothing_counts_less(noisy: int) -> None:
    noise = [9.0 if e == noisy else 0.3 for e in range(2)]
    blend, score = choose_blend([seen_by(noise, seed=seed) for seed in range(3)])
    assert blend.shares == ((0.25, 0.75) if noisy == 0 else (0.75, 0.25))
    alike, equally = choose_blend([seen_by(noise, seed=seed, several_shares=False) for seed in range(3)])
    assert alike.shares == (0.5, 0.5), "no others were tried"
    assert score > equally + 0.1


def test_encoders_that_see_about_alike_count_alike() -> None:
    """Other shares must gain more than .005: the best of several is better by chance."""
    parts = [seen_by([1.0, 1.05, 0.95], seed=seed) for seed in range(4)]
    blend, score = choose_blend(parts)
    assert blend.shares == equal_shares(3)
    one_leads = [
        replace(part, retrieved={shares: part.retrieved[shares]}) for shares in possible_shares(3)[1:] for part in parts
    ]
    assert score > choose_blend(one_leads[:4])[1] - 0.005


def test_regressions_of_encoders_are_averaged_by_their_shares() -> None:
    part = seen_by([0.5, 9.0], seed=1)
    blend, _ = choose_blend([part])
    linear = Blend(blend.neighbors, blend.settings, {"retrieval": 0.0, "linear": 1.0, "kernel": 0.0}, (0.75, 0.25))
    first, second = (own["linear"][1.0, 5] for own in part.regressed)
    np.testing.assert_allclose(linear.mix(part), 0.75 * first + 0.25 * second, rtol=1e-12)
