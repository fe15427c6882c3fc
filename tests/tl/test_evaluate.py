from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pytest
import scipy.stats
from anndata import AnnData

import bleep_sc as bl


@pytest.fixture
def scored() -> AnnData:
    rng = np.random.default_rng(0)
    truth = rng.poisson(3, size=(60, 20)).astype(np.float32)
    adata = AnnData(np.log1p(truth), layers={"bleep": (truth + rng.normal(0, 2, size=truth.shape)).astype(np.float32)})
    adata.var_names = [f"g{i}" for i in range(20)]
    adata.obs["section"] = np.repeat(["a", "b"], 30)
    adata.uns["bleep"] = {"panels": {"HEG-50": np.array(["g1", "g2", "gone"], dtype=object)}, "in_sample": False}
    return adata


def test_pearson_by_gene_within_sections(scored: AnnData) -> None:
    scored.layers["bleep"][30:] += 50  # a shift between sections is not a pattern within them
    bl.tl.evaluate(scored, library_key="section")
    for number, gene in enumerate(scored.var_names):
        expected = np.mean(
            [
                scipy.stats.pearsonr(scored.X[rows, number], scored.layers["bleep"][rows, number])[0]
                for rows in (np.arange(30), np.arange(30, 60))
            ]
        )
        assert scored.var.loc[gene, "bleep_pearson"] == pytest.approx(expected, abs=1e-6)
    summary = scored.uns["bleep_scores"]
    assert summary["all"]["pearson"] == pytest.approx(scored.var["bleep_pearson"].mean())
    assert summary["n_sections"] == 2


def test_panels_come_from_the_reference_and_absent_genes_count(scored: AnnData) -> None:
    bl.tl.evaluate(scored)
    pearson = scored.var["bleep_pearson"]
    panel = scored.uns["bleep_scores"]["HEG-50"]
    assert panel["pearson"] == pytest.approx((pearson["g1"] + pearson["g2"]) / 3)
    assert (panel["n_genes"], panel["n_missing"]) == (3, 1)
    ref = AnnData(np.ones((2, 1)), uns={"bleep": {"panels": {"mine": np.array(["g7"])}}})
    bl.tl.evaluate(scored, ref=ref)
    assert set(scored.uns["bleep_scores"]) == {"all", "mine", "n_sections", "in_sample", "params"}


def test_constant_and_missing_genes_are_counted_not_dropped(scored: AnnData) -> None:
    scored.X[:, 0] = 1
    scored.layers["bleep"][:, 1] = 2
    scored.layers["bleep"][:, 2] = np.nan
    bl.tl.evaluate(scored)
    assert np.isnan(scored.var["bleep_pearson"].iloc[[0, 2]]).all()
    assert scored.var["bleep_pearson"].iloc[1] == 0
    summary = scored.uns["bleep_scores"]["all"]
    assert (summary["n_missing"], summary["n_constant_truth"], summary["n_constant_prediction"]) == (1, 1, 1)
    assert summary["pearson"] == pytest.approx(scored.var["bleep_pearson"].iloc[3:].sum() / 20)


def test_two_layers_do_not_overwrite_each_other(scored: AnnData, tmp_path: Path) -> None:
    scored.layers["other"] = scored.X.copy()
    bl.tl.evaluate(scored)
    before = scored.var["bleep_pearson"].copy()
    bl.tl.evaluate(scored, layer="other")
    assert scored.var["bleep_pearson"].equals(before)
    np.testing.assert_allclose(scored.var["other_pearson"], 1)
    scored.write_h5ad(tmp_path / "s.h5ad")
    assert ad.read_h5ad(tmp_path / "s.h5ad").uns["other_scores"]["all"]["pearson"] == pytest.approx(1)


def test_sections_are_those_of_the_crops(scored: AnnData) -> None:
    scored.uns["crops"] = {"a": {"library_key": "section"}, "b": {"library_key": "section"}}
    bl.tl.evaluate(scored)
    assert scored.uns["bleep_scores"]["n_sections"] == 2


def test_says_in_sample_and_prints_a_table(scored: AnnData, log: pytest.LogCaptureFixture) -> None:
    scored.uns["bleep"]["in_sample"] = True
    bl.tl.evaluate(scored)
    assert "IN-SAMPLE" in log.text
    assert scored.uns["bleep_scores"]["in_sample"] is True
    assert "HEG-50" in log.text
    del scored.uns["bleep"]["panels"]
    bl.tl.evaluate(scored)
    assert "Only the mean over all genes is scored" in log.text


BAD: dict[str, tuple[Callable[[AnnData], Any], dict[str, Any], type[Exception], str]] = {
    "no layer": (lambda a: None, {"layer": "x"}, KeyError, r"layers\['x'\].*bleep_sc\.tl\.impute"),
    "no truth": (lambda a: setattr(a, "X", None), {}, ValueError, r"no measured expression"),
    "no truth layer": (lambda a: None, {"truth": "norm"}, KeyError, r"layers\['norm'\]"),
    "column": (lambda a: None, {"library_key": "slide"}, KeyError, r"obs\['slide'\]"),
    "NaN": (lambda a: a.X.__setitem__((0, 0), np.nan), {}, ValueError, r"query\.X.*NaN"),
    "two spots": (
        lambda a: a.obs.__setitem__("section", ["x"] * 2 + ["y"] * 58),
        {"library_key": "section"},
        ValueError,
        r"'x' has 2 spots",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case: str, scored: AnnData, unchanged: Callable[..., None]) -> None:
    damage, arguments, error, message = BAD[case]
    damage(scored)
    unchanged(scored)
    with pytest.raises(error, match=message):
        bl.tl.evaluate(scored, **arguments)


def test_counts_as_truth_are_warned_of(scored: AnnData) -> None:
    scored.layers["counts"] = np.random.default_rng(0).poisson(100, size=scored.shape).astype(np.float32)
    with pytest.warns(UserWarning, match=r"raw counts"):
        bl.tl.evaluate(scored, truth="counts")
