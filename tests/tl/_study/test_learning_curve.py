"""A learning curve trains on nested parts of each fold's training spots, and scores them all alike."""

import json
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from conftest import make_sections

import bleep_sc as bl
from bleep_sc.metrics import pearson
from bleep_sc.tl._cv.folds import make_folds
from bleep_sc.tl._study._curve import run as curve_run
from bleep_sc.tl._study._curve.subsets import draw_subsets, possible_sizes

pytestmark = pytest.mark.filterwarnings("ignore:this learning curve leaves open:UserWarning")

MADE = {"image_key": "X_made", "alpha": 100.0}
SECTIONS = ("p1a", "p1b", "p2a", "p2b", "p3a", "p3b")


@pytest.fixture
def tissue() -> AnnData:
    """Three patients of two sections, with features of their crops."""
    adata = make_sections(30, sections=SECTIONS)
    adata.obs["patient"] = adata.obs["section"].astype(str).str[:2]
    crops = adata.obsm["crops"].astype(np.float32)
    adata.obsm["X_made"] = np.hstack([crops.mean(axis=(1, 2)), crops.std(axis=(1, 2))])
    return adata


def run(adata: AnnData, **arguments: Any) -> pd.DataFrame:
    given = {"metrics": ["pearson"], "min_fraction": 0.0, "draws": 2, "n_bootstrap": 20}
    return bl.tl.learning_curve(adata, **{**given, "method_kwargs": MADE, **arguments})


