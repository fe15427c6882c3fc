"""On a GPU: the same values as on the CPU, and nothing is left behind. Each test runs on the CPU too, as a slow one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from anndata import AnnData

import bleep_sc as bl
from bleep_sc.models.search.nearest import nearest

pytestmark = pytest.mark.filterwarnings(  # so little training on so few pixels
    "ignore:the model has nearly collapsed:UserWarning", "ignore:.*blown up to the 224 px:UserWarning"
)
NETWORK = {"preset": "paper", "encoder": "resnet18", "weights": None, "batch_size": 16, "accumulate": 1}
HEADS = {"preset": "paper", "image_key": "X_color", "batch_size": 16, "accumulate": 1}


@pytest.fixture(
    params=[
        pytest.param("cpu", marks=pytest.mark.slow),
        pytest.param(
            "cuda",
            marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")],
        ),
    ]
)
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """By name; after the test its memory is as free, and its random state as it was."""
    name: str = request.param
    if name == "cpu":
        yield name
        return
    torch.cuda.init()
    state, held = torch.cuda.get_rng_state(), torch.cuda.memory_allocated()
    yield name
    assert torch.equal(torch.cuda.get_rng_state(), state)
    assert torch.cuda.memory_allocated() - held < 2**25, "models or spots were left on the GPU"


@pytest.fixture(scope="module")
def tissue() -> AnnData:
    adata: AnnData = bl.datasets.toy(n_patients=2, n_sections=1, n_spots=40, n_genes=30, progress_bar=False)
    bl.tl.encode(adata, encoder="color", device="cpu", progress_bar=False)
    return adata


@pytest.fixture
def ref(tissue: AnnData) -> AnnData:
    return tissue.copy()


def fresh(ref: AnnData, n: int) -> AnnData:
    """The first spots of a reference, without what a model made of them."""
    query = ref[:n].copy()
    del query.uns["bleep"]
    for key in [key for key in query.obsm if key.startswith("X_bleep")]:
        del query.obsm[key]
    return query


def test_nearest_are_the_true_ones(device: str) -> None:
    """Also of more keys than a GPU reads at a time, and where many are equally near."""
    rng = np.random.default_rng(0)
    query, keys = rng.standard_normal((30, 16), dtype=np.float32), rng.standard_normal((70_000, 16), dtype=np.float32)
    own = np.where(np.arange(30) % 2, np.arange(30), -1)
    rows, distances = nearest(query, keys, 50, leave_out=own, device=torch.device(device))
    unit = [values / np.linalg.norm(values, axis=1, keepdims=True) for values in (query, keys)]
    cosines = unit[0].astype(np.float64) @ unit[1].T.astype(np.float64)
    cosines[own >= 0, own[own >= 0]] = -np.inf
    best = -np.sort(-cosines, axis=1)[:, :50]
    np.testing.assert_allclose(1 - distances, best, atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(cosines, rows, axis=1), best, atol=1e-5)
    # of whole numbers products are exact, whatever their order
    query, keys = (rng.permuted(np.tile([1, 1, 0, 0], (n, 1)), axis=1).astype(np.float32) for n in (20, 300))
    rows, _ = nearest(query, keys, 50, device=torch.device(device))
    assert np.array_equal(rows, np.argsort(-(query @ keys.T), axis=1, kind="stable")[:, :50])


@pytest.mark.parametrize("given", [{"image_key": "X_color", "max_epochs": 5}, HEADS | {"max_epochs": 5}])
@pytest.mark.parametrize("precision", ["32", "auto"])
def test_what_is_fitted_there_predicts_on_the_cpu(
    given: dict[str, Any], precision: Any, device: str, ref: AnnData
) -> None:
    bl.tl.fit(ref, **given, device=device, precision=precision)
    there, here = fresh(ref, 32), fresh(ref, 32)
    bl.tl.impute(there, ref, device=device, precision=precision)
    bl.tl.impute(here, ref, device="cpu", precision="32")
    for query in (there, here):  # whatever the number format that the reference was embedded in
        assert query.uns["bleep"]["in_sample"] is True
        assert not (query.obsm["bleep_neighbors"] == np.arange(32)[:, None]).any()
    close = 1e-3 if precision == "32" else 0.3
    assert np.abs(there.layers["bleep"] - here.layers["bleep"]).mean() <= close * here.layers["bleep"].std()


@pytest.mark.parametrize("precision", ["32", "auto"])
def test_a_network_is_trained_there(precision: Any, device: str, ref: AnnData) -> None:
    bl.tl.fit(ref, **NETWORK, max_epochs=2, device=device, precision=precision)
    losses = ref.uns["bleep"]["history"]["train_loss"]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]


def test_training_goes_on_there(device: str, ref: AnnData, tmp_path: Path) -> None:
    """As if it had never stopped: the optimiser's state and the masks of dropout come back to the device."""
    whole = ref.copy()
    given: dict[str, Any] = {**NETWORK, "device": device, "precision": "32", "validation_share": 0}
    bl.tl.fit(whole, **given, max_epochs=3)
    for epochs in (1, 3):
        bl.tl.fit(ref, **given, max_epochs=epochs, checkpoint_dir=tmp_path)
    ours, theirs = (adata.uns["bleep"]["history"]["train_loss"] for adata in (ref, whole))
    # a GPU adds up in whatever order
    np.testing.assert_allclose(ours, theirs, rtol=1e-6 if device == "cpu" else 0.02)


def test_features_are_those_of_the_cpu(device: str, ref: AnnData) -> None:
    few, same, rounded = (ref[:6].copy() for _ in range(3))
    bl.tl.encode(few, encoder="resnet18", weights=None, device=device, precision="32")
    bl.tl.encode(same, encoder="resnet18", weights=None, device="cpu", precision="32")
    bl.tl.encode(rounded, encoder="resnet18", weights=None, device=device, precision="bf16-mixed")
    expected = same.obsm["X_resnet18"]
    for found, most in ((few, 5e-3), (rounded, 5e-2)):  # convolutions of a GPU round to TF32
        assert np.abs(found.obsm["X_resnet18"] - expected).max() <= most * np.abs(expected).max()
