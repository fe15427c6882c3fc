"""The slim form of a model: it predicts as its regressions do, and no spot of its reference is in it."""

import json
import os
import re
import subprocess
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pytest
from anndata import AnnData
from conftest import PUBLISHED, import_path, make_sections
from safetensors.numpy import load_file

import bleep_sc as bl
from bleep_sc.methods.hybrid import choose
from bleep_sc.methods.hybrid.blend import Blend

pytestmark = [
    pytest.mark.usefixtures("remembered_colours"),
    pytest.mark.filterwarnings("ignore:the model has nearly collapsed:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*blown up to the:UserWarning"),
]

PATIENTS = {"sectionQuebec": "patientZulu", "sectionTango": "patientYankee", "sectionVictor": "patientXray"}
GENE_COLUMNS = ("predictable", "expected_pearson", "expected_pearson_lower", "expected_pearson_upper")


def config_of(adata: AnnData) -> dict[str, Any]:
    return json.loads(adata.uns["bleep"]["config"])


def weigh(adata: AnnData, *, retrieval: float, linear: float, kernel: float) -> None:
    """Give the predictors of a hybrid these weights, as if they had been chosen."""
    config = config_of(adata)
    config["chosen"] |= {"weight_retrieval": retrieval, "weight_linear": linear, "weight_kernel": kernel}
    adata.uns["bleep"]["config"] = json.dumps(config)


