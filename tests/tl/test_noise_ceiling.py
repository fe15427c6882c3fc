from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from _sections import load_her2st, panel_f
from anndata import AnnData
from scipy import sparse

import bleep_sc as bl
from bleep_sc.metrics import ceiling_from_halves, pearson, split_half_pearson


@pytest.fixture
def adata() -> AnnData:
    """Two sections, the second with eight times the counts; half of the genes follow a field, the others do not."""
    rng = np.random.default_rng(0)
    field = rng.normal(size=(200, 60)) * np.where(np.arange(60) < 30, 0.8, 0)
    depth = np.repeat([2, 16], 100)[:, None]
    counts = rng.poisson(depth * np.exp(field))
    adata = AnnData(sparse.csr_matrix(counts.astype(np.float32)))
    adata.obs["section"] = pd.Categorical(np.repeat(["thin", "deep"], 100))
    adata.layers["counts"] = adata.X.copy()
    adata.layers["mean"] = np.exp(field)
    sc.pp.normalize_total(adata, target_sum=1e3)
    sc.pp.log1p(adata)
    return adata


def test_mean_over_sections_then_ceiling(adata: AnnData) -> None:
    bl.tl.noise_ceiling(adata, library_key="section", n_splits=3, random_state=4)
    rng = np.random.default_rng(4)
    halves = []
    for rows in (range(100, 200), range(100)):  # sections, spots and genes in the order of their names
        part = adata[sorted(map(str, rows)), sorted(adata.var_names)]
        counts = sparse.csr_matrix(part.layers["counts"].toarray())
        halves.append(split_half_pearson(counts, target_sum=1000, n_splits=3, rng=rng))
    found = adata.var["noise_ceiling"][sorted(adata.var_names)]
    np.testing.assert_allclose(found, ceiling_from_halves(np.mean(halves, axis=0)))
    assert adata.uns["noise_ceiling"]["params"] == {
        "counts_layer": "counts",
        "library_key": "section",
        "n_splits": 3,
        "target_sum": 1000.0,
        "random_state": 4,
    }


def test_more_counts_and_more_pattern_raise_it(adata: AnnData) -> None:
    thin, deep = adata[:100].copy(), adata[100:].copy()
    for part in (thin, deep):
        bl.tl.noise_ceiling(part)
    field = np.arange(60) < 30
    assert deep.var["noise_ceiling"][field].mean() > thin.var["noise_ceiling"][field].mean() + 0.05
    assert deep.var["noise_ceiling"][~field].mean() < 0.6 * deep.var["noise_ceiling"][field].mean()
    # what the true mean reaches
    truth = np.log1p(deep.layers["mean"] / deep.layers["mean"].sum(axis=1, keepdims=True) * 1000)
    reached = pearson(deep.X.toarray(), truth)[field].mean()
    assert deep.var["noise_ceiling"][field].mean() == pytest.approx(reached, abs=0.03)


def test_the_total_is_that_of_the_data(adata: AnnData) -> None:
    def total(adata: AnnData, **arguments: Any) -> Any:
        return bl.tl.noise_ceiling(adata, copy=True, n_splits=1, **arguments).uns["noise_ceiling"]["params"][
            "target_sum"
        ]

    assert total(adata) == 1000
    assert total(adata, target_sum=77) == 77
    adata.X = adata.layers["counts"].copy()
    assert total(adata) == "median"
    adata.X = None
    assert total(adata) == "median"
    by_hand = bl.tl.noise_ceiling(
        adata, copy=True, target_sum=float(np.median(adata.layers["counts"].toarray().sum(axis=1)))
    )
    np.testing.assert_allclose(bl.tl.noise_ceiling(adata, copy=True).var["noise_ceiling"], by_hand.var["noise_ceiling"])


