"""All methods under one interface: fit, then impute."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from conftest import PUBLISHED
from scipy import sparse

import bleep_sc as bl
from bleep_sc.methods.names import MethodName

pytestmark = [
    pytest.mark.usefixtures("remembered_colours"),
    pytest.mark.filterwarnings("ignore:the model has nearly collapsed:UserWarning"),
]

QUICK: dict[str, dict[str, Any]] = {
    "bleep": {"max_epochs": 5},
    "published": {"method": "bleep", **PUBLISHED, "max_epochs": 30},
    "stnet": {"encoder": "timm:test_resnet", "weights": None, "max_epochs": 2, "optimizer": "adam"},
    "histogene": {"dim": 64, "depth": 1, "max_epochs": 2},
    "regressor": {"encoder": "color", "max_epochs": 30, "batch_size": 32},
    "ridge": {},
    "knn": {},
    "coordinates": {},
    "counts": {},
    "mean": {},
}
ALL = list(QUICK)
RETRIEVAL = ("bleep", "published", "knn")
ON_FEATURES = ("bleep", "published", "regressor", "ridge", "knn")
NETWORKS = ("stnet", "histogene", "regressor")


def fit(adata: AnnData, label: str, **more: Any) -> None:
    """Train quickly; a label is a method, or the published BLEEP."""
    bl.tl.fit(adata, **({"method": label} | QUICK[label] | more))


def method_of(label: str) -> str:
    return QUICK[label].get("method", label)


def config(adata: AnnData, key: str = "bleep") -> dict[str, Any]:
    return json.loads(adata.uns[key]["config"])


def score(query: AnnData, layer: str = "bleep") -> float:
    truth, found = query.X.toarray(), query.layers[layer]
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(np.mean(np.nan_to_num([np.corrcoef(t, f)[0, 1] for t, f in zip(truth.T, found.T, strict=True)])))


def test_all_methods_are_tested() -> None:
    assert {method_of(label) for label in ALL} == set(get_args(MethodName))


@pytest.mark.parametrize("method", ALL)
def test_fit_save_read_impute(method: str, ref: AnnData, query: AnnData, tmp_path: Path) -> None:
    fit(ref, method)
    bl.tl.impute(query, ref, k=10)
    assert query.layers["bleep"].shape == query.shape
    assert query.layers["bleep"].dtype == np.float32
    assert np.isfinite(query.layers["bleep"]).all()
    ref.write_h5ad(tmp_path / "ref.h5ad")
    query.write_h5ad(tmp_path / "query.h5ad")
    again = ad.read_h5ad(tmp_path / "query.h5ad")
    bl.tl.impute(again, ad.read_h5ad(tmp_path / "ref.h5ad"), k=10)
    np.testing.assert_array_equal(again.layers["bleep"], query.layers["bleep"])
    entry = query.uns["bleep"]
    assert entry["params"]["method"] == method_of(method)
    assert entry["units"] == "log1p of counts normalised to 10000 per spot"
    assert set(entry["panels"]) == {"HEG-50", "HVG-50", "HVG-200"}
    assert ("bleep_neighbors" in query.obsm) == (method in RETRIEVAL)
    assert ("reference_names" in entry) == (method in RETRIEVAL)


@pytest.mark.parametrize("method", ON_FEATURES)
def test_methods_that_see_the_image_beat_the_mean(method: str, ref: AnnData, query: AnnData) -> None:
    fit(ref, method)
    bl.tl.impute(query, ref, k=10)
    assert score(query) > 0.4


@pytest.mark.slow
@pytest.mark.parametrize("method", ALL)
def test_the_same_seed_gives_the_same_model(method: str, ref: AnnData) -> None:
    import torch

    before = torch.random.get_rng_state()
    for key in ("a", "b"):
        fit(ref, method, key_added=key)
    assert ref.uns["a"]["model"].tobytes() == ref.uns["b"]["model"].tobytes()
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.slow
@pytest.mark.parametrize("method", ALL)
def test_genes_that_are_not_chosen(method: str, ref: AnnData, query: AnnData, log: pytest.LogCaptureFixture) -> None:
    """Retrieval and floors fill in all genes; a network's regression predicts those it was trained on."""
    ref.var["highly_variable"] = np.arange(ref.n_vars) < 12
    fit(ref, method)
    query.var_names = [*query.var_names[:-1], "unknown"]
    bl.tl.impute(query, ref, k=10)
    there = np.isfinite(query.layers["bleep"]).all(axis=0)
    expected = 12 if method in NETWORKS else ref.n_vars - 1
    assert there.tolist() == [True] * expected + [False] * (query.n_vars - expected)
    assert f"{query.n_vars - expected} of the query's 30 genes are not among" in log.text


