from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
from anndata import AnnData

import bleep_sc as bl


@pytest.fixture
def sections() -> AnnData:
    rng = np.random.default_rng(0)
    mean = rng.gamma(0.5, 2, size=300)
    # genes that vary in one section only
    factor = np.ones((120, 300))
    factor[:60, 250:275] *= rng.gamma(0.5, 2, size=(60, 25))
    factor[60:, 275:] *= rng.gamma(0.5, 2, size=(60, 25))
    mean[250:] = 5
    adata = AnnData(rng.poisson(mean * factor).astype(np.float32))
    adata.layers["counts"] = adata.X.copy()
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    adata.obs["section"] = np.repeat(["a", "b"], 60)
    return adata


def test_union_of_scanpys_genes_by_section(sections: AnnData) -> None:
    bl.pp.select_genes(sections, batch_key="section", n_top_genes=40)
    detected = np.asarray((sections.X > 0).mean(axis=0)).ravel() >= 0.1
    votes = np.zeros(300, dtype=int)
    for section in ("a", "b"):
        part = sections[sections.obs["section"] == section, detected].copy()
        sc.pp.highly_variable_genes(part, n_top_genes=40)
        votes[np.flatnonzero(detected)[part.var["highly_variable"]]] += 1
    assert sections.var["highly_variable_nbatches"].tolist() == votes.tolist()
    assert sections.var["highly_variable"].tolist() == (votes > 0).tolist()
    assert sections.var["highly_variable"].dtype == bool
    assert (votes == 1).any(), "no section brought a gene of its own: the test shows nothing"


def test_detection_filter(sections: AnnData) -> None:
    everything = sections.copy()
    bl.pp.select_genes(sections, n_top_genes=300, min_fraction=0.5)
    bl.pp.select_genes(everything, n_top_genes=300, min_fraction=0)
    detected = np.asarray((sections.X > 0).mean(axis=0)).ravel() >= 0.5
    assert sections.var["highly_variable"].tolist() == detected.tolist()
    assert everything.var["highly_variable"].all()


def test_layer_key_and_copy(sections: AnnData, unchanged: Callable[..., None]) -> None:
    bl.pp.select_genes(sections, n_top_genes=30)
    other = sections.copy()
    other.layers["norm"] = other.X
    other.X = np.zeros_like(other.X)
    unchanged(other)
    done = bl.pp.select_genes(other, n_top_genes=30, layer="norm", key_added="mine", copy=True)
    assert done is not None
    assert done.var["mine"].tolist() == sections.var["highly_variable"].tolist()


def test_near_empty_spots_are_reported_with_the_remedy(sections: AnnData) -> None:
    counts = sections.layers["counts"]
    counts[3] = 0
    counts[3, 0] = 7
    advised = _advised_line(sections, r"counts: 1 in 'a'")
    assert advised == "adata = adata[np.ravel(adata.layers['counts'].sum(axis=1)) > 7].copy()"
    assert list(_after(advised, sections).obs_names) == [
        name for name in sections.obs_names if name != sections.obs_names[3]
    ]
    del sections.layers["counts"]
    sections.X[70, 5:] = 0
    advised = _advised_line(sections, r"detected genes: 1 in 'b'")
    assert list(_after(advised, sections).obs_names) == [
        name for name in sections.obs_names if name != sections.obs_names[70]
    ]


def _advised_line(adata: AnnData, match: str) -> str:
    with pytest.warns(UserWarning, match=match) as warned:
        bl.pp.select_genes(adata, batch_key="section", n_top_genes=30)
    return str(warned[0].message).split("`")[1]


def _after(line: str, adata: AnnData) -> AnnData:
    """What a user has who pastes the line."""
    names: dict[str, Any] = {"adata": adata, "np": np}
    exec(line, names)  # noqa: S102 - a line of our own
    made: AnnData = names["adata"]
    return made


@pytest.mark.odd
@pytest.mark.parametrize(
    ("damage", "arguments", "error", "message"),
    [
        (lambda a: None, {"batch_key": "slide"}, KeyError, r"obs\['slide'\]"),
        (lambda a: None, {"layer": "norm"}, KeyError, r"layers\['norm'\]"),
        (lambda a: None, {"n_top_genes": 0}, ValueError, r"`n_top_genes`"),
        (lambda a: None, {"min_fraction": 1.5}, ValueError, r"`min_fraction`.*0 to 1"),
        (lambda a: a.X.__setitem__((0, 0), np.nan), {}, ValueError, r"adata\.X.*NaN"),
        (lambda a: a.X.__setitem__((0, 0), -1), {}, ValueError, r"adata\.X.*negative.*sc\.pp\.log1p"),
        (lambda a: a.X.__imul__(0), {}, ValueError, r"no gene is detected in 10%"),
        (lambda a: a._inplace_subset_var([]), {}, ValueError, r"has no genes \(n_vars = 0\)"),
        (
            lambda a: a.obs.__setitem__("section", ["x"] + ["y"] * 119),
            {"batch_key": "section"},
            ValueError,
            r"'x' has a single spot",
        ),
    ],
    ids=["column", "layer", "number", "share", "NaN", "negative", "empty", "no genes", "single spot"],
)
def test_bad_input(
    sections: AnnData,
    damage: Callable[[AnnData], Any],
    arguments: dict[str, Any],
    error: type[Exception],
    message: str,
    unchanged: Callable[..., None],
) -> None:
    damage(sections)
    unchanged(sections)
    with pytest.raises(error, match=message):
        bl.pp.select_genes(sections, **arguments)


@pytest.mark.odd
def test_views_are_refused(sections: AnnData, unchanged: Callable[..., None]) -> None:
    unchanged(sections)
    with pytest.raises(ValueError, match=r"view.*\.copy\(\)"):
        bl.pp.select_genes(sections[:60])


@pytest.mark.odd
def test_raw_counts_are_warned_of(sections: AnnData) -> None:
    with pytest.warns(UserWarning, match=r"layers\['counts'\].*raw counts"):
        bl.pp.select_genes(sections, layer="counts")


def test_real_sections(real_data: Path) -> None:
    parts = {name: ad.read_h5ad(real_data / "her2st" / f"{name}.h5ad") for name in ("C2", "C3")}
    for part in parts.values():
        part.layers["counts"] = part.X.copy()
        sc.pp.normalize_total(part, target_sum=1e4)
        sc.pp.log1p(part)
    ref = ad.concat(parts, index_unique="-")
    with pytest.warns(UserWarning, match=r"near-empty spots.*in 'C2'.*in 'C3'"):
        bl.pp.select_genes(ref, batch_key="section")
    with pytest.warns(UserWarning, match=r"near-empty"):
        bl.pp.select_genes(ref, batch_key="section", min_fraction=0, key_added="paper")
    detection = np.asarray((ref.X > 0).mean(axis=0)).ravel()
    assert np.median(detection[ref.var["highly_variable"]]) > np.median(detection[ref.var["paper"]])
    with pytest.warns(UserWarning, match=r"near-empty"):
        bl.pp.select_genes(ref, batch_key="section", min_fraction=0.3, key_added="often")
    markers = ["FASN", "CD24", "COL1A1", "COL1A2", "VIM", "FN1", "IGHG1", "IGKC", "CD74", "ACTA2"]
    assert ref.var.loc[markers, "often"].sum() >= ref.var.loc[markers, "paper"].sum() + 3
