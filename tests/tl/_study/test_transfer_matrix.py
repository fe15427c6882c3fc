"""A model of one tissue on another: what is trained on, what is scored, and what the table says of it."""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from conftest import make_sections

import bleep_sc as bl
from bleep_sc.tl._study._tissues import cells
from bleep_sc.tl._study._tissues.joined import join, shared_genes

pytestmark = pytest.mark.filterwarnings("ignore:near-empty spots:UserWarning")

QUICK: dict[str, Any] = {
    "method_kwargs": {"image_key": "X_made", "alpha": 1.0},
    "min_fraction": 0.0,
    "n_bootstrap": 0,
    "library_key": "section",
}


def tissue(name: str, *, sections: int = 2, patients: int = 1, seed: int = 0, n: int = 30) -> AnnData:
    names = tuple(f"{name}{i}" for i in range(sections))
    adata = make_sections(n, sections=names, seed=seed)
    crops = adata.obsm.pop("crops").astype(np.float32)
    del adata.uns["crops"]
    adata.obsm["X_made"] = np.hstack([crops.mean(axis=(1, 2)), np.abs(np.diff(crops, axis=2)).mean(axis=(1, 2))])
    number = pd.Categorical(adata.obs["section"]).codes % patients
    adata.obs["patient"] = [f"{name} patient {each}" for each in number]
    return adata


def contrary(adata: AnnData) -> AnnData:
    """The same look, but each gene under the name of one that does the opposite."""
    other = adata.copy()
    other.var_names = list(adata.var_names[::-1])
    return other


def cell(table: pd.DataFrame, trained: str, tested: str, panel: str = "all") -> pd.Series:
    mask = (table["trained_on"] == trained) & (table["tested_on"] == tested) & (table["panel"] == panel)
    (row,) = table[mask].iloc
    return row


def run(tissues: dict[str, AnnData], **arguments: Any) -> pd.DataFrame:
    return bl.tl.transfer_matrix(tissues, **(QUICK | arguments))


@pytest.mark.slow
def test_a_row_for_each_cell_and_panel() -> None:
    tissues = {"a": tissue("a"), "b": tissue("b", seed=1), "c": tissue("c", seed=2, sections=1)}
    before = {name: (set(adata.obs), set(adata.uns), set(adata.layers)) for name, adata in tissues.items()}
    table = run(tissues)
    assert {name: (set(adata.obs), set(adata.uns), set(adata.layers)) for name, adata in tissues.items()} == before
    assert len(table) == 4 * 3 * 4
    assert not table.duplicated(["trained_on", "tested_on", "panel"]).any()
    assert (table["n_shared_genes"] == 30).all()
    own = table["trained_on"].isin(["all"]) | (table["trained_on"] == table["tested_on"])
    np.testing.assert_array_equal(table["how"] == "cross-validated", own)
    # with one section nothing would be left to train on, and the table says so
    lone = own & (table["tested_on"] == "c")
    np.testing.assert_array_equal(table["value"].isna(), lone)
    assert table.loc[lone, "note"].str.contains("cannot be told").all()
    assert (table.loc[~lone, "note"] == "").all()
    # the same look goes with the same genes in all three
    assert table.loc[~lone, "value"].min() > 0.3


@pytest.mark.slow
def test_the_diagonal_is_a_cross_validation() -> None:
    tissues = {"a": tissue("a", sections=3, patients=3), "b": tissue("b", seed=1)}
    table = run(tissues)
    scores = bl.tl.cross_validate(
        tissues["a"].copy(),
        methods=["ridge"],
        method_kwargs={"ridge": QUICK["method_kwargs"]},
        library_key="section",
        min_fraction=0.0,
        n_bootstrap=0,
    )
    for panel in ("all", "HEG-50", "HVG-50"):
        known = scores.query("metric == 'pearson' and panel == @panel")["value"].mean()
        assert cell(table, "a", "a", panel)["value"] == pytest.approx(known, abs=1e-6)
    assert cell(table, "a", "a")["scope"] == "across patients"
    assert cell(table, "b", "b")["scope"] == "within-patient"