@pytest.mark.slow
def test_writes_what_it_says(tissue: AnnData, tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    before = tissue.copy()
    found = run(tissue, sizes=[20, 60, 120], metrics=["pearson", "pearson_depth_free"])
    assert set(found["size"]) == {20, 60, 120}
    assert (found["n_spots"] == found["size"]).all()
    assert set(found["section"]) == set(SECTIONS)
    assert (found["fold"] == found["patient"]).all()
    assert set(found["scope"]) == {"across patients"}
    # all training spots make one part, however often it is drawn
    assert found.groupby("size")["draw"].nunique().to_dict() == {20: 2, 60: 2, 120: 1}
    assert found.groupby(["fold", "panel"])["n_genes"].nunique().max() == 1
    assert set(tissue.layers) - {None} == {"counts"}
    assert tissue.var.equals(before.var)
    assert set(tissue.uns) == {"crops", "learning_curve"}
    tissue.write_h5ad(tmp_path / "t.h5ad")
    entry = ad.read_h5ad(tmp_path / "t.h5ad").uns["learning_curve"]
    assert list(entry["scores"].columns) == list(found.columns)
    summary = entry["summary"].query("metric == 'pearson' and panel == 'all'").set_index("size")
    own = found.query("metric == 'pearson' and panel == 'all'").groupby(["size", "section"])["value"].mean()
    np.testing.assert_allclose(summary["value"], own.groupby("size").mean())
    assert set(summary["interval_over"]) == {"patients"}
    assert (summary["low"] <= summary["value"]).all()
    assert (summary["value"] < summary["ceiling"]).all()
    assert summary["n_draws"].tolist() == [2, 2, 1]
    assert np.isfinite(summary["sd_draws"]).tolist() == [True, True, False]
    cost = entry["cost"]
    assert len(cost) == 3 * 5
    assert (cost["seconds_fit"] > 0).all()
    assert cost["seconds_search"].isna().all(), "ridge retrieves nothing"
    assert json.loads(entry["config"])["method_kwargs"] == MADE
    assert "by number of spots trained on; 3 folds by 'patient', ACROSS PATIENTS" in log.text
    assert "twice the spots (180 to 360), all: cannot be told" in log.text


def test_the_whole_training_set_scores_as_cross_validation_does(tissue: AnnData) -> None:
    found = run(tissue, by="patients")
    wanted = bl.tl.cross_validate(
        tissue,
        methods=["ridge"],
        method_kwargs={"ridge": MADE},
        metrics=["pearson"],
        min_fraction=0.0,
        n_bootstrap=0,
    )
    keys = ["section", "panel"]
    largest = found[found["size"] == 2].set_index(keys)["value"]
    np.testing.assert_allclose(largest, wanted.set_index(keys)["value"].reindex(largest.index))


@pytest.mark.slow
def test_a_part_is_what_a_model_of_these_sections_alone_gives(tissue: AnnData) -> None:
    """The same trained by hand: one section, all 30 genes, expression as it is."""
    found = run(tissue, by="sections", sizes=[1, 4], draws=4, counts_layer=None)
    found = found[(found["size"] == 1) & (found["panel"] == "all")]
    by_hand = {}
    for section in SECTIONS:
        ref = tissue[tissue.obs["section"] == section].copy()
        bl.tl.fit(ref, method="ridge", **MADE, library_key="section")
        for other in (s for s in SECTIONS if s[:2] != section[:2]):
            query = tissue[tissue.obs["section"] == other].copy()
            bl.tl.impute(query, ref, image_key="X_made")
            by_hand[section, other] = np.nan_to_num(pearson(query.X.toarray(), query.layers["bleep"])).mean()
    for section, rows in found.groupby("section"):
        assert len(rows) == 4, "each of the four training sections once"
        wanted = [score for (_, tested), score in by_hand.items() if tested == section]
        np.testing.assert_allclose(sorted(rows["value"]), sorted(wanted), rtol=1e-5)


def test_nothing_of_the_held_out_group_is_seen(tissue: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    real = curve_run.train

    def watched(plan: Any, fold: Any, prepared: Any, asked: Any) -> Any:
        seen.append((fold.name, set(prepared.ref.obs["patient"]), prepared.ref.n_obs))
        assert prepared.query.X is None
        assert not list(filter(None, prepared.query.layers))
        return real(plan, fold, prepared, asked)

    monkeypatch.setattr(curve_run, "train", watched)
    run(tissue, sizes=[40, 80], draws=1)
    assert len(seen) == 6
    for fold, patients, n_spots in seen:
        assert fold not in patients
        assert n_spots in (40, 80)


def test_retrieval_has_its_search_timed_and_its_references_counted(tissue: AnnData) -> None:
    run(tissue, method="knn", method_kwargs={"image_key": "X_made"}, sizes=[40, 120], k=5, draws=1)
    cost = tissue.uns["learning_curve"]["cost"]
    assert (cost["k"] == 5).all()
    assert (cost["seconds_search"] > 0).all()
    assert ((cost["references_used"] >= 5) & (cost["references_used"] <= cost["size"])).all()
    larger = cost.groupby("size")["mb_reference"].mean()
    assert larger[120] > 2 * larger[40]


def test_two_patients_cannot_tell(tissue: AnnData) -> None:
    adata = tissue[tissue.obs["patient"] != "p3"].copy()
    with pytest.warns(UserWarning, match=r"leaves open.*three patients, or three sections of each.*more patients"):
        run(adata, sizes=[16, 24, 32, 60], draws=1)
    entry = adata.uns["learning_curve"]
    assert set(entry["forecast"]["verdict"]) == {"cannot be told"}
    assert entry["summary"]["low"].isna().all()


@pytest.mark.slow
def test_the_same_seed_gives_the_same(tissue: AnnData) -> None:
    first, second, other = (run(tissue, sizes=[20, 30], draws=1, random_state=seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first, second)
    assert not first["value"].equals(other["value"])


# parts


@pytest.mark.parametrize("by", ["spots", "sections", "patients"])
def test_parts_are_nested_even_and_distinct(by: Any) -> None:
    sections = np.repeat([f"{patient}{s}" for patient in "abcde" for s in "xy"], [40, 20] * 5)
    patients = np.array([section[0] for section in sections])
    labels = {"spots": np.arange(len(sections)), "sections": sections, "patients": patients}[by]
    folds = make_folds(patients)
    sizes = possible_sizes(None, folds, labels, sections, by)
    assert sizes[-1] == {"spots": 240, "sections": 8, "patients": 4}[by]
    subsets = draw_subsets(folds, labels, sections, by=by, sizes=sizes, draws=4, random_state=0)
    assert len({(each.fold, each.rows.tobytes()) for each in subsets}) == len(subsets)
    for number, fold in enumerate(folds):
        own = [each for each in subsets if each.fold == number]
        of_units = labels[fold.training]
        for draw in range(4):
            parts = [each.rows for each in own if each.draw == draw]
            assert all(set(small) < set(large) for small, large in pairwise(parts))
        for each in own:
            assert len(np.unique(of_units[each.rows])) == each.size
            if by == "spots":  # of a section twice as large, twice as many
                drawn = pd.Series(sections[fold.training][each.rows]).value_counts()
                shares = each.size / 240 * pd.Series(sections[fold.training]).value_counts()
                assert ((drawn - shares).abs() <= 1).all()
            else:
                assert np.isin(of_units, np.unique(of_units[each.rows])).sum() == len(each.rows)
        if by == "patients":  # each of the four once
            assert len({tuple(each.rows) for each in own if each.size == 1}) == 4


def test_default_numbers_of_spots_leave_each_section_enough_to_standardise() -> None:
    sections = np.repeat(["a", "b", "c"], [250, 100, 400])
    folds = make_folds(sections)
    sizes = possible_sizes(None, folds, np.arange(750), sections, "spots")
    assert len(sizes) == 6
    assert (sizes[0], sizes[-1]) == (155, 350)  # b and c need 31 of the 100 in b; a and b have 350
    drawn = draw_subsets(folds, np.arange(750), sections, by="spots", sizes=sizes, draws=2, random_state=0)
    for each in drawn:
        own = sections[folds[each.fold].training][each.rows]
        assert np.unique(own, return_counts=True)[1].min() >= 30
    small = np.repeat(["a", "b", "c"], [40, 40, 40])
    assert possible_sizes(None, make_folds(small), np.arange(120), small, "spots")[0] == 32


def test_draws_of_spots_differ_and_depend_on_the_seed() -> None:
    groups = np.repeat(["a", "b"], 100)
    drawn = [
        draw_subsets(make_folds(groups), np.arange(200), groups, by="spots", sizes=[30], draws=3, random_state=seed)
        for seed in (0, 0, 1)
    ]
    first, again, other = ([tuple(each.rows) for each in subsets] for subsets in drawn)
    assert first == again
    assert not set(first) & set(other)


# going on after an interruption


@pytest.mark.slow
def test_an_interrupted_curve_goes_on(tissue: AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments: dict[str, Any] = {"sizes": [30, 60], "draws": 1}
    wanted = run(tissue.copy(), **arguments)
    real, calls = curve_run.train, []

    def stopped(*given: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(curve_run, "train", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(tissue, checkpoint_dir=tmp_path, **arguments)
    assert "learning_curve" not in tissue.uns
    found = run(tissue, checkpoint_dir=tmp_path, **arguments)
    assert len(calls) == 3 + 4, "two of six trainings were kept"
    pd.testing.assert_frame_equal(found, wanted)
    pd.testing.assert_frame_equal(run(tissue, checkpoint_dir=tmp_path, **arguments), wanted)
    assert len(calls) == 3 + 4


# bad input


def one_group(adata: AnnData) -> None:
    adata.obs["patient"] = "p1"


def unknown_patients(adata: AnnData) -> None:
    adata.obs["group"] = adata.obs.pop("patient")


BAD: dict[str, tuple[Callable[[AnnData], Any], dict[str, Any], str]] = {
    "one group": (one_group, {}, r"`adata\.obs\['patient'\]` holds one group only, 'p1'"),
    "a group that is no name": (lambda a: None, {"group_key": None}, "`group_key` must be a name, found None"),
    "a field of another kind": (
        lambda a: a.uns.__setitem__("X_made", {"config": "features"}),
        {"key_added": "X_made"},
        r"adata\.uns\['X_made'\]` holds something else than a learning curve: choose another `key_added`",
    ),
    "fewer spots than the smallest": (
        lambda a: None,
        {"sizes": [200, 400]},
        r"fold 'p1' trains on 120 spots, fewer than the smallest of `sizes`, but `sizes` has 400.*is 120",
    ),
    "a size too large": (lambda a: None, {"sizes": [20, 121]}, r"trains on 120 spots, but `sizes` has 121: the same"),
    "more sections": (lambda a: None, {"by": "sections", "sizes": [1, 5]}, r"trains on 4 sections, but `sizes` has 5"),
    "too few to train on": (lambda a: None, {"sizes": [8, 20]}, r"`sizes` has 8; at least 16 spots are needed"),
    "one size": (lambda a: None, {"sizes": [20, 20]}, r"two or more different numbers of spots, found \[20\]"),
    "no numbers": (lambda a: None, {"sizes": [20, 40.5]}, r"`sizes` must be an integer of at least 1, found 40\.5"),
    "no list": (lambda a: None, {"sizes": 20}, r"`sizes` must be a list of numbers of spots"),
    "no draw": (lambda a: None, {"draws": 0}, r"`draws` must be an integer of at least 1"),
    "unknown patients": (
        unknown_patients,
        {"by": "patients", "group_key": "group"},
        r"`by='patients'`: the patients are not known.*`patient_key`",
    ),
    "one patient to train on": (
        lambda a: a._inplace_subset_obs(a.obs["patient"] != "p3"),
        {"by": "patients"},
        r"fold 'p1' trains on 1 patient, and a learning curve needs two or more patients.*by='spots'",
    ),
    "an argument that there is not": (
        lambda a: None,
        {"method_kwargs": {"image_key": "X_made", "penalty": 1}},
        r"`method_kwargs\['penalty'\]` is no argument",
    ),
    "an argument of another method": (
        lambda a: None,
        {"method_kwargs": {"image_key": "X_made", "members": 3}},
        r"`method='ridge'` has no `members`",
    ),
    "an argument of the folds": (
        lambda a: None,
        {"method_kwargs": {"image_key": "X_made", "layer": "counts"}},
        r"`method_kwargs\['layer'\]` cannot be given",
    ),
    "a representation": (lambda a: None, {"method_kwargs": {"use_rep": "X_harmony"}}, r"'use_rep'\]` cannot be given"),
    "a method": (lambda a: None, {"method": "lasso"}, r"`method` must be one of"),
    "a way to count": (lambda a: None, {"by": "slides"}, r"`by` must be one of 'spots', 'sections', 'patients'"),
    "a name that is taken": (lambda a: None, {"key_added": "crops"}, r"something else is kept"),
    "no images": (lambda a: a.obsm.pop("X_made"), {}, r"`adata\.obsm\['X_made'\]` does not exist"),
}


@pytest.mark.odd
@pytest.mark.parametrize("case", BAD)
def test_refused_before_any_training(
    case: str, tissue: AnnData, monkeypatch: pytest.MonkeyPatch, unchanged: Callable[..., None]
) -> None:
    change, arguments, message = BAD[case]
    change(tissue)
    monkeypatch.setattr(curve_run, "train", lambda *_: pytest.fail("trained"))
    unchanged(tissue)
    with pytest.raises((ValueError, KeyError, TypeError), match=message):
        run(tissue, **arguments)


def test_what_many_trainings_warn_of_is_told_once() -> None:
    with pytest.warns(UserWarning) as told, curve_run.each_told_once():
        for number in range(3):
            warnings.warn(f"'s{number}' has {number} empty spots", UserWarning, stacklevel=1)
            warnings.warn(f"{curve_run.THIN_SECTIONS}, but 's{number}' is thin", UserWarning, stacklevel=1)
        warnings.warn("something else", UserWarning, stacklevel=1)
    assert [str(each.message) for each in told] == ["'s0' has 0 empty spots", "something else"]


def test_thin_sections_are_not_warned_of(tissue: AnnData) -> None:
    run(tissue, sizes=[20, 120], draws=1)  # 5 spots of each section: the suite turns warnings into errors