@pytest.mark.slow
@pytest.mark.parametrize("method", [m for m in ALL if m not in ("counts",)])
def test_expression_of_the_query_is_not_read(method: str, ref: AnnData, query: AnnData) -> None:
    fit(ref, method)
    bl.tl.impute(query, ref, k=10)
    blind = query.copy()
    blind.X = None
    del blind.layers["counts"], blind.layers["bleep"]
    bl.tl.impute(blind, ref, k=10)
    np.testing.assert_array_equal(blind.layers["bleep"], query.layers["bleep"])


def test_counts_reads_the_querys_total_counts_and_says_so(ref: AnnData, query: AnnData) -> None:
    bl.tl.fit(ref, method="counts")
    bl.tl.impute(query, ref)
    assert query.uns["bleep"]["params"]["uses_query_counts"] is True
    x = np.log(np.asarray(ref.layers["counts"].sum(axis=1)))
    slope, intercept = np.polyfit(x.ravel(), ref.X[:, 3].toarray().ravel(), 1)
    depth = np.log(np.asarray(query.layers["counts"].sum(axis=1))).ravel()
    np.testing.assert_allclose(query.layers["bleep"][:, 3], intercept + slope * depth, atol=1e-4)
    # only the total is read
    rng = np.random.default_rng(0)
    query.layers["counts"] = sparse.csr_matrix(rng.permuted(query.layers["counts"].toarray(), axis=1))
    before = query.layers["bleep"].copy()
    bl.tl.impute(query, ref)
    np.testing.assert_array_equal(query.layers["bleep"], before)


def test_mean_is_the_mean_of_the_reference(ref: AnnData, query: AnnData) -> None:
    bl.tl.fit(ref, method="mean")
    bl.tl.impute(query, ref)
    np.testing.assert_allclose(query.layers["bleep"], np.tile(ref.X.toarray().mean(axis=0), (40, 1)), rtol=1e-5)


@pytest.mark.slow
def test_stnet_begins_at_the_mean_of_its_training_spots(ref: AnnData, query: AnnData) -> None:
    ref.obs["held"] = np.arange(ref.n_obs) % 5 == 0
    network: dict[str, Any] = {"encoder": "resnet18", "weights": None, "max_epochs": 1, "lr": 1e-12}
    bl.tl.fit(ref, method="stnet", **network, validation_key="held")
    assert config(ref)["params"]["optimizer"] == "sgd"
    bl.tl.impute(query, ref)
    mean = ref.X.toarray()[~ref.obs["held"]].mean(axis=0)
    np.testing.assert_allclose(query.layers["bleep"], np.tile(mean, (40, 1)), atol=1e-5)


def test_stnet_predicts_the_same_for_a_turned_crop(ref: AnnData, query: AnnData) -> None:
    bl.tl.fit(ref, method="stnet", **QUICK["stnet"])
    assert config(ref)["params"]["lr"] == 3e-4
    bl.tl.impute(query, ref)
    before = query.layers["bleep"].copy()
    query.obsm["crops"] = np.ascontiguousarray(np.rot90(query.obsm["crops"], axes=(1, 2))[:, :, ::-1])
    bl.tl.impute(query, ref)
    np.testing.assert_allclose(query.layers["bleep"], before, atol=1e-5)


def test_knn_is_retrieval_on_the_features(ref: AnnData, query: AnnData) -> None:
    rng = np.random.default_rng(0)
    for adata in (ref, query):
        adata.obsm["X_made"] = rng.normal(3, 2, size=(adata.n_obs, 4)).astype(np.float32)
    bl.tl.fit(ref, method="knn", image_key="X_made")
    bl.tl.impute(query, ref, k=4)
    mean, sd = ref.obsm["X_made"].mean(axis=0), ref.obsm["X_made"].std(axis=0)
    keys, places = ((a.obsm["X_made"] - mean) / sd for a in (ref, query))
    keys, places = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (keys, places))
    best = np.argsort(-places @ keys.T, axis=1)[:, :4]
    np.testing.assert_array_equal(np.sort(query.obsm["bleep_neighbors"], axis=1), np.sort(best, axis=1))
    np.testing.assert_allclose(query.layers["bleep"], ref.X.toarray()[best].mean(axis=1), rtol=1e-5)
    assert "X_bleep_expression" not in ref.obsm
    bl.tl.embed(query, ref)
    assert query.obsm["X_bleep_image"].shape == (40, 4)
    with pytest.raises(ValueError, match=r"match='expression'.*'knn'"):
        bl.tl.impute(query, ref, match="expression")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ridge", "knn"])
