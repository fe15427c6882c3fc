"""A sweep of parameters: what its folds may see, what they choose, and what one training serves."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from conftest import make_sections

import bleep_sc as bl
from bleep_sc.tl._cv import run as folds_run
from bleep_sc.tl._study._sweep import run as sweep_run

pytestmark = [
    pytest.mark.usefixtures("remembered_colours"),
    pytest.mark.filterwarnings("ignore:the model has nearly collapsed:UserWarning"),
    pytest.mark.filterwarnings("ignore:near-empty spots:UserWarning"),
]

QUICK: dict[str, Any] = {"min_fraction": 0.0, "metrics": ["pearson"], "n_bootstrap": 0}
PAPER: dict[str, Any] = {"preset": "paper", "image_key": "X_made", "max_epochs": 4, "batch_size": 32, "dim": 16}

DEFAULT: dict[str, Any] = {"image_key": "X_made", "max_epochs": 2, "members": 1}


@pytest.fixture
def tissue() -> AnnData:
    """Three patients of two sections."""
    names = [f"p{patient}{section}" for patient in "123" for section in "ab"]
    adata = make_sections(30, sections=tuple(names))
    adata.obs["patient"] = adata.obs["section"].astype(str).str[:2]
    crops = adata.obsm["crops"].astype(np.float32)
    adata.obsm["X_made"] = np.hstack([crops.mean(axis=(1, 2)), np.abs(np.diff(crops, axis=2)).mean(axis=(1, 2))])
    return adata


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[set[str], dict[str, Any]]]:
    """The sections and the arguments of each training that is done."""
    seen: list[tuple[set[str], dict[str, Any]]] = []
    learn = folds_run.learn

    def watched(plan: Any, prepared: Any, asked: Any) -> Any:
        assert not set(prepared.query.layers) - {None}
        assert prepared.query.X is None
        seen.append((set(prepared.ref.obs["section"].astype(str)), dict(asked.arguments)))
        return learn(plan, prepared, asked)

    monkeypatch.setattr(sweep_run, "learn", watched)
    return seen


def of_score(scores: pd.DataFrame, panel: str = "all", metric: str = "pearson") -> pd.DataFrame:
    return scores[(scores["panel"] == panel) & (scores["metric"] == metric)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "arguments", "values"),
    [
        ("knn", {"image_key": "X_made"}, {"k": [3, 10, 25]}),
        pytest.param("bleep", PAPER, {"k": [3, 25], "temperature": [0.1, 1.0]}, marks=pytest.mark.slow),
        pytest.param(
            "bleep",
            {"image_key": "X_made", "max_epochs": 2, "members": 1},
            {"k": [3, 25], "predict": ["hybrid", "retrieval"]},
            marks=pytest.mark.slow,
        ),
        ("ridge", {"image_key": "X_made"}, {"alpha": [10.0, 1e4]}),
    ],
    ids=["knn", "paper", "default", "ridge"],
)
def test_each_setting_scores_what_a_comparison_of_it_scores(
    method: str, arguments: dict[str, Any], values: dict[str, list[Any]], tissue: AnnData
) -> None:
    scores = bl.tl.sweep(tissue, values, method=method, method_kwargs=arguments, **QUICK)
    assert list(scores.columns)[: len(values)] == list(values)
    for setting, rows in of_score(scores).groupby(list(values)):
        told = dict(zip(values, setting, strict=True))
        k = told.pop("k", None)
        alone = {"m": {"method": method, **arguments, **told}}
        expected = bl.tl.cross_validate(tissue, methods=["m"], method_kwargs=alone, k=k, **QUICK)
        theirs = of_score(expected).set_index("section")["value"].sort_index()
        np.testing.assert_allclose(rows.set_index("section")["value"].sort_index(), theirs, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_one_training_serves_all_k_and_a_pair_of_groups_two_folds(tissue: AnnData, trained: list[Any]) -> None:
    bl.tl.sweep(tissue, {"k": [2, 5, 10, 20], "temperature": [0.1, 1.0]}, method_kwargs=PAPER, **QUICK)
    by_temperature = pd.Series([arguments["temperature"] for _, arguments in trained]).value_counts().to_dict()
    assert by_temperature == {0.1: 6, 1.0: 6}  # three folds, three pairs
    on = {frozenset(sections) for sections, _ in trained}
    patients = {frozenset({"p1a", "p1b"}), frozenset({"p2a", "p2b"}), frozenset({"p3a", "p3b"})}
    assert on == patients | {a | b for a in patients for b in patients if a != b}


@pytest.mark.slow
def test_nothing_of_a_held_out_group_reaches_its_choice(tissue: AnnData) -> None:
    """Whatever is measured in a group, the fold that holds it out chooses by the very same inner scores."""
    values = {"k": [2, 8, 25]}
    arguments: dict[str, Any] = {"method": "knn", "method_kwargs": {"image_key": "X_made"}, **QUICK}
    before = bl.tl.sweep(tissue, values, **arguments)
    rng = np.random.default_rng(0)
    rows = np.flatnonzero(tissue.obs["patient"] == "p2")
    counts = tissue.layers["counts"].toarray()
    counts[rows] = rng.poisson(30, size=(len(rows), tissue.n_vars))
    tissue.layers["counts"] = counts
    after = bl.tl.sweep(tissue, values, **arguments)
    own = [of_score(table[table["fold"] == "p2"]) for table in (before, after)]
    np.testing.assert_array_equal(own[0]["inner_value"], own[1]["inner_value"])
    np.testing.assert_array_equal(own[0]["chosen"], own[1]["chosen"])
    assert not np.allclose(own[0]["value"], own[1]["value"])
    others = [of_score(table[table["fold"] != "p2"]) for table in (before, after)]
    assert not np.allclose(others[0]["inner_value"], others[1]["inner_value"])


@pytest.mark.slow
def test_each_fold_takes_what_is_best_within_it_and_the_honest_score_is_theirs(tissue: AnnData, tmp_path: Path) -> None:
    arguments = {**QUICK, "n_bootstrap": 50, "metrics": ["pearson", "rmse"]}
    values = {"k": [1, 4, 30]}
    scores = bl.tl.sweep(tissue, values, method="knn", method_kwargs={"image_key": "X_made"}, **arguments)
    rows = of_score(scores)
    for _, fold in rows.groupby("fold"):
        best = fold.loc[fold["inner_value"].idxmax(), "k"]
        assert set(fold.loc[fold["chosen"], "k"]) == {best}
    # the inner score, worked out by hand: train without both, predict one section after the other
    inner = []
    for other in ("p2", "p3"):
        part = tissue[tissue.obs["patient"].isin([{"p2": "p3", "p3": "p2"}[other], other])].copy()
        table = bl.tl.cross_validate(
            part, methods=["knn"], method_kwargs={"knn": {"image_key": "X_made"}}, k=4, **QUICK
        )
        inner.append(of_score(table[table["fold"] == other])["value"].mean())
    found = rows[(rows["fold"] == "p1") & (rows["k"] == 4)]["inner_value"]
    np.testing.assert_allclose(found, np.mean(inner), rtol=1e-6)
    assert scores[scores["metric"] == "rmse"]["inner_value"].isna().all()
    tissue.write_h5ad(tmp_path / "t.h5ad")
    entry = ad.read_h5ad(tmp_path / "t.h5ad").uns["sweep"]
    assert list(entry["scores"].columns) == list(scores.columns)
    summary = of_score(entry["summary"]).set_index("method")
    honest = rows[rows["chosen"]].groupby("patient")["value"].mean().mean()
    assert summary.loc["chosen by the folds", "value"] == pytest.approx(honest)
    assert np.isnan(summary.loc["chosen by the folds", "k"])
    assert summary.loc["k=4", "difference"] == pytest.approx(honest - summary.loc["k=4", "value"])
    assert summary.loc["k=4", "interval_over"] == "patients"
    assert set(entry["chosen"]["fold"]) == {"p1", "p2", "p3"}
    assert json.loads(entry["config"])["parameters"] == values


def test_a_lower_error_is_better(tissue: AnnData) -> None:
    arguments = {**QUICK, "metrics": ["rmse"], "metric": "rmse", "panel": "HVG-50"}
    scores = bl.tl.sweep(tissue, {"k": [1, 30]}, method="knn", method_kwargs={"image_key": "X_made"}, **arguments)
    rows = of_score(scores, "HVG-50", "rmse")
    for _, fold in rows.groupby("fold"):
        assert set(fold.loc[fold["chosen"], "k"]) == {fold.loc[fold["inner_value"].idxmin(), "k"]}


def test_with_two_groups_the_sections_of_the_other_choose(tissue: AnnData, trained: list[Any]) -> None:
    two = tissue[tissue.obs["patient"] != "p3"].copy()
    bl.tl.sweep(two, {"k": [2, 10]}, method="knn", method_kwargs={"image_key": "X_made"}, **QUICK)
    assert [sorted(sections) for sections, _ in trained] == [
        *(["p2a", "p2b"], ["p1a", "p1b"]),
        *(["p2b"], ["p2a"], ["p1b"], ["p1a"]),
    ]
    assert two.uns["sweep"]["verdict"].startswith("Cannot be told from this data: fewer than three patients")
    assert two.uns["sweep"]["summary"]["difference_low"].isna().all()


def test_where_images_say_nothing_it_says_that_it_cannot_tell(tissue: AnnData, log: pytest.LogCaptureFixture) -> None:
    tissue.obsm["X_made"] = np.random.default_rng(3).normal(size=tissue.obsm["X_made"].shape).astype(np.float32)
    bl.tl.sweep(tissue, {"k": [5, 10, 20, 30]}, method="knn", method_kwargs={"image_key": "X_made"}, **QUICK)
    assert tissue.uns["sweep"]["verdict"].startswith("Cannot be told from this data: no setting differs")
    assert "Cannot be told from this data" in log.text


@pytest.mark.slow
def test_a_value_that_ruins_the_prediction_is_told_apart(tissue: AnnData, log: pytest.LogCaptureFixture) -> None:
    arguments = {"method": "ridge", "method_kwargs": {"image_key": "X_made", "n_components": 0}, "group_key": "section"}
    tissue.obs["patient"] = "one"
    bl.tl.sweep(tissue, {"alpha": [1.0, 1e9]}, **arguments, **{**QUICK, "metric": "r2", "metrics": ["r2"]})
    summary = of_score(tissue.uns["sweep"]["summary"], metric="r2").set_index("method")
    assert summary.loc["alpha=1000000000.0", "difference_low"] > 0
    assert "1 of 2 settings differ" in tissue.uns["sweep"]["verdict"]
    assert "over sections. The farthest is alpha=1000000000.0" in log.text


@pytest.mark.slow
def test_features_are_made_once_and_score_as_those_of_each_fold(
    tissue: AnnData, monkeypatch: pytest.MonkeyPatch, unchanged: Callable[..., None]
) -> None:
    expected = bl.tl.cross_validate(tissue.copy(), methods=["knn"], k=5, **QUICK)
    calls = []
    monkeypatch.setattr(
        "bleep_sc.tl._study._sweep.features.encode",
        lambda *args, **given: (calls.append(given["encoder"]), bl.tl.encode(*args, **given))[1],
    )
    fields = set(tissue.obsm)
    scores = bl.tl.sweep(tissue, {"k": [5, 10]}, method="knn", **QUICK)
    assert calls == ["color"]
    assert set(tissue.obsm) == fields
    found = of_score(scores[scores["k"] == 5]).set_index("section")["value"].sort_index()
    np.testing.assert_allclose(found, of_score(expected).set_index("section")["value"].sort_index(), rtol=1e-5)


@pytest.mark.slow
def test_several_encoders_are_fused_as_in_each_fold(tissue: AnnData, small_network: str) -> None:
    several = {"encoder": ["color", small_network], "weights": None, "max_epochs": 2, "members": 1}
    scores = bl.tl.sweep(tissue, {"k": [5, 10]}, method_kwargs=several, **QUICK)
    expected = bl.tl.cross_validate(tissue, methods=["bleep"], method_kwargs={"bleep": several}, k=5, **QUICK)
    found = of_score(scores[scores["k"] == 5]).set_index("section")["value"].sort_index()
    np.testing.assert_allclose(found, of_score(expected).set_index("section")["value"].sort_index(), rtol=1e-4)


@pytest.mark.slow
def test_it_goes_on_from_where_it_was_ended(tissue: AnnData, tmp_path: Path, trained: list[Any]) -> None:
    values = {"k": [2, 10], "temperature": [0.1, 1.0]}
    arguments = {"method_kwargs": PAPER, **QUICK}
    whole = bl.tl.sweep(tissue.copy(), values, **arguments)
    n_trained = len(trained)
    learn = sweep_run.learn

    def ends(plan: Any, prepared: Any, asked: Any) -> Any:
        if len(trained) == n_trained + 5:
            raise KeyboardInterrupt
        return learn(plan, prepared, asked)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(sweep_run, "learn", ends)
        bl.tl.sweep(tissue, values, **arguments, checkpoint_dir=tmp_path / "new" / "ck")
    assert "sweep" not in tissue.uns
    scores = bl.tl.sweep(tissue, values, **arguments, checkpoint_dir=tmp_path / "new" / "ck")
    assert len(trained) == 2 * n_trained
    pd.testing.assert_frame_equal(scores, whole)
    # a file that was not written to its end is made again
    file = next(path for path in (tmp_path / "new" / "ck").glob("*.json") if path.name != "call.json")
    file.write_text(file.read_text()[:-20])
    with pytest.warns(UserWarning, match=r"is damaged: split \d, .* is done again"):
        again = bl.tl.sweep(tissue, values, **arguments, checkpoint_dir=tmp_path / "new" / "ck")
    pd.testing.assert_frame_equal(again, whole)
    assert len(trained) == 2 * n_trained + 1


BAD: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"temperature": [0.1, 1]}, {"method": "knn"}, r"`method='knn'` has no `temperature`"),
    ({"alpha": [1, 10]}, {}, r"`method='bleep'` has no `alpha`"),
    ({"accumulate": [1, 4]}, {}, r"has no `accumulate`.*preset='paper'"),
    ({"k": [1, 10]}, {"method": "ridge"}, r"`method='ridge'` has no `k`"),
    ({"temprature": [1, 10]}, {}, r"`parameters\['temprature'\]` is no argument of `bleep_sc\.tl\.fit`, nor `k`"),
    ({"random_state": [0, 1]}, {}, r"'random_state'\]` is luck.*no fold can choose"),
    ({"library_key": ["a", "b"]}, {}, r"'library_key'\]` is what each fold sets itself, so no fold can choose"),
    ({"device": ["cpu", "cuda"]}, {}, r"'device'\]` changes no model, so no fold can choose"),
    ({"method": ["knn", "ridge"]}, {}, r"'method'\]` is no parameter of one method.*cross_validate"),
    ({"k": [5]}, {}, r"leaves nothing to choose"),
    ({"k": []}, {}, r"`parameters\['k'\]` must be a list of numbers"),
    ({"k": [5, "x"]}, {}, r"must be a list of numbers, or one of names"),
    ({"k": [5, 5]}, {}, r"has a value twice"),
    ({"k": [0, 5]}, {}, r"`parameters\['k'\]` must be an integer of at least 1"),
    ({"k": [5, 61]}, {}, r"`parameters\['k'\]` has 61, but with 'p1 \+ p2' held out only 60 spots"),
    ({"temperature": [0, 1]}, {}, r"`temperature` must be a finite number above 0"),
    ({"predict": ["hybrid", "magic"]}, {}, r"`predict='magic'`"),
    ({}, {}, r"`parameters` must name what to vary"),
    ({"k": [2, 5]}, {"method_kwargs": {"k": 3}}, r"is also in `method_kwargs`"),
    ({"k": [2, 5]}, {"method_kwargs": {"layer": "x"}}, r"`method_kwargs\['layer'\]` cannot be given"),
    ({"k": [2, 5]}, {"method_kwargs": {"method": "knn"}}, r"name the method by `method`"),
    ({"k": [2, 5]}, {"group_key": "same"}, r"holds one group only"),
    ({"k": [2, 5]}, {"group_key": "two"}, r"no value can be chosen where 'others' .* one section is left, 'p1a'"),
    ({"k": [2, 5]}, {"metric": "rmse"}, r"`metric` must be one of 'pearson'"),
    ({"k": [2, 5]}, {"panel": "markers"}, r"`panel` must be one of"),
    ({"k": [2, 5]}, {"key_added": "log1p"}, r"`key_added='log1p'`"),
    ({"k": [2, 5]}, {"key_added": "other"}, r"holds something else than a sweep"),
    ({"k": [2, 5]}, {"method": "bleeep"}, r"`method` must be one of"),
]


@pytest.mark.odd
@pytest.mark.parametrize(("values", "arguments", "message"), BAD, ids=[f"{n}" for n in range(len(BAD))])
def test_bad_input_is_refused_before_any_training(
    values: dict[str, Any],
    arguments: dict[str, Any],
    message: str,
    tissue: AnnData,
    trained: list[Any],
    unchanged: Callable[..., None],
) -> None:
    tissue.obs["same"] = "x"
    tissue.obs["two"] = np.where(tissue.obs["section"] == "p1a", "p1a", "others")
    tissue.uns["other"] = {"a": 1}
    unchanged(tissue)
    with pytest.raises(ValueError, match=message):
        bl.tl.sweep(tissue, values, **{**QUICK, **arguments})
    assert not trained


@pytest.mark.odd
def test_too_few_spots_to_train_on(tissue: AnnData, trained: list[Any]) -> None:
    few = tissue[np.arange(tissue.n_obs) % 30 < 6].copy()
    with pytest.raises(ValueError, match=r"held out, \d+ spots are left; at least 16"):
        bl.tl.sweep(few, {"k": [2, 3]}, method="knn", method_kwargs={"image_key": "X_made"}, **QUICK)
    assert not trained