def test_genes_that_do_not_vary(adata: AnnData) -> None:
    counts = adata.layers["counts"].toarray()
    counts[:, 0] = 0
    counts[:100, 1] = 0
    counts[:, 2] = 0
    counts[5, 2] = 1
    adata.layers["counts"] = counts
    bl.tl.noise_ceiling(adata, library_key="section")
    ceiling = adata.var["noise_ceiling"].to_numpy()
    assert np.isnan(ceiling[0])
    assert ceiling[1] > 0.5
    assert ceiling[2] == 0
    assert ((ceiling[1:] >= 0) & (ceiling[1:] <= 1)).all()


def test_seed_copy_and_h5ad(adata: AnnData, tmp_path: Path) -> None:
    first, again, other = (bl.tl.noise_ceiling(adata, copy=True, random_state=seed) for seed in (0, 0, 1))
    assert "noise_ceiling" not in adata.var
    assert first.var["noise_ceiling"].equals(again.var["noise_ceiling"])
    assert not first.var["noise_ceiling"].equals(other.var["noise_ceiling"])
    assert bl.tl.noise_ceiling(adata) is None
    adata.write_h5ad(tmp_path / "c.h5ad")
    read = ad.read_h5ad(tmp_path / "c.h5ad")
    np.testing.assert_array_equal(read.var["noise_ceiling"], first.var["noise_ceiling"])
    assert read.uns["noise_ceiling"]["params"]["n_splits"] == 10


def test_sections_are_those_of_the_crops(adata: AnnData) -> None:
    adata.uns["crops"] = {name: {"library_key": "section"} for name in ("thin", "deep")}
    bl.tl.noise_ceiling(adata)
    assert adata.uns["noise_ceiling"]["params"]["library_key"] == "section"


BAD: dict[str, tuple[Callable[[AnnData], Any], dict[str, Any], type[Exception], str]] = {
    "no layer": (lambda a: None, {"counts_layer": "raw"}, KeyError, r"adata\.layers\['raw'\]"),
    "fractions": (
        lambda a: a.layers.__setitem__("counts", a.X.copy()),
        {},
        ValueError,
        r"layers\['counts'\].*whole numbers.*found \d\.\d+",
    ),
    "negative": (
        lambda a: a.layers["counts"].data.__setitem__(3, -2),
        {},
        ValueError,
        r"layers\['counts'\].*found -2",
    ),
    "column": (lambda a: None, {"library_key": "slide"}, KeyError, r"obs\['slide'\]"),
    "splits": (lambda a: None, {"n_splits": 0}, ValueError, r"`n_splits`"),
    "total": (lambda a: None, {"target_sum": 0}, ValueError, r"`target_sum`"),
    "two spots": (
        lambda a: a.obs.__setitem__("section", ["x"] * 2 + ["y"] * 198),
        {"library_key": "section"},
        ValueError,
        r"'x' has 2 spots",
    ),
}


@pytest.mark.odd
@pytest.mark.parametrize("case", BAD)
def test_bad_input(case: str, adata: AnnData, unchanged: Callable[..., None]) -> None:
    damage, arguments, error, message = BAD[case]
    damage(adata)
    unchanged(adata)
    with pytest.raises(error, match=message):
        bl.tl.noise_ceiling(adata, **arguments)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:near-empty")
def test_on_a_real_section(real_data: Path) -> None:
    """Near the figures of an independent estimate on the same section and panel.

    From the panel's mean split-half correlation it gave .42; as the mean over genes, .34.
    """
    sections = load_her2st()
    query = sections.pop("C6")
    ref = ad.concat(sections, label="section", index_unique="-")
    bl.pp.select_genes(ref, batch_key="section", n_top_genes=1000)
    panel = panel_f(ref)
    bl.tl.noise_ceiling(query)
    assert query.var["noise_ceiling"].reindex(panel).fillna(0).mean() == pytest.approx(0.34, abs=0.03)
    halves = split_half_pearson(
        query.layers["counts"],
        target_sum=query.uns["noise_ceiling"]["params"]["target_sum"],
        n_splits=10,
        rng=np.random.default_rng(0),
    )
    mean = pd.Series(halves, index=query.var_names).reindex(panel).fillna(0).mean()
    assert ceiling_from_halves(np.array([mean]))[0] == pytest.approx(0.42, abs=0.02)