@pytest.fixture(scope="module")
def named_once() -> AnnData:
    """A reference of three patients whose names are found if they are anywhere, calibrated for its regressions."""
    ref = make_sections(60, sections=tuple(PATIENTS))
    ref.obs["patient"] = ref.obs["section"].astype(str).map(PATIENTS).to_numpy()
    ref.obs_names = [f"BARCODE{number:04d}" for number in range(ref.n_obs)]
    weights = {"retrieval": 0.5, "linear": 0.25, "kernel": 0.25}
    blend = Blend((25,), [{"linear": (300, 6), "kernel": (1, 6)}], weights, (1.0,))
    with (
        bl.settings.override(progress_bar=False, device="cpu", verbosity="error"),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(choose, "choose_blend", lambda parts, **_: (blend, 0.0))
        bl.tl.fit(ref, max_epochs=5)
        bl.tl.calibrate(ref, predict="regression", n_turns=20)
    return ref


@pytest.fixture
def named(named_once: AnnData) -> AnnData:
    return named_once.copy()


def regressed(query: AnnData, ref: AnnData) -> np.ndarray:
    bl.tl.impute(query, ref, predict="regression", key_added="full")
    return np.asarray(query.layers["full"])


def apart(found: np.ndarray, expected: np.ndarray) -> float:
    """The root mean squared difference as a share of the spread of each gene."""
    return float(np.sqrt(np.square(found - expected).sum() / np.square(expected - expected.mean(axis=0)).sum()))


# what it predicts


def test_without_a_kernel_it_is_the_regression_of_the_full_model(
    named: AnnData, query: AnnData, tmp_path: Path
) -> None:
    weigh(named, retrieval=0.5, linear=0.5, kernel=0.0)
    bl.io.write_model(named, tmp_path, slim=True)
    slim = bl.io.read_slim_model(tmp_path)
    bl.tl.impute(query, slim)
    np.testing.assert_allclose(query.layers["bleep"], regressed(query, named), atol=1e-4)


def test_a_kernel_is_written_anew_and_stays_near(
    named: AnnData, query: AnnData, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    bl.io.write_model(named, tmp_path, slim=True)
    promised = int(re.search(r"comes within (\d+) % of what it was", log.text).group(1))  # type: ignore[union-attr]
    slim = bl.io.read_slim_model(tmp_path)
    bl.tl.impute(query, slim)
    found, expected = query.layers["bleep"], regressed(query, named)
    assert 0 < apart(found, expected) < 0.1
    assert promised < 20
    linear_alone = named.copy()
    weigh(linear_alone, retrieval=0.5, linear=0.5, kernel=0.0)
    assert apart(found, expected) < 0.5 * apart(regressed(query, linear_alone), expected)


@pytest.mark.slow
def test_another_process_predicts_the_same(named: AnnData, query: AnnData, tmp_path: Path) -> None:
    bl.io.write_model(named, tmp_path / "slim", slim=True)
    bl.tl.impute(query, bl.io.read_slim_model(tmp_path / "slim"))
    expected, reliability = query.layers.pop("bleep"), query.obs.pop("bleep_reliability")
    del query.uns["bleep"]
    query.write_h5ad(tmp_path / "query.h5ad")
    code = (
        "import anndata, bleep_sc as bl\n"
        "query = anndata.read_h5ad('query.h5ad')\n"
        "bl.tl.impute(query, bl.io.read_slim_model('slim'), device='cpu')\n"
        "bl.tl.intervals(query, bl.io.read_slim_model('slim'), key_added='bleep')\n"
        "query.write_h5ad('done.h5ad')\n"
    )
    environment = os.environ | import_path(Path(bl.__file__).parents[1])
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, env=environment, capture_output=True)
    done = ad.read_h5ad(tmp_path / "done.h5ad")
    np.testing.assert_allclose(done.layers["bleep"], expected, atol=1e-6)
    np.testing.assert_allclose(done.obs["bleep_reliability"], reliability)
    assert np.isfinite(done.layers["bleep_upper"]).all()


def test_what_is_read_is_a_reference_without_spots(named: AnnData, tmp_path: Path) -> None:
    bl.io.write_model(named, tmp_path, slim=True)
    slim = bl.io.read_slim_model(tmp_path, key_added="shared")
    assert slim.shape == (0, named.n_vars)
    assert list(slim.var_names) == list(named.var_names)
    assert json.loads(slim.uns["shared"]["config"])["slim"] is True
    for column in GENE_COLUMNS:
        expected = named.var[f"bleep_{column}"].to_numpy()
        assert np.array_equal(slim.var[f"shared_{column}"], expected, equal_nan=expected.dtype.kind == "f")
    assert slim.var["shared_predictable"].dtype == bool
    for panel, genes in named.uns["bleep"]["panels"].items():
        assert list(slim.uns["shared"]["panels"][panel]) == list(genes)


def test_it_goes_through_h5ad_and_may_be_written_again(named: AnnData, query: AnnData, tmp_path: Path) -> None:
    bl.io.write_model(named, tmp_path / "one", slim=True)
    slim = bl.io.read_slim_model(tmp_path / "one")
    slim.write_h5ad(tmp_path / "slim.h5ad")
    back = ad.read_h5ad(tmp_path / "slim.h5ad")
    bl.tl.impute(query, back)
    expected = query.layers["bleep"].copy()
    bl.io.write_model(back, tmp_path / "two")
    again = bl.io.read_slim_model(tmp_path / "two")
    bl.tl.impute(query, again)
    assert np.array_equal(query.layers["bleep"], expected)
    one, two = (tmp_path / name for name in ("one", "two"))
    assert (one / "model.safetensors").read_bytes() == (two / "model.safetensors").read_bytes()
    assert json.loads((one / "config.json").read_text()) == json.loads((two / "config.json").read_text())


def test_a_blank_query_takes_the_genes_of_a_slim_model(named: AnnData, query: AnnData, tmp_path: Path) -> None:
    bl.io.write_model(named, tmp_path, slim=True)
    slim = bl.io.read_slim_model(tmp_path)
    blank = bl.pp.blank(slim, spatial=query.obsm["spatial"], library_id="new", spot_diameter=50)
    assert list(blank.var_names) == list(named.var_names)


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("ridge", {}),
        ("coordinates", {}),
        ("mean", {}),
        ("counts", {}),
        ("regressor", {"encoder": "color", "max_epochs": 2}),
        pytest.param(
            "stnet", {"encoder": "timm:test_resnet", "weights": None, "max_epochs": 1}, marks=pytest.mark.slow
        ),
        pytest.param("histogene", {"dim": 64, "depth": 1, "max_epochs": 1}, marks=pytest.mark.slow),
    ],
)
def test_methods_that_need_no_spots_are_written_as_they_are(
    method: Any, more: dict[str, Any], ref: AnnData, query: AnnData, tmp_path: Path
) -> None:
    bl.tl.fit(ref, method=method, **more)
    bl.io.write_model(ref, tmp_path, slim=True)
    slim = bl.io.read_slim_model(tmp_path)
    bl.tl.impute(query, ref)
    expected = query.layers["bleep"].copy()
    bl.tl.impute(query, slim)
    assert np.array_equal(query.layers["bleep"], expected)
    assert np.array_equal(slim.uns["bleep"]["model"], ref.uns["bleep"]["model"])


