"""Which genes can be read off the image: strata from training sections, scored on others, on tissue of known truth."""

import json
from collections.abc import Callable
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import stats

import bleep_sc as bl
from bleep_sc.models.encoders.color import color_features
from bleep_sc.tl._study import gene_strata as shell
from bleep_sc.tl._study._tissues import strata

QUICK: dict[str, Any] = {
    "method_kwargs": {"image_key": "X_color", "alpha": 10.0},
    "library_key": "section",
    "n_bootstrap": 0,
    "n_draws": 40,
}


@pytest.fixture(scope="module")
def tissue_once() -> AnnData:
    """Three patients with one section each."""
    adata: Any = bl.datasets.toy(n_patients=3, n_sections=1, n_spots=80, n_genes=90, progress_bar=False)
    adata.obsm["X_color"] = color_features(adata.obsm.pop("crops"), progress_bar=False)
    return adata


@pytest.fixture
def tissue(tissue_once: AnnData) -> AnnData:
    return tissue_once.copy()


def run(adata: AnnData, **arguments: Any) -> pd.DataFrame:
    return bl.tl.gene_strata(adata, **(QUICK | arguments))


def of(table: pd.DataFrame, by: str) -> pd.DataFrame:
    return table[table["by"] == by]


@pytest.mark.slow
def test_what_looks_tell_is_what_is_predicted(tissue: AnnData) -> None:
    """A third of the genes are not in the picture: they fill the lowest strata by looks, and score nothing."""
    linked = tissue.var["image_linked"]
    sets = {"shown": list(tissue.var_names[linked][:30]), "hidden": list(tissue.var_names[~linked]), "few": ["GENE001"]}
    table = run(tissue, n_strata=3, gene_sets=sets)
    looks = of(table, "morphology")
    assert list(looks["stratum"]) == ["1 of 3", "2 of 3", "3 of 3"]
    assert abs(looks["value"].iloc[0]) < 0.1
    assert looks["value"].iloc[2] > 0.6
    assert (looks["from"].to_numpy()[1:] >= looks["to"].to_numpy()[:-1]).all()
    # expression says nothing of it here, nor does smoothness, since hidden fields are as smooth
    for by in ("expression", "autocorrelation"):
        assert np.ptp(of(table, by)["value"]) < 0.4
    known = of(table, "gene set").set_index("stratum")
    assert known.loc["shown", "value"] > 0.6
    assert abs(known.loc["hidden", "programme"]) < 0.3
    assert known.loc["hidden", "pvalue"] > 0.5
    assert known.loc["few", "note"].startswith("cannot be told: too few")
    assert np.isnan(known.loc["few", "value"])
    assert known.loc["few", "n_in_set"] == 1
    assert (table["ceiling"].dropna() > 0.5).all()


@pytest.mark.slow
def test_strata_part_all_genes_evenly(tissue: AnnData) -> None:
    table = run(tissue, n_strata=4)
    everything = of(table, "all").iloc[0]
    assert everything["n_genes"] == 90
    for by in shell.BY:
        part = of(table, by)
        assert part["n_genes"].sum() == 90
        assert np.ptp(part["n_genes"]) <= 1
        # the mean over strata, weighed by their size, is the mean over all genes
        assert np.average(part["value"], weights=part["n_genes"]) == pytest.approx(everything["value"], abs=0.005)
        assert (part["share_of_ceiling"] == part["value"] / part["ceiling"]).all()


