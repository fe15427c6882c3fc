"""Calibration: what it writes, that it can be repeated, and what it refuses."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import anndata as ad
import numpy as np
import pytest
from anndata import AnnData
from conftest import make_sections, snapshot
from scipy import sparse

import bleep_sc as bl
from bleep_sc.io._calibration import Calibration, Scope
from bleep_sc.tl._trust.calibration import announce, report
from bleep_sc.tl._trust.genes import report_genes

pytestmark = pytest.mark.usefixtures("remembered_colours")
Pair = tuple[AnnData, AnnData]


def read(ref: AnnData) -> Calibration:
    return Calibration.from_bytes(ref.uns["bleep"]["calibration"], where="here")


def test_what_is_written(calibrated: Pair, tmp_path: Path) -> None:
    ref, _ = calibrated
    calibration = read(ref)
    assert list(calibration.genes) == list(ref.var_names)
    assert calibration.half_width.shape == (5, 4, 30)
    assert calibration.half_width.dtype == np.float16
    assert list(calibration.levels) == [0.5, 0.8, 0.9, 0.95]
    assert calibration.depths[0] == 0
    assert calibration.promise.groups == ["A", "B", "C"]
    assert calibration.promise.target_sum == 10_000
    assert calibration.promise.predictor["predict"] == "hybrid"
    assert calibration.promise.guaranteed(0.9) == pytest.approx(0.675)
    assert ref.uns["bleep"]["scope"] == "across 3 patients"
    table = ref.uns["bleep"]["coverage"]
    assert set(table["group"]) == {"A", "B", "C"}
    assert set(table["panel"]) == {"all", "HEG", "own top tenth"}
    at = table.query("panel == 'all' and level == 0.9")["coverage"]
    assert at.between(0.8, 0.99).all()
    ref.write_h5ad(tmp_path / "ref.h5ad")
    back = ad.read_h5ad(tmp_path / "ref.h5ad")
    assert np.array_equal(read(back).half_width, calibration.half_width)


def test_coverage_is_of_widths_from_the_others_alone(calibrated: Pair) -> None:
    """A patient whose values are spoilt is covered badly, and makes the others no worse."""
    from bleep_sc.io._out_of_fold import from_uns

    ref, _ = calibrated
    decoders = from_uns(ref.uns["bleep"], where="here")
    assert decoders is not None
    predicted = decoders.decode(ref.obsm["bleep_out_of_fold"], ref.obs["bleep_fold"].to_numpy(), np.arange(30))
    errors, patients = np.abs(ref.X.toarray() - predicted), ref.obs["patient"].to_numpy()
    widths = {}
    for patient in "ABC":
        own = np.sort(errors[patients == patient], axis=0)
        widths[patient] = own[int(np.ceil(0.9 * (len(own) + 1))) - 1]
    for patient in "ABC":
        others = np.max([width for name, width in widths.items() if name != patient], axis=0)
        expected = (errors[patients == patient] <= others).mean()
        row = ref.uns["bleep"]["coverage"].query("group == @patient and panel == 'all' and level == 0.9")
        assert row["coverage"].item() == pytest.approx(expected, abs=2e-3)


def test_it_can_be_repeated(calibrated: Pair) -> None:
    ref, _ = calibrated
    again = bl.tl.calibrate(ref, n_turns=20, copy=True)
    assert again is not None
    assert np.array_equal(again.uns["bleep"]["calibration"], ref.uns["bleep"]["calibration"])
    other = bl.tl.calibrate(ref, n_turns=0, random_state=1, copy=True)
    assert other is not None
    assert np.array_equal(read(other).half_width[0], read(ref).half_width[0]), "as they are nothing is drawn"
    assert not np.array_equal(read(other).half_width[1], read(ref).half_width[1])


def test_memory_does_not_matter(calibrated: Pair) -> None:
    ref, _ = calibrated
    with bl.settings.override(memory=1):
        again = bl.tl.calibrate(ref, n_turns=0, copy=True)
    assert again is not None
    assert np.array_equal(read(again).half_width, read(ref).half_width)


def test_near_all_is_read_of_a_part(calibrated: Pair) -> None:
    """Spots may be left out of a reference; its calibration is then of those that are left."""
    ref, _ = calibrated
    part = ref[np.arange(ref.n_obs) % 3 > 0].copy()
    bl.tl.calibrate(part, n_turns=0)
    assert read(part).promise.n_reference == part.n_obs
    assert not np.array_equal(read(part).half_width, read(ref).half_width)


@pytest.mark.parametrize(
    "how",
    [
        {"method": "ridge"},
        {"method": "knn"},
        {"method": "mean"},
        {"method": "counts"},
        {"method": "regressor", "max_epochs": 2, "encoder": "color"},
    ],
    ids=lambda how: how["method"],
)
def test_any_method_can_be_calibrated(how: dict[str, Any]) -> None:
    tissue = make_sections(40, sections=("A", "B", "C"))
    tissue.obs["patient"] = tissue.obs["section"].astype(str)
    own = (tissue.obs["patient"] == "C").to_numpy()
    ref, query = tissue[~own].copy(), tissue[own].copy()
    bl.tl.fit(ref, **how)
    with pytest.raises(ValueError, match=r"keeps no predictions of spots that it did not see.*cross_fit=True"):
        bl.tl.calibrate(ref)
    bl.tl.calibrate(ref, cross_fit=True, n_turns=0)
    bl.tl.impute(query, ref)
    found = bl.tl.intervals(query, ref)
    assert found is not None
    truth = query.X.toarray()
    assert 0.8 < ((truth >= found[0].to_numpy()) & (truth <= found[1].to_numpy())).mean() < 0.995
    with pytest.raises(ValueError, match=r"out-of-fold predictions"):
        bl.tl.intervals(query, ref, level=0.6)


@pytest.mark.slow
def test_trained_anew_it_is_what_fit_has_kept(calibrated: Pair) -> None:
    """The folds of `fit`, each fitted by itself: much the same model, but a blend of its own."""
    ref, _ = calibrated
    again = bl.tl.calibrate(ref, cross_fit=True, n_turns=0, copy=True)
    assert again is not None
    a, b = read(ref).half_width[0, 2].astype(float), read(again).half_width[0, 2].astype(float)
    assert 0.8 < (b / a).mean() < 1.25
    assert np.corrcoef(a, b)[0, 1] > 0.8
    assert read(again).promise.cross_fit


@pytest.mark.slow
def test_another_predictor_is_calibrated_anew(calibrated: Pair) -> None:
    ref, query = calibrated
    with pytest.raises(ValueError, match=r"not those with predict='retrieval', k=9.*cross_fit=True"):
        bl.tl.calibrate(ref, predict="retrieval", k=9)
    bl.tl.calibrate(ref, predict="retrieval", k=9, cross_fit=True, n_turns=0)
    with pytest.raises(ValueError, match=r"predict='hybrid'.* but the calibration is of predict='retrieval'"):
        bl.tl.intervals(query, ref)
    bl.tl.impute(query, ref, predict="retrieval", k=9)
    assert bl.tl.intervals(query, ref) is not None


@pytest.mark.odd
def test_another_patient_column(calibrated: Pair, unchanged: Callable[..., None]) -> None:
    ref, _ = calibrated
    ref.obs["donor"] = ref.obs["section"].astype(str)
    unchanged(ref)
    message = (
        r"^fit again with `bleep_sc\.tl\.fit\(ref, patient_key='donor'\)`.*patients of `obs\['patient'\]`.*'donor'"
    )
    with pytest.raises(ValueError, match=message):
        bl.tl.calibrate(ref, patient_key="donor")
    with pytest.raises(KeyError, match=r"ref\.obs\['nobody'\]"):
        bl.tl.calibrate(ref, patient_key="nobody")


@pytest.mark.odd
def test_patients_that_were_changed(calibrated: Pair) -> None:
    """The column's name is the same, but the folds left out others."""
    ref, _ = calibrated
    for patients in ("xyzw", "xxyy"):
        of_section = dict(zip(("A1", "A2", "B1", "C1"), patients, strict=True))
        ref.obs["patient"] = ref.obs["section"].astype(str).map(of_section)
        with pytest.raises(ValueError, match=r"section 'A1' is of 'x', and was of 'A'.*Fit again"):
            bl.tl.calibrate(ref, n_turns=0)