def test_floors_on_a_frozen_network(method: str, ref: AnnData, query: AnnData, tmp_path: Path) -> None:
    """The network travels with the model, its weights as they were given."""
    import torch
    from torchvision.models import resnet18

    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(resnet18(weights=None).state_dict(), tmp_path / "weights.pth")
    bl.tl.fit(ref, method=method, encoder="resnet18", weights=tmp_path / "weights.pth")  # type: ignore[arg-type]
    assert config(ref)["model"]["encoder"] == "resnet18"
    bl.tl.impute(query, ref, k=10)
    turned = query[::-1].copy()
    bl.tl.impute(turned, ref, k=10)
    np.testing.assert_allclose(turned.layers["bleep"], query.layers["bleep"][::-1], atol=1e-4)


def test_coordinates_need_no_image_and_no_common_origin(ref: AnnData, query: AnnData) -> None:
    for adata in (ref, query):
        x, y = adata.obsm["spatial"].T
        pattern = np.stack([x, y, x * y / 1000, (x / 30) ** 2], axis=1) / 300
        adata.X = sparse.csr_matrix(np.repeat(pattern, 8, axis=1)[:, :30])
    del ref.obsm["crops"], query.obsm["crops"], ref.uns["crops"], query.uns["crops"]
    bl.tl.fit(ref, method="coordinates", library_key="section")
    bl.tl.impute(query, ref)
    before = query.layers["bleep"].copy()
    assert score(query) > 0.8
    query.obsm["spatial"] = 3 * query.obsm["spatial"] + [5000, 100]
    bl.tl.impute(query, ref)
    np.testing.assert_allclose(query.layers["bleep"], before, atol=1e-4)


@pytest.mark.parametrize("method", ON_FEATURES)
def test_ready_made_features(method: str, ref: AnnData, query: AnnData) -> None:
    for adata in (ref, query):
        adata.obsm["X_uni"] = adata.obsm.pop("crops").mean(axis=(1, 2))
    fit(ref, method, image_key="X_uni", encoder=None)
    bl.tl.impute(query, ref, k=10)
    assert score(query) > 0.2


@pytest.mark.slow
def test_a_hidden_layer_learns_what_a_line_cannot(ref: AnnData) -> None:
    rng = np.random.default_rng(0)
    ref.obsm["X_made"] = rng.normal(size=(ref.n_obs, 2)).astype(np.float32)
    ref.X = sparse.csr_matrix(np.repeat(np.abs(ref.obsm["X_made"]).sum(axis=1, keepdims=True), 30, axis=1))
    losses = {}
    for hidden in (None, 64):
        bl.tl.fit(ref, method="regressor", image_key="X_made", hidden=hidden, max_epochs=300, lr=1e-2, patience=50)
        losses[hidden] = min(ref.uns["bleep"]["history"]["validation_loss"])
    assert losses[64] < 0.5 * losses[None]


@pytest.mark.parametrize("method", NETWORKS)
def test_regression_on_a_representation_predicts_its_columns(method: str, ref: AnnData, query: AnnData) -> None:
    rng = np.random.default_rng(0)
    ref.obsm["X_harmony"] = rng.normal(size=(ref.n_obs, 3)).astype(np.float32)
    ref.uns["harmony"] = {"genes": np.array(["g4", "g2", "g9"], dtype=object)}
    fit(ref, method, use_rep="X_harmony")
    assert list(ref.uns["bleep"]["genes"]) == ["g4", "g2", "g9"]
    bl.tl.impute(query, ref)
    assert query.var_names[np.isfinite(query.layers["bleep"]).all(axis=0)].tolist() == ["g2", "g4", "g9"]
    assert "X_harmony" in query.uns["bleep"]["units"]


