from collections.abc import Callable
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

import bleep_sc as bl


@pytest.fixture
def blocks() -> AnnData:
    """Genes of two programmes in turn, and one that is constant as measured."""
    rng = np.random.default_rng(0)
    programmes = rng.normal(size=(40, 2))
    values = programmes[:, [0, 1, 0, 1, 0, 1]] + 0.5 * rng.normal(size=(40, 6)) + 5
    adata = AnnData(np.column_stack([values[:, :3], np.full(40, 0.3), values[:, 3:]]).astype(np.float32))
    adata.var_names = ["a0", "b0", "a1", "flat", "b1", "a2", "b2"]
    adata.layers["bleep"] = (adata.X + rng.normal(size=adata.shape)).astype(np.float32)
    adata.obs["section"] = pd.Categorical(["s1"] * 25 + ["s2"] * 15)
    adata.uns["bleep"] = {"panels": {"HVG-50": np.array(["b1", "a1", "b0", "a0", "not here"], dtype=object)}}
    return adata


def test_both_matrices_in_the_order_of_the_measured_one(blocks: AnnData, unchanged: Callable[..., None]) -> None:
    unchanged(blocks)
    genes = ["a0", "b0", "a1", "b1", "a2", "b2"]
    fig = bl.pl.gene_correlation(blocks, genes, return_fig=True)
    left, right = fig.axes[:2]
    order = [label.get_text() for label in left.get_yticklabels()]
    assert sorted(order) == sorted(genes)
    assert {name[0] for name in order[:3]} in ({"a"}, {"b"}), "each programme stands together"
    assert len({name[0] for name in order[3:]}) == 1
    for ax, values in ((left, blocks[:, order].X), (right, blocks[:, order].layers["bleep"])):
        (cells,) = ax.get_images()
        np.testing.assert_allclose(cells.get_array(), np.corrcoef(values.T), atol=1e-6)
        assert cells.get_clim() == (-1, 1)
        for labels in (ax.get_xticklabels(), ax.get_yticklabels()):
            assert [label.get_text() for label in labels] == order
    assert [ax.get_title() for ax in (left, right)] == ["measured", "imputed"]
    assert fig.get_suptitle() == "6 genes, layer 'bleep'"


def test_genes_are_centred_within_sections(blocks: AnnData) -> None:
    second = (blocks.obs["section"] == "s2").to_numpy()
    blocks.X[second] += 100
    genes = ["a0", "b0", "a1"]
    fig = bl.pl.gene_correlation(blocks, genes, library_key="section", return_fig=True)
    order = [label.get_text() for label in fig.axes[0].get_yticklabels()]
    values = np.array(blocks[:, order].X, dtype=float)
    for rows in (second, ~second):
        values[rows] -= values[rows].mean(axis=0)
    np.testing.assert_allclose(fig.axes[0].get_images()[0].get_array(), np.corrcoef(values.T), atol=1e-4)
    blocks.uns["crops"] = {name: {"library_key": "section"} for name in ("s1", "s2")}
    told = bl.pl.gene_correlation(blocks, genes, return_fig=True)
    np.testing.assert_array_equal(told.axes[0].get_images()[0].get_array(), fig.axes[0].get_images()[0].get_array())


def test_genes_without_a_correlation_stand_last_and_are_grey(blocks: AnnData) -> None:
    blocks.layers["bleep"][:, 0] = np.nan
    fig = bl.pl.gene_correlation(blocks, list(blocks.var_names), return_fig=True)
    order = [label.get_text() for label in fig.axes[0].get_yticklabels()]
    assert order[-1] == "flat"
    measured, imputed = (np.asarray(ax.get_images()[0].get_array(), dtype=float) for ax in fig.axes[:2])
    assert np.isnan(measured[-1]).all()
    assert not np.isnan(measured[:-1, :-1]).any()
    assert [order[row] for row in np.flatnonzero(np.isnan(imputed).all(axis=1))] == ["a0"]
    assert fig.axes[0].get_images()[0].get_cmap()(np.nan)[:3] == (0.7, 0.7, 0.7)
    fig.canvas.draw()


def test_a_panel_with_the_agreement_that_evaluate_found(blocks: AnnData) -> None:
    blocks.uns["bleep_scores"] = {
        "summary": pd.DataFrame(
            {"panel": ["all", "HVG-50"], "metric": ["gene_gene", "gene_gene"], "value": [0.1, 0.876]}
        )
    }
    blocks.X, blocks.layers["bleep"] = sparse.csr_matrix(blocks.X), sparse.csr_matrix(blocks.layers["bleep"])
    fig = bl.pl.gene_correlation(blocks, return_fig=True)
    assert fig.axes[1].get_title() == "imputed (agreement 0.88)"
    assert fig.get_suptitle() == "HVG-50: 4 genes, layer 'bleep'"
    assert len(fig.axes[0].get_yticks()) == 4
    assert bl.pl.gene_correlation(blocks, ["a0", "a1", "b0"], return_fig=True).axes[1].get_title() == "imputed"


def test_many_genes_have_no_names_and_long_ones_fit() -> None:
    rng = np.random.default_rng(0)
    adata = AnnData(rng.normal(size=(20, 70)).astype(np.float32))
    adata.var_names = [f"ENSG00000141736_long_{i}" for i in range(70)]
    adata.layers["bleep"] = adata.X.copy()
    fig = bl.pl.gene_correlation(adata, list(adata.var_names), return_fig=True)
    assert not len(fig.axes[0].get_yticks())
    with plt.style.context("dark_background"):
        fig = bl.pl.gene_correlation(adata, list(adata.var_names[:5]), return_fig=True)
        fig.canvas.draw()
    for ax in fig.axes[:2]:
        for label in (*ax.get_xticklabels(), *ax.get_yticklabels()):
            box = label.get_window_extent()
            assert box.x0 >= 0
            assert box.y0 >= 0


def test_shows_unless_it_returns(blocks: AnnData, check_show: Callable[..., None]) -> None:
    check_show(partial(bl.pl.gene_correlation, blocks))


@pytest.mark.odd
def test_bad_input(blocks: AnnData) -> None:
    with pytest.raises(KeyError, match=r"adata\.layers\['x'\].*tl\.impute"):
        bl.pl.gene_correlation(blocks, layer="x")
    with pytest.raises(KeyError, match=r"adata\.layers\['truth'\]"):
        bl.pl.gene_correlation(blocks, truth="truth")
    with pytest.raises(KeyError, match=r"\['panels'\]\['HVG-9'\].*as a list"):
        bl.pl.gene_correlation(blocks, "HVG-9")
    with pytest.raises(KeyError, match=r"var_names\['z'\]"):
        bl.pl.gene_correlation(blocks, ["a0", "a1", "z"])
    with pytest.raises(ValueError, match=r"`genes` must name at least 3 genes.*\['a0', 'a1'\]"):
        bl.pl.gene_correlation(blocks, ["a0", "a1"])
    with pytest.raises(ValueError, match=r"2 of 3 vary as measured; at least 3 must"):
        bl.pl.gene_correlation(blocks, ["a0", "a1", "flat"])
    with pytest.raises(ValueError, match=r"2 spots; a correlation needs at least 3"):
        bl.pl.gene_correlation(blocks[:2])
    blocks.X = None
    with pytest.raises(KeyError, match=r"`adata\.X` is empty.*`truth`"):
        bl.pl.gene_correlation(blocks)
    assert not plt.get_fignums()
