"""Comparison by cross-validation, and proof that nothing of the held-out group gets into its prediction."""

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
from scipy import sparse
from sklearn.linear_model import Ridge

import bleep_sc as bl
from bleep_sc.metrics import pearson

pytestmark = [
    pytest.mark.usefixtures("remembered_colours"),
    pytest.mark.filterwarnings("ignore:the model has nearly collapsed:UserWarning"),
    pytest.mark.filterwarnings("ignore:near-empty spots:UserWarning"),
]

METHODS = ("mean", "counts", "coordinates", "ridge", "knn", "bleep", "published", "regressor", "stnet", "histogene")
QUICK: dict[str, dict[str, Any]] = {
    "ridge": {"image_key": "X_made"},
    "knn": {"image_key": "X_made"},
    "bleep": {"image_key": "X_made", "max_epochs": 5},
    "published": {
        **{"method": "bleep", "preset": "paper", "accumulate": 1, "patience": 10},
        **{"image_key": "X_made", "max_epochs": 25, "batch_size": 32, "dim": 32},
    },
    "regressor": {"image_key": "X_made", "max_epochs": 25, "batch_size": 32, "lr": 1e-2},
    "stnet": {"encoder": "timm:test_resnet", "weights": None, "max_epochs": 2, "optimizer": "adam"},
    "histogene": {"dim": 64, "depth": 1, "max_epochs": 2, "lr": 1e-3},
}
BLIND = [method for method in METHODS if method not in ("counts", "mean")]
"""Methods that do not read the query's counts, and whose prediction varies over spots."""


def kwargs_for(methods: tuple[str, ...] | list[str]) -> dict[str, dict[str, Any]]:
    return {method: QUICK[method] for method in methods if method in QUICK}


def made_features(adata: AnnData) -> np.ndarray:
    crops = adata.obsm["crops"].astype(np.float32)
    return np.hstack(
        [crops.mean(axis=(1, 2)), crops.std(axis=(1, 2)), np.abs(np.diff(crops, axis=2)).mean(axis=(1, 2))]
    )


@pytest.fixture
def tissue() -> AnnData:
    """Four sections of two spots' kinds, two patients."""
    adata = make_sections(30, sections=("p1a", "p1b", "p2a", "p2b"))
    adata.obs["patient"] = adata.obs["section"].astype(str).str[:2]
    adata.obsm["X_made"] = made_features(adata)
    adata.raw = adata.copy()
    return adata


def run(adata: AnnData, methods: tuple[str, ...] | list[str], **arguments: Any) -> pd.DataFrame:
    given = {
        "n_bootstrap": 0,
        "metrics": ["pearson"],
        "min_fraction": 0.0,
        "method_kwargs": kwargs_for(methods),
    } | arguments
    return bl.tl.cross_validate(adata, methods=methods, **given)


def test_writes_what_it_says(tissue: AnnData, tmp_path: Path) -> None:
    before = tissue.copy()
    scores = run(tissue, ["mean", "counts", "ridge"], markers=["g3", "g4"], metrics=None, n_bootstrap=50)
    assert set(scores["method"]) == {"mean", "counts", "ridge"}
    assert set(scores["section"]) == {"p1a", "p1b", "p2a", "p2b"}
    assert set(scores["panel"]) == {"all", "HEG-50", "HVG-50", "HVG-200", "markers"}
    assert (scores["fold"] == scores["patient"]).all()
    assert set(scores["scope"]) == {"across patients"}
    assert set(scores["normalisation"]) == {"inside the folds"}
    assert scores.groupby("method")["uses_query_counts"].first().to_dict() == {
        **{"counts": True, "mean": False, "ridge": False},
    }
    # nothing else was touched
    assert set(tissue.layers) - {None} == {"counts", "cv_mean", "cv_counts", "cv_ridge"}
    assert set(tissue.obsm) == set(before.obsm)
    assert tissue.var.equals(before.var)
    assert tissue.obs.equals(before.obs)
    assert (tissue.X != before.X).nnz == 0
    tissue.write_h5ad(tmp_path / "t.h5ad")
    entry = ad.read_h5ad(tmp_path / "t.h5ad").uns["cv"]
    assert list(entry["scores"].columns) == list(scores.columns)
    summary = entry["summary"].set_index(["method", "panel", "metric"])
    of_ridge = scores[(scores["method"] == "ridge") & (scores["panel"] == "all") & (scores["metric"] == "pearson")]
    assert summary.loc[("ridge", "all", "pearson"), "value"] == pytest.approx(of_ridge["value"].mean())
    assert summary.loc[("ridge", "all", "pearson"), "interval_over"] == "spots"
    assert 0 < summary.loc[("ridge", "all", "pearson"), "share_of_ceiling"] < 1.2
    assert set(entry["chosen"]["parameter"]) == {"alpha"}
    assert json.loads(entry["config"])["methods"]["ridge"]["image_key"] == "X_made"


