"""Sections on unlike scales are named before a model takes the difference for biology."""

import warnings
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
from anndata import AnnData
from conftest import make_sections
from scipy import sparse

import bleep_sc as bl
from bleep_sc.tl._inputs.units import warn_of_units

SPOTS = slice(0, 48)
"""Those of section "s1"; "s2" is log1p of counts per 10,000."""


def counts(values: np.ndarray, raw: np.ndarray) -> None:
    values[SPOTS] = raw[SPOTS]


def few_counts(values: np.ndarray, raw: np.ndarray) -> None:
    values[SPOTS] = np.minimum(raw[SPOTS], 3)


def per_million(values: np.ndarray, raw: np.ndarray) -> None:
    values[SPOTS] = np.log1p(100 * np.expm1(values[SPOTS]))


def per_three_thousand(values: np.ndarray, raw: np.ndarray) -> None:
    values[SPOTS] = np.log1p(0.3 * np.expm1(values[SPOTS]))


def logged_twice(values: np.ndarray, raw: np.ndarray) -> None:
    values[SPOTS] = np.log1p(values[SPOTS])


def no_logarithm(values: np.ndarray, raw: np.ndarray) -> None:
    values[SPOTS] = np.expm1(values[SPOTS])


def all_logged_twice(values: np.ndarray, raw: np.ndarray) -> None:
    np.log1p(values, out=values)


UNLIKE: dict[str, tuple[Callable[[np.ndarray, np.ndarray], None], str]] = {
    "counts beside logarithms": (counts, r"'s2': log1p of counts per 10,000; 's1': raw counts\."),
    "few counts beside logarithms": (few_counts, r"'s1': raw counts; 's2': log1p of counts per 10,000\."),
    "another sum": (per_million, r"'s2': log1p of counts per 10,000; 's1': log1p of counts per 1,000,000\."),
    "a sum a third as large": (per_three_thousand, r"'s1': log1p of counts per 3,000; 's2': log1p of counts per 10"),
    "log1p twice": (
        logged_twice,
        r"'s1': values with a total of about \d+ a spot by `expm1` as after log1p twice; 's2'",
    ),
    "no logarithm": (no_logarithm, r"'s2': log1p of counts per 10,000; 's1': values of up to [\d,]+, which are no log"),
    "all of it log1p twice": (all_logged_twice, r"the logarithm was taken twice in `adata\.X`"),
}


@pytest.mark.odd
@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
@pytest.mark.parametrize("case", UNLIKE)
def test_unlike_sections_are_named(case: str, kind: Callable[[np.ndarray], object], ref: AnnData) -> None:
    change, message = UNLIKE[case]
    values = ref.X.toarray()
    change(values, ref.layers["counts"].toarray())
    ref.X = kind(values)
    with pytest.warns(UserWarning, match=message) as caught:
        bl.tl.fit(ref, method="mean", library_key="section")
    assert len(caught) == 1


@pytest.mark.odd
@pytest.mark.parametrize("case", UNLIKE)
@pytest.mark.parametrize("layer", [None, "log"])
def test_the_advice_mends_it(case: str, layer: str | None, ref: AnnData) -> None:
    values = ref.X.toarray()
    UNLIKE[case][0](values, ref.layers["counts"].toarray())
    ref.layers["log"] = ref.X = values
    with pytest.warns(UserWarning, match=r"Normalise all sections alike") as caught:
        bl.tl.fit(ref, method="mean", layer=layer, library_key="section")
    lines = str(caught[0].message).partition("Normalise all sections alike")[2].split("`")[3::2]
    assert len(lines) == 3
    for line in lines:
        exec(line, {"adata": ref, "sc": sc})  # noqa: S102 - what the user is told to run
    bl.tl.fit(ref, method="mean", layer=layer, library_key="section")


def halved(adata: AnnData) -> None:
    """As deep sections beside shallow ones, without a common sum."""
    adata.X = np.log1p(np.expm1(adata.X.toarray()) * np.where(np.arange(adata.n_obs) < 48, 1.0, 0.6)[:, None])


def some_genes(adata: AnnData) -> None:
    """Only some genes are left, of which one section has three times as much."""
    shares = adata.layers["counts"].toarray() * np.where(np.arange(adata.n_obs) < 48, 3.0, 1.0)[:, None]
    adata.X = np.log1p(shares * np.random.default_rng(0).uniform(0.5, 1.5, size=(adata.n_obs, 1)))


def counts_everywhere(adata: AnnData) -> None:
    adata.X = np.minimum(adata.layers["counts"].toarray(), 20)


def empty_spots(adata: AnnData) -> None:
    values = adata.X.toarray()
    values[:45] = 0
    adata.X = values


FINE: dict[str, Callable[[AnnData], None]] = {
    "as it should be": lambda adata: None,
    "no common sum": halved,
    "some genes": some_genes,
    "counts everywhere": counts_everywhere,
    "spots without counts": empty_spots,
    "detected or not": lambda adata: setattr(adata, "X", adata.layers["counts"].toarray() > 3),
    "whole numbers of one byte": lambda adata: setattr(adata, "X", adata.X.toarray().astype(np.uint8)),
    "nothing at all": lambda adata: setattr(adata, "X", np.zeros(adata.shape, dtype=np.float32)),
}


