"""BLEEP's default recipe: retrieval in a joint space of features and components, mixed with regressions."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pytest
import torch
from anndata import AnnData
from conftest import make_sections, never_read
from safetensors.numpy import load
from scipy import sparse
from scipy.special import erf

import bleep_sc as bl
from bleep_sc.methods.hybrid import choose, kernel_ridge
from bleep_sc.methods.hybrid.in_section import SectionView

pytestmark = pytest.mark.usefixtures("remembered_colours")

QUICK: dict[str, Any] = {"max_epochs": 3}
SMALL = pytest.mark.filterwarnings("ignore:image features are standardised within each section:UserWarning")
COLLAPSE = pytest.mark.filterwarnings("ignore:the model has nearly collapsed:UserWarning")


def config(adata: AnnData, key: str = "bleep") -> dict[str, Any]:
    return json.loads(adata.uns[key]["config"])


def reconfigure(adata: AnnData, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the config of the stored model."""
    found = config(adata)
    change(found)
    adata.uns["bleep"]["config"] = json.dumps(found)


def reweigh(adata: AnnData, retrieval: float, linear: float, kernel: float) -> None:
    """As if `fit` had chosen these weights."""
    weights = {"weight_retrieval": retrieval, "weight_linear": linear, "weight_kernel": kernel}
    reconfigure(adata, lambda c: c["chosen"].update(weights))


def score(query: AnnData, layer: str = "bleep") -> float:
    truth, found = query.X.toarray(), query.layers[layer]
    return float(np.mean([np.corrcoef(t, f)[0, 1] for t, f in zip(truth.T, found.T, strict=True)]))


def with_features(adata: AnnData) -> AnnData:
    """Ready-made features in place of crops."""
    crops = adata.obsm.pop("crops").astype(np.float32)
    edges = np.abs(np.diff(crops, axis=2)).mean(axis=(1, 2))
    adata.obsm["X_uni"] = np.hstack([crops.mean(axis=(1, 2)), crops.std(axis=(1, 2)), edges])
    return adata


# what fit writes


def test_writes_what_the_contract_says(hybrid_once: AnnData) -> None:
    for name, width in (("image", 384), ("expression", 384), ("components", 20)):
        assert hybrid_once.obsm[f"X_bleep_{name}"].shape == (96, width)
        assert hybrid_once.obsm[f"X_bleep_{name}"].dtype == np.float32
    entry, found = hybrid_once.uns["bleep"], config(hybrid_once)
    assert set(entry) == {
        "model",
        "genes",
        "history",
        "panels",
        "config",
        "placed",
        "measured",
        "novelty",
        "out_of_fold",
    }
    assert list(entry["genes"]) == list(hybrid_once.var_names)
    assert len(entry["history"]["train_loss"]) == 10
    assert len(entry["history"]["validation_loss"]) == 0
    assert entry["history"]["best_epoch"].tolist() == [9]
    assert found["method"] == "bleep"
    assert found["preset"] == "default"
    assert found["model"]["kind"] == "hybrid"
    assert found["context"] == found["params"]["context"] == 8
    assert found["image"]["kind"] == "color"
    assert {name: len(center) for name, center in found["centers"].items()} == {"s1": 20, "s2": 20}
    chosen = found["chosen"]
    assert set(chosen) == {
        *("k", "weight_retrieval", "weight_linear", "weight_kernel"),
        *("alpha_linear", "components_linear", "alpha_kernel", "components_kernel"),
    }
    assert sum(chosen[f"weight_{way}"] for way in ("retrieval", "linear", "kernel")) == pytest.approx(1)
    assert set(found["spread"]) == {"image_cosine", "expression_cosine", "references_in_use"}


def test_learns(hybrid_once: AnnData) -> None:
    loss = hybrid_once.uns["bleep"]["history"]["train_loss"]
    assert loss[-1] < loss[0] < 1.2 * np.log(96), "the mean of the members' losses, which begin at chance"
    image, expression = (hybrid_once.obsm[f"X_bleep_{side}"] for side in ("image", "expression"))
    rank = ((image @ expression.T) > (image * expression).sum(axis=1)[:, None]).sum(axis=1)
    assert np.median(rank) < 96 / 4, "a spot's own profile is not nearer than chance"


def test_says_what_it_does(ref: AnnData, log: pytest.LogCaptureFixture) -> None:
    bl.tl.fit(ref, **QUICK)
    assert "Training on 96 spots, 2 parts of them held out in turn to choose the mix (by section, since no " in log.text
    assert "pass patient_key" not in log.text
    assert "Chosen on held-out parts of the reference (Pearson 0." in log.text
    assert log.text.count("mean cosine between two spots") == 1, "of the final model alone"