@pytest.mark.odd
@pytest.mark.slow
def test_what_calibrate_does_not_use(calibrated: Pair) -> None:
    ref, _ = calibrated
    with pytest.raises(ValueError, match=r"`encoder` reads the crops.*cross_fit=True"):
        bl.tl.calibrate(ref, encoder=lambda images: images)
    bl.tl.fit(ref, method="ridge")
    with pytest.raises(ValueError, match=r"`k`: `method='ridge'` finds no neighbours"):
        bl.tl.calibrate(ref, cross_fit=True, k=3)


@pytest.mark.odd
@pytest.mark.slow
def test_patients_that_came_later(ref: AnnData) -> None:
    bl.tl.fit(ref, max_epochs=1)
    ref.obs["patient"] = ref.obs["section"].astype(str)
    with pytest.raises(ValueError, match=r"^fit again with .*patient_key='patient'.*fitted without any patients"):
        bl.tl.calibrate(ref)
    bl.tl.calibrate(ref, patient_key="patient", cross_fit=True, n_turns=0)
    assert ref.uns["bleep"]["scope"] == "across 2 patients"


@pytest.mark.odd
def test_one_section_says_nothing_of_another() -> None:
    single = make_sections(64, sections=("s1",))
    bl.tl.fit(single, max_epochs=1)
    for cross_fit in (False, True):
        with pytest.raises(ValueError, match=r"one section only.*two or more patients"):
            bl.tl.calibrate(single, cross_fit=cross_fit)