def test_a_layer_is_scored_alike_by_evaluate(tissue: AnnData) -> None:
    scores = run(tissue, ["ridge"], counts_layer=None)
    layer = tissue.layers["cv_ridge"]
    assert np.isfinite(layer).all()
    bl.tl.evaluate(tissue, layer="cv_ridge", library_key="section", metrics=["pearson"])
    mine = scores[(scores["panel"] == "all") & (scores["metric"] == "pearson")].set_index("section")["value"]
    theirs = tissue.uns["cv_ridge_scores"]["scores"].set_index("section")["value"]
    np.testing.assert_allclose(mine.sort_index(), theirs.sort_index(), rtol=1e-6)


def test_without_counts_x_is_taken_and_the_result_says_so(tissue: AnnData, log: pytest.LogCaptureFixture) -> None:
    del tissue.layers["counts"]
    scores = run(tissue, ["mean", "ridge"])
    assert set(scores["normalisation"]) == {"outside the folds"}
    assert "normalised outside the folds" in log.text
    with pytest.raises(ValueError, match=r"'counts'.*layers\['counts'\].*does not exist"):
        run(tissue, ["counts"])


@pytest.mark.parametrize(
    ("arguments", "obs", "expected"),
    [
        ({"group_key": "patient"}, "patient", "across patients"),
        ({"group_key": "section"}, "patient", "within-patient"),
        ({"group_key": "section"}, None, "patients unknown"),
        ({"group_key": "animal", "library_key": "section"}, "animal", "patients unknown"),
        ({"group_key": "animal", "patient_key": "animal"}, "animal", "across patients"),
    ],
)
def test_scope_is_in_the_table_and_in_print(
    arguments: dict[str, Any], obs: str | None, expected: str, tissue: AnnData, log: pytest.LogCaptureFixture
) -> None:
    patient = tissue.obs.pop("patient")
    if obs is not None:
        tissue.obs[obs] = patient
    scores = run(tissue, ["mean"], **arguments)
    assert set(scores["scope"]) == {expected}
    assert set(tissue.uns["cv"]["summary"]["scope"]) == {expected}
    assert expected.upper() in log.text


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_nothing_of_the_held_out_group_reaches_its_prediction(method: str, tissue: AnnData) -> None:
    """Its expression destroyed in all forms: the same prediction, bit for bit. A training group's: another."""
    rng = np.random.default_rng(0)
    held_out = (tissue.obs["patient"] == "p2").to_numpy()
    quick = {method: QUICK.get(method, {}) | ({"max_epochs": 2} if "max_epochs" in QUICK.get(method, {}) else {})}
    run(tissue, [method], method_kwargs=quick)
    expected = tissue.layers[f"cv_{method}"]
    assert np.isfinite(expected).all()

    def destroyed(rows: np.ndarray) -> AnnData:
        noise = tissue.copy()
        counts, x = noise.layers["counts"].toarray(), noise.X.toarray()
        if method == "counts":  # the one that reads total counts: noise that keeps them
            counts[rows] = rng.permuted(counts[rows], axis=1)
        else:
            counts[rows] = rng.poisson(20, size=counts[rows].shape)
        x[rows] = rng.normal(5, 2, size=x[rows].shape) ** 2
        noise.layers["counts"], noise.layers["other"] = sparse.csr_matrix(counts), rng.normal(size=x.shape)
        noise.X = sparse.csr_matrix(x)
        noise.raw = AnnData(noise.X.copy(), obs=noise.obs, var=noise.var)
        run(noise, [method], method_kwargs=quick)
        return noise

    np.testing.assert_array_equal(destroyed(held_out).layers[f"cv_{method}"][held_out], expected[held_out])
    changed = destroyed(~held_out).layers[f"cv_{method}"][held_out]
    assert not np.allclose(changed, expected[held_out])


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ridge", "knn", "bleep", "published", "regressor"])
def test_held_out_predictions_follow_the_truth(method: str, tissue: AnnData) -> None:
    scores = run(tissue, [method])
    assert scores[(scores["panel"] == "all") & (scores["metric"] == "pearson")]["value"].mean() > 0.4