@pytest.mark.parametrize("how", [QUICK, {"method": "ridge"}], ids=["bleep", "ridge"])
def test_names_the_column_that_could_tell_the_patients(
    how: dict[str, Any], ref: AnnData, log: pytest.LogCaptureFixture
) -> None:
    ref.obs["animal"] = "m1"
    bl.tl.fit(ref, **how)
    (line,) = (text for record in log.records if "since no column tells the patients" in (text := record.getMessage()))
    assert line.endswith(". If obs['animal'] tells the patients, pass patient_key='animal'.")
    log.clear()
    bl.tl.fit(ref, **how, patient_key="animal")
    assert "(by section, since all are of one patient)" in log.text
    assert "pass patient_key" not in log.text


@pytest.mark.slow
def test_one_seed_gives_the_same_weights_bit_for_bit(ref: AnnData, hybrid_once: AnnData) -> None:
    other = ref.copy()
    with torch.random.fork_rng(devices=[]):
        torch.rand(3)  # a moved global state must not matter
        bl.tl.fit(ref, max_epochs=10)
    assert ref.uns["bleep"]["model"].tobytes() == hybrid_once.uns["bleep"]["model"].tobytes()
    assert ref.uns["bleep"]["config"] == hybrid_once.uns["bleep"]["config"]
    bl.tl.fit(other, max_epochs=10, random_state=1)
    assert other.uns["bleep"]["model"].tobytes() != ref.uns["bleep"]["model"].tobytes()


def test_arguments_reach_the_model(ref: AnnData) -> None:
    given = {"members": 2, "dim": 6, "hidden": 9, "n_components": 4, "context": 2, "temperature": 0.5, "dropout": 0.1}
    bl.tl.fit(ref, **given, **QUICK)
    found = config(ref)
    assert {name: found["params"][name] for name in given} == given
    assert ref.obsm["X_bleep_image"].shape == (96, 12)
    assert ref.obsm["X_bleep_components"].shape == (96, 4)
    weights = load(ref.uns["bleep"]["model"].tobytes())
    assert weights["space.image_heads.0.1.weight"].shape == (9, 2 * found["image"]["n_features"])


# how the mix is chosen


def test_many_sections_are_held_out_in_five_parts(log: pytest.LogCaptureFixture) -> None:
    adata = with_features(make_sections(30, sections=tuple(f"s{i}" for i in range(7))))
    bl.tl.fit(adata, image_key="X_uni", max_epochs=1, members=1, hidden=8, context=0)
    assert "Training on 210 spots, 5 parts of them held out in turn to choose the mix" in log.text


def test_regressions_win_where_the_image_tells_little_but_linearly() -> None:
    """Features that go straight into expression, and hardly above the noise: nearest neighbours are chance."""
    rng = np.random.default_rng(0)
    adata = make_sections(100)
    adata.obsm["X_uni"] = rng.normal(size=(200, 30)).astype(np.float32)
    signal = adata.obsm["X_uni"] @ rng.normal(size=(30, 2)) @ rng.normal(size=(2, 30)) / 3
    adata.X = sparse.csr_matrix((signal + 3 * rng.normal(size=(200, 30)) + 30).astype(np.float32))
    bl.tl.fit(adata, image_key="X_uni", **QUICK)
    chosen = config(adata)["chosen"]
    assert chosen["weight_retrieval"] < chosen["weight_linear"] + chosen["weight_kernel"]


@SMALL
@pytest.mark.parametrize("sizes", [(30, 20), (20, 30), (60, 210), (210, 60), (8, 8)])
def test_sections_of_any_two_sizes(sizes: tuple[int, int], query: AnnData) -> None:
    """Folds train on other numbers of spots, so not all have the same numbers of neighbours to choose from."""
    adata = make_sections(max(sizes))
    adata = adata[[*range(sizes[0]), *range(max(sizes), max(sizes) + sizes[1])]].copy()
    bl.tl.fit(adata, max_epochs=1, members=1)
    assert config(adata)["chosen"]["k"] <= adata.n_obs
    bl.tl.impute(query, adata)
    assert np.isfinite(query.layers["bleep"]).all()


def test_sixteen_spots_of_one_section_are_enough(query: AnnData) -> None:
    adata = make_sections(16, sections=("s1",))
    del adata.obs["section"]
    with pytest.warns(UserWarning, match=r"all 16 spots have fewer than 30") as caught:
        bl.tl.fit(adata, **QUICK)
    assert len(caught) == 1
    assert set(config(adata)["centers"]) == {""}
    bl.tl.impute(query, adata)
    assert query.obsm["bleep_neighbors"].shape == (40, 15)
    assert np.isfinite(query.layers["bleep"]).all()


@COLLAPSE
@pytest.mark.parametrize("n_genes", [1, 2])
def test_hardly_any_genes(n_genes: int, ref: AnnData, query: AnnData) -> None:
    ref.var["highly_variable"] = np.arange(ref.n_vars) < n_genes
    bl.tl.fit(ref, **QUICK)
    assert ref.obsm["X_bleep_components"].shape == (96, 1)
    bl.tl.impute(query, ref)
    assert np.isfinite(query.layers["bleep"]).all()


