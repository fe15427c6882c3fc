from collections.abc import Callable
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pytest
from anndata import AnnData
from matplotlib.axes import Axes

import bleep_sc as bl


def calibrated(n: int) -> AnnData:
    rng = np.random.default_rng(0)
    mean = rng.permutation(np.linspace(-0.1, 0.7, n))
    ref = AnnData(np.zeros((2, n), dtype=np.float32))
    ref.var_names = [f"gene_{i}$x" for i in range(n)]
    ref.var["bleep_predictable"] = mean > 0.2
    ref.var["bleep_expected_pearson"] = mean
    ref.var["bleep_expected_pearson_lower"] = mean - 0.1
    ref.var["bleep_expected_pearson_upper"] = mean + 0.2
    ref.uns["bleep"] = {"scope": "within-patient"}
    return ref


def dots(ax: Axes, label: str) -> np.ndarray:
    """Rank and expected correlation of the genes of a colour."""
    (found,) = (each for each in ax.collections if each.get_gid() == label)
    return np.asarray(found.get_offsets())


@pytest.mark.parametrize("n", [1, 8, 40])
def test_few_genes_each_by_name(n: int, unchanged: Callable[..., None]) -> None:
    ref = calibrated(n)
    unchanged(ref)
    (ax,) = bl.pl.predictable_genes(ref, return_fig=True).axes
    ranked = ref.var.sort_values("bleep_expected_pearson", ascending=False)
    assert [label.get_text() for label in ax.get_xticklabels()] == list(ranked.index)
    drawn = np.concatenate([dots(ax, gid) for gid in ("predictable", "not shown to be") if n > 1 or gid[0] == "n"])
    drawn = drawn[np.argsort(drawn[:, 0])]
    np.testing.assert_allclose(drawn, np.column_stack([np.arange(1, n + 1), ranked["bleep_expected_pearson"]]))
    bars = next(each for each in ax.collections if len(each.get_paths()) == n and each.get_gid() is None)
    ends = np.array([path.vertices[:, 1] for path in bars.get_paths()])
    np.testing.assert_allclose(ends[:, 0], ranked["bleep_expected_pearson_lower"])
    np.testing.assert_allclose(ends[:, 1], ranked["bleep_expected_pearson_upper"])


def test_many_genes_and_the_best_by_name() -> None:
    ref = calibrated(1700)
    listed = ref.var["bleep_predictable"].to_numpy().copy()
    # the best gene of all is not listed, so that another one is named
    best = ref.var["bleep_expected_pearson"].idxmax()
    ref.var.loc[best, "bleep_predictable"] = False
    fig = bl.pl.predictable_genes(ref, n_genes=15, return_fig=True)
    ax, beside = fig.axes
    assert len(dots(ax, "predictable")) == listed.sum() - 1
    assert len(dots(ax, "not shown to be")) == (~listed).sum() + 1
    expected = ref.var[ref.var["bleep_predictable"]].nlargest(15, "bleep_expected_pearson")
    labels = beside.get_yticklabels()
    assert [label.get_text() for label in labels] == list(expected.index)
    fig.canvas.draw()
    boxes = sorted((label.get_window_extent() for label in labels), key=lambda box: box.y0)
    assert all(low.y1 <= high.y0 for low, high in pairwise(boxes))
    assert ax.get_title(loc="left") == f"{listed.sum() - 1:,} of 1,700 genes shown to be predictable (within-patient)"


@pytest.mark.parametrize("n_genes", [25, 60])
def test_more_names_make_a_higher_figure(n_genes: int) -> None:
    fig = bl.pl.predictable_genes(calibrated(400), n_genes=n_genes, return_fig=True)
    fig.canvas.draw()
    boxes = sorted((label.get_window_extent() for label in fig.axes[1].get_yticklabels()), key=lambda box: box.y0)
    assert len(boxes) == n_genes
    assert all(low.y1 <= high.y0 for low, high in pairwise(boxes))


def test_into_axes() -> None:
    fig, (left, right) = plt.subplots(1, 2)
    assert bl.pl.predictable_genes(calibrated(100), n_genes=2, ax=left) is None
    assert not right.collections
    assert len(fig.axes) == 2
    assert "Best: " in left.get_xlabel()
    plt.close(fig)


def test_none_listed_none_named() -> None:
    ref = calibrated(100)
    ref.var["bleep_predictable"] = False
    ref.uns.clear()
    (ax,) = bl.pl.predictable_genes(ref, return_fig=True).axes
    assert ax.get_title(loc="left") == "0 of 100 genes shown to be predictable"


def test_genes_without_a_value_are_counted() -> None:
    ref = calibrated(50)
    ref.var.iloc[[2, 5], 1:] = np.nan
    ref.var.iloc[7, 2:] = np.nan  # one section only: no interval
    ax = bl.pl.predictable_genes(ref, return_fig=True).axes[0]
    assert "2 genes without an expected correlation left out" in ax.get_xlabel()
    assert sum(len(dots(ax, gid)) for gid in ("predictable", "not shown to be")) == 48


def test_without_any_interval() -> None:
    ref = calibrated(30)
    ref.var.iloc[:, 2:] = np.nan
    (ax,) = bl.pl.predictable_genes(ref, return_fig=True).axes
    assert np.isfinite(ax.get_ylim()).all()


@pytest.mark.odd
def test_bad_input() -> None:
    ref = calibrated(5)
    with pytest.raises(KeyError, match=r"`bleep_sc.tl.calibrate\(ref, key='mine'\)`"):
        bl.pl.predictable_genes(ref, key="mine")
    with pytest.raises(TypeError, match="`key`"):
        bl.pl.predictable_genes(ref, key=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`n_genes`"):
        bl.pl.predictable_genes(ref, n_genes=-1)
    with pytest.raises(TypeError, match="`ax`"):
        bl.pl.predictable_genes(ref, ax=1)  # type: ignore[arg-type]
    for column, value in (("bleep_predictable", "yes"), ("bleep_expected_pearson", "high")):
        odd = ref.copy()
        odd.var[column] = value
        with pytest.raises(ValueError, match=rf"{column}'\]` is damaged.*calibrate"):
            bl.pl.predictable_genes(odd)
    ref.var["bleep_expected_pearson"] = np.nan
    with pytest.raises(ValueError, match="none of the 5 genes has an expected correlation"):
        bl.pl.predictable_genes(ref)