def test_a_transfer_is_fit_and_impute() -> None:
    """The off-diagonal cell, worked out by hand: one section each, so nothing is held out."""
    a, b = tissue("a", sections=1), tissue("b", sections=1, seed=1)
    table = run({"a": a, "b": b})
    import scanpy as sc

    for adata in (a, b):
        adata.X = adata.layers["counts"].copy()
        sc.pp.normalize_total(adata)
        sc.pp.log1p(adata)
    bl.tl.fit(a, method="ridge", library_key="section", check="off", **QUICK["method_kwargs"])
    bl.tl.impute(b, a)
    truth, predicted = b.X.toarray(), b.layers["bleep"]
    known = np.mean([np.corrcoef(truth[:, j], predicted[:, j])[0, 1] for j in range(30)])
    assert cell(table, "a", "b")["value"] == pytest.approx(known, abs=1e-5)


def test_what_is_scored_is_never_trained_on() -> None:
    tissues = {"a": tissue("a", sections=3), "b": tissue("b", seed=1, sections=2)}
    joined = _joined(tissues)
    seen = []
    for column, of_column in cells.folds_of(joined):
        for each in of_column:
            assert not set(each.fold.training) & set(each.fold.test)
            assert set(each.fold.test) == set(column.test)
            assert not set(column.training) & set(column.test)
            trained, tested = set(joined.tissues[each.fold.training]), set(joined.tissues[each.fold.test])
            assert tested == {each.tested_on}
            assert trained == ({"a", "b"} if each.trained_on == "all" else {each.trained_on})
            seen.append((each.trained_on, each.tested_on))
    assert {pair: seen.count(pair) for pair in set(seen)} == {
        **{("a", "a"): 3, ("b", "a"): 3, ("all", "a"): 3},
        **{("a", "b"): 2, ("b", "b"): 2, ("all", "b"): 2},
    }


def _joined(tissues: dict[str, AnnData], **arguments: Any) -> Any:
    given: dict[str, Any] = {
        **{"map_genes": None, "image_keys": ["X_made"], "counts_layer": "counts"},
        **{"group_key": None, "library_key": "section", "patient_key": None},
    }
    return join(tissues, **(given | arguments))