def test_large_references_choose_on_a_part_and_keep_landmarks(
    ref: AnnData, query: AnnData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_ridge, "MAX_LANDMARKS", 30)
    monkeypatch.setattr(choose, "MOST_TO_CHOOSE_ON", 40)
    bl.tl.fit(ref, **QUICK)
    assert config(ref)["model"]["n_landmarks"] == 30
    assert ref.obsm["X_bleep_components"].shape == (96, 20), "the final model learns from all"
    bl.tl.impute(query, ref, predict="regression")
    assert score(query) > 0.4


# how it predicts


@pytest.fixture
def made(ref: AnnData, query: AnnData) -> tuple[AnnData, AnnData]:
    """A reference with a model on ready-made features, all ways in use, and a query."""
    ref, query = with_features(ref), with_features(query)
    bl.tl.fit(ref, image_key="X_uni", max_epochs=5, context=3)
    reweigh(ref, 0.25, 0.25, 0.5)
    return ref, query


def seen_in_section(features: np.ndarray, xy: np.ndarray, k: int) -> np.ndarray:
    """Of one section: standardised, and beside the standardised mean of the nearest others."""
    z = features.astype(np.float64)
    z = (z - z.mean(axis=0)) / z.std(axis=0)
    around = []
    for i in range(len(z)):
        order = np.argsort(np.hypot(*(xy - xy[i]).T), kind="stable")
        around.append(z[[j for j in order if j != i][:k]].mean(axis=0))
    around = np.array(around)
    return np.hstack([z, (around - around.mean(axis=0)) / around.std(axis=0)])


def in_space(weights: dict[str, np.ndarray], side: str, rows: np.ndarray) -> np.ndarray:
    """Members side by side: linear, GELU, linear, length one."""
    members = []
    for member in range(3):
        first, second = (f"space.{side}_heads.{member}.{layer}" for layer in (1, 4))
        x = rows @ weights[f"{first}.weight"].T + weights[f"{first}.bias"]
        x = x * (1 + erf(x / np.sqrt(2))) / 2
        x = x @ weights[f"{second}.weight"].T + weights[f"{second}.bias"]
        members.append(x / np.linalg.norm(x, axis=1, keepdims=True))
    return np.hstack(members) / np.sqrt(3)


def test_the_layer_follows_from_the_stored_parts(made: tuple[AnnData, AnnData]) -> None:
    """The whole method in NumPy, from what one file holds."""
    ref, query = made
    bl.tl.impute(query, ref, k=7)
    weights = {name: w.astype(np.float64) for name, w in load(ref.uns["bleep"]["model"].tobytes()).items()}
    values = ref.X.toarray().astype(np.float64)

    # the reference: section-centred scores, depth apart and first, half whitened, in the space
    loadings = weights["loadings"].astype(np.float64)
    depth = config(ref)["depth_unit"] * np.log(np.asarray(ref.layers["counts"].sum(axis=1)).ravel())
    scores = np.hstack([depth[:, None], (values - np.outer(depth, loadings[0])) @ loadings[1:].T])
    for section in ("s1", "s2"):
        scores[ref.obs["section"] == section] -= scores[ref.obs["section"] == section].mean(axis=0)
    np.testing.assert_allclose(ref.obsm["X_bleep_components"], scores, atol=1e-4)
    spread = scores.std(axis=0)
    keys = in_space(weights, "expression", scores / np.sqrt(spread * spread.mean()))
    np.testing.assert_allclose(ref.obsm["X_bleep_expression"], keys, atol=1e-4)

    # the query
    features = seen_in_section(query.obsm["X_uni"], query.obsm["spatial"], 3)
    image = in_space(weights, "image", features)
    np.testing.assert_allclose(query.obsm["X_bleep_image"], image, atol=1e-4)
    best = np.argsort(-image @ keys.T, axis=1)[:, :7]
    np.testing.assert_array_equal(query.obsm["bleep_neighbors"], best)
    retrieved = scores[best].mean(axis=1)
    linear = features @ weights["linear.weight"].T + weights["linear.bias"]
    square = ((features[:, None] - weights["kernel.landmarks"]) ** 2).sum(axis=2)
    kernel = np.exp(-square / weights["kernel.width"]) @ weights["kernel.coefficients"] + weights["kernel.mean"]
    mix = {name: config(ref)["chosen"][f"weight_{name}"] for name in ("retrieval", "linear", "kernel")}
    mixed = mix["retrieval"] * retrieved + mix["linear"] * linear + mix["kernel"] * kernel

    # back to genes by least squares on the reference
    solution = np.linalg.lstsq(np.hstack([np.ones((96, 1)), scores]), values, rcond=None)[0]
    expected = np.hstack([np.ones((40, 1)), mixed]) @ solution
    np.testing.assert_allclose(query.layers["bleep"], np.maximum(expected, 0), atol=2e-3)
    assert query.uns["bleep"]["params"]["weights"] == mix

    # the regressions are solved on the reference's own spots
    own = np.vstack(
        [seen_in_section(ref.obsm["X_uni"][r], ref.obsm["spatial"][r], 3) for r in (slice(48), slice(48, 96))]
    )
    np.testing.assert_allclose(weights["kernel.landmarks"], own, atol=1e-5)
    alpha = config(ref)["chosen"]["alpha_linear"]
    rank = int(config(ref)["chosen"]["components_linear"])
    ridge = np.linalg.solve(own.T @ own + alpha * np.eye(own.shape[1]), own.T @ scores)
    np.testing.assert_allclose(weights["linear.weight"][:rank], ridge.T[:rank], atol=1e-4)
    assert not weights["linear.weight"][rank:].any(), "the later components are left to retrieval"

    # and what small sections are standardised by is the reference's
    sections = ref.obs["section"].astype(str).to_numpy()
    view = SectionView.learn(ref.obsm["X_uni"], sections=sections, xy=ref.obsm["spatial"], n_neighbors=3)
    for name, values in (("mean", view.mean), ("scale", view.scale)):
        np.testing.assert_allclose(weights[f"feature_{name}"], values, rtol=1e-5)
    np.testing.assert_allclose(weights["context_scale"], view.context_scale, rtol=1e-5)