@pytest.mark.parametrize("case", FINE)
def test_nothing_is_said_of_sections_that_are_alike(case: str, ref: AnnData) -> None:
    FINE[case](ref)
    with warnings.catch_warnings(record=True) as said:
        warn_of_units(ref.X, ref.obs["section"].to_numpy(), layer=None)
    assert not said


def test_nothing_is_said_of_one_section_or_of_a_representation(ref: AnnData) -> None:
    values = ref.X.toarray()
    per_million(values, values)
    ref.obsm["X_rep"] = values
    ref.X = values
    bl.tl.fit(ref, method="ridge", use_rep="X_rep", library_key="section", alpha=1.0)
    del ref.uns["crops"], ref.obsm["crops"]
    bl.tl.fit(ref, method="mean")


@pytest.mark.odd
def test_many_sections_are_named_in_short() -> None:
    ref = make_sections(8, sections=tuple(f"s{i}" for i in range(12)), size=8)
    values = np.expm1(ref.X.toarray())
    factor = np.repeat([1, 1, 1, 1, 1, 1, 2, 4, 8, 16, 32, 64], 8)[:, None]
    message = (
        r"'s0', 's1', 's2' and 3 more: log1p of counts per 10,000; 's6': .*; \.\.\.; "
        r"'s10': log1p of counts per 320,000; 's11': log1p of counts per 640,000\. A model"
    )
    with pytest.warns(UserWarning, match=message) as caught:
        warn_of_units(np.log1p(values * factor), ref.obs["section"].to_numpy(), layer=None)
    assert len(str(caught[0].message)) < 700


@pytest.mark.odd
@pytest.mark.filterwarnings("ignore:near-empty spots:UserWarning")
def test_a_cross_validation_says_it_once() -> None:
    tissue = make_sections(30, sections=("a", "b", "c"), size=8)
    values = tissue.X.toarray()
    values[:30] = np.log1p(100 * np.expm1(values[:30]))
    tissue.X = values
    with pytest.warns(UserWarning) as caught:
        bl.tl.cross_validate(
            tissue, group_key="section", methods=["mean", "ridge"], counts_layer=None, n_bootstrap=0, n_top_genes=10
        )
    assert [str(w.message)[:26] for w in caught if w.category is UserWarning] == ["sections are on different "]


@pytest.fixture(scope="module")
def real_sections(real_data: Path) -> dict[str, AnnData]:
    """Real sections, joined by tissue and normalised together."""
    paths = {
        "breast": [*(f"her2st/C{i}" for i in range(2, 7)), "her2st_b/B4"],
        "bulb": [*(f"mob2k/MOB{i}" for i in range(1, 5)), "mob1k_layers/Rep11", "mob1k_layers/Rep12"],
        "bulb of one kind": [f"mob2k/MOB{i}" for i in range(1, 5)],
    }
    joined = {}
    for tissue, names in paths.items():
        parts = {name: ad.read_h5ad(real_data / f"{name}.h5ad") for name in names}
        adata = ad.concat(parts, label="section", index_unique="-")
        with warnings.catch_warnings(action="ignore"):
            sc.pp.normalize_total(adata, target_sum=1e4)
        sc.pp.log1p(adata)
        joined[tissue] = adata
    return joined


@pytest.mark.parametrize("tissue", ["breast", "bulb", "bulb of one kind"])
@pytest.mark.slow
def test_real_sections_are_alike_however_few_genes_are_left(tissue: str, real_sections: dict[str, AnnData]) -> None:
    """Patients, animals and arrays differ by up to 3.4 times in the genes that vary most, and are on one scale."""
    adata = real_sections[tissue]
    sections = adata.obs["section"].to_numpy()
    warn_of_units(adata.X, sections, layer=None)
    for n_top in (50, 100, 500):
        for batch_key in (None, "section"):
            chosen = sc.pp.highly_variable_genes(adata, n_top_genes=n_top, batch_key=batch_key, inplace=False)
            genes = chosen["highly_variable"].to_numpy()
            with warnings.catch_warnings(record=True) as said:
                warn_of_units(adata.X[:, genes], sections, layer=None)
            assert not said


@pytest.mark.odd
def test_real_sections_on_unlike_scales_are_told_apart(real_sections: dict[str, AnnData]) -> None:
    adata = real_sections["breast"]
    sections = adata.obs["section"].to_numpy()
    other = adata.X.copy()
    rows = np.repeat(sections == "her2st/C4", np.diff(other.indptr))
    other.data[rows] = np.log1p(other.data[rows])
    with pytest.warns(UserWarning, match=r"'her2st/C4': values with a total .* as after log1p twice; 'her2st/C2'"):
        warn_of_units(other, sections, layer=None)
