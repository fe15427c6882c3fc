"""Measured spots correct a prediction where it misses something smooth, and leave it where it does not."""

import numpy as np
import pytest
from scipy import sparse

from bleep_sc._grid import spacing
from bleep_sc.methods.measured import blocks, process
from bleep_sc.methods.measured.blocks import blocks_of, patches_of
from bleep_sc.methods.measured.correct import FEWEST_MEASURED, correct
from bleep_sc.methods.measured.prior import Prior
from bleep_sc.methods.measured.process import Field, krige
from bleep_sc.metrics import pearson

SIDE, N_GENES = 12, 20
LATTICE = 10.0 * np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE)), axis=-1).reshape(-1, 2)


def programmes(rng: np.random.Generator, wave: float) -> np.ndarray:
    """Two smooth maps of a section (n, 2), each with a phase of its own."""
    phases = rng.uniform(0, 2 * np.pi, size=2)
    return np.stack([np.sin(LATTICE[:, i] / wave + phases[i]) for i in range(2)], axis=1)


def section(seed: int, *, noise: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """Truth with and without noise: genes follow two maps over the section."""
    rng = np.random.default_rng(seed)
    loadings = np.random.default_rng(0).normal(size=(2, N_GENES))
    clean = 4 + programmes(rng, 25.0) @ loadings
    return clean, (clean + noise * rng.normal(size=clean.shape)).astype(np.float32)


@pytest.fixture(scope="module")
def prior() -> Prior:
    values = np.concatenate([section(seed)[1] for seed in (1, 2, 3)])
    sections = np.repeat(np.array(["a", "b", "c"], dtype=object), len(LATTICE))
    return Prior.learn(values, sections, np.tile(LATTICE, (3, 1)))


def some(n: int, seed: int = 0) -> np.ndarray:
    return np.sort(np.random.default_rng(seed).choice(len(LATTICE), n, replace=False))


def test_the_reference_tells_signal_from_noise(prior: Prior) -> None:
    assert (prior.signal[:2] > 5 * prior.noise[:2]).all()
    np.testing.assert_allclose(prior.noise[2:10], 0.09, rtol=0.5)
    assert (prior.signal[2:10] < 0.5 * prior.noise[2:10]).all()


def test_a_dense_and_a_sparse_reference_are_alike(prior: Prior) -> None:
    values = np.concatenate([section(seed)[1] for seed in (1, 2, 3)])
    sections = np.repeat(np.array(["a", "b", "c"], dtype=object), len(LATTICE))
    of_sparse = Prior.learn(sparse.csr_matrix(values), sections, np.tile(LATTICE, (3, 1)))
    np.testing.assert_allclose(of_sparse.signal, prior.signal, rtol=1e-4)
    np.testing.assert_allclose(of_sparse.variance, prior.variance, rtol=1e-4)


def test_a_reference_without_neighbours_shares_the_variance() -> None:
    values = np.concatenate([section(seed)[1][:2] for seed in range(6)])
    apart = Prior.learn(values, np.repeat(np.array(list("abcdef"), dtype=object), 2), np.zeros((12, 2)))
    np.testing.assert_allclose(apart.noise[:6], apart.signal[:6])


def test_a_reference_in_which_nothing_varies_has_no_signal() -> None:
    values = np.concatenate([section(seed)[1][:1] for seed in range(6)])
    lonely = Prior.learn(values, np.array(list("abcdef"), dtype=object), np.zeros((6, 2)))
    assert (lonely.noise > 0).all()
    assert (lonely.signal == 0).all()


@pytest.mark.parametrize("n", [9, 20, 40])
def test_a_smooth_miss_is_mended(prior: Prior, n: int) -> None:
    """The prediction knows the mean of each gene only."""
    gains = []
    for seed in range(10, 14):
        clean, noisy = section(seed)
        predicted = np.full_like(noisy, 4.0)
        measured = some(n, seed)
        found = correct(predicted, measured, noisy[measured], LATTICE, prior)
        rest = np.setdiff1d(np.arange(len(LATTICE)), measured)
        gains.append(pearson(clean[rest], found.expression[rest]).mean())
        assert found.gain > 0
        assert found.shrinkage > 0
        assert found.length > 10
    assert np.mean(gains) > {9: 0.5, 20: 0.75, 40: 0.9}[n]


def test_nothing_smooth_is_missed(prior: Prior) -> None:
    """The prediction is the truth below the noise: what is added is next to nothing."""
    for seed in range(20, 26):
        clean, noisy = section(seed)
        measured = some(20, seed)
        found = correct(clean.astype(np.float32), measured, noisy[measured], LATTICE, prior)
        assert np.sqrt(np.mean((found.expression - clean) ** 2)) < 0.05
        assert pearson(clean, found.expression).mean() > 0.995


def test_blocks_that_do_not_support_a_pattern_forbid_it(prior: Prior) -> None:
    """Residuals that turn sign from block to block, as no smooth map does."""
    _, noisy = section(30)
    measured = some(20, 3)
    refused = 0
    for seed in range(10):
        signs = np.random.default_rng(seed).choice([-2.0, 2.0], size=(20, 1))
        found = correct(noisy, measured, noisy[measured] + signs, LATTICE, prior)
        refused += found.shrinkage == 0
        if found.shrinkage == 0:
            assert np.isnan(found.length)
            assert found.gain == 0
            rest = np.setdiff1d(np.arange(len(LATTICE)), measured)
            change = found.expression[rest] - noisy[rest]
            np.testing.assert_allclose(change, np.tile(change[:1], (len(rest), 1)), atol=1e-5)
    assert refused >= 5


def test_a_level_is_mended(prior: Prior) -> None:
    clean, noisy = section(40)
    predicted = (clean + np.linspace(-1, 1, N_GENES)).astype(np.float32)
    measured = some(12)
    found = correct(predicted, measured, noisy[measured], LATTICE, prior)
    rest = np.setdiff1d(np.arange(len(LATTICE)), measured)
    before, after = (np.abs((each - clean)[rest].mean(axis=0)).mean() for each in (predicted, found.expression))
    assert after < 0.3 * before


def test_a_measured_spot_does_not_see_itself(prior: Prior) -> None:
    """Nor its block: what others get does change with it."""
    _, noisy = section(50)
    predicted, measured = np.full_like(noisy, 4.0), some(20)
    (block, *_) = blocks_of(LATTICE[measured] / spacing(LATTICE))
    values = noisy[measured]
    changed = values.copy()
    changed[block] += 1.0
    first, second = (correct(predicted, measured, each, LATTICE, prior) for each in (values, changed))
    assert first.shrinkage == second.shrinkage == 1  # chosen on all blocks: it must not differ
    np.testing.assert_array_equal(first.expression[measured[block]], second.expression[measured[block]])
    others = np.setdiff1d(np.arange(len(LATTICE)), measured[block])
    assert (first.expression[others] != second.expression[others]).mean() > 0.9


def test_kriging_is_the_textbooks(prior: Prior) -> None:
    """Of one kernel and amount, against the formula with an inverse, component by component."""
    rng = np.random.default_rng(0)
    measured, kernel, amount = some(15), process.Kernel(3.0, 0.5), 0.4
    field = Field.of(LATTICE / 10, rng.normal(size=(len(LATTICE), 6)))
    residuals = rng.normal(size=(15, len(prior.signal)))
    inner = field.covariance(measured, measured, kernel)
    weights, level = process._posterior(inner, residuals, amount * prior.signal, prior)
    for number in (0, 3):
        total = amount * prior.signal[number] * inner + prior.noise[number] * np.eye(15)
        inverse = np.linalg.inv(total)
        mean = inverse.sum(axis=0) @ residuals[:, number] / inverse.sum()
        assert mean == pytest.approx(level[number])
        expected = amount * prior.signal[number] * inverse @ (residuals[:, number] - mean)
        np.testing.assert_allclose(weights[:, number], expected, atol=1e-8)


def test_evidence_finds_the_length(prior: Prior) -> None:
    """Of residuals drawn at a length, the mean of the likely ones is nearer to it than to the other end."""
    rng = np.random.default_rng(1)
    measured = some(60)
    field = Field(LATTICE / 10, np.empty((len(LATTICE), 0)))
    found = []
    for length in (1.5, 12.0):
        root = np.linalg.cholesky(field.covariance(measured, measured, process.Kernel(length, 0.0)))
        residuals = np.sqrt(0.8 * prior.signal) * (root @ rng.normal(size=(60, len(prior.signal))))
        residuals += np.sqrt(prior.noise) * rng.normal(size=residuals.shape)
        found.append(krige(field, measured, residuals, prior).length)
    assert found[0] < 3 < 6 < found[1]


def test_patches_and_blocks_hold_each_spot_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "_LARGEST_PATCH", 20)
    measured = some(70)
    patches = list(patches_of(LATTICE, measured))
    assert len(patches) == 4
    np.testing.assert_array_equal(np.sort(np.concatenate([spots for spots, _ in patches])), np.arange(len(LATTICE)))
    for spots, of_measured in patches:
        assert len(of_measured) <= 20
        np.testing.assert_array_equal(np.intersect1d(spots, measured), measured[of_measured])
    for n in (FEWEST_MEASURED, 9, 70):
        parts = blocks_of(LATTICE[some(n)])
        np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(n))
        assert min(map(len, parts)) >= 1
        assert len(parts) == {FEWEST_MEASURED: 3, 9: 4, 70: 10}[n]


def test_many_spots_are_corrected_in_patches(prior: Prior, monkeypatch: pytest.MonkeyPatch) -> None:
    clean, noisy = section(60)
    measured = some(70)
    monkeypatch.setattr(blocks, "_LARGEST_PATCH", 40)
    found = correct(np.full_like(noisy, 4.0), measured, noisy[measured], LATTICE, prior)
    assert pearson(clean, found.expression).mean() > 0.8


@pytest.mark.parametrize("case", ["one place", "constant prediction and truth", "fewest"])
def test_odd_sections(prior: Prior, case: str) -> None:
    _, noisy = section(70)
    measured, xy = some(FEWEST_MEASURED if case == "fewest" else 10), LATTICE
    if case == "one place":
        xy = np.zeros_like(LATTICE)
    if case == "constant prediction and truth":
        noisy = np.full_like(noisy, 4.0)
    found = correct(np.full_like(noisy, 4.0), measured, noisy[measured], xy, prior)
    assert np.isfinite(found.expression).all()
    if case == "constant prediction and truth":
        np.testing.assert_array_equal(found.expression, noisy)