def test_predict_retrieval_averages_measured_profiles(hybrid: AnnData, query: AnnData) -> None:
    bl.tl.impute(query, hybrid, k=6, predict="retrieval")
    expected = hybrid.X.toarray()[query.obsm["bleep_neighbors"]].mean(axis=1)
    np.testing.assert_allclose(query.layers["bleep"], expected, atol=1e-5)
    assert query.uns["bleep"]["params"]["predict"] == "retrieval"
    assert "weights" not in query.uns["bleep"]["params"]
    del hybrid.obsm["X_bleep_components"]
    bl.tl.impute(query, hybrid, k=6, predict="retrieval")


def test_predict_regression_leaves_retrieval_out(hybrid: AnnData, query: AnnData) -> None:
    reweigh(hybrid, 0.5, 0.125, 0.375)
    bl.tl.impute(query, hybrid, predict="regression")
    found = query.layers["bleep"].copy()
    assert query.uns["bleep"]["params"]["weights"] == {"retrieval": 0, "linear": 0.25, "kernel": 0.75}
    reweigh(hybrid, 0, 0.25, 0.75)
    bl.tl.impute(query, hybrid, predict="hybrid")
    np.testing.assert_array_equal(query.layers["bleep"], found)
    reweigh(hybrid, 1, 0, 0)
    bl.tl.impute(query, hybrid, predict="regression")
    assert query.uns["bleep"]["params"]["weights"] == {"retrieval": 0, "linear": 0, "kernel": 1}
    bl.tl.impute(query, hybrid)
    assert query.uns["bleep"]["params"]["weights"] == {"retrieval": 1, "linear": 0, "kernel": 0}


@pytest.mark.parametrize("predict", ["hybrid", "retrieval", "regression"])
def test_each_way_predicts_what_the_image_shows(predict: Any, hybrid: AnnData, query: AnnData) -> None:
    bl.tl.impute(query, hybrid, predict=predict)
    assert score(query) > 0.5


@pytest.mark.odd
def test_predict_is_refused_where_a_model_cannot(
    fitted: AnnData, query: AnnData, unchanged: Callable[..., None]
) -> None:
    bl.tl.fit(fitted, method="ridge", key_added="ridge")
    unchanged(fitted, query)
    with pytest.raises(
        ValueError, match=r"`predict='hybrid'`: this model predicts by 'retrieval'\..*bleep_sc\.tl\.fit"
    ):
        bl.tl.impute(query, fitted, predict="hybrid")
    with pytest.raises(ValueError, match=r"`predict='retrieval'`: this model predicts by 'regression'"):
        bl.tl.impute(query, fitted, key="ridge", key_added="ridge", predict="retrieval")
    with pytest.raises(ValueError, match=r"`predict` must be one of 'hybrid', 'retrieval', 'regression'.*'both'"):
        bl.tl.impute(query, fitted, predict="both")  # type: ignore[arg-type]


def test_the_chosen_k_is_taken_unless_there_are_fewer(hybrid: AnnData, query: AnnData) -> None:
    bl.tl.impute(query, hybrid)
    assert query.obsm["bleep_neighbors"].shape == (40, config(hybrid)["chosen"]["k"])
    bl.tl.impute(query, hybrid[::9])
    assert query.obsm["bleep_neighbors"].shape == (40, 10)
    bl.tl.impute(query, hybrid[:1])
    np.testing.assert_allclose(query.layers["bleep"], np.tile(hybrid.X[:1].toarray(), (40, 1)), atol=1e-5)
    with pytest.raises(ValueError, match=r"k=12.*largest possible `k` is 11"):
        bl.tl.impute(query, hybrid[::9], k=12)


