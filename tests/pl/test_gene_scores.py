from collections.abc import Callable
from functools import partial
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pytest
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

import bleep_sc as bl

GENES = ["a", "b", "c", "d", "e", "f"]


@pytest.fixture
def scored() -> AnnData:
    adata = AnnData(np.zeros((2, 6), dtype=np.float32))
    adata.var_names = GENES
    adata.var["bleep_pearson"] = [0.1, 0.5, np.nan, 0.3, -0.2, 0.4]
    adata.var["ridge_pearson"] = [0.6, 0.2, 0.9, 0.05, 0.0, np.nan]
    adata.var["bleep_rmse"] = [1.0, 3.0, 2.0, 5.0, 4.0, 6.0]
    adata.var["noise_ceiling"] = [0.7, 0.8, 0.9, np.nan, 0.2, 0.75]
    adata.uns["bleep"] = {
        "panels": {"HEG-50": np.array(["b", "e", "not here"], dtype=object), "HVG-50": np.array(["d"], dtype=object)}
    }
    return adata


def curve(ax: Axes, label: str) -> Line2D:
    (found,) = (each for each in ax.get_lines() if str(each.get_label()).startswith(label))
    return found


def ticks(ax: Axes) -> dict[str, list[float]]:
    return {each.get_gid(): [segment[0, 0] for segment in each.get_segments()] for each in ax.collections}


def test_few_genes_by_name_with_the_ceiling_of_each(scored: AnnData, unchanged: Callable[..., None]) -> None:
    unchanged(scored)
    (ax,) = bl.pl.gene_scores(scored, layers=["bleep", "ridge"], return_fig=True).axes
    # c lacks a score of bleep, f one of ridge
    assert [text.get_text() for text in ax.get_xticklabels()] == ["b", "d", "a", "e"]
    np.testing.assert_allclose(curve(ax, "bleep").get_ydata(), [0.5, 0.3, 0.1, -0.2])
    np.testing.assert_allclose(curve(ax, "ridge").get_ydata(), [0.2, 0.05, 0.6, 0.0])
    np.testing.assert_allclose(curve(ax, "noise ceiling").get_ydata(), [0.8, np.nan, 0.7, 0.2])
    for label in ("bleep", "ridge", "noise ceiling"):
        np.testing.assert_allclose(curve(ax, label).get_xdata(), [1, 2, 3, 4])
    np.testing.assert_allclose(ax.get_xticks(), [1, 2, 3, 4])
    assert [curve(ax, label).get_linestyle() for label in ("ridge", "noise ceiling")] == ["None", "None"]
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend == ["bleep (mean 0.17)", "ridge (mean 0.21)", "noise ceiling of each gene"]
    assert curve(ax, "bleep").get_zorder() > curve(ax, "ridge").get_zorder()
    assert ax.get_xlabel().split("\n") == ["Genes, best of bleep first", "2 genes without a score left out"]
    assert ticks(ax) == {"HEG-50": [1, 4], "HVG-50": [2]}
    named = {text.get_text(): text.get_position()[1] for text in ax.texts}
    assert named["HEG-50"] > named["HVG-50"] > 1, "above the axes, the first on top"


def test_many_genes_each_layer_by_its_own_rank() -> None:
    rng = np.random.default_rng(0)
    adata = AnnData(np.zeros((2, 41), dtype=np.float32))
    adata.var_names = [f"g{n}" for n in range(41)]
    for layer in ("bleep", "ridge"):
        adata.var[f"{layer}_pearson"] = rng.uniform(size=41)
    adata.var["noise_ceiling"] = rng.uniform(size=41)
    (ax,) = bl.pl.gene_scores(adata, layers=["bleep", "ridge"], n_named=2, return_fig=True).axes
    order = np.argsort(-adata.var["bleep_pearson"].to_numpy())
    for layer in ("bleep", "ridge"):
        scores = adata.var[f"{layer}_pearson"].to_numpy()
        np.testing.assert_allclose(curve(ax, layer).get_ydata(), np.sort(scores)[::-1])
    ceiling = curve(ax, "noise ceiling")
    np.testing.assert_allclose(ceiling.get_ydata(), adata.var["noise_ceiling"].to_numpy()[order])
    np.testing.assert_allclose(ceiling.get_xdata(), np.arange(1, 42))
    assert ceiling.get_linestyle() == "None"
    first, second = adata.var_names[order[:2]]
    best = [adata.var["bleep_pearson"].iloc[gene] for gene in order[:2]]
    assert ax.get_xlabel().split("\n") == [
        "Genes, best first in each layer",
        f"Best of bleep: {first} {best[0]:.2f}, {second} {best[1]:.2f}",
    ]
    (ax,) = bl.pl.gene_scores(adata[:, :40].copy(), return_fig=True).axes
    assert len(ax.get_xticklabels()) == 40
    adata.var["noise_ceiling"] = np.nan
    (ax,) = bl.pl.gene_scores(adata, n_named=0, return_fig=True).axes
    assert ax.get_xlabel() == "Genes, best first"
    assert [
        str(line.get_label()).split()[0] for line in ax.get_lines() if not str(line.get_label()).startswith("_")
    ] == ["bleep"]