@pytest.mark.filterwarnings("ignore:one reference of all tissues:UserWarning")
@pytest.mark.slow
def test_expression_of_what_is_scored_changes_no_other_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own counts, turned upside down, change the truth but neither prediction nor panels."""
    tissues = {"a": tissue("a", sections=2), "b": tissue("b", seed=1, sections=2)}
    layers: dict[Any, np.ndarray] = {}
    real = cells.predict_and_judge

    def kept(plan: Any, fold: Any, prepared: Any, asked: Any) -> Any:
        layer, verdict = real(plan, fold, prepared, asked)
        layers[(fold.name, tuple(fold.training))] = layer
        return layer, verdict

    monkeypatch.setattr(cells, "predict_and_judge", kept)
    run(tissues)
    before = dict(layers)
    counts = tissues["a"].layers["counts"].toarray()
    first = (tissues["a"].obs["section"] == "a0").to_numpy()
    counts[first] = counts[first][:, ::-1]
    tissues["a"].layers["counts"] = counts
    run(tissues)
    mine = [key for key in before if key[0] == "a: a0"]
    assert len(mine) == 3
    for key in mine:
        np.testing.assert_array_equal(layers[key], before[key])
    assert any((layers[key] != before[key]).any() for key in before if key[0] != "a: a0")


@pytest.mark.slow
def test_a_joint_reference_of_contrary_tissues_costs_and_says_so(log: pytest.LogCaptureFixture) -> None:
    tissues = {"a": tissue("a", sections=3), "b": contrary(tissue("b", seed=1, sections=3))}
    with pytest.warns(UserWarning, match=r"more than 0.01: .*a 1\.\d+ \(all\).*Fit each tissue by itself"):
        table = run(tissues)
    assert cell(table, "a", "b")["value"] < -0.3
    joint, own = cell(table, "all", "a"), cell(table, "a", "a")
    assert joint["cost"] == pytest.approx(own["value"] - joint["value"])
    assert joint["cost"] > 0.1
    assert np.isnan(own["cost"])
    assert "trained on (rows) and tested on (columns)" in log.text


@pytest.mark.slow
def test_a_joint_reference_of_like_tissues_costs_nothing(recwarn: pytest.WarningsRecorder) -> None:
    table = run({"a": tissue("a", sections=3, n=50), "b": tissue("b", seed=1, sections=3, n=50)})
    assert table["cost"].max() <= 0.01
    assert not [each for each in recwarn if "one reference of all" in str(each.message)]


def test_another_look_is_no_tissue_to_use_it_on(recwarn: pytest.WarningsRecorder) -> None:
    """The verdict stands in the table, and no warning repeats it for each fold."""
    tissues = {"a": tissue("a", n=60), "b": tissue("b", seed=1, n=60)}
    tissues["b"].obsm["X_made"] = 300 - 2 * tissues["b"].obsm["X_made"]
    table = run(tissues)
    assert cell(table, "a", "b")["verdict"].startswith("unlike")
    assert cell(table, "a", "b")["n_unlike"] == 2
    assert cell(table, "a", "b")["share_unlike"] > 0.9
    assert cell(table, "a", "a")["n_unlike"] == 0
    assert not [each for each in recwarn if "So far off" in str(each.message)]


def test_a_method_without_images_has_no_verdict() -> None:
    table = run({"a": tissue("a"), "b": tissue("b", seed=1)}, method="mean", method_kwargs=None)
    assert (table["verdict"] == "").all()
    assert table["share_unlike"].isna().all()
    np.testing.assert_array_equal(table["value"], 0)


@pytest.mark.parametrize(
    ("map_genes", "kept"),
    [(None, ["C"]), ("upper", ["A", "C"]), ({"a": "A", "B2": "B"}, ["A", "B", "C"])],
)
def test_genes_get_common_names(map_genes: Any, kept: list[str]) -> None:
    human = AnnData(np.zeros((2, 4)))
    human.var_names = ["A", "B", "C", "D"]
    mouse = AnnData(np.zeros((2, 4)))
    mouse.var_names = ["C", "a", "B2", "d2"]
    found = shared_genes({"human": human, "mouse": mouse}, map_genes)
    for name, adata in {"human": human, "mouse": mouse}.items():
        columns, names = found[name]
        assert list(names) == kept
        given = adata.var_names[columns]
        assert [{"a": "A", "B2": "B"}.get(gene, gene) for gene in given] == kept


def test_names_that_fall_together_are_left_out() -> None:
    one, two = AnnData(np.zeros((2, 3))), AnnData(np.zeros((2, 2)))
    one.var_names, two.var_names = ["Aa", "AA", "b"], ["AA", "B"]
    columns, names = shared_genes({"one": one, "two": two}, "upper")["one"]
    assert (list(names), list(columns)) == (["B"], [2])


def test_sections_of_two_tissues_may_have_one_name() -> None:
    tissues = {"a": tissue("s"), "b": tissue("s", seed=1)}
    table = run(tissues)
    assert (table["n_sections"] == 2).all()


@pytest.mark.slow
def test_the_order_of_tissues_does_not_matter() -> None:
    tissues = {"a": tissue("a"), "b": tissue("b", seed=1)}
    keys = ["trained_on", "tested_on", "panel"]
    one = run(tissues).set_index(keys)["value"]
    two = run(dict(reversed(tissues.items()))).set_index(keys)["value"]
    off = one.index.get_level_values(0) != "all"
    np.testing.assert_allclose(two.reindex(one.index)[off], one[off], atol=1e-5)


BAD: dict[str, tuple[Callable[[], dict[str, Any]], dict[str, Any], str]] = {
    "one tissue": (lambda: {"a": tissue("a")}, {}, r"two or more tissues.*found 1 tissue"),
    "no mapping": (lambda: [tissue("a")], {}, r"two or more tissues.*found list"),  # type: ignore[dict-item,return-value]
    "a taken name": (lambda: {"a": tissue("a"), "all": tissue("b")}, {}, r"the name 'all'"),
    "no shared gene": (
        lambda: {"a": tissue("a"), "b": upper(tissue("b", seed=1))},
        {},
        r"no gene is in all tissues: 'a' has such as 'g0', 'b' has such as 'G0'.*`map_genes='upper'` would make 30",
    ),
    "no such map": (
        lambda: {"a": tissue("a"), "b": tissue("b")},
        {"map_genes": "lower"},
        r"None, 'upper' or a mapping",
    ),
    "the same spots": (lambda: {"a": tissue("a"), "b": tissue("a")}, {}, r"the same profile in `tissues`"),
    "counts in one": (
        lambda: {"a": tissue("a"), "b": without_counts(tissue("b", seed=1))},
        {},
        r"`layers\['counts'\]` is in 'a' but not in 'b'",
    ),
    "other features": (
        lambda: {"a": tissue("a"), "b": fewer_features(tissue("b", seed=1))},
        {},
        r"`obsm\['X_made'\]` of 'a' and 'b' have the shapes \(6,\) and \(4,\)",
    ),
    "no such argument": (
        lambda: {"a": tissue("a"), "b": tissue("b", seed=1)},
        {"method_kwargs": {"temperature": 1}},
        r"`method='ridge'` has no `temperature`",
    ),
}


def upper(adata: AnnData) -> AnnData:
    adata.var_names = adata.var_names.str.upper()
    return adata


def without_counts(adata: AnnData) -> AnnData:
    del adata.layers["counts"]
    return adata


def fewer_features(adata: AnnData) -> AnnData:
    adata.obsm["X_made"] = adata.obsm["X_made"][:, :4]
    return adata


@pytest.mark.odd
@pytest.mark.parametrize("name", BAD)
def test_one_clear_error_before_any_training(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, arguments, message = BAD[name]
    monkeypatch.setattr(cells, "predict_and_judge", lambda *_: pytest.fail("trained"))
    with pytest.raises(ValueError, match=message):
        run(make(), **arguments)


@pytest.mark.odd
def test_images_in_one_tissue_only() -> None:
    lacking = tissue("b", seed=1)
    del lacking.obsm["X_made"]
    with pytest.raises(KeyError, match=r"tissues\['b'\]\.obsm\['X_made'\]` does not exist"):
        run({"a": tissue("a"), "b": lacking})


def with_crops(name: str, seed: int, um: float = 100.0) -> AnnData:
    adata = make_sections(30, sections=(f"{name}1", f"{name}2"), size=8, seed=seed)
    for record in adata.uns["crops"].values():
        record["size_um"] = um
    return adata


@pytest.mark.usefixtures("remembered_colours")
@pytest.mark.slow
def test_crops_go_along_with_their_records() -> None:
    tissues = {"a": with_crops("s", 0), "b": with_crops("s", 1)}
    joined = _joined(tissues, image_keys=["crops"])
    assert set(joined.adata.uns["crops"]) == {"a: s1", "a: s2", "b: s1", "b: s2"}
    table = run(tissues, method_kwargs={"alpha": 1.0})
    assert cell(table, "a", "b")["value"] > 0.2


@pytest.mark.odd
def test_crops_of_other_widths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "predict_and_judge", lambda *_: pytest.fail("trained"))
    with pytest.raises(ValueError, match=r"mixes scales: the crops of 'a: s1' and 'b: s1' are 100 and 200 µm wide"):
        run({"a": with_crops("s", 0), "b": with_crops("s", 1, um=200.0)}, method_kwargs=None)


def test_few_shared_names_are_doubted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    other = tissue("b", seed=1)
    other.var_names = ["g0", "g1", *(f"other{i}" for i in range(28))]
    with pytest.warns(UserWarning, match="share 2 genes only, of 30"):
        run({"a": tissue("a"), "b": other})


@pytest.mark.odd
@pytest.mark.slow
def test_names_of_tissues_that_have_an_arrow_of_their_own(tmp_path: Any) -> None:
    """Of "a" and "a > a", either trained on and the other tested on, are two cells, whatever joins their names."""
    one, other = tissue("a"), tissue("b", seed=1)
    wanted = run({"a": one, "b": other})
    for _ in range(2):  # the second time from what was kept
        table = run({"a": one, "a > a": other}, checkpoint_dir=tmp_path / "kept")
        np.testing.assert_allclose(table["value"], wanted["value"], atol=1e-6)


@pytest.mark.odd
def test_common_names_by_a_series_are_refused_in_words() -> None:
    with pytest.raises(ValueError, match="`map_genes` must be None, 'upper' or a mapping"):
        run({"a": tissue("a"), "b": tissue("b", seed=1)}, map_genes=pd.Series({"g1": "G1"}))


@pytest.mark.odd
def test_a_method_that_is_none() -> None:
    with pytest.raises(ValueError, match=r"`method` must be one of .*, found 'nope'"):
        run({"a": tissue("a"), "b": tissue("b", seed=1)}, method="nope")


@pytest.mark.odd
def test_patients_that_one_tissue_alone_tells() -> None:
    """What is trained and tested on the tissue whose patients are known holds across patients."""
    one, other = tissue("a", patients=2), tissue("b", seed=1)
    del other.obs["patient"]
    scopes = run({"a": one, "b": other}).query("panel == 'all'").set_index(["trained_on", "tested_on"])["scope"]
    assert scopes["a", "a"] == "across patients"
    assert set(scopes.drop(("a", "a"))) == {"patients unknown"}