def test_several_encoders_are_fused_as_in_the_full_model(ref: AnnData, query: AnnData, tmp_path: Path) -> None:
    """Of both forms of features: made before, and with a network that the model brings."""
    for adata in (ref, query):
        adata.obsm["X_two"] = np.hstack([adata.obsm["crops"].mean(axis=(1, 2)), adata.obsm["crops"][:, 3, :9, 0]])
        adata.uns["X_two"] = {"config": json.dumps(RECORD)}
    bl.tl.fit(ref, image_key="X_two", max_epochs=1, members=1, hidden=8, context=2)
    assert config_of(ref)["model"]["kind"] == "fused"
    for weights, most in ((0.0, 1e-5), (0.25, 0.2)):
        weigh(ref, retrieval=0.5, linear=0.5 - weights, kernel=weights)
        bl.io.write_model(ref, tmp_path, slim=True)
        bl.tl.impute(query, bl.io.read_slim_model(tmp_path))
        assert apart(query.layers["bleep"], regressed(query, ref)) <= most


def _encoder(name: str, width: int) -> dict[str, Any]:
    return {
        "name": name,
        "kind": "features",
        "n_features": width,
        "feature_set": None,
        "weights": None,
        "reading": None,
    }


RECORD = {
    "encoders": [_encoder("one", 3), _encoder("other", 9)],
    "scale": {"size": 16, "size_um": 100.0, "spot_diameters": 1.0},
}


@pytest.mark.slow
def test_a_model_that_brings_its_network(query: AnnData, tmp_path: Path) -> None:
    ref = make_sections(40)
    bl.tl.fit(ref, preset="best", max_epochs=1, members=1, hidden=8, n_components=6, context=2)
    weigh(ref, retrieval=0.5, linear=0.5, kernel=0.0)
    bl.io.write_model(ref, tmp_path, slim=True)
    bl.tl.impute(query, bl.io.read_slim_model(tmp_path))
    np.testing.assert_allclose(query.layers["bleep"], regressed(query, ref), atol=1e-4)


# what is known of it


def test_intervals_are_those_of_the_regression(named: AnnData, query: AnnData, tmp_path: Path) -> None:
    """The half-widths are those that `calibrate` makes of what the folds' regressions predict."""
    bl.io.write_model(named, tmp_path, slim=True)
    slim = bl.io.read_slim_model(tmp_path)
    bl.tl.impute(query, slim)
    bl.tl.impute(query, named, predict="regression", key_added="full")
    lower, upper = bl.tl.intervals(query, slim)
    _, expected = bl.tl.intervals(query, named, layer="full")
    own = np.asarray(query.layers["bleep"])
    np.testing.assert_allclose(
        upper.to_numpy() - own, expected.to_numpy() - np.asarray(query.layers["full"]), atol=1e-5
    )
    assert (lower.to_numpy() <= own).all()


def test_the_folds_regressions_are_kept_and_calibrated(named: AnnData) -> None:
    """Their errors are counted by hand: the largest, over patients, of a quantile of each gene's errors."""
    from bleep_sc.io._calibration import Calibration
    from bleep_sc.io._out_of_fold import from_uns

    decoders = from_uns(named.uns["bleep"], where="here")
    assert decoders is not None
    scores = named.obsm["bleep_out_of_fold_regression"]
    assert not np.allclose(scores, named.obsm["bleep_out_of_fold"])
    predicted = decoders.decode(scores, named.obs["bleep_fold"].to_numpy(), np.arange(30))
    errors = np.abs(named.X.toarray() - predicted)
    widest = []
    for patient in PATIENTS.values():
        own = np.sort(errors[(named.obs["patient"] == patient).to_numpy()], axis=0)
        widest.append(own[int(np.ceil(0.9 * (len(own) + 1))) - 1])
    calibration = Calibration.from_bytes(named.uns["bleep"]["calibration"], where="here")
    assert calibration.promise.predictor["predict"] == "regression"
    level = calibration.levels.tolist().index(0.9)
    np.testing.assert_allclose(calibration.half_width[0, level], np.max(widest, axis=0), rtol=2e-3)


def test_a_calibration_of_the_hybrid_stays_behind(calibrated: tuple[AnnData, AnnData], tmp_path: Path) -> None:
    ref, query = calibrated
    with pytest.warns(UserWarning, match=r"is of 'hybrid'.*tl\.calibrate\(ref, predict='regression'\)"):
        bl.io.write_model(ref, tmp_path, slim=True)
    slim = bl.io.read_slim_model(tmp_path)
    assert not {"calibration", "coverage"} & set(slim.uns["bleep"])
    assert "bleep_predictable" not in slim.var
    bl.tl.impute(query, slim, key_added="slim")
    with pytest.raises(ValueError, match="is not calibrated"):
        bl.tl.intervals(query, slim, layer="slim")