@pytest.mark.slow
@pytest.mark.parametrize("method", [m for m in BLIND if m != "coordinates"])
def test_shuffled_training_images_predict_nothing(method: str, tissue: AnnData) -> None:
    """50 shuffles of the training images: a mean within two standard errors of 0, and below the true pairing.

    Shuffled over all training spots: shuffled within sections, the sections' own means would still go together. Each
    time from other first weights, too: a model that learns nothing keeps the arbitrary map that it began with.
    """
    held_out = (tissue.obs["patient"] == "p2").to_numpy()
    true = measured_on(tissue, method, held_out)
    shuffled = []
    rng = np.random.default_rng(0)
    for number in range(50):
        order, rows = np.arange(tissue.n_obs), np.flatnonzero(~held_out)
        order[rows] = rng.permutation(rows)
        other = tissue.copy()
        for key in ("crops", "X_made"):
            other.obsm[key] = tissue.obsm[key][order]
        shuffled.append(measured_on(other, method, held_out, seed=number))
    assert abs(np.mean(shuffled)) < 2 * np.std(shuffled, ddof=1) / np.sqrt(50)
    assert true > np.quantile(shuffled, 0.95)


def measured_on(adata: AnnData, method: str, held_out: np.ndarray, *, seed: int = 0) -> float:
    """Mean Pearson within the held-out sections of a model trained on the others."""
    ref, query = adata[~held_out].copy(), adata[held_out].copy()
    seeds = {"random_state": seed}
    with bl.settings.override(verbosity="error"):
        bl.tl.fit(ref, **({"method": method} | seeds | QUICK.get(method, {}) | LONGER.get(method, {})))
        bl.tl.impute(query, ref, k=10)
        bl.tl.evaluate(query, library_key="section", metrics=["pearson"], n_bootstrap=0)
    return float(query.uns["bleep_scores"]["summary"].query("panel == 'all'")["value"].iloc[0])


LONGER: dict[str, dict[str, Any]] = {
    "stnet": {"encoder": "timm:test_resnet", "max_epochs": 4, "lr": 1e-3, "batch_size": 16},
    "histogene": {"max_epochs": 30, "patience": 30},
}


def test_penalty_and_neighbours_are_chosen_in_each_fold() -> None:
    """One patient's expression follows its images closely, the other's hardly: the folds choose differently."""
    adata = make_sections(60, sections=("p1a", "p1b", "p2a", "p2b"))
    adata.obs["patient"] = adata.obs["section"].astype(str).str[:2]
    rng = np.random.default_rng(0)
    adata.obsm["X_made"] = rng.normal(size=(adata.n_obs, 20)).astype(np.float32)
    mean = np.exp(1 + adata.obsm["X_made"][:, :3] @ rng.normal(size=(3, 30)))
    noisy = (adata.obs["patient"] == "p2").to_numpy()
    mean[noisy] = np.exp(0.12 * adata.obsm["X_made"][noisy, :1] + 0.5 * rng.normal(size=(noisy.sum(), 30)))
    adata.layers["counts"] = sparse.csr_matrix(rng.poisson(10 * mean).astype(np.float32))
    run(adata, ["ridge", "knn"], method_kwargs={m: {"image_key": "X_made"} for m in ("ridge", "knn")})
    chosen = adata.uns["cv"]["chosen"].set_index(["method", "fold"])["value"]
    assert chosen["ridge", "p1"] > chosen["ridge", "p2"], "the fold trained on noise takes the stronger penalty"
    assert chosen["knn", "p1"] > chosen["knn", "p2"], "and averages more neighbours"


@pytest.mark.slow
def test_the_default_recipes_choices_are_those_of_its_training_spots(tissue: AnnData) -> None:
    """`chosen` tells the blend and the number of neighbours of each fold, and the layer follows from them."""
    run(tissue, ["bleep"], counts_layer=None)
    chosen = tissue.uns["cv"]["chosen"].set_index(["fold", "parameter"])["value"]
    test = (tissue.obs["patient"] == "p2").to_numpy()
    ref, query = tissue[~test].copy(), tissue[test].copy()
    del ref.layers["counts"]  # as in the folds
    bl.tl.fit(ref, **QUICK["bleep"], library_key="section", validation_key="section")
    expected = json.loads(ref.uns["bleep"]["config"])["chosen"]
    assert chosen["p2"].to_dict() == pytest.approx(expected)
    assert {"k", "weight_retrieval", "weight_linear", "weight_kernel"} <= set(expected)
    assert sum(value for name, value in chosen["p2"].items() if name.startswith("weight")) == pytest.approx(1)
    bl.tl.impute(query, ref)
    np.testing.assert_array_equal(query.layers["bleep"], tissue.layers["cv_bleep"][test])


