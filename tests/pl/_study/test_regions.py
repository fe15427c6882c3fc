from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import bleep_sc as bl


@pytest.fixture
def adata() -> AnnData:
    adata = AnnData(np.zeros((2, 2)))
    summary = pd.DataFrame({"region": ["gland", "stroma$x"]})
    for number, name in enumerate(["auroc_measured", "auroc_predicted", "log2_fold_measured", "log2_fold_predicted"]):
        summary[name] = [0.5 + 0.1 * number, 0.9]
    summary["pearson"], summary["pearson_within"] = [0.6, 0.5], [0.1, np.nan]
    clusters = pd.DataFrame({"ari": [0.4, 0.6], "ari_chance": [0.1, 0.1], "ari_labels_measured": [0.3, 0.5]})
    clusters["ari_labels_predicted"] = [0.2, np.nan]
    genes = pd.DataFrame({"n_measured": [100, 120], "n_both": [70, 80], "n_chance": [20.0, 24.0]})
    adata.uns["bleep_regions"] = {"summary": summary, "clusters": clusters, "spatial_genes": genes, "in_sample": False}
    return adata


def test_both_sides_of_each_region(adata: AnnData) -> None:
    fig = bl.pl.regions(adata, return_fig=True)
    assert [label.get_text() for label in fig.axes[0].get_yticklabels()] == ["gland", "stroma$x"]
    drawn = {line.get_label(): line.get_xdata() for line in fig.axes[0].get_lines()}
    np.testing.assert_allclose(drawn["measured"], [0.5, 0.9])
    np.testing.assert_allclose(drawn["predicted"], [0.6, 0.9])
    within = {line.get_label(): line.get_xdata() for line in fig.axes[2].get_lines()}
    np.testing.assert_allclose(within["within regions"], [0.1, np.nan])


def test_the_notes_say_what_the_dots_do_not(adata: AnnData) -> None:
    text = " ".join(bl.pl.regions(adata, return_fig=True).get_supxlabel().split())
    assert "predicted to measured 0.50 (turned maps 0.10); to the labels, measured 0.40, predicted 0.20" in text
    assert "110 as measured: in both lists 75, by chance 22" in text
    assert "told apart by eye" in text
    assert "IN-SAMPLE" not in text
    adata.uns["bleep_regions"]["in_sample"] = True
    assert "IN-SAMPLE" in bl.pl.regions(adata, return_fig=True).get_supxlabel()


def test_shown_or_not(adata: AnnData, check_show: Callable[..., None]) -> None:
    check_show(lambda **how: bl.pl.regions(adata, **how))


@pytest.mark.odd
def test_nothing_to_draw(adata: AnnData) -> None:
    with pytest.raises(KeyError, match=r"adata\.uns\['other_regions'\]` does not exist"):
        bl.pl.regions(adata, layer="other")
    adata.uns["bleep_regions"] = {"summary": 3}
    with pytest.raises(ValueError, match=r"is damaged.*bleep_sc\.tl\.evaluate_regions"):
        bl.pl.regions(adata)