SCOPES = {
    "across patients": ("across 2 patients", "What 2 patients guarantee for a new one is 60.0 %"),
    "within-patient": ("on 2 sections of one patient", "One patient says nothing sure of another."),
    "patients unknown": ("on 2 sections of unknown patients", "Nothing is sure for another patient, since no column"),
}


@pytest.mark.parametrize("scope", get_args(Scope))
def test_each_scope_makes_sentences(calibrated: Pair, log: pytest.LogCaptureFixture, scope: Scope) -> None:
    """What is logged of a calibration, of a list of genes and of bounds."""
    ref, _ = calibrated
    where, sure = SCOPES[scope]
    promise = replace(read(ref).promise, scope=scope, groups=["A", "B"])
    columns = {"bleep_predictable": np.array([True, False]), "bleep_expected_pearson": np.array([0.5, np.nan])}
    report(promise, replaces="")
    report_genes(columns, promise, key="bleep", fdr=0.1)
    announce(promise, level=0.9, depth=None, target="measured", widths=np.ones(2))
    calibration, genes, bounds = (record.getMessage() for record in log.records)
    assert calibration.startswith(f"Calibrated {where}. Intervals at 90 % that were made from the other ")
    assert sure in calibration
    assert genes.endswith(f"The list was made {where}. It may not hold for other patients.")
    assert sure in bounds
    assert not [label for label in get_args(Scope) if label in calibration + genes + bounds]


def test_what_a_calibration_replaces(calibrated: Pair, log: pytest.LogCaptureFixture) -> None:
    """It is said once, of another predictor; what `fit` has kept brings the first one back without training."""
    ref, query = calibrated
    bl.tl.calibrate(ref, n_turns=0)
    assert "replaces the calibration" not in log.text
    bl.tl.calibrate(ref, predict="regression", n_turns=0)
    assert "This replaces the calibration of predict='hybrid'. `intervals` now refuses layers" in log.text
    with pytest.raises(ValueError, match=r"or calibrate this one: `bleep_sc\.tl\.calibrate\(ref\)`\."):
        bl.tl.intervals(query, ref)
    bl.tl.calibrate(ref, n_turns=0)
    assert "This replaces the calibration of predict='regression'." in log.text
    assert bl.tl.intervals(query, ref) is not None
    bl.tl.impute(query, ref, predict="regression")
    with pytest.raises(ValueError, match=r"`bleep_sc\.tl\.calibrate\(ref, predict='regression'\)`\."):
        bl.tl.intervals(query, ref)
    bl.tl.impute(query, ref, k=3)
    with pytest.raises(ValueError, match=r"`bleep_sc\.tl\.calibrate\(ref, cross_fit=True, k=3\)`\."):
        bl.tl.intervals(query, ref)
    damaged = ref.copy()
    damaged.uns["bleep"]["calibration"] = damaged.uns["bleep"]["calibration"][:-4]
    bl.tl.calibrate(damaged, predict="regression", n_turns=0)
    assert log.text.count("replaces the calibration") == 2, "a damaged one bounds nothing"