@pytest.mark.slow
def test_predict_is_handed_to_impute(tissue: AnnData) -> None:
    """Plain averages of measured profiles lie among the values of the training spots, mixed ones do not."""
    given = {
        "bleep": QUICK["bleep"],
        "averages": {"method": "bleep", **QUICK["bleep"], "predict": "retrieval"},
        "regression": {"method": "bleep", **QUICK["bleep"], "predict": "regression"},
    }
    run(tissue, list(given), method_kwargs=given, k=1, counts_layer=None)
    test = (tissue.obs["patient"] == "p2").to_numpy()
    measured = {row.tobytes() for row in tissue.X.toarray()[~test].astype(np.float32)}
    assert {row.tobytes() for row in tissue.layers["cv_averages"][test]} <= measured
    assert not {row.tobytes() for row in tissue.layers["cv_regression"][test]} & measured
    with pytest.raises(ValueError, match=r"`predict='regression'`: this model predicts by 'retrieval'"):
        run(tissue, ["knn"], method_kwargs={"knn": {"image_key": "X_made", "predict": "regression"}})


def test_panels_and_genes_are_chosen_on_the_training_groups(tissue: AnnData) -> None:
    """A gene that shouts in the held-out patient alone is in no panel of its fold."""
    held_out = (tissue.obs["patient"] == "p2").to_numpy()
    counts = tissue.layers["counts"].toarray()
    counts[:, 7] = 0
    counts[held_out, 7] = np.random.default_rng(0).poisson(500, size=held_out.sum())
    tissue.layers["counts"] = sparse.csr_matrix(counts)
    scores = run(tissue, ["mean"], min_fraction=0.1)
    n_genes = scores[scores["panel"] == "all"].groupby("fold")["n_genes"].first()
    assert n_genes["p2"] == 29
    assert n_genes["p1"] == 30