@pytest.mark.parametrize("kind", ["dense", "csc", "float64", "float16"])
def test_any_matrix_of_the_reference(hybrid: AnnData, query: AnnData, kind: str) -> None:
    bl.tl.impute(query, hybrid)
    expected = query.layers["bleep"].copy()
    hybrid.X = {
        "dense": lambda x: x.toarray(),
        "csc": sparse.csc_matrix,
        "float64": lambda x: x.astype(np.float64),
        "float16": lambda x: x.toarray().astype(np.float16),
    }[kind](hybrid.X)
    bl.tl.impute(query, hybrid)
    np.testing.assert_allclose(query.layers["bleep"], expected, atol=2e-2 if kind == "float16" else 1e-4)


def test_never_below_zero_where_the_reference_has_nothing_there(hybrid: AnnData, query: AnnData) -> None:
    x = hybrid.X.toarray()
    hybrid.layers["rare"] = sparse.csr_matrix(np.where(x > np.quantile(x, 0.9, axis=0), x, 0))
    bl.tl.impute(query, hybrid, layer="rare")
    assert query.layers["bleep"].min() == 0, "the test shows nothing if nothing would fall below"
    hybrid.layers["scaled"] = x - x.mean(axis=0)
    bl.tl.impute(query, hybrid, layer="scaled")
    assert query.layers["bleep"].min() < -0.1
    assert query.uns["bleep"]["units"] == "scaled or corrected expression, as given"


def test_mixed_precision_does_not_round_what_is_regressed(hybrid: AnnData, query: AnnData) -> None:
    reweigh(hybrid, 0, 0.5, 0.5)
    bl.tl.impute(query, hybrid)
    expected = query.layers["bleep"].copy()
    bl.tl.impute(query, hybrid, precision="bf16-mixed")
    np.testing.assert_allclose(query.layers["bleep"], expected, atol=1e-6)


def test_match_image_compares_images(hybrid: AnnData, query: AnnData) -> None:
    bl.tl.impute(query, hybrid, k=5, match="image")
    best = np.argsort(-query.obsm["X_bleep_image"] @ hybrid.obsm["X_bleep_image"].T, axis=1)[:, :5]
    np.testing.assert_array_equal(np.sort(query.obsm["bleep_neighbors"], axis=1), np.sort(best, axis=1))


# what it reads of the query


def test_expression_of_the_query_is_never_read(hybrid: AnnData, query: AnnData) -> None:
    bl.tl.impute(query, hybrid)
    noise = query.copy()
    rng = np.random.default_rng(0)
    noise.X = rng.poisson(3, size=noise.shape).astype(np.float32)
    noise.layers["counts"] = rng.poisson(3, size=noise.shape)
    noise.obsm["X_bleep_expression"], noise.obsm["X_bleep_components"] = rng.normal(size=(2, 40, 3))
    bl.tl.impute(noise, hybrid)
    np.testing.assert_array_equal(noise.layers["bleep"], query.layers["bleep"])


@pytest.mark.filterwarnings("ignore:.*look unlike the reference:UserWarning")
def test_several_sections_at_once_are_as_one_by_one(hybrid: AnnData) -> None:
    both = make_sections(35, sections=("qa", "qb"), seed=1)
    both.obs_names = [f"query{i}" for i in range(70)]
    both.obsm["crops"][35:] = both.obsm["crops"][35:] // 2 + 40  # another stain
    both = both[np.random.default_rng(0).permutation(70)].copy()
    bl.tl.impute(both, hybrid)
    for section in ("qa", "qb"):
        one = both[both.obs["section"] == section].copy()
        del one.layers["bleep"]
        bl.tl.impute(one, hybrid)
        np.testing.assert_allclose(one.layers["bleep"], both[one.obs_names].layers["bleep"], atol=1e-4)
        assert score(one) > 0.5
    # lumped together, the stain would tell
    del both.obs["section"]
    lumped = both.copy()
    bl.tl.impute(lumped, hybrid)
    assert np.abs(lumped.layers["bleep"] - both.layers["bleep"]).mean() > 0.01


def test_the_order_of_the_querys_spots_does_not_matter(hybrid: AnnData, query: AnnData) -> None:
    bl.tl.impute(query, hybrid)
    order = np.random.default_rng(0).permutation(query.n_obs)
    shuffled = query[order].copy()
    bl.tl.impute(shuffled, hybrid)
    np.testing.assert_allclose(shuffled.layers["bleep"], query.layers["bleep"][order], atol=1e-4)


def test_a_small_query_is_warned_of_once(hybrid: AnnData, query: AnnData) -> None:
    few = query[:12].copy()
    with pytest.warns(UserWarning, match=r"'q' \(12 spots\) have fewer than 30.*the reference's are used") as caught:
        bl.tl.impute(few, hybrid)
    assert len([w for w in caught if "fewer than 30" in str(w.message)]) == 1
    assert np.isfinite(few.layers["bleep"]).all()
    with pytest.warns(UserWarning, match=r"'q' \(1 spots\)"):
        bl.tl.impute(query[:1].copy(), hybrid, copy=True)