def test_chosen_genes_panels_and_no_ceiling(scored: AnnData) -> None:
    (ax,) = bl.pl.gene_scores(scored, genes="HEG-50", panels={"mine": ["e"]}, ceiling=False, return_fig=True).axes
    np.testing.assert_allclose(curve(ax, "bleep").get_ydata(), [0.5, -0.2])
    assert ticks(ax) == {"mine": [2]}
    assert "noise ceiling" not in [each.get_label() for each in ax.get_lines()]
    (ax,) = bl.pl.gene_scores(scored, genes=["a", "f"], panels=[], n_named=1, return_fig=True).axes
    assert not ticks(ax)
    assert ax.get_xlabel() == "Genes, best first"
    (ax,) = bl.pl.gene_scores(scored, panels="HVG-50", n_named=0, return_fig=True).axes
    assert ticks(ax) == {"HVG-50": [3]}
    assert ax.get_xlabel().split("\n") == ["Genes, best first", "1 gene without a score left out"]


def test_best_first_where_less_is_better(scored: AnnData) -> None:
    (ax,) = bl.pl.gene_scores(scored, metric="rmse", return_fig=True).axes
    np.testing.assert_allclose(curve(ax, "bleep").get_ydata(), [1, 2, 3, 4, 5, 6])
    assert ax.get_ylabel() == "RMSE (lower is better)"
    assert [text.get_text() for text in ax.get_xticklabels()] == ["a", "c", "b", "e", "d", "f"]
    assert "noise ceiling" not in [each.get_label() for each in ax.get_lines()]


def test_as_evaluate_writes_them(fitted: AnnData, query: AnnData) -> None:
    bl.tl.impute(query, fitted, k=5)
    bl.tl.evaluate(query, n_bootstrap=0)
    (ax,) = bl.pl.gene_scores(query, return_fig=True).axes
    expected = np.sort(query.var["bleep_pearson"].dropna())[::-1]
    np.testing.assert_allclose(curve(ax, "bleep").get_ydata(), expected)
    assert set(ticks(ax)) == {"HEG-50", "HVG-50", "HVG-200"}


def test_nothing_meets_with_long_names_in_the_dark(scored: AnnData) -> None:
    scored.var_names = [f"ENSG00000141736_a_very_long_gene_name_{i}" for i in range(6)]
    scored.uns["bleep"]["panels"] = {f"panel {i} of a long name": np.array(scored.var_names[:i]) for i in range(1, 5)}
    with plt.style.context("dark_background"):
        fig = bl.pl.gene_scores(scored, return_fig=True)
        fig.canvas.draw()
    (ax,) = fig.axes
    boxes = [text.get_window_extent() for text in ax.texts]
    assert all(lower.y1 <= upper.y0 + 1 for lower, upper in pairwise(boxes))
    names = [text.get_window_extent() for text in ax.get_xticklabels()]
    assert all(left.x1 <= right.x0 for left, right in pairwise(names))
    assert ax.get_window_extent().height > 200
    for box in (*boxes, *names, ax.xaxis.label.get_window_extent()):
        assert box.y0 >= 0
        assert box.x0 >= 0
        assert box.x1 <= fig.bbox.x1
        assert box.y1 <= fig.bbox.y1


def test_shows_unless_it_returns_and_draws_into_axes(
    scored: AnnData, check_show: Callable[..., None], check_ax: Callable[..., None]
) -> None:
    check_show(partial(bl.pl.gene_scores, scored))
    check_ax(partial(bl.pl.gene_scores, scored))


@pytest.mark.odd
def test_bad_input(scored: AnnData) -> None:
    with pytest.raises(ValueError, match=r"`layers` names none"):
        bl.pl.gene_scores(scored, layers=[])
    with pytest.raises(KeyError, match=r"adata\.var\['knn_pearson'\].*tl\.evaluate\(adata, layer='knn'\)"):
        bl.pl.gene_scores(scored, layers=["bleep", "knn"])
    with pytest.raises(KeyError, match=r"adata\.var\['bleep_ssim'\]"):
        bl.pl.gene_scores(scored, metric="ssim")
    with pytest.raises(KeyError, match=r"adata\.var_names\['z'\]"):
        bl.pl.gene_scores(scored, genes=["a", "z"])
    with pytest.raises(KeyError, match=r"adata\.uns\['bleep'\]\['panels'\]\['HVG-9'\].*'HEG-50', 'HVG-50'"):
        bl.pl.gene_scores(scored, panels=["HVG-9"])
    with pytest.raises(
        ValueError, match=r"none of the 1 genes has a score in `adata\.var\['bleep_pearson'\]`.*Draw other"
    ):
        bl.pl.gene_scores(scored, genes=["c"])
    with pytest.raises(ValueError, match=r"`n_named`"):
        bl.pl.gene_scores(scored, n_named=-1)
    assert not plt.get_fignums()