@pytest.mark.filterwarnings("ignore:.*look unlike the reference:UserWarning")  # of noise, which they are
def test_histogene_on_a_visium_grid(ref: AnnData) -> None:
    """78 × 128 staggered positions: more rows and columns than the published embeddings know."""
    row, column = (m.ravel() for m in np.meshgrid(np.arange(78), np.arange(128), indexing="ij"))
    row, column = row[(row + column) % 2 == 0], column[(row + column) % 2 == 0]
    n = len(row)
    assert n == 78 * 64
    rng = np.random.default_rng(0)
    slide = AnnData(
        obs=pd.DataFrame({"array_row": row, "array_col": column}, index=[f"q{i}" for i in range(n)]),
        var=ref.var.copy(),
        obsm={
            "spatial": np.stack([column, row], axis=1) * 50.0,
            "crops": rng.integers(0, 256, size=(n, 16, 16, 3), dtype=np.uint8),
        },
        uns={"crops": {"library": {"size": 16, "size_um": 100.0, "spot_diameters": 1.0}}},
    )
    bl.tl.fit(ref, method="histogene", **QUICK["histogene"])
    bl.tl.impute(slide, ref)
    assert slide.layers["bleep"].shape == (4992, 30)
    assert np.isfinite(slide.layers["bleep"]).all()
    # spots may come in any order
    order = rng.permutation(n)
    shuffled = slide[order].copy()
    bl.tl.impute(shuffled, ref)
    np.testing.assert_allclose(shuffled.layers["bleep"], slide.layers["bleep"][order], atol=1e-4)


def test_another_method_under_the_same_name_leaves_nothing_stale(ref: AnnData, query: AnnData) -> None:
    fit(ref, "bleep")
    assert "X_bleep_components" in ref.obsm
    bl.tl.impute(query, ref, k=5)
    bl.tl.fit(ref, method="ridge")
    assert not [key for key in ref.obsm if key.startswith("X_bleep")]
    bl.tl.impute(query, ref)
    assert not [key for key in query.obsm if "bleep" in key]
    assert "reference_names" not in query.uns["bleep"]
    with pytest.raises(ValueError, match=r"'ridge'.*no space"):
        bl.tl.embed(ref)


def test_in_sample_is_said_of_regression_too(ref: AnnData, log: pytest.LogCaptureFixture) -> None:
    bl.tl.fit(ref, method="ridge")
    bl.tl.impute(ref, ref, key_added="again")
    assert "In-sample" in log.text
    assert ref.uns["again"]["in_sample"] is True


@pytest.mark.odd
@pytest.mark.parametrize(
    ("method", "arguments", "message"),
    [
        ("ridge", {"temperature": 0.1}, r"'ridge'.*no `temperature`.*`alpha`, `encoder`, `n_components`"),
        ("mean", {"lr": 0.1}, r"'mean'.*no `lr`.*leave it out"),
        ("bleep", {"alpha": 1.0}, r"'bleep'.*no `alpha`.*`members`"),
        ("bleep", {"patience": 3}, r"'bleep'.*no `patience`.*`preset='paper'`"),
        ("bleep", {"preset": "paper", "members": 3}, r"'bleep'.*no `members`.*`patience`"),
        ("bleep", {"preset": "paper", "context": 3}, r"'bleep'.*no `context`.*`patience`"),
        ("bleep", {"preset": "paper", "view": 0.5}, r"'bleep'.*no `view`.*`patience`"),
        ("bleep", {"encoder": "resnet18", "patience": 3}, r"'bleep'.*no `patience`.*`preset='paper'`"),
        ("bleep", {"context": -1}, r"`context`.*at least 0"),
        ("bleep", {"members": 0}, r"`members`.*at least 1"),
        ("bleep", {"temperature": 0.0}, r"`temperature`.*above 0"),
        ("bleep", {"dropout": 1.0}, r"`dropout`.*below 1"),
        ("knn", {"preset": "paper"}, r"preset='paper'` is of 'bleep', 'stnet', 'histogene'; .method='knn'. has none"),
        ("stnet", {"preset": "best"}, r"preset='best'` is of 'bleep'; .method='stnet'. has none. Leave it out"),
        ("stnet", {"encoder": "color"}, r"'stnet'.*name of one.*'color'"),
        ("stnet", {"image_key": "X_uni"}, r"X_uni.*features.*method='stnet'. reads crops.*'ridge'"),
        ("histogene", {"image_key": "X_uni"}, r"method='histogene'. reads crops"),
        ("histogene", {"dim": 100}, r"`dim`.*multiple of 64"),
        ("stnet", {"optimizer": "lion"}, r"`optimizer` must be one of"),
        ("ridge", {"alpha": -1.0}, r"`alpha`.*above 0"),
        ("ridge", {"key_added": "counts"}, r"`key_added='counts'`.*something else"),
        ("ridge", {"validation_share": 1.0}, r"`validation_share`.*below 1"),
        ("nearest", {}, r"`method` must be one of 'bleep'"),
    ],
)
def test_what_a_method_cannot_take_is_refused(
    method: Any, arguments: dict[str, Any], message: str, ref: AnnData, unchanged: Callable[..., None]
) -> None:
    ref.obsm["X_uni"] = np.ones((ref.n_obs, 3))
    unchanged(ref)
    with pytest.raises(ValueError, match=message):
        bl.tl.fit(ref, method=method, **arguments)