@pytest.mark.slow
def test_harmony_is_run_anew_in_each_fold(tissue: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def corrected(adata: AnnData, **arguments: Any) -> None:
        seen.append(sorted(adata.obs["patient"].unique()))
        adata.obsm["X_harmony"] = adata.X.toarray() - 1
        adata.uns["harmony"] = {"genes": adata.var_names.to_numpy().astype(object)}

    monkeypatch.setattr("bleep_sc.pp.harmonize", corrected)
    tissue.obsm["X_harmony"] = np.full(tissue.shape, np.nan)  # made outside: must not be used
    given = {label: {**QUICK[label], "use_rep": "X_harmony"} for label in ("bleep", "published")}
    run(tissue, list(given), method_kwargs=given)
    assert seen == [["p2"], ["p1"]]
    assert np.isfinite(tissue.layers["cv_bleep"]).all()
    assert np.isfinite(tissue.layers["cv_published"]).all()


def test_labels_of_ones_own(tissue: AnnData) -> None:
    given = {
        "ridge, 2 PCs": {"method": "ridge", "n_components": 2, "image_key": "X_made"},
        "ridge": {"image_key": "X_made"},
    }
    scores = bl.tl.cross_validate(tissue, methods=list(given), method_kwargs=given, min_fraction=0, n_bootstrap=0)
    assert set(scores["method"]) == set(given)
    assert not np.allclose(tissue.layers["cv_ridge"], tissue.layers["cv_ridge, 2 PCs"])


def test_a_custom_encoder(tissue: AnnData) -> None:
    given = {"knn": {"encoder": lambda images: images.mean(dim=(2, 3))}}
    run(tissue, ["knn"], method_kwargs=given, k=5)
    assert np.isfinite(tissue.layers["cv_knn"]).all()


@pytest.mark.slow
def test_one_seed_one_result(tissue: AnnData) -> None:
    methods = ["bleep", "published", "ridge"]
    first = run(tissue, methods, n_bootstrap=20)
    again = tissue.copy()
    pd.testing.assert_frame_equal(run(again, methods, n_bootstrap=20), first)
    for method in methods:
        np.testing.assert_array_equal(again.layers[f"cv_{method}"], tissue.layers[f"cv_{method}"])


def duplicated(adata: AnnData) -> None:
    counts = adata.layers["counts"].toarray()
    counts[-1] = counts[0]
    adata.layers["counts"] = sparse.csr_matrix(counts)


def halved(adata: AnnData) -> None:
    adata.layers["counts"] = adata.layers["counts"] * 0.5


BAD: dict[str, tuple[Callable[[AnnData], Any], dict[str, Any], type[Exception], str]] = {
    "no column": (lambda a: None, {"group_key": "donor"}, KeyError, r"obs\['donor'\]"),
    "one group": (lambda a: a.obs.__setitem__("patient", "p"), {}, ValueError, r"one group only, 'p'"),
    "section in two groups": (
        lambda a: a.obs.__setitem__("patient", ["p1"] * 40 + ["p2"] * 80),
        {},
        ValueError,
        r"section 'p1b'.*2 groups",
    ),
    "copied spots": (duplicated, {}, ValueError, r"'spot0' of group 'p1' and 'spot119' of group 'p2'.*same profile"),
    "unknown method": (lambda a: None, {"methods": ["nearest"]}, ValueError, r"'nearest', which is no method"),
    "methods a string": (lambda a: None, {"methods": "mean"}, ValueError, r"`methods` must be a list"),
    "method twice": (lambda a: None, {"methods": ["mean", "mean"]}, ValueError, r"different names"),
    "kwargs of nothing": (
        lambda a: None,
        {"method_kwargs": {"ridge": {}}, "methods": ["mean"]},
        ValueError,
        r"'ridge', which is not among",
    ),
    "leaking argument": (
        lambda a: None,
        {"method_kwargs": {"mean": {"layer": "smooth"}}, "methods": ["mean"]},
        ValueError,
        r"\['mean'\]\['layer'\]. cannot be given",
    ),
    "leaking representation": (
        lambda a: None,
        {"method_kwargs": {"bleep": {"use_rep": "X_pca"}}, "methods": ["bleep"]},
        ValueError,
        r"'X_pca'.*outside the folds.*X_harmony",
    ),
    "no such argument": (
        lambda a: None,
        {"method_kwargs": {"mean": {"epochs": 3}}, "methods": ["mean"]},
        ValueError,
        r"\['mean'\]\['epochs'\]. is no argument",
    ),
    "no crops": (lambda a: a.obsm.pop("crops"), {"methods": ["bleep"]}, KeyError, r"obsm\['crops'\].*'bleep' reads"),
    "marker": (lambda a: None, {"markers": ["ERBB2"]}, KeyError, r"var_names\['ERBB2'\]"),
    "no counts": (halved, {}, ValueError, r"layers\['counts'\].*raw counts"),
    "metric": (lambda a: None, {"metrics": ["kendall"]}, ValueError, r"`metrics`.*kendall"),
    "few spots": (
        lambda a: a.obs.__setitem__("section", ["x", "x"] + ["p1a"] * 58 + ["p2a"] * 60),
        {"library_key": "section"},
        ValueError,
        r"'x' has 2 spots",
    ),
}


@pytest.mark.odd
@pytest.mark.parametrize("case", BAD)
def test_bad_input(case: str, tissue: AnnData, unchanged: Callable[..., None]) -> None:
    damage, arguments, error, message = BAD[case]
    damage(tissue)
    unchanged(tissue)
    with pytest.raises(error, match=message):
        bl.tl.cross_validate(tissue, **({"methods": ["mean"]} | arguments))


def test_an_error_in_a_fold_leaves_the_object_alone(tissue: AnnData, unchanged: Callable[..., None]) -> None:
    """After the first method's fold is done, and while the second predicts its test spots."""
    calls = []

    def encoder(images: Any) -> Any:
        calls.append(len(images))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return images.mean(dim=(2, 3))

    unchanged(tissue)
    with pytest.raises(KeyboardInterrupt):
        run(tissue, ["mean", "knn"], method_kwargs={"knn": {"encoder": encoder}})
    assert calls == [60, 60], "the training spots, and the test spots"
    assert bl.settings.verbosity == "info"


@pytest.fixture
def three_patients() -> AnnData:
    """120 genes whose levels differ from patient to patient, so that panels chosen on another patient differ."""
    rng = np.random.default_rng(0)
    patient = np.repeat(["p1", "p2", "p3"], 40)
    level = {name: np.exp(rng.normal(0, 1.5, size=120)) for name in ("p1", "p2", "p3")}
    made = rng.normal(size=(120, 4)).astype(np.float32)
    mean = np.stack([level[name] for name in patient]) * np.exp(0.4 * made @ rng.normal(size=(4, 120)))
    section = [f"{name}_{i % 40 // 20}" for i, name in enumerate(patient)]
    return AnnData(
        obs=pd.DataFrame({"patient": patient, "section": section}, index=[f"s{i}" for i in range(120)]),
        var=pd.DataFrame(index=[f"g{i}" for i in range(120)]),
        layers={"counts": sparse.csr_matrix(rng.poisson(4 * mean).astype(np.float32))},
        obsm={"X_made": made, "spatial": rng.uniform(0, 100, size=(120, 2))},
    )


def test_panels_are_those_of_the_training_patients(three_patients: AnnData) -> None:
    """Of every fold exactly the panels that its training spots give: a score is the mean over a panel's own genes."""
    from bleep_sc._stats import panels

    scores = run(three_patients, ["mean"], library_key="section", metrics=["mae"], n_bootstrap=0)
    value = scores.set_index(["section", "panel"])["value"]
    counts = three_patients.layers["counts"].toarray()
    names, sections = three_patients.var_names.to_numpy(), three_patients.obs["section"].to_numpy()
    total = counts.sum(axis=1, keepdims=True)
    for fold in ("p1", "p2", "p3"):
        training = (three_patients.obs["patient"] != fold).to_numpy()
        expression = np.log1p(counts / total * np.median(total[training]))
        ours, theirs = (panels(expression[rows], names, sections[rows]) for rows in (training, ~training))
        for section in np.unique(sections[~training]):
            rows = sections == section
            error = pd.Series(np.abs(expression - three_patients.layers["cv_mean"])[rows].mean(axis=0), index=names)
            error[np.ptp(expression[rows], axis=0) == 0] = np.nan  # what does not vary is not scored
            for panel in ("HEG-50", "HVG-50"):
                assert value[section, panel] == pytest.approx(error[ours[panel]].mean(), rel=1e-5)
                assert value[section, panel] != pytest.approx(error[theirs[panel]].mean(), rel=1e-3)


# what is chosen on the training groups


@pytest.fixture
def twins() -> AnnData:
    """Three patients, each of two sections that are nearly the same: a section's twin tells all of it but the rest."""
    rng = np.random.default_rng(0)
    made = np.repeat(rng.normal(size=(3, 20, 30)), 2, axis=0).reshape(120, 30)
    own = np.repeat(rng.normal(size=(3, 20, 60)), 2, axis=0).reshape(120, 60)
    mean = 20 * np.exp(0.3 * made[:, :3] @ rng.normal(size=(3, 60)) + 0.5 * own)
    patient = np.repeat(["p1", "p2", "p3"], 40)
    section = [f"{name}_{i % 40 // 20}" for i, name in enumerate(patient)]
    return AnnData(
        obs=pd.DataFrame({"patient": patient, "section": section}, index=[f"s{i}" for i in range(120)]),
        var=pd.DataFrame(index=[f"g{i}" for i in range(60)]),
        layers={"counts": sparse.csr_matrix(rng.poisson(mean).astype(np.float32))},
        obsm={"X_made": (made + 0.02 * rng.normal(size=made.shape)).astype(np.float32)},
    )


def training_spots(adata: AnnData, fold: str) -> AnnData:
    """As a fold hands them to `fit`."""
    ref = adata[(adata.obs["patient"] != fold).to_numpy()].copy()
    total = np.asarray(ref.layers["counts"].sum(axis=1))
    ref.X = sparse.csr_matrix(np.log1p(ref.layers["counts"].toarray() / total * np.median(total)).astype(np.float32))
    return ref


Folds = list[tuple[np.ndarray, list[np.ndarray]]]


def each_held_out(adata: AnnData, key: str) -> Folds:
    """Rows to learn from, and those to predict, section by section: each patient, or each section, held out once."""
    groups, sections = (adata.obs[name].to_numpy() for name in (key, "section"))
    return [
        (np.flatnonzero(groups != g), [np.flatnonzero(sections == s) for s in np.unique(sections[groups == g])])
        for g in np.unique(groups)
    ]


def best(
    candidates: Any, predict: Callable[[Any, np.ndarray, np.ndarray], np.ndarray], y: np.ndarray, on: Folds
) -> Any:
    """The candidate of highest mean Pearson, by gene within each section."""

    def score(candidate: Any) -> float:
        return float(
            np.mean(
                [
                    np.mean([np.nan_to_num(pearson(y[part], predict(candidate, rows, part))).mean() for part in parts])
                    for rows, parts in on
                ]
            )
        )

    return max(candidates, key=score)


def averages(images: np.ndarray, keys: np.ndarray, y: np.ndarray) -> Callable[..., np.ndarray]:
    """Means of the k profiles of highest cosine."""
    images, keys = (v.astype(np.float64) / np.linalg.norm(v, axis=1, keepdims=True) for v in (images, keys))

    def predict(k: int, rows: np.ndarray, part: np.ndarray) -> np.ndarray:
        return y[rows][np.argsort(-images[part] @ keys[rows].T, axis=1)[:, :k]].mean(axis=1)

    return predict


def regressed(x: np.ndarray, y: np.ndarray) -> Callable[..., np.ndarray]:
    return lambda alpha, rows, part: Ridge(alpha=alpha).fit(x[rows], y[rows]).predict(x[part])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:image features are standardised within each section.*fewer than 30:UserWarning")
@pytest.mark.parametrize("method", ["ridge", "knn"])
def test_penalty_and_k_are_chosen_on_whole_patients(method: str, twins: AnnData) -> None:
    """Of each fold's two patients one is predicted from the other, section by section; twins would choose otherwise."""
    given = {"ridge": {"image_key": "X_made", "n_components": 0}, "knn": {"image_key": "X_made"}}
    run(twins, [method], method_kwargs={method: given[method]}, library_key="section", n_bootstrap=0)
    chosen = twins.uns["cv"]["chosen"].set_index("fold")["value"]
    for fold in ("p1", "p2", "p3"):
        ref = training_spots(twins, fold)
        y, x = ref.X.toarray(), ref.obsm["X_made"]
        sections = [x[(ref.obs["section"] == name).to_numpy()] for name in ref.obs["section"].unique()]
        spread = np.mean([rows.std(axis=0) for rows in sections], axis=0) if method == "ridge" else x.std(axis=0)
        x = (x - x.mean(axis=0)) / spread  # so few spots of a section take the reference's mean and spread
        predict = regressed(x, y) if method == "ridge" else averages(x, x, y)
        candidates = 10 ** np.arange(0, 5.5, 0.5) if method == "ridge" else (5, 10, 25)
        assert chosen[fold] == pytest.approx(best(candidates, predict, y, each_held_out(ref, "patient")))
        assert chosen[fold] > best(candidates, predict, y, each_held_out(ref, "section"))


@pytest.mark.slow
def test_epoch_and_k_of_the_published_are_chosen_on_a_whole_patient(twins: AnnData) -> None:
    """One that the training did not see; the layer is then of a model that saw all (below)."""
    given = QUICK["published"] | {"max_epochs": 6, "lr": 3e-3}
    run(twins, ["published"], method_kwargs={"published": given}, library_key="section", n_bootstrap=0)
    chosen = twins.uns["cv"]["chosen"].set_index(["fold", "parameter"])["value"]
    held_out = []
    for fold in ("p1", "p2", "p3"):
        ref = training_spots(twins, fold)
        bl.tl.fit(ref, **given, validation_key="patient", key_added="by_patient")
        history = ref.uns["by_patient"]["history"]
        for patient in np.unique(ref.obs["patient"]):
            ref.obs["held"] = ref.obs["patient"] == patient
            bl.tl.fit(ref, **given, validation_key="held")
            if np.array_equal(ref.uns["bleep"]["history"]["validation_loss"], history["validation_loss"]):
                break
        else:
            pytest.fail("no patient was held out whole")
        held_out.append(patient)
        assert chosen[fold, "best_epoch"] == history["best_epoch"][0]
        y = ref.X.toarray()
        predict = averages(ref.obsm["X_bleep_image"], ref.obsm["X_bleep_expression"], y)
        folds = [(rows, parts) for rows, parts in each_held_out(ref, "patient") if ref.obs["held"].iloc[parts[0]].all()]
        assert chosen[fold, "k"] == best((5, 10, 25), predict, y, folds)
    assert chosen[:, "best_epoch"].nunique() > 1, "the test shows nothing"


@pytest.mark.filterwarnings("ignore:image features are standardised within each section:UserWarning")
@pytest.mark.slow
def test_the_blend_is_chosen_on_whole_patients(twins: AnnData) -> None:
    """As `fit` does that is told of them; sections, whose twins are trained on, would choose otherwise."""
    given = {"image_key": "X_made", "max_epochs": 2, "members": 1, "hidden": 16, "context": 0}
    run(twins, ["bleep"], method_kwargs={"bleep": given}, library_key="section", n_bootstrap=0)
    chosen = twins.uns["cv"]["chosen"].set_index(["fold", "parameter"])["value"]
    ref = training_spots(twins, "p2")
    for key in ("patient", "section"):
        bl.tl.fit(ref, **given, library_key="section", validation_key=key)
        expected = json.loads(ref.uns["bleep"]["config"])["chosen"]
        assert (chosen["p2"].to_dict() == pytest.approx(expected)) == (key == "patient")


@pytest.mark.slow
def test_networks_learn_from_all_training_groups_in_the_end(three_patients: AnnData) -> None:
    """The layer of a fold is that of a model trained on all its training spots for the best number of epochs."""
    given = {"regressor": {"image_key": "X_made", "max_epochs": 12, "batch_size": 32, "lr": 1e-2}}
    run(three_patients, ["regressor"], method_kwargs=given, library_key="section")
    refitted = three_patients.layers["cv_regressor"].copy()
    chosen = three_patients.uns["cv"]["chosen"].set_index("fold")["value"]
    run(three_patients, ["regressor"], method_kwargs=given, library_key="section", refit=False)
    assert not np.allclose(refitted, three_patients.layers["cv_regressor"])

    test = (three_patients.obs["patient"] == "p2").to_numpy()
    ref, query = three_patients[~test].copy(), three_patients[test].copy()
    counts = ref.layers["counts"].toarray()
    total = counts.sum(axis=1, keepdims=True)
    ref.X = sparse.csr_matrix(np.log1p(counts / total * np.median(total)).astype(np.float32))
    arguments = given["regressor"] | {"max_epochs": int(chosen["p2"]) + 1}
    bl.tl.fit(ref, method="regressor", library_key="section", validation_share=0.0, **arguments)  # type: ignore[arg-type]
    bl.tl.impute(query, ref)
    np.testing.assert_allclose(query.layers["bleep"], refitted[test], atol=1e-5)


@pytest.mark.odd
@pytest.mark.parametrize(
    "image_key", ["X_harmony", "X_pca", "X_bleep_expression", "X_bleep_components", "X_bleep_image"]
)
def test_features_made_of_expression_are_refused(
    image_key: str, tissue: AnnData, unchanged: Callable[..., None]
) -> None:
    bl.tl.fit(tissue, image_key="X_made", max_epochs=2)
    tissue.obsm[image_key] = tissue.obsm.get(image_key, tissue.obsm["X_made"])
    unchanged(tissue)
    with pytest.raises(ValueError, match=rf"{image_key}.*features of images alone"):
        run(tissue, ["ridge"], method_kwargs={"ridge": {"image_key": image_key}})


@pytest.mark.odd
def test_a_mistake_in_a_late_method_is_found_before_the_first_is_trained(
    tissue: AnnData,
) -> None:
    def never(images: Any) -> Any:
        pytest.fail("it was trained")

    first = {"method": "knn", "encoder": never}
    tissue.obsm["X_uni"] = tissue.obsm["X_made"]
    for label, given, message in (
        ("ridge", {"temperature": 1.0}, "no `temperature`"),
        ("stnet", {"image_key": "X_uni"}, "reads crops"),
        ("bleep", {"encoder": "resnet19"}, "`encoder`"),
        ("bleep", {"encoder": "resnet18", "weights": "nowhere.pth"}, r"nowhere\.pth"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            bl.tl.cross_validate(tissue, methods=["first", label], method_kwargs={"first": first, label: given})
    del tissue.obsm["spatial"]
    for label, message in (("coordinates", "spatial"), ("bleep", r"adata\.obsm\['spatial'\].*`context=0`")):
        with pytest.raises(KeyError, match=message):
            bl.tl.cross_validate(tissue, methods=["first", label], method_kwargs={"first": first})


@pytest.mark.odd
def test_explicit_zeros_and_read_only_buffers_are_left_alone(tissue: AnnData) -> None:
    counts = tissue.layers["counts"]
    counts.data[::7] = 0
    before = counts.nnz
    counts.data.flags.writeable = False
    run(tissue, ["mean"])
    assert tissue.layers["counts"].nnz == before
    assert len(tissue.layers["counts"].data) == before


@pytest.mark.odd
@pytest.mark.parametrize("label", ["crops", "harmony", "a label, of my own"])
def test_labels_collide_with_nothing(label: str, tissue: AnnData) -> None:
    given = {label: {"method": "ridge", "encoder": "color"}, "ridge": {"image_key": "X_made"}}
    tissue.uns["harmony"] = {"genes": np.array(["a"], dtype=object)}
    bl.tl.cross_validate(tissue, methods=list(given), method_kwargs=given, min_fraction=0, n_bootstrap=0)
    assert set(tissue.uns) >= {"crops", "harmony", "cv"}
    with pytest.raises(ValueError, match=r"`key_added='crops'`"):
        run(tissue, ["mean"], key_added="crops")
    tissue.uns["mine"] = {"a": 1}
    with pytest.raises(ValueError, match=r"uns\['mine'\].*something else"):
        run(tissue, ["mean"], key_added="mine")


def test_groups_for_want_of_sections_are_said(three_patients: AnnData) -> None:
    with pytest.warns(UserWarning, match=r"each group of `adata\.obs\['patient'\]` is treated as one section"):
        run(three_patients, ["mean"])