def test_a_layer_of_the_full_model_gets_no_bounds_of_the_slim_one(
    named: AnnData, query: AnnData, tmp_path: Path
) -> None:
    bl.io.write_model(named, tmp_path, slim=True)
    bl.tl.impute(query, named, predict="regression")
    with pytest.raises(ValueError, match="imputed by another model"):
        bl.tl.intervals(query, bl.io.read_slim_model(tmp_path))


def test_no_neighbours_are_written_and_whoever_asks_for_them_is_told(
    named: AnnData, query: AnnData, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    bl.io.write_model(named, tmp_path, slim=True)
    slim = bl.io.read_slim_model(tmp_path)
    bl.tl.impute(query, slim)
    assert log.text.count("is a slim model: it predicts by regression, and no neighbours are stored") == 1
    assert set(query.obsm) == {"crops", "spatial"}
    with pytest.raises(ValueError, match=r"`ref` has no spots"):
        bl.pl.neighbors(query, slim, spot=query.obs_names[0], genes=["g0"])


@pytest.mark.odd
def test_what_needs_spots_is_refused(named: AnnData, query: AnnData, tmp_path: Path) -> None:
    bl.io.write_model(named, tmp_path, slim=True)
    slim = bl.io.read_slim_model(tmp_path)
    for mode in ("hybrid", "retrieval"):
        with pytest.raises(ValueError, match=rf"`predict='{mode}'`.*slim model.*need the reference itself"):
            bl.tl.impute(query, slim, predict=mode)  # type: ignore[arg-type]
    query.obs["measured"] = True
    with pytest.raises(ValueError, match=r"`measured='measured'`.*slim model"):
        bl.tl.impute(query, slim, measured="measured")
    with pytest.raises(ValueError, match=r"no spots"):
        bl.tl.calibrate(slim)


@pytest.mark.slow
def test_a_report_of_a_slim_model(named: AnnData, query: AnnData, tmp_path: Path) -> None:
    bl.io.write_model(named, tmp_path, slim=True)
    slim = bl.io.read_slim_model(tmp_path)
    bl.tl.impute(query, slim)
    bl.tl.intervals(query, slim, key_added="bleep")
    bl.report(query, slim, path=tmp_path / "report.html", img_key=None)
    text = (tmp_path / "report.html").read_text()
    assert "This model is slim: its spots stay with their owner" in text
    assert "a slim model, without spots" in text


# what is not in it


def inside(folder: Path) -> bytes:
    """All bytes of a folder, and those that its config holds as base64 text."""
    parts = [path.read_bytes() for path in sorted(folder.iterdir())]
    trust = json.loads((folder / "config.json").read_text())["trust"]
    return b"\n".join([*parts, *(b64decode(text) for text in trust.values())])


def profiles_of(ref: AnnData) -> dict[str, np.ndarray]:
    """What is known of single spots, a row each."""
    from bleep_sc.io._trained import load_model
    from bleep_sc.methods.hybrid.in_section import SectionView
    from bleep_sc.models.encoders.color import color_features

    _, trained = load_model(ref, "bleep")
    features = np.asarray(color_features(ref.obsm["crops"], progress_bar=False))
    view = SectionView.of(trained.model, trained.method_config["context"])
    sections = ref.obs["section"].astype(str).to_numpy().astype(object)
    held = {key: np.asarray(values) for key, values in ref.obsm.items() if key != "crops"}
    return held | {
        "expression": ref.X.toarray(),
        "counts": ref.layers["counts"].toarray(),
        "features": features,
        "standardised features": view.apply(features, sections=sections, xy=ref.obsm["spatial"]),
    }


def found_in(data: bytes, profiles: dict[str, np.ndarray]) -> set[str]:
    """Names of the profiles of which a row, or its first four values, stand in some bytes."""
    found = set()
    for name, rows in profiles.items():
        for kind in (np.float16, np.float32, np.float64):
            with np.errstate(over="ignore"):
                as_stored = rows.astype(kind)
            # of every third spot; rows that begin alike, as with zeros, say nothing, nor do a few bytes
            begun = [row[:4] for row in as_stored[::3] if len(np.unique(row[:4])) > min(2, len(row) - 1)]
            if any(row.nbytes >= 8 and row.tobytes() in data for row in begun):
                found.add(name)
    return found


@pytest.mark.slow
def test_no_spot_no_patient_and_no_section_is_in_its_bytes(named: AnnData, tmp_path: Path) -> None:
    profiles = profiles_of(named)
    bl.io.write_model(named, tmp_path / "full")
    bl.io.write_model(named, tmp_path / "slim", slim=True)
    full, slim = (inside(tmp_path / form) for form in ("full", "slim"))
    assert found_in(full, profiles) == {"standardised features"}, "the search finds what there is to be found"
    assert found_in(slim, profiles) == set()
    assert all(name.encode() in full for pair in PATIENTS.items() for name in pair)
    names = [*PATIENTS, *PATIENTS.values(), *named.obs_names]
    assert not [name for name in names if name.encode() in slim]
    crops = named.obsm["crops"]
    assert not any(crop[row].tobytes() in slim for crop in crops for row in (0, 8))


def test_no_row_of_its_weights_is_near_a_spot(named: AnnData, tmp_path: Path) -> None:
    """Its landmarks lie as far from spots as spots from each other; those of the full form are spots."""
    from scipy.spatial.distance import cdist

    spots = profiles_of(named)["standardised features"]
    between = cdist(spots, spots) + np.diag(np.full(len(spots), np.inf))
    for form, kernel in (("full", "kernel"), ("slim", "kernels.0")):
        bl.io.write_model(named, tmp_path / form, slim=form == "slim")
        landmarks = load_file(tmp_path / form / "model.safetensors")[f"{kernel}.landmarks"]
        nearest = cdist(landmarks, spots).min(axis=1)
        if form == "full":
            assert nearest.max() < 1e-3
        else:
            assert np.median(nearest) > 0.8 * np.median(between.min(axis=1))
            assert nearest.min() > 0.5 * between.min()


def test_from_the_full_form_scores_of_spots_can_be_worked_out_and_not_from_the_slim_one(
    named: AnnData, tmp_path: Path
) -> None:
    """The page on sharing says so: a kernel ridge regression of all spots can be solved backwards."""
    from scipy.spatial.distance import cdist

    alpha, truth = 1.0, named.obsm["X_bleep_components"][:, :6]
    agreement = {}
    for form, prefix in (("full", "kernel"), ("slim", "kernels.0")):
        bl.io.write_model(named, tmp_path / form, slim=form == "slim")
        parts = load_file(tmp_path / form / "model.safetensors")
        landmarks, heights = (parts[f"{prefix}.{name}"].astype(float) for name in ("landmarks", "coefficients"))
        bumps = np.exp(-cdist(landmarks, landmarks, "sqeuclidean") / parts[f"{prefix}.width"])
        scores = bumps @ heights + alpha * heights
        agreement[form] = np.corrcoef(scores[: len(truth), 0], truth[:, 0])[0, 1]
    assert agreement["full"] > 0.999
    assert abs(agreement["slim"]) < 0.4


def test_the_log_says_what_travels(named: AnnData, tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    bl.io.write_model(named, tmp_path)
    assert "the image features of 180 spots" in log.text
    assert "the names of 3 sections" in log.text
    assert "the names of the 3 patients" in log.text
    log.clear()
    bl.io.write_model(named, tmp_path, slim=True)
    assert "slim model" in log.text
    assert "the list of predictable genes" in log.text
    assert "It does hold" not in log.text


def test_the_full_form_is_written_as_before(hybrid: AnnData, tmp_path: Path) -> None:
    bl.io.write_model(hybrid, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["format_version"] == 3
    assert set(config) == {
        *("format_version", "method", "preset", "params", "model", "image", "expression", "library_key", "units"),
        *("patient_key", "versions", "sha256", "genes", "panels", "history", "trust"),
        *("chosen", "context", "centers", "spread", "depth_unit", "depth_genes"),
    }


# what is refused


@pytest.mark.odd
@pytest.mark.parametrize("more", [{"method": "knn"}, {**PUBLISHED, "max_epochs": 1}], ids=["knn", "paper"])
def test_what_cannot_do_without_spots_is_refused_before_anything_is_written(
    more: dict[str, Any], ref: AnnData, tmp_path: Path
) -> None:
    bl.tl.fit(ref, **more)
    name = "knn" if "method" in more else "preset 'paper'"
    with pytest.raises(ValueError, match=rf"`slim=True`.*{name}.*averages measured profiles"):
        bl.io.write_model(ref, tmp_path / "model", slim=True)
    assert not (tmp_path / "model").exists()


@pytest.mark.odd
def test_a_folder_of_the_other_form_is_named(named: AnnData, ref: AnnData, tmp_path: Path) -> None:
    for form in ("full", "slim"):
        bl.io.write_model(named, tmp_path / form, slim=form == "slim")
    with pytest.raises(ValueError, match=r"holds a full model.*read_model\(adata, folder\).*slim=True"):
        bl.io.read_slim_model(tmp_path / "full")
    with pytest.raises(ValueError, match=r"holds a slim model.*read_slim_model\(folder\)"):
        bl.io.read_model(ref, tmp_path / "slim")
    assert "bleep" not in ref.uns


def change(folder: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    config = json.loads((folder / "config.json").read_text())
    edit(config)
    (folder / "config.json").write_text(json.dumps(config))


def _retrieving(config: dict[str, Any]) -> None:
    model = config["model"]
    config["model"] = {
        "kind": "hybrid",
        **{name: model[name] for name in ("n_image_features", "n_features", "n_genes", "n_components", "n_landmarks")},
        **{"dim": 8, "hidden": 8, "members": 1, "dropout": 0.1, "temperature": 0.1},
    }


def _columns_of_others(config: dict[str, Any]) -> None:
    from bleep_sc.io._bundle import pack, unpack
    from bleep_sc.io._gene_columns import _PARTS

    stored = np.frombuffer(b64decode(config["trust"]["gene_columns"]), dtype=np.uint8)
    arrays, _ = unpack(stored, _PARTS, where="here")
    arrays["predictable"] = arrays["predictable"] + np.uint8(7)
    config["trust"]["gene_columns"] = b64encode(pack(arrays, {}).tobytes()).decode()


@pytest.mark.odd
@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda config: config.update(slim="yes"), r"`slim` of the config must be true or false"),
        (_retrieving, r"config|slim"),
        (_columns_of_others, r"gene_columns`: its columns are damaged"),
        (lambda config: config["trust"].update(gene_columns="%"), r"trust\.gene_columns` must be bytes as base64"),
        (lambda config: config["model"].update(n_landmarks=0), r"n_landmarks.*must be a whole number"),
        (lambda config: config["model"].update(encoders=[]), r"encoders.*must be a list"),
        (lambda config: config["genes"].pop(), r"another number of genes"),
        (lambda config: config.pop("context"), r"lacks `context`"),
    ],
    ids=["slim", "kind", "columns", "base64", "landmarks", "encoders", "genes", "context"],
)
def test_damaged_slim_folders_are_refused(
    edit: Callable[[dict[str, Any]], None], message: str, named: AnnData, tmp_path: Path
) -> None:
    bl.io.write_model(named, tmp_path, slim=True)
    change(tmp_path, edit)
    with pytest.raises(ValueError, match=message):
        bl.io.read_slim_model(tmp_path)


@pytest.mark.odd
@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda config: config["model"].update(n_landmarks=2**30), r"weights do not belong to the config"),
        (lambda config: config.update(context=0), r"`context` of the config and the widths"),
    ],
    ids=["sizes", "context"],
)
def test_a_slim_model_whose_parts_do_not_fit_predicts_nothing(
    edit: Callable[[dict[str, Any]], None], message: str, named: AnnData, query: AnnData, tmp_path: Path
) -> None:
    bl.io.write_model(named, tmp_path, slim=True)
    change(tmp_path, edit)
    with pytest.raises(ValueError, match=message):
        bl.tl.impute(query, bl.io.read_slim_model(tmp_path))


@pytest.mark.odd
def test_links_and_missing_files_are_refused(named: AnnData, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is not a model folder"):
        bl.io.read_slim_model(tmp_path)
    bl.io.write_model(named, tmp_path / "slim", slim=True)
    (tmp_path / "linked").mkdir()
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "linked" / name).symlink_to(tmp_path / "slim" / name)
    with pytest.raises((ValueError, PermissionError), match="link"):
        bl.io.read_slim_model(tmp_path / "linked")


@pytest.mark.odd
def test_a_reference_without_its_scores_is_refused(named: AnnData, tmp_path: Path) -> None:
    del named.obsm["X_bleep_components"]
    with pytest.raises(KeyError, match=r"X_bleep_components.*tl\.embed"):
        bl.io.write_model(named, tmp_path / "model", slim=True)
    assert not (tmp_path / "model").exists()