@pytest.mark.odd
def test_counts_without_counts(ref: AnnData, query: AnnData) -> None:
    bl.tl.fit(ref, method="counts")
    del query.layers["counts"]
    with pytest.raises(KeyError, match=r"query\.layers\['counts'\].*yardstick"):
        bl.tl.impute(query, ref)
    del ref.layers["counts"]
    with pytest.raises(KeyError, match=r"adata\.layers\['counts'\]"):
        bl.tl.fit(ref, method="counts")


def test_no_more_components_than_genes_can_have(ref: AnnData, query: AnnData, log: pytest.LogCaptureFixture) -> None:
    ref.var["highly_variable"] = np.arange(ref.n_vars) < 4
    bl.tl.fit(ref, method="ridge")
    assert "Only 3 principal components are used" in log.text
    bl.tl.impute(query, ref)
    assert np.isfinite(query.layers["bleep"]).all()


@pytest.mark.odd
def test_results_never_replace_counts(ref: AnnData, query: AnnData, unchanged: Callable[..., None]) -> None:
    bl.tl.fit(ref, method="mean", key_added="m")
    unchanged(query)
    with pytest.raises(ValueError, match=r"`key_added='counts'`"):
        bl.tl.impute(query, ref, key="m", key_added="counts")


@pytest.mark.parametrize("method", ["published", "stnet", "histogene", "regressor"])
def test_without_validation_all_spots_are_trained_on_to_the_last_epoch(
    method: str, ref: AnnData, log: pytest.LogCaptureFixture
) -> None:
    fit(ref, method, max_epochs=3, validation_share=0.0)
    history = ref.uns["bleep"]["history"]
    assert len(history["train_loss"]) == 3
    assert len(history["validation_loss"]) == 0
    assert history["best_epoch"].tolist() == [2]
    assert "Training on 96 spots" in log.text
    assert "Last epoch 3 of 3" in log.text


@pytest.mark.parametrize("method", ["ridge", "regressor", "stnet", "counts"])
def test_mixed_precision_does_not_round_what_is_put_out(method: str, ref: AnnData, query: AnnData) -> None:
    fit(ref, method, **({"max_epochs": 1} if "max_epochs" in QUICK[method] else {}))
    bl.tl.impute(query, ref, precision="bf16-mixed")
    values = query.layers["bleep"]
    rounded = values.astype(np.float32).view(np.uint32) & 0xFFFF
    assert (rounded != 0).mean() > 0.9, "float32 values fill the bits that bfloat16 lacks"


def test_sections_are_those_that_the_model_was_trained_with(ref: AnnData, query: AnnData) -> None:
    """One image may hold two sections: places are taken within each of them, not within the image."""
    for adata in (ref, query):
        adata.obs["piece"] = np.where(np.arange(adata.n_obs) % 2, "left", "right")
        adata.obsm["spatial"][1::2] += 5000
        x, y = (adata.obsm["spatial"] % 5000).T
        adata.X = sparse.csr_matrix(np.repeat(np.stack([x, y], axis=1) / 300, 15, axis=1))
    bl.tl.fit(ref, method="coordinates", library_key="piece", n_components=0)
    bl.tl.impute(query, ref)
    assert score(query) > 0.8
