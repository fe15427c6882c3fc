"""What the scores make of odd arrays: the right number, or one error that names the argument."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse, stats

from bleep_sc import metrics as m

pytestmark = pytest.mark.odd

GRID = np.argwhere(np.ones((5, 4)))
DEPTH = np.random.default_rng(2).normal(size=20)
CHAIN = sparse.csr_matrix(np.eye(20, k=1) + np.eye(20, k=-1))


def drawn(truth: Any, prediction: Any) -> np.ndarray:
    shape = np.shape(truth) if not sparse.issparse(truth) else truth.shape
    panels = [np.full(shape[-1], 1 / shape[-1])] if len(shape) else []
    return m.bootstrap_pearson(truth, prediction, panels=panels, n_draws=5, rng=np.random.default_rng(0))[0]


PAIRS: dict[str, Callable[[Any, Any], Any]] = {
    "pearson": m.pearson,
    "spearman": m.spearman,
    "ccc": m.ccc,
    "partial_pearson": lambda truth, prediction: m.partial_pearson(truth, prediction, DEPTH),
    "rmse": m.rmse,
    "mae": m.mae,
    "r2": m.r2,
    "variance_ratio": m.variance_ratio,
    "ssim": lambda truth, prediction: m.ssim(truth, prediction, GRID),
    "gene_gene": m.gene_gene,
    "bootstrap_pearson": drawn,
}
"""Scores of a prediction against the truth."""
OTHERS = {"bootstrap_mean", "ceiling_from_halves", "interval", "morans_i", "split_half_pearson", "spot_graph"}
BY_GENE = [name for name in PAIRS if name not in ("gene_gene", "bootstrap_pearson")]
every_pair = pytest.mark.parametrize("score", PAIRS)


def test_all_are_tested() -> None:
    assert set(PAIRS) | OTHERS == set(m.__all__)


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    """Whole numbers of 20 spots and 6 genes, from -90 to 90: exact in every type of number."""
    rng = np.random.default_rng(0)
    truth = rng.integers(-90, 91, size=(20, 6))
    truth[:2, 0] = -90, 90  # their difference does not fit eight bits
    return truth.astype(np.float64), np.clip(np.rint(truth / 2 + rng.normal(scale=20, size=(20, 6))), -90, 90)


def close(found: Any, wanted: Any, *, rtol: float = 1e-9) -> None:
    np.testing.assert_allclose(found, wanted, rtol=rtol, atol=1e-12)
    assert np.isfinite(wanted).all(), "nothing is compared"


KINDS: dict[str, Callable[[np.ndarray], Any]] = {
    "float32": lambda v: v.astype(np.float32),
    "float16": lambda v: v.astype(np.float16),
    "int64": lambda v: v.astype(np.int64),
    "int8": lambda v: v.astype(np.int8),
    "by columns": np.asfortranarray,
    "list": lambda v: v.tolist(),
    "table": pd.DataFrame,
    "csr": sparse.csr_matrix,
    "csc array": sparse.csc_array,
    "sparse whole numbers": lambda v: sparse.csr_matrix(v.astype(np.int16)),
}


@pytest.mark.parametrize("kind", KINDS)
@every_pair
def test_any_kind_of_number_and_matrix(score: str, kind: str, pair: tuple[np.ndarray, np.ndarray]) -> None:
    wanted = PAIRS[score](*pair)
    truth, prediction = (KINDS[kind](values) for values in pair)
    close(PAIRS[score](truth, prediction), wanted)
    close(PAIRS[score](truth, pair[1]), wanted)


@every_pair
def test_booleans_are_0_and_1(score: str, pair: tuple[np.ndarray, np.ndarray]) -> None:
    truth, prediction = (values > 0 for values in pair)
    close(PAIRS[score](truth, prediction), PAIRS[score](truth.astype(float), prediction.astype(float)))


@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1e30, 1e200])
@every_pair
def test_huge_and_tiny_values(score: str, scale: float, pair: tuple[np.ndarray, np.ndarray]) -> None:
    """All but the two errors are of no unit; squares of the largest and smallest fit no double."""
    truth, prediction = pair
    wanted = PAIRS[score](truth, prediction)
    with np.errstate(all="raise", under="ignore"):
        found = PAIRS[score](truth * scale, prediction * scale)
    close(found / scale if score in ("rmse", "mae") else found, wanted)


@pytest.mark.parametrize("scale", [1e-150, 1e-30, 1e30, 1e150])
@every_pair
def test_a_prediction_in_other_units(score: str, scale: float, pair: tuple[np.ndarray, np.ndarray]) -> None:
    """Against the formulas in extended precision, whose range is larger."""
    truth, prediction = pair[0], pair[1] * scale
    t, p = truth.astype(np.longdouble), prediction.astype(np.longdouble)
    error, var_t, var_p = ((p - t) ** 2).mean(axis=0), t.var(axis=0), p.var(axis=0)
    cov = ((t - t.mean(axis=0)) * (p - p.mean(axis=0))).mean(axis=0)
    formulas: dict[str, Callable[[], np.ndarray]] = {
        "ccc": lambda: 2 * cov / (var_t + var_p + (t.mean(axis=0) - p.mean(axis=0)) ** 2),
        "rmse": lambda: np.sqrt(error),
        "mae": lambda: np.abs(p - t).mean(axis=0),
        "r2": lambda: 1 - error / var_t,
        "variance_ratio": lambda: var_p / var_t,
    }
    found = PAIRS[score](truth, prediction)
    if score == "ssim":
        assert (np.abs(found) <= 1).all()
        return
    wanted = formulas[score]().astype(np.float64) if score in formulas else PAIRS[score](*pair)
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=0)


def test_scores_against_scipy_and_numpy(pair: tuple[np.ndarray, np.ndarray]) -> None:
    truth, prediction = pair
    for gene in range(6):
        t, p = truth[:, gene], prediction[:, gene]
        assert m.pearson(truth, prediction)[gene] == pytest.approx(stats.pearsonr(t, p).statistic)
        assert m.spearman(truth, prediction)[gene] == pytest.approx(stats.spearmanr(t, p).statistic)
        left = [v - np.polyval(np.polyfit(DEPTH, v, 1), DEPTH) for v in (t, p)]
        found = m.partial_pearson(truth, prediction, DEPTH)[gene]
        assert found == pytest.approx(stats.pearsonr(*left).statistic)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_a_covariate_of_any_size(scale: float, pair: tuple[np.ndarray, np.ndarray]) -> None:
    close(m.partial_pearson(*pair, DEPTH * scale), m.partial_pearson(*pair, DEPTH))


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("score", BY_GENE)
def test_a_gene_with_nan_has_no_score_and_spoils_no_other(
    score: str, side: int, pair: tuple[np.ndarray, np.ndarray]
) -> None:
    wanted = PAIRS[score](*pair)
    pair[side][3, 2] = np.nan
    found = PAIRS[score](*pair)
    assert np.isnan(found).tolist() == [gene == 2 for gene in range(6)]
    close(found[[0, 1, 3, 4, 5]], wanted[[0, 1, 3, 4, 5]])


@pytest.mark.parametrize("side", [0, 1])
def test_a_gene_with_nan_among_genes(side: int, pair: tuple[np.ndarray, np.ndarray]) -> None:
    rest = [0, 1, 3, 4, 5]
    wanted = m.gene_gene(*(values[:, rest] for values in pair))
    pair[side][3, 2] = np.nan
    close(m.gene_gene(*pair), wanted)
    with pytest.raises(ValueError, match=rf"`{('truth', 'prediction')[side]}` holds NaN: leave genes out"):
        drawn(*pair)


@pytest.mark.parametrize("name", ["truth", "prediction"])
@pytest.mark.parametrize("infinity", [np.inf, -np.inf])
@every_pair
def test_infinity_is_refused(score: str, infinity: float, name: str, pair: tuple[np.ndarray, np.ndarray]) -> None:
    pair[name == "prediction"][3, 2] = infinity
    pair[name == "prediction"][0, 1] = np.nan
    before = [values.copy() for values in pair]
    for make in (np.asarray, sparse.csr_matrix):
        with pytest.raises(ValueError, match=rf"`{name}` holds infinite values: replace them, or leave"):
            PAIRS[score](*map(make, pair))
    assert all(np.array_equal(*both, equal_nan=True) for both in zip(before, pair, strict=True))


@every_pair
def test_constants(score: str, pair: tuple[np.ndarray, np.ndarray]) -> None:
    """Of a constant truth there is nothing to predict; a constant prediction predicts nothing."""
    truth, prediction = pair
    truth[:, 1], prediction[:, 2] = 7.1, 7.1
    found = PAIRS[score](truth, prediction)
    if score in ("pearson", "spearman", "ccc", "partial_pearson"):
        assert np.isnan(found[1])
        assert found[2] == 0
    elif score in ("r2", "variance_ratio", "ssim"):
        assert np.isnan(found[1])
        assert np.isfinite(found[2])
    elif score in ("rmse", "mae"):
        assert np.isfinite(found).all()
    else:
        assert np.isfinite(found).all()
        rest = [0, 3, 4, 5]
        share = 1 if score == "gene_gene" else len(rest) / 6  # of a mean over all genes
        close(found, share * PAIRS[score](truth[:, rest], prediction[:, rest]), rtol=1e-5)


@pytest.mark.parametrize("score", BY_GENE)
def test_one_gene_is_scored_as_among_others(score: str, pair: tuple[np.ndarray, np.ndarray]) -> None:
    close(PAIRS[score](*(values[:, 3:4] for values in pair)), PAIRS[score](*pair)[3:4])


@pytest.mark.parametrize("score", BY_GENE)
def test_no_gene_is_no_score(score: str, pair: tuple[np.ndarray, np.ndarray]) -> None:
    assert PAIRS[score](*(values[:, :0] for values in pair)).shape == (0,)


def test_one_spot(pair: tuple[np.ndarray, np.ndarray]) -> None:
    truth, prediction = (values[:1] for values in pair)
    close(m.rmse(truth, prediction), np.abs(truth - prediction)[0])
    close(m.mae(truth, prediction), np.abs(truth - prediction)[0])
    for score in (m.pearson, m.spearman, m.ccc, m.r2, m.variance_ratio):
        assert np.isnan(score(truth, prediction)).all()
    assert np.isnan(m.partial_pearson(truth, prediction, DEPTH[:1])).all()
    assert np.isnan(m.ssim(truth, prediction, GRID[:1])).all()
    assert np.isnan(m.gene_gene(truth, prediction))
    graph = m.spot_graph(np.zeros((1, 2)))
    assert graph.shape == (1, 1)
    assert graph.nnz == 0
    assert np.isnan(m.morans_i(truth, graph)).all()


NO_MATRIX = r"must be numbers \(n_obs, n_genes\) of at least one spot, found"
SHAPES: list[tuple[Callable[[np.ndarray], Any], str]] = [
    (lambda v: v[:-1], "must be of the same spots and genes, found .20, 6. and .19, 6."),
    (lambda v: v[:1], "must be of the same spots and genes, found .20, 6. and .1, 6."),
    (lambda v: v[:, :1], "must be of the same spots and genes, found .20, 6. and .20, 1."),
    (lambda v: sparse.csr_matrix(v[:, :1]), "must be of the same spots and genes, found .20, 6. and .20, 1."),
    (lambda v: v[:, 0], r"`prediction` " + NO_MATRIX + r" float64 \(20,\)"),
    (lambda v: v[None], r"`prediction` " + NO_MATRIX + r" float64 \(1, 20, 6\)"),
    (lambda v: v[:0], r"`prediction` " + NO_MATRIX + r" float64 \(0, 6\)"),
    (lambda _: None, r"`prediction` " + NO_MATRIX + r" object \(\)"),
    (lambda v: v.astype(str), r"`prediction` " + NO_MATRIX),
    (lambda v: v.astype(object), r"`prediction` " + NO_MATRIX),
    (lambda v: v + 1j, r"`prediction` " + NO_MATRIX + " complex128"),
]


@pytest.mark.parametrize(("change", "message"), SHAPES)
@every_pair
def test_what_does_not_fit(
    score: str, change: Callable[[np.ndarray], Any], message: str, pair: tuple[np.ndarray, np.ndarray]
) -> None:
    truth, prediction = pair
    with pytest.raises(ValueError, match=message):
        PAIRS[score](truth, change(prediction))


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_morans_i_of_any_size_and_kind(scale: float, pair: tuple[np.ndarray, np.ndarray]) -> None:
    values = pair[0]
    z = values - values.mean(axis=0)
    by_hand = 20 / CHAIN.sum() * (z * (CHAIN @ z)).sum(axis=0) / (z**2).sum(axis=0)
    close(m.morans_i(values * scale, CHAIN), by_hand)
    for make in KINDS.values():
        close(m.morans_i(make(values), CHAIN), by_hand)
    values[3, 1] = np.nan
    assert np.isnan(m.morans_i(values, CHAIN)).tolist() == [gene == 1 for gene in range(6)]


def test_places_of_any_size_and_kind() -> None:
    xy = np.random.default_rng(0).integers(100, size=(30, 2))
    wanted = m.spot_graph(xy.astype(float))
    for found in (xy, xy.tolist(), xy * 1e100, xy * 1e-100, pd.DataFrame(xy), xy.astype(np.float32)):
        assert (m.spot_graph(found) != wanted).nnz == 0


COUNTS = sparse.csr_matrix(np.random.default_rng(0).poisson(2, size=(20, 6)))


def halves(counts: Any, **more: Any) -> np.ndarray:
    return m.split_half_pearson(counts, **{"target_sum": 100.0, "n_splits": 2, "rng": np.random.default_rng(0)} | more)


def test_counts_of_any_kind() -> None:
    twice = sparse.csr_matrix(
        (np.repeat(COUNTS.data, 2) / 2, np.repeat(COUNTS.indices, 2), 2 * COUNTS.indptr), shape=COUNTS.shape
    )
    before = twice.data.copy()
    for counts in (COUNTS.astype(np.float32), COUNTS.toarray(), COUNTS.tocsc(), sparse.csr_array(COUNTS)):
        close(halves(counts), halves(COUNTS))
    with pytest.raises(ValueError, match="`counts` must hold raw counts, whole numbers from 0 up"):
        halves(twice)
    twice.data *= 2
    twice.data[1::2], twice.data[::2] = 0, COUNTS.data
    close(halves(twice), halves(COUNTS))
    assert len(twice.data) == len(before), "the counts were changed"


RNG = np.random.default_rng(0)
MEAN = [np.array([0.1, 0.2])]
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "draws of nothing": (lambda: m.interval(np.array([])), r"`draws` must be at least one number.*\(0,\)"),
    "draws of two panels": (lambda: m.interval(np.ones((3, 2))), r"`draws` must be at least one number.*\(3, 2\)"),
    "no groups": (lambda: m.bootstrap_mean([], n_draws=3, rng=RNG), "`groups` must hold at least one array"),
    "an empty group": (
        lambda: m.bootstrap_mean([*MEAN, np.array([])], n_draws=3, rng=RNG),
        r"`groups` must hold.*none empty, found shapes \[\(2,\), \(0,\)\]",
    ),
    "a group of words": (lambda: m.bootstrap_mean([np.array(["a"])], n_draws=3, rng=RNG), "`groups` must hold"),
    "no draws": (lambda: m.bootstrap_mean(MEAN, n_draws=0, rng=RNG), "`n_draws` must be an integer of at least 1"),
    "a seed": (lambda: m.bootstrap_mean(MEAN, n_draws=3, rng=0), r"`rng` must be a NumPy generator.*default_rng"),
    "a panel too short": (
        lambda: m.bootstrap_pearson(np.eye(4), np.eye(4), panels=[np.ones(3)], n_draws=3, rng=RNG),
        r"`panels` must hold a weight for each of the 4 genes, found \(3,\)",
    ),
    "a covariate of others": (
        lambda: m.bootstrap_pearson(
            np.eye(4), np.eye(4), panels=[np.ones(4)], n_draws=3, rng=RNG, covariate=np.ones(3)
        ),
        "`covariate` must be finite numbers of the 4 spots",
    ),
    "a covariate too short": (
        lambda: m.partial_pearson(np.eye(4), np.eye(4), np.ones(3)),
        "`covariate` must be numbers",
    ),
    "a covariate of words": (lambda: m.partial_pearson(np.eye(2), np.eye(2), np.array(["a", "b"])), "`covariate` must"),
    "a covariate with NaN": (
        lambda: m.partial_pearson(np.eye(2), np.eye(2), np.array([0, np.nan])),
        "`covariate` holds NaN or infinite values: leave these spots out",
    ),
    "a grid of others": (lambda: m.ssim(np.eye(4), np.eye(4), GRID), r"`grid` must hold row and column of the 4 spots"),
    "a grid of halves": (
        lambda: m.ssim(np.eye(20), np.eye(20), GRID / 2),
        r"`grid` must hold.*found float64 \(20, 2\)",
    ),
    "a grid below 0": (lambda: m.ssim(np.eye(20), np.eye(20), GRID - 1), "`grid` must hold.*integers from 0"),
    "places with NaN": (lambda: m.spot_graph(np.array([[0, np.nan]])), "`xy` must be the places of the spots"),
    "places in a row": (lambda: m.spot_graph(np.ones(4)), r"`xy` must be the places.*found float64 \(4,\)"),
    "no places": (lambda: m.spot_graph(np.ones((0, 2))), r"`xy` must be the places.*found float64 \(0, 2\)"),
    "no neighbours": (lambda: m.spot_graph(GRID, n_neighbors=0), "`n_neighbors` must be an integer of at least 1"),
    "a graph of others": (lambda: m.morans_i(np.eye(4), CHAIN), r"`graph` must hold weights between the 4 spots"),
    "values in a row": (lambda: m.morans_i(np.ones(20), CHAIN), "`values` " + NO_MATRIX),
    "infinite values": (lambda: m.morans_i(np.full((20, 1), np.inf), CHAIN), "`values` holds infinite values"),
    "negative counts": (lambda: halves(-COUNTS), "`counts` must hold raw counts, whole numbers from 0 up"),
    "counts with NaN": (lambda: halves(np.full((3, 2), np.nan)), "`counts` must hold raw counts"),
    "counts in a row": (lambda: halves(np.ones(3)), "`counts` " + NO_MATRIX),
    "no splits": (lambda: halves(COUNTS, n_splits=0), "`n_splits` must be an integer of at least 1, found 0"),
    "no total": (lambda: halves(COUNTS, target_sum=0), "`target_sum` must be a finite number above 0, found 0"),
    "splits by a seed": (lambda: halves(COUNTS, rng=1), "`rng` must be a NumPy generator"),
    "correlations above 1": (
        lambda: m.ceiling_from_halves(np.array([0.2, 1.5])),
        "`r` must hold correlations.*-1 to 1",
    ),
    "correlations of words": (lambda: m.ceiling_from_halves(np.array(["a"])), "`r` must hold correlations.*-1 to 1"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused(what: str) -> None:
    call, message = REFUSED[what]
    with pytest.raises((ValueError, TypeError), match=message):
        call()


def test_ceilings_of_any_kind() -> None:
    r = [-1, -0.2, 0, 0.5, 1, np.nan]
    wanted = [0, 0, 0, np.sqrt(2 / 3), 1, np.nan]
    for found in (r, np.array(r), np.array(r, dtype=np.float32)):
        np.testing.assert_allclose(m.ceiling_from_halves(found), wanted, rtol=1e-6)
