"""Bounds hold what they say, read nothing of the query, and belong to the predictor that was calibrated."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pytest
from anndata import AnnData
from conftest import make_sections
from scipy import sparse

import bleep_sc as bl

pytestmark = pytest.mark.usefixtures("remembered_colours")
Pair = tuple[AnnData, AnnData]


def bounds(query: AnnData, ref: AnnData, **how: Any) -> tuple[np.ndarray, np.ndarray]:
    found = bl.tl.intervals(query, ref, **how)
    assert found is not None
    lower, upper = found
    return lower.to_numpy(), upper.to_numpy()


def half_width(query: AnnData, ref: AnnData, **how: Any) -> np.ndarray:
    """Of each gene, from the upper bound of the first spot."""
    found = bl.tl.intervals(query, ref, **how)
    assert found is not None
    imputed = query[:, found[1].columns].layers["bleep"]
    return found[1].to_numpy()[0] - np.asarray(imputed)[0]


def test_bounds_surround_the_imputed_value(calibrated: Pair) -> None:
    ref, query = calibrated
    lower, upper = bl.tl.intervals(query, ref)
    assert lower.shape == upper.shape == query.shape
    assert list(lower.columns) == list(query.var_names)
    assert lower.index.equals(query.obs_names)
    assert lower.to_numpy().dtype == np.float32
    values = query.layers["bleep"]
    assert ((lower.to_numpy() <= values) & (values <= upper.to_numpy())).all()
    assert (lower.to_numpy() >= 0).all()
    some = bl.tl.intervals(query, ref, genes=["g7", "g3"])
    assert list(some[0].columns) == ["g7", "g3"]
    np.testing.assert_array_equal(some[1]["g7"], upper["g7"])


@pytest.mark.parametrize("depth", [None, "query"])
def test_nine_in_ten_measured_values_lie_within(calibrated: Pair, depth: str | None) -> None:
    ref, query = calibrated
    lower, upper = bounds(query, ref, depth=depth)
    truth = query.X.toarray()
    inside = ((truth >= lower) & (truth <= upper)).mean()
    assert 0.87 < inside < 0.985
    half = bounds(query, ref, level=0.5)
    inside = ((truth >= half[0]) & (truth <= half[1])).mean()
    assert 0.45 < inside < 0.75


def test_it_is_the_worst_patients_quantile(calibrated: Pair) -> None:
    """Against the definition, from out-of-fold predictions that are decoded here."""
    from bleep_sc.io._out_of_fold import from_uns

    ref, query = calibrated
    decoders = from_uns(ref.uns["bleep"], where="here")
    assert decoders is not None
    predicted = decoders.decode(ref.obsm["bleep_out_of_fold"], ref.obs["bleep_fold"].to_numpy(), np.arange(30))
    errors = np.abs(ref.X.toarray() - predicted)
    widths = []
    for patient in "ABC":
        own = np.sort(errors[(ref.obs["patient"] == patient).to_numpy()], axis=0)
        widths.append(own[int(np.ceil(0.9 * (len(own) + 1))) - 1])
    np.testing.assert_allclose(half_width(query, ref), np.max(widths, axis=0), rtol=2e-3)
    assert (half_width(query, ref) >= np.max(widths, axis=0) - 1e-5).all(), "rounded up, never down"


def test_levels_and_depths_widen_as_they_should(calibrated: Pair) -> None:
    ref, query = calibrated
    assert (half_width(query, ref, level=0.5) <= half_width(query, ref, level=0.95)).all()
    totals = np.asarray(ref.layers["counts"].sum(axis=1)).ravel()
    deep, shallow = int(np.quantile(totals, 0.05)), int(np.quantile(totals, 0.05)) // 8
    assert half_width(query, ref, depth=shallow).mean() > 1.2 * half_width(query, ref, depth=deep).mean()


def test_other_levels_are_worked_out_and_agree_with_the_table(calibrated: Pair) -> None:
    ref, query = calibrated
    table = half_width(query, ref, level=0.9)
    other = ref.copy()
    bl.tl.calibrate(other, levels=[0.3], n_turns=0)
    np.testing.assert_allclose(half_width(query, other, level=0.9), table, rtol=2e-3)
    depth = int(_calibration(ref).depths[2])
    from_table = half_width(query, ref, depth=depth)
    np.testing.assert_allclose(half_width(query, other, depth=depth), from_table, rtol=2e-3)
    one_gene = half_width(query, other, depth=depth, genes="g5")
    np.testing.assert_allclose(one_gene, from_table[[5]], rtol=2e-3, err_msg="a gene's width depends on the others")


def _calibration(ref: AnnData) -> Any:
    from bleep_sc.io._calibration import Calibration

    return Calibration.from_bytes(ref.uns["bleep"]["calibration"], where="here")


@pytest.mark.parametrize(
    "how", [{}, {"level": 0.77}, {"depth": 120}, {"target": "rate"}, {"groupby": "region", "level": 0.6}]
)
def test_the_querys_expression_is_not_read(calibrated: Pair, how: dict[str, Any]) -> None:
    ref, query = calibrated
    expected = bounds(query, ref, **how)
    query.X = sparse.csr_matrix(query.shape, dtype=np.float32)
    query.layers["counts"] = query.X.copy()
    for before, after in zip(expected, bounds(query, ref, **how), strict=True):
        assert np.array_equal(before, after)


def test_only_the_querys_totals_are_read_for_its_depth(calibrated: Pair) -> None:
    ref, query = calibrated
    expected = bounds(query, ref, depth="query")
    counts = query.layers["counts"].toarray()
    query.layers["counts"] = sparse.csr_matrix(counts[:, ::-1].copy())
    query.X = sparse.csr_matrix(query.shape, dtype=np.float32)
    for before, after in zip(expected, bounds(query, ref, depth="query"), strict=True):
        assert np.array_equal(before, after)
    query.layers["counts"] = sparse.csr_matrix(np.floor(counts / 4))
    assert not np.array_equal(expected[1], bounds(query, ref, depth="query")[1])


def test_what_was_measured_in_the_reference_counts(calibrated: Pair) -> None:
    ref, query = calibrated
    expected = half_width(query, ref)
    own = (ref.obs["section"] == "B1").to_numpy()
    counts = ref.layers["counts"].toarray()
    counts[own] = np.random.default_rng(0).permutation(counts[own].ravel()).reshape(counts[own].shape)
    ref.layers["counts"] = sparse.csr_matrix(counts)
    ref.X = sparse.csr_matrix(np.log1p(1e4 * counts / counts.sum(axis=1, keepdims=True)).astype(np.float32))
    with pytest.warns(UserWarning, match="is not what the model 'bleep' was fitted on"):
        bl.tl.calibrate(ref, n_turns=0)
    assert (half_width(query, ref) != expected).mean() > 0.5


def test_rate_bounds_come_from_two_halves(calibrated: Pair, log: pytest.LogCaptureFixture) -> None:
    ref, query = calibrated
    with bl.settings.override(verbosity="info"):
        rate = half_width(query, ref, target="rate")
    assert "approximate" in log.text
    assert rate.mean() < 1.1 * half_width(query, ref).mean()
    assert (rate > 0).all()
    np.testing.assert_allclose(half_width(query, ref, target="rate", level=0.5) / rate, 0.6745 / 1.6449, rtol=1e-3)


def test_regions_have_bounds_of_their_own(calibrated: Pair) -> None:
    ref, query = calibrated
    level = 0.6
    lower, upper = bl.tl.intervals(query, ref, groupby="region", level=level)
    assert sorted(lower.index) == ["bed", "core", "edge", "rim"]
    assert lower.index.name == "region"
    truth = np.stack(
        [query.X.toarray()[(query.obs["region"] == region).to_numpy()].mean(axis=0) for region in lower.index]
    )
    assert ((truth >= lower.to_numpy()) & (truth <= upper.to_numpy())).mean() > 0.5
    of_spots = half_width(query, ref, level=level)
    of_regions = (upper.to_numpy() - lower.to_numpy()) / 2
    assert of_regions.mean() < 0.6 * of_spots.mean(), "a mean is surer than a spot"


def test_fields_are_written(calibrated: Pair, tmp_path: Path) -> None:
    ref, query = calibrated
    assert bl.tl.intervals(query, ref, genes=["g1", "g2"], key_added="bleep") is None
    lower, upper = bounds(query, ref, genes=["g1", "g2"])
    np.testing.assert_array_equal(query.layers["bleep_lower"][:, [1, 2]], lower)
    np.testing.assert_array_equal(query.layers["bleep_upper"][:, [1, 2]], upper)
    assert np.isnan(query.layers["bleep_upper"][:, 3:]).all()
    record = query.uns["bleep_intervals"]
    assert record["guaranteed_level"] == pytest.approx(0.9 * 3 / 4)
    assert record["scope"] == "across 3 patients"
    assert 0.8 < record["empirical"] < 1
    query.write_h5ad(tmp_path / "query.h5ad")
    back = ad.read_h5ad(tmp_path / "query.h5ad")
    np.testing.assert_array_equal(back.layers["bleep_lower"], query.layers["bleep_lower"])
    assert list(back.uns["bleep_intervals"]["genes"]) == ["g1", "g2"]


def test_it_works_from_files_on_another_machine(calibrated: Pair, tmp_path: Path) -> None:
    ref, query = calibrated
    expected = [bounds(query, ref, **how) for how in ({}, {"level": 0.6}, {"depth": "query"})]
    ref.write_h5ad(tmp_path / "ref.h5ad")
    query.write_h5ad(tmp_path / "query.h5ad")
    ref, query = ad.read_h5ad(tmp_path / "ref.h5ad"), ad.read_h5ad(tmp_path / "query.h5ad")
    for how, before in zip(({}, {"level": 0.6}, {"depth": "query"}), expected, strict=True):
        for a, b in zip(before, bounds(query, ref, **how), strict=True):
            assert np.array_equal(a, b)


def test_a_model_folder_brings_its_calibration(calibrated: Pair, tmp_path: Path) -> None:
    ref, query = calibrated
    bl.io.write_model(ref, tmp_path / "model")
    other = ref.copy()
    del other.uns["bleep"], other.obsm["bleep_out_of_fold"]
    bl.io.read_model(other, tmp_path / "model")
    for a, b in zip(bounds(query, ref), bounds(query, other), strict=True):
        assert np.array_equal(a, b)
    assert other.uns["bleep"]["coverage"].equals(ref.uns["bleep"]["coverage"])
    assert other.uns["bleep"]["scope"] == "across 3 patients"
    with pytest.raises(ValueError, match=r"raw counts and out-of-fold predictions.*levels 0\.5, 0\.8, 0\.9, 0\.95"):
        bl.tl.intervals(query, other, level=0.6)
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    config["trust"]["calibration"] = config["trust"]["calibration"][:-8]
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"config\.json': `trust\.calibration`"):
        bl.io.read_model(other, tmp_path / "model")


def test_a_spot_of_no_promise_has_no_upper_bound(calibrated: Pair) -> None:
    ref, query = calibrated
    with pytest.warns(UserWarning, match=r"nothing can be promised for 30 of 30 genes at a level of 0\.99"):
        lower, upper = bounds(query, ref, level=0.99)
    assert (lower == 0).all()
    assert np.isinf(upper).all()


def test_a_deeper_query_is_warned_of(calibrated: Pair) -> None:
    ref, query = calibrated
    query.layers["counts"] = query.layers["counts"] * 10
    with pytest.warns(UserWarning, match=r"`query` is sequenced deeper than the reference.*covered less"):
        bl.tl.intervals(query, ref, depth="query")


def test_as_deep_is_not_deeper(calibrated: Pair) -> None:
    """Of two sections of one depth about half of the spots are matched to more than they have: by a little."""
    ref, query = calibrated
    own = (ref.obs["section"] == "B1").to_numpy()
    query.layers["counts"] = ref.layers["counts"][own].copy()
    with warnings.catch_warnings(action="error", category=UserWarning):
        widths = half_width(query, ref, depth="query")
    np.testing.assert_allclose(np.median(widths / half_width(query, ref)), 1, atol=0.1)


def test_the_depth_is_that_of_the_references_genes(calibrated: Pair, log: pytest.LogCaptureFixture) -> None:
    """Genes that the reference lacks do not make a query deeper, and a few genes are no measure of depth."""
    ref, query = calibrated
    expected = half_width(query, ref, depth="query")
    more = ad.AnnData(sparse.csr_matrix(np.full((query.n_obs, 1), 500, dtype=np.float32)), obs=query.obs[[]])
    more.var_names = ["more"]
    wide = ad.concat([query, more], axis=1, merge="first")
    wide.layers["counts"] = sparse.hstack([query.layers["counts"], more.X]).tocsr()
    wide.layers["bleep"] = np.hstack([query.layers["bleep"], np.full((query.n_obs, 1), np.nan, dtype=np.float32)])
    wide.uns["bleep"] = query.uns["bleep"]
    np.testing.assert_array_equal(half_width(wide, ref, depth="query"), expected)
    with pytest.raises(ValueError, match=r"`query` has 10 of the reference's 30 genes.*with all of its genes"):
        bl.tl.intervals(query[:, :10].copy(), ref, depth="query")
    counts = query.layers["counts"].toarray()
    counts[:3] = 0
    query.layers["counts"] = sparse.csr_matrix(counts)
    with bl.settings.override(verbosity="info"):
        bl.tl.intervals(query, ref, depth="query")
    assert "3 spots without counts are left out" in log.text
    query.layers["counts"] = sparse.csr_matrix(query.shape, dtype=np.float32)
    with pytest.raises(ValueError, match=r"holds no counts at all"):
        bl.tl.intervals(query, ref, depth="query")


def test_the_order_of_rows_does_not_matter(calibrated: Pair) -> None:
    ref, query = calibrated
    turned = ref[np.random.default_rng(0).permutation(ref.n_obs)].copy()
    np.testing.assert_array_equal(half_width(query, turned, depth="query"), half_width(query, ref, depth="query"))
    bl.tl.calibrate(turned, n_turns=0)
    again = ref.copy()
    bl.tl.calibrate(again, n_turns=0)
    np.testing.assert_array_equal(_calibration(turned).half_width, _calibration(again).half_width)
    np.testing.assert_allclose(
        _calibration(turned).rate_sd.astype(float), _calibration(again).rate_sd.astype(float), rtol=2e-3
    )


def test_bounds_go_with_their_layer(calibrated: Pair) -> None:
    """Those of an earlier imputation lie around other values."""
    ref, query = calibrated
    bl.tl.intervals(query, ref, key_added="bleep", genes="g1")
    with pytest.raises(ValueError, match=r"has no lower bound of 'g2'.*made for other genes"):
        bl.pl.imputed(query, ["g1", "g2"], interval=True, return_fig=True)
    bl.tl.impute(query, ref, k=3)
    assert not {"bleep_lower", "bleep_upper"} & set(query.layers)
    assert "bleep_intervals" not in query.uns


@pytest.mark.parametrize("part", ["a patient fewer", "every third spot"])
def test_what_is_worked_out_comes_from_the_calibrated_reference(calibrated: Pair, part: str) -> None:
    ref, query = calibrated
    fewer = ref[(ref.obs["patient"] != "A").to_numpy() if part == "a patient fewer" else slice(None, None, 3)].copy()
    with pytest.raises(ValueError, match=r"not the reference that was calibrated.*calibrate it again"):
        bl.tl.intervals(query, fewer, level=0.85)


def test_regions_keep_their_names(calibrated: Pair) -> None:
    ref, query = calibrated
    for adata in (ref, query):
        adata.obs["zone"] = adata.obs["region"].map({"core": 1, "edge": 2, "rim": 10, "bed": 11})
    lower, _ = bl.tl.intervals(query, ref, groupby="zone", level=0.6)
    assert set(lower.index) == {1, 2, 10, 11}


def test_the_promise_is_said(calibrated: Pair, log: pytest.LogCaptureFixture) -> None:
    ref, query = calibrated
    with bl.settings.override(verbosity="info"):
        bl.tl.intervals(query, ref)
    assert "guarantee for a new one is 67.5 %" in log.text
    assert "the rest is empirical" in log.text
    assert "On held-out tissue" in log.text


# what does not belong together


@pytest.mark.odd
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"k": 7}, r"imputed with k=7, but the calibration is of k=\d+.*cross_fit=True, k=7"),
        ({"predict": "retrieval"}, r"predict='retrieval', but the calibration is of predict='hybrid'"),
        ({"weighting": "distance"}, r"weighting='distance', but"),
        ({"layer": "other"}, r"layer='other', but the calibration is of layer='X'"),
    ],
)
def test_another_predictors_layer_is_refused(calibrated: Pair, given: dict[str, Any], message: str) -> None:
    ref, query = calibrated
    ref.layers["other"] = ref.X.copy()
    bl.tl.impute(query, ref, **given)
    with pytest.raises(ValueError, match=message):
        bl.tl.intervals(query, ref)


@pytest.mark.odd
@pytest.mark.slow
def test_another_models_layer_is_refused(calibrated: Pair, unchanged: Callable[..., None]) -> None:
    ref, query = calibrated
    other = ref.copy()
    bl.tl.fit(other, max_epochs=1, random_state=1)
    with pytest.raises(ValueError, match=r"model 'bleep' is not calibrated.*bleep_sc\.tl\.calibrate\(ref\)"):
        bl.tl.intervals(query, other)
    bl.tl.impute(query, other)
    unchanged(query, ref)
    with pytest.raises(ValueError, match=r"imputed by another model"):
        bl.tl.intervals(query, ref)
    bl.tl.impute(part := query.copy(), ref[:200].copy())
    with pytest.raises(ValueError, match=r"imputed from 200 spots, but the calibration is of a reference of 240"):
        bl.tl.intervals(part, ref)
    part.layers["mine"] = part.layers["bleep"]
    with pytest.raises(ValueError, match=r"layers\['mine'\]` has no record of what imputed it"):
        bl.tl.intervals(part, ref, layer="mine")


@pytest.mark.odd
def test_the_references_own_spots_are_warned_of(calibrated: Pair) -> None:
    ref, _ = calibrated
    bl.tl.impute(ref, ref)
    with pytest.warns(UserWarning, match=r"holds spots that the model was trained on"):
        bl.tl.intervals(ref, ref)


@pytest.mark.odd
@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"level": 1.0}, ValueError, r"`level` must be between 0 and 1"),
        ({"level": 0}, ValueError, r"`level`"),
        ({"level": "high"}, ValueError, r"`level`"),
        ({"depth": 0}, ValueError, r"`depth`"),
        ({"depth": "deep"}, ValueError, r"`depth`"),
        ({"depth": 10**7}, ValueError, r"no calibration spot has so many counts; the deepest has"),
        ({"target": "truth"}, ValueError, r"`target` must be one of 'measured', 'rate'"),
        ({"target": "rate", "depth": 500}, ValueError, r"has no depth"),
        ({"groupby": "zone"}, KeyError, r"query\.obs\['zone'\]"),
        ({"groupby": "region", "key_added": "x"}, ValueError, r"leave `key_added` out"),
        ({"groupby": "region", "level": 0.99}, ValueError, r"the patient 'B' has 4 regions.*needs 99"),
        ({"genes": ["g1", "nope"]}, KeyError, r"query\.var_names\['nope'\]"),
        ({"genes": 3}, TypeError, r"`genes`"),
        ({"genes": []}, ValueError, r"`genes` names none"),
        ({"layer": "nope"}, KeyError, r"query\.layers\['nope'\]"),
        ({"key": "nope"}, KeyError, r"layers\['nope'\]"),
        ({"key_added": "a/b"}, ValueError, r"`key_added`"),
    ],
)
def test_odd_arguments(
    calibrated: Pair, given: dict[str, Any], error: type[Exception], message: str, unchanged: Callable[..., None]
) -> None:
    ref, query = calibrated
    unchanged(ref, query)
    with pytest.raises(error, match=message):
        bl.tl.intervals(query, ref, **given)


@pytest.mark.odd
def test_counts_are_asked_for_where_a_depth_needs_them(calibrated: Pair) -> None:
    ref, query = calibrated
    del query.layers["counts"]
    with pytest.raises(KeyError, match=r"depth='query'.*Pass a number"):
        bl.tl.intervals(query, ref, depth="query")
    del ref.layers["counts"]
    with pytest.raises(ValueError, match=r"`ref\.layers\['counts'\]` and `ref\.obsm\['bleep_out_of_fold'\]`"):
        bl.tl.intervals(query, ref, depth=33)


@pytest.mark.odd
def test_genes_are_found_by_name(calibrated: Pair) -> None:
    ref, query = calibrated
    expected = bounds(query, ref, genes="g4")
    turned = query[:, ::-1].copy()
    for a, b in zip(expected, bounds(turned, ref, genes="g4"), strict=True):
        assert np.array_equal(a, b)
    turned.var_names = [f"x{name}" for name in turned.var_names]
    with pytest.raises(ValueError, match=r"shares none of the 30 genes.*'g0'.*'xg29'"):
        bl.tl.intervals(turned, ref)


def test_one_patient_is_labelled(log: pytest.LogCaptureFixture) -> None:
    ref, query = make_sections(), make_sections(40, sections=("q",), seed=1)
    ref.obs["patient"] = "A"
    bl.tl.fit(ref, max_epochs=1)
    with bl.settings.override(verbosity="info"):
        bl.tl.calibrate(ref, n_turns=0)
    assert "One patient says nothing sure of another." in log.text
    bl.tl.impute(query, ref)
    bl.tl.intervals(query, ref, key_added="bleep")
    assert query.uns["bleep_intervals"]["scope"] == "on 2 sections of one patient"
    assert np.isnan(query.uns["bleep_intervals"]["guaranteed_level"])