@pytest.mark.slow
def test_strata_are_of_training_sections_alone(tissue: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    """The held-out patient's counts, shuffled over genes, change no stratum of its fold."""
    seen: list[dict[str, dict[str, list[str]]]] = []
    real = strata._strata

    def kept(plan: Any, fold: Any, *rest: Any) -> Any:
        panels = real(plan, fold, *rest)
        seen[-1][fold.name] = {name: sorted(genes) for name, genes in panels.items()}
        return panels

    monkeypatch.setattr(strata, "_strata", kept)
    seen.append({})
    run(tissue)
    rows = (tissue.obs["patient"] == "P2").to_numpy()
    counts = tissue.layers["counts"].toarray()
    counts[rows] = counts[rows][:, np.random.default_rng(0).permutation(tissue.n_vars)]
    tissue.layers["counts"] = counts
    seen.append({})
    run(tissue)
    assert seen[0]["P2"] == seen[1]["P2"]
    assert seen[0]["P1"] != seen[1]["P1"]


def test_expression_strata_as_worked_out_by_hand(tissue: AnnData) -> None:
    table = of(run(tissue, by="expression", n_strata=2), "expression")
    ends = []
    for patient in ("P1", "P2", "P3"):
        counts = tissue.layers["counts"][(tissue.obs["patient"] != patient).to_numpy()].toarray()
        total = counts.sum(axis=1)
        mean = np.log1p(counts * (np.median(total) / total)[:, None]).mean(axis=0)
        ends.append(np.sort(mean)[[0, 44, 45, 89]])
    np.testing.assert_allclose(table[["from", "to"]].to_numpy().ravel(), np.mean(ends, axis=0), rtol=1e-4)


def test_a_programme_against_random_sets_of_like_genes() -> None:
    """Two of forty genes carry a signal: their mean is read, that of random genes is not."""
    chosen = np.zeros(40, dtype=bool)
    chosen[[3, 20]] = True
    weights = strata._weights(chosen, np.split(np.arange(40), 2), strata._lots(40, 25, seed=0))
    assert len({column.tobytes() for column in (weights[:, 1:] > 0).T}) > 20
    np.testing.assert_allclose(weights.sum(axis=0), 1, rtol=1e-6)
    np.testing.assert_array_equal((weights > 0).sum(axis=0), 2)
    # one gene of each half, as in the set
    np.testing.assert_array_equal((weights[:20] > 0).sum(axis=0), 1)
    found = shell._programmes(
        strata.Found(
            programmes=[
                {"stratum": "A", "section": "s1", "programme": 0.9, "draws": np.linspace(-0.1, 0.1, 19)},
                {"stratum": "A", "section": "s2", "programme": 0.5, "draws": np.linspace(-0.1, 0.1, 19)},
                {"stratum": "B", "section": "s1", "programme": 0.0, "draws": np.linspace(-0.1, 0.1, 19)},
                {"stratum": "B", "section": "s2", "programme": 0.0, "draws": np.linspace(-0.1, 0.1, 19)},
                {"stratum": "C", "section": "s1", "programme": 0.5 + 1e-8, "draws": np.full(19, 0.5)},
            ]
        ),
        {"s1": "p1", "s2": "p2"},
    ).set_index("stratum")
    assert found.loc["A", "programme"] == pytest.approx(0.7)
    assert found.loc["A", "pvalue"] == pytest.approx(1 / 20)
    assert found.loc["B", "pvalue"] == pytest.approx(11 / 20)
    assert found.loc["C", "pvalue"] == 1, "the same genes, but for rounding"
    np.testing.assert_allclose(found["qvalue"], stats.false_discovery_control(found["pvalue"]))


def test_random_sets_are_the_same_genes_in_every_fold(tissue: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other genes in each fold would average out, so that one random set in five was "read better" than they are."""
    seen: list[np.ndarray] = []
    real = strata._weights

    def kept(*arguments: Any) -> np.ndarray:
        seen.append(real(*arguments))
        return seen[-1]

    monkeypatch.setattr(strata, "_weights", kept)
    run(tissue, by="expression", gene_sets={"A": list(tissue.var_names[:12])})
    first, *others = (weights[:, 1:] > 0 for weights in seen)
    assert len(others) == 2
    for other in others:  # all 90 genes are learned in each fold; some change their stratum of expression
        assert (first & other).sum() > 0.6 * first.sum()


def test_looks_cannot_be_compared_within_one_section(tissue: AnnData) -> None:
    """Two sections leave one to train on, in which looks and neighbours are one: that is said, not guessed."""
    two = tissue[tissue.obs["patient"] != "P3"].copy()
    table = run(two)
    looks = of(table, "morphology")
    assert looks["value"].isna().all()
    assert looks["note"].str.contains("cannot be told: a fold trains on one section").all()
    assert of(table, "expression")["value"].notna().all()


@pytest.mark.slow
def test_writes_one_field_and_survives_a_file(tissue: AnnData, tmp_path: Any, log: pytest.LogCaptureFixture) -> None:
    before = {name: set(getattr(tissue, name)) for name in ("obs", "var", "obsm", "layers", "uns")}
    table = run(tissue, gene_sets={"A": list(tissue.var_names[:6])}, key_added="parts")
    assert {name: set(getattr(tissue, name)) - before[name] for name in before} == {
        **{"obs": set(), "var": set(), "obsm": set(), "layers": set(), "uns": {"parts"}}
    }
    assert json.loads(tissue.uns["parts"]["config"])["n_gene_sets"] == 1
    tissue.write_h5ad(tmp_path / "a.h5ad")
    back = ad.read_h5ad(tmp_path / "a.h5ad").uns["parts"]["table"]
    pd.testing.assert_frame_equal(back, table, check_dtype=False)
    assert "expression, lowest to highest" in log.text


BAD: dict[str, tuple[Callable[[AnnData], Any], dict[str, Any], type[Exception], str]] = {
    "one group": (lambda a: a.obs.__setitem__("patient", "P1"), {}, ValueError, "holds one group only, 'P1'"),
    "other names": (
        lambda a: None,
        {"gene_sets": {"A": ["Erbb2", "Krt8", "Vim", "Dcn", "Mki67"]}},
        ValueError,
        r"no set of `gene_sets` has 5 genes of `adata\.var_names`: 'A' has such as \['Erbb2'",
    ),
    "no such method": (lambda a: None, {"method": "nope"}, ValueError, "`method` must be one of 'bleep'"),
    "a field of another kind": (
        lambda a: a.uns.__setitem__("X_color", {"config": "features"}),
        {"key_added": "X_color"},
        ValueError,
        r"adata\.uns\['X_color'\]` holds something else than strata of genes: choose another `key_added`",
    ),
    "no such statistic": (lambda a: None, {"by": "length"}, ValueError, r"`by` must be one of 'expression'"),
    "no looks": (lambda a: None, {"use_rep": "X_uni"}, KeyError, r"adata\.obsm\['X_uni'\]` does not exist"),
    "no such argument": (
        lambda a: None,
        {"method_kwargs": {"image_key": "X_color", "temperature": 1}},
        ValueError,
        "has no `temperature`",
    ),
}


@pytest.mark.odd
@pytest.mark.parametrize("name", BAD)
def test_one_clear_error_before_any_training(name: str, tissue: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    change, arguments, kind, message = BAD[name]
    change(tissue)
    monkeypatch.setattr(strata, "predict", lambda *_: pytest.fail("trained"))
    with pytest.raises(kind, match=message):
        run(tissue, **arguments)