def test_a_blank_slide_gets_all_genes(hybrid: AnnData, query: AnnData) -> None:
    slide = bl.pp.blank(hybrid, spatial=query.obsm["spatial"], library_id="q", spot_diameter=10.0)
    slide.obsm["crops"], slide.uns["crops"] = query.obsm["crops"], query.uns["crops"]
    bl.tl.impute(slide, hybrid)
    bl.tl.impute(query, hybrid)
    np.testing.assert_array_equal(slide.layers["bleep"], query.layers["bleep"])
    assert slide.X is None


@pytest.mark.odd
@pytest.mark.parametrize("function", ["fit", "impute", "embed"])
def test_places_are_asked_for_before_any_work(
    function: str, hybrid: AnnData, query: AnnData, unchanged: Callable[..., None]
) -> None:
    query.obsm["crops"] = never_read(query.obsm["crops"])
    del query.obsm["spatial"]
    unchanged(query, hybrid)
    calls = {
        "fit": lambda: bl.tl.fit(query),
        "impute": lambda: bl.tl.impute(query, hybrid),
        "embed": lambda: bl.tl.embed(query, hybrid),
    }
    name = "query" if function == "impute" else "adata"
    with pytest.raises(KeyError, match=rf"{name}\.obsm\['spatial'\].*8 spots around each.*`context=0`"):
        calls[function]()


def test_without_context_no_places_are_needed(ref: AnnData, query: AnnData) -> None:
    del ref.obsm["spatial"], query.obsm["spatial"]
    bl.tl.fit(ref, context=0, **QUICK)
    spec = config(ref)["model"]
    assert spec["n_features"] == spec["n_image_features"]
    bl.tl.impute(query, ref)
    assert score(query) > 0.5


def test_ready_made_features(made: tuple[AnnData, AnnData]) -> None:
    ref, query = made
    assert config(ref)["image"]["kind"] == "features"
    assert set(config(ref)["centers"]) == {"s1", "s2"}, "sections are those that the crops were cut from"
    bl.tl.impute(query, ref)
    assert score(query) > 0.4
    query.obsm["X_uni"] = query.obsm["X_uni"][:, :5]
    with pytest.raises(ValueError, match=r"trained on 9 image features.*found 5"):
        bl.tl.impute(query, ref)


def test_a_custom_encoder_is_asked_for_again(ref: AnnData, query: AnnData) -> None:
    encoder = torch.nn.Sequential(torch.nn.AvgPool2d(8), torch.nn.Flatten())
    bl.tl.fit(ref, encoder=encoder, **QUICK)
    assert config(ref)["model"]["kind"] == "hybrid"
    assert config(ref)["image"]["kind"] == "custom"
    with pytest.raises(ValueError, match=r"pass the same one as `encoder=`"):
        bl.tl.impute(query, ref)
    bl.tl.impute(query, ref, encoder=encoder)
    assert score(query) > 0.4


def test_a_representation_is_learned_from_and_all_genes_are_imputed(ref: AnnData, query: AnnData) -> None:
    corrected = ref.X.toarray()
    ref.obsm["X_harmony"] = (corrected - corrected.mean(axis=0))[:, :12]
    ref.uns["harmony"] = {"genes": np.array([f"g{i}" for i in range(12)], dtype=object)}
    bl.tl.fit(ref, use_rep="X_harmony", key_added="hm", **QUICK)
    assert list(ref.uns["hm"]["genes"]) == [f"g{i}" for i in range(12)]
    assert ref.obsm["X_hm_components"].shape == (96, 11)
    bl.tl.impute(query, ref, key="hm")
    assert query.layers["hm"].shape == query.shape
    assert score(query, "hm") > 0.4
    # without the representation nothing can be checked, and nothing needs to be
    bl.tl.impute(query, ref[::2], key="hm")


# the reference: parts of it, more of it, and on other machines


@pytest.mark.parametrize("predict", ["hybrid", "retrieval"])
def test_a_part_of_the_reference_works_and_warns_of_nothing(predict: Any, hybrid: AnnData, query: AnnData) -> None:
    """Warnings are errors: a part of a section is not taken for the embedding of another model."""
    del hybrid.obsm["crops"], hybrid.obsm["spatial"]
    mask = hybrid.obsm["X_bleep_components"][:, 0] > 0
    bl.tl.impute(query, hybrid[mask], k=5, predict=predict)
    assert query.obsm["bleep_neighbors"].max() < mask.sum()
    assert query.uns["bleep"]["reference_names"].tolist() == hybrid.obs_names[mask].tolist()


def test_embed_gives_what_fit_gave(hybrid: AnnData) -> None:
    before = {name: hybrid.obsm.pop(f"X_bleep_{name}") for name in ("image", "expression", "components")}
    bl.tl.embed(hybrid)
    for name, values in before.items():
        np.testing.assert_allclose(hybrid.obsm[f"X_bleep_{name}"], values, atol=1e-5)
        assert hybrid.obsm[f"X_bleep_{name}"].dtype == np.float32