@pytest.mark.odd
def test_training_is_offered_where_fit_has_kept_nothing(calibrated: Pair) -> None:
    ref, query = calibrated
    bl.tl.calibrate(ref, predict="regression", n_turns=0)
    del ref.obsm["bleep_out_of_fold"]
    with pytest.raises(ValueError, match=r"`bleep_sc\.tl\.calibrate\(ref, cross_fit=True, predict='hybrid'\)`\."):
        bl.tl.intervals(query, ref)


def without_counts(ref: AnnData) -> None:
    del ref.layers["counts"]


def normalised_by_section(ref: AnnData) -> None:
    rows = (ref.obs["section"] == "A1").to_numpy()
    values = np.expm1(ref.X.toarray())
    values[rows] *= 3
    ref.X = sparse.csr_matrix(np.log1p(values).astype(np.float32))


def scaled(ref: AnnData) -> None:
    ref.X = sparse.csr_matrix(ref.X.toarray() - 1)


def other_counts(ref: AnnData) -> None:
    ref.layers["counts"] = ref.layers["counts"][:, ::-1].copy()


def no_column(ref: AnnData) -> None:
    del ref.obs["section"]


def no_scores(ref: AnnData) -> None:
    del ref.obsm["bleep_out_of_fold"]


def wide_scores(ref: AnnData) -> None:
    ref.obsm["bleep_out_of_fold"] = np.zeros((ref.n_obs, 3), dtype=np.float32)


def odd_folds(ref: AnnData) -> None:
    ref.obs["bleep_fold"] = 99


def damaged_decoders(ref: AnnData) -> None:
    ref.uns["bleep"]["out_of_fold"] = ref.uns["bleep"]["out_of_fold"][:-4]


@pytest.mark.odd
@pytest.mark.filterwarnings("ignore:.*is not what the model 'bleep' was fitted on")
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            without_counts,
            KeyError,
            r"layers\['counts'\]` does not exist.*read the file.*raw\[ref\.obs_names, ref\.var_names\].*fit again",
        ),
        (normalised_by_section, ValueError, r"not log1p\(T · counts / total\) with one T.*add up to 1e\+04 to 3e\+04"),
        (scaled, ValueError, r"it holds other values.*normalize_total"),
        (other_counts, ValueError, r"differ by up to"),
        (no_column, KeyError, r"ref\.obs\['section'\].*put the column back"),
        (no_scores, ValueError, r"keeps no predictions of spots that it did not see"),
        (wide_scores, ValueError, r"scores and whole numbers below 3"),
        (odd_folds, ValueError, r"scores and whole numbers below 3"),
        (damaged_decoders, ValueError, r"uns\['bleep'\]\['out_of_fold'\]`.*damaged"),
    ],
)
def test_what_cannot_be_calibrated(
    calibrated: Pair, change: Callable[[AnnData], None], error: type[Exception], message: str
) -> None:
    ref, _ = calibrated
    change(ref)
    before = snapshot(ref)
    with pytest.raises(error, match=message):
        bl.tl.calibrate(ref)
    assert snapshot(ref) == before