def test_a_new_section_joins_the_reference(hybrid: AnnData, query: AnnData) -> None:
    query.X = sparse.csr_matrix(query.X.toarray() + 3)  # another level, as of another batch
    both = ad.concat([hybrid, query], uns_merge="first", join="inner")
    with pytest.raises(KeyError, match=r"X_bleep_expression.*bleep_sc\.tl\.embed"):
        bl.tl.impute(query, both, k=5)
    bl.tl.embed(both)
    for name in ("image", "expression", "components"):
        np.testing.assert_allclose(
            both.obsm[f"X_bleep_{name}"][:96], hybrid.obsm[f"X_bleep_{name}"], atol=1e-4, err_msg=name
        )
    np.testing.assert_allclose(both.obsm["X_bleep_components"][96:].mean(axis=0), 0, atol=1e-4)
    fresh = make_sections(40, sections=("fresh",), seed=2)
    fresh.obs_names = [f"fresh{i}" for i in range(40)]
    bl.tl.impute(fresh, both)
    assert fresh.obsm["bleep_neighbors"].max() >= 96
    assert score(fresh) > 0.5
    bl.tl.impute(fresh, both[50:], k=5)


def test_embed_places_a_query_with_its_expression(
    hybrid: AnnData, query: AnnData, log: pytest.LogCaptureFixture
) -> None:
    query.X = sparse.csr_matrix(query.X.toarray() + 3)
    query.obs["section"] = "s1"  # the name of a section of the reference, whose level must not be taken for its own
    bl.tl.embed(query, hybrid)
    loadings = load(hybrid.uns["bleep"]["model"].tobytes())["loadings"].astype(np.float64)
    depth = config(hybrid)["depth_unit"] * np.log(np.asarray(query.layers["counts"].sum(axis=1)).ravel())
    scores = np.hstack([depth[:, None], (query.X.toarray() - np.outer(depth, loadings[0])) @ loadings[1:].T])
    np.testing.assert_allclose(query.obsm["X_bleep_components"], scores - scores.mean(axis=0), atol=1e-4)
    image, expression = (query.obsm[f"X_bleep_{side}"] for side in ("image", "expression"))
    rank = ((image @ expression.T) > (image * expression).sum(axis=1)[:, None]).sum(axis=1)
    assert np.median(rank) < 40 / 4
    for name in ("expression", "components"):
        del query.obsm[f"X_bleep_{name}"]
    query.X = None
    bl.tl.embed(query, hybrid)
    assert "X_bleep_image" in query.obsm
    assert not {"X_bleep_expression", "X_bleep_components"} & set(query.obsm)
    assert "Only the images were embedded: `adata.X` is empty" in log.text


def test_embed_needs_the_counts_where_depth_is_a_component(
    hybrid: AnnData, query: AnnData, log: pytest.LogCaptureFixture
) -> None:
    del query.layers["counts"]
    bl.tl.embed(query, hybrid)
    assert "X_bleep_image" in query.obsm
    assert "X_bleep_expression" not in query.obsm
    assert "`adata.layers['counts']` does not exist, and the model reads the depth of each spot" in log.text


def test_a_model_folder_serves(hybrid: AnnData, query: AnnData, tmp_path: Path) -> None:
    bl.tl.impute(query, hybrid)
    expected = query.layers["bleep"].copy()
    bl.io.write_model(hybrid, tmp_path)
    fresh = hybrid.copy()
    del fresh.uns["bleep"]
    bl.io.read_model(fresh, tmp_path)
    assert not [name for name in fresh.obsm if name.startswith("X_bleep")]  # they could be another model's
    bl.tl.embed(fresh)
    bl.tl.impute(query, fresh)
    np.testing.assert_allclose(query.layers["bleep"], expected, atol=1e-4)


def test_spots_do_not_retrieve_themselves(hybrid: AnnData, log: pytest.LogCaptureFixture) -> None:
    model = hybrid.uns["bleep"]["model"].copy()
    bl.tl.impute(hybrid, hybrid)
    assert not (hybrid.obsm["bleep_neighbors"] == np.arange(96)[:, None]).any()
    assert hybrid.uns["bleep"]["in_sample"] is True
    assert "In-sample: 96 of 96" in log.text
    assert np.array_equal(hybrid.uns["bleep"]["model"], model)
    section = hybrid[:48].copy()
    del section.uns["bleep"]
    section.obs_names = [f"{name}-1" for name in section.obs_names]
    bl.tl.impute(section, hybrid, k=95)
    assert not (section.obsm["bleep_neighbors"] == np.arange(48)[:, None]).any()
    assert "In-sample: 48 of 48" in log.text


def test_a_part_of_a_section_does_not_retrieve_itself(hybrid: AnnData, log: pytest.LogCaptureFixture) -> None:
    """Its embeddings differ from the whole section's, as its mean and its neighbours do."""
    rows = np.sort(np.random.default_rng(0).choice(48, 34, replace=False))
    part = hybrid[rows].copy()
    del part.uns["bleep"]
    bl.tl.impute(part, hybrid, k=95)
    assert "In-sample: 34 of 34" in log.text
    assert not (part.obsm["bleep_neighbors"] == rows[:, None]).any()