@pytest.mark.odd
@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"levels": [0.9, 1.0]}, ValueError, r"`levels` must be between 0 and 1"),
        ({"levels": []}, ValueError, r"`levels`"),
        ({"levels": "high"}, ValueError, r"`levels`"),
        ({"n_turns": -1}, ValueError, r"`n_turns`"),
        ({"fdr": 1}, ValueError, r"`fdr`"),
        ({"key": "nope"}, KeyError, r"uns\['nope'\]` holds no model"),
        ({"weighting": "best"}, ValueError, r"`weighting`"),
        ({"k": 0}, ValueError, r"`k`"),
        ({"random_state": -1}, ValueError, r"`random_state`"),
    ],
)
def test_odd_arguments(
    calibrated: Pair, given: dict[str, Any], error: type[Exception], message: str, unchanged: Callable[..., None]
) -> None:
    ref, _ = calibrated
    unchanged(ref)
    with pytest.raises(error, match=message):
        bl.tl.calibrate(ref, **given)


@pytest.mark.slow
def test_another_fit_forgets(calibrated: Pair) -> None:
    ref, _ = calibrated
    bl.tl.fit(ref, max_epochs=1)
    assert "calibration" not in ref.uns["bleep"]
    assert not [column for column in ref.var if column.startswith("bleep_")]


def test_folds_of_another_model_are_left_out(calibrated: Pair) -> None:
    """A concat brings their scores along, which stand on components of their own."""
    ref, _ = calibrated
    other = make_sections(60, sections=("E1", "F1"), seed=3)
    other.obs_names = [f"other{i}" for i in range(other.n_obs)]
    other.obs["patient"] = other.obs["section"].astype(str).str[0]
    bl.tl.fit(other, max_epochs=1)
    joined = ad.concat([ref, other], uns_merge="first")
    bl.tl.calibrate(joined, n_turns=0)
    found, expected = read(joined), read(ref)
    assert found.promise.groups == ["A", "B", "C"]
    assert found.promise.n_left_out == other.n_obs
    np.testing.assert_array_equal(found.half_width[0], expected.half_width[0])


@pytest.mark.slow
def test_rare_genes_are_not_tested(calibrated: Pair) -> None:
    """Nor do they make it harder for the others."""
    ref, _ = calibrated
    rare = ref.copy()
    more = ad.AnnData(
        sparse.csr_matrix((ref.n_obs, 400), dtype=np.float32),
        obs=ref.obs[[]],
        var={"name": [f"rare{i}" for i in range(400)]},
    )
    more.var_names = more.var["name"].to_list()
    rows = np.random.default_rng(0).integers(0, ref.n_obs, size=400)
    counts = sparse.csr_matrix((np.ones(400, dtype=np.float32), (rows, np.arange(400))), shape=more.shape)
    wide = sparse.hstack([ref.layers["counts"], counts]).tocsr()
    rare = ad.AnnData(wide.copy(), obs=ref.obs, var={"name": [*ref.var_names, *more.var_names]})
    rare.var_names = rare.var["name"].to_list()
    rare.layers["counts"] = wide
    rare.X = sparse.csr_matrix(np.log1p(1e4 * wide.toarray() / wide.sum(axis=1)).astype(np.float32))
    rare.obsm.update({key: ref.obsm[key] for key in ("crops", "spatial")})
    rare.uns["crops"] = ref.uns["crops"]
    rare.var["highly_variable"] = np.arange(rare.n_vars) < 30
    bl.tl.fit(rare, max_epochs=5)
    bl.tl.calibrate(rare, n_turns=50)
    bl.tl.calibrate(ref, n_turns=50)
    assert not rare.var["bleep_predictable"].iloc[30:].any()
    assert rare.var["bleep_predictable"].iloc[:30].sum() >= ref.var["bleep_predictable"].sum() - 2 > 10


@pytest.mark.slow
def test_lists_and_widths_of_the_toy_tissue() -> None:
    tissue: Any = bl.datasets.toy(n_patients=4, n_spots=70)
    bl.tl.fit(tissue, max_epochs=40)  # less than half of the default recipe's, to be quick
    bl.tl.calibrate(tissue)
    at = tissue.uns["bleep"]["coverage"].query("panel == 'all' and level == 0.9")
    assert 0.88 <= at["coverage"].mean() <= 0.95
    assert at["genes_above"].mean() >= 0.94
    linked, listed = tissue.var["image_linked"], tissue.var["bleep_predictable"]
    assert (listed & ~linked).sum() <= 0.1 * listed.sum()
    assert (listed & linked).sum() >= 0.95 * linked.sum()