def test_another_slide_at_the_same_places_is_not_in_sample(hybrid: AnnData, query: AnnData) -> None:
    query.obsm["spatial"] = hybrid.obsm["spatial"][:40].copy()
    bl.tl.impute(query, hybrid)
    assert query.uns["bleep"]["in_sample"] is False


def test_embeddings_of_another_model_are_warned_of(hybrid: AnnData, query: AnnData) -> None:
    other = hybrid.copy()
    bl.tl.fit(other, random_state=7, **QUICK)
    hybrid.obsm["X_bleep_expression"][50:] = other.obsm["X_bleep_expression"][50:]
    with pytest.warns(UserWarning, match=r"X_bleep_expression.*another model.*bleep_sc\.tl\.embed"):
        bl.tl.impute(query, hybrid)
    bl.tl.embed(hybrid)
    bl.tl.impute(query, hybrid)


@pytest.mark.odd
def test_components_that_are_not_there_are_named(
    hybrid: AnnData, query: AnnData, unchanged: Callable[..., None]
) -> None:
    components = hybrid.obsm.pop("X_bleep_components")
    unchanged(query)
    with pytest.raises(KeyError, match=r"ref\.obsm\['X_bleep_components'\].*bleep_sc\.tl\.embed"):
        bl.tl.impute(query, hybrid)
    for wrong in (components[:, :5], np.full_like(components, np.nan)):
        hybrid.obsm["X_bleep_components"] = wrong
        with pytest.raises(ValueError, match=r"ref\.obsm\['X_bleep_components'\].*\(96, 20\).*bleep_sc\.tl\.embed"):
            bl.tl.impute(query, hybrid)


DAMAGE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "context a word": lambda c: c.update(context="a"),
    "no context": lambda c: c.pop("context"),
    "context of another model": lambda c: c.update(context=0),
    "context below 0": lambda c: c.update(context=-1),
    "no centers": lambda c: c.pop("centers"),
    "centers empty": lambda c: c.update(centers={}),
    "centers a list": lambda c: c.update(centers=[1.0]),
    "centers too short": lambda c: c["centers"].update(s1=[1.0]),
    "centers of words": lambda c: c["centers"].update(s1=["a"] * 20),
    "centers of NaN": lambda c: c["centers"].update(s1=[float("nan")] * 20),
    "no chosen": lambda c: c.pop("chosen"),
    "chosen a list": lambda c: c.update(chosen=[1.0]),
    "k a word": lambda c: c["chosen"].update(k="a"),
    "k below 1": lambda c: c["chosen"].update(k=-3),
    "no weight": lambda c: c["chosen"].pop("weight_linear"),
    "weight NaN": lambda c: c["chosen"].update(weight_linear=float("nan")),
    "weights 0": lambda c: c["chosen"].update(weight_retrieval=0, weight_linear=0, weight_kernel=0),
    "lying n_landmarks": lambda c: c["model"].update(n_landmarks=10**9),
    "lying n_genes": lambda c: c["model"].update(n_genes=29),
    "lying n_image_features": lambda c: c["model"].update(n_image_features=7),
    "millions of members": lambda c: c["model"].update(members=10**7),
    "lying members": lambda c: c["model"].update(members=2),
    "members a word": lambda c: c["model"].update(members="a"),
    "kind of the published": lambda c: c["model"].update(kind="bleep"),
    "kind unknown": lambda c: c["model"].update(kind="magic"),
    "no dim": lambda c: c["model"].pop("dim"),
}


@pytest.mark.odd
@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_config_is_one_clear_error(
    case: str, hybrid: AnnData, query: AnnData, unchanged: Callable[..., None]
) -> None:
    reconfigure(hybrid, DAMAGE[case])
    unchanged(hybrid, query)
    with pytest.raises(ValueError, match=r"`ref\.uns\['bleep'\]`: "):
        bl.tl.impute(query, hybrid)
    with pytest.raises(ValueError, match=r"`adata\.uns\['bleep'\]`: "):
        bl.tl.embed(hybrid)


@pytest.mark.slow
def test_sparse_and_dense_expression_give_the_same_model(tmp_path: Path) -> None:
    """Bit for bit, and each goes on from the checkpoints of the other."""
    sections = make_sections()
    of_each = []
    for form in (sparse.csr_matrix, lambda x: x.toarray()):
        adata = sections.copy()
        adata.X = form(adata.X)
        bl.tl.fit(adata, checkpoint_dir=tmp_path, **QUICK)
        of_each.append(adata)
    one, other = of_each
    assert sparse.issparse(one.X)
    np.testing.assert_array_equal(one.uns["bleep"]["model"], other.uns["bleep"]["model"])
    bl.tl.embed(other)
    for key in ("X_bleep_expression", "X_bleep_components"):
        np.testing.assert_array_equal(one.obsm[key], other.obsm[key])
