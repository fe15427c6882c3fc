"""No tensor is left behind where a model computes on another device than the CPU: without a GPU, see `other_device`."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from anndata import AnnData
from other_device import There, other_device

import bleep_sc as bl
from bleep_sc.models.search.nearest import nearest

pytestmark = pytest.mark.filterwarnings(  # so little training on so few pixels
    "ignore:the model has nearly collapsed:UserWarning", "ignore:.*blown up to the 224 px:UserWarning"
)
NETWORK = {"encoder": "resnet18", "weights": None, "max_epochs": 1}
METHODS: dict[str, dict[str, Any]] = {
    "default": {"max_epochs": 3},
    "ridge": {"method": "ridge"},
    "knn": {"method": "knn"},
    "published": {"preset": "paper", **NETWORK},
    "regressor": {"method": "regressor", **NETWORK},
    "stnet": {"method": "stnet", "weights": None, "max_epochs": 1},
    "histogene": {"method": "histogene", "max_epochs": 1},
    "network, ridge": {"method": "ridge", "encoder": "resnet18", "weights": None},
}
QUICK = ("default", "ridge", "knn")


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with other_device(monkeypatch) as name:
        yield name


@pytest.fixture(scope="module")
def sections_once() -> AnnData:
    adata: AnnData = bl.datasets.toy(n_patients=1, n_sections=2, n_spots=40, n_genes=20, progress_bar=False)
    return adata


@pytest.fixture
def sections(sections_once: AnnData) -> AnnData:
    return sections_once.copy()


def test_the_device_is_none_of_the_cpu(device: str, torch_seeded: None) -> None:
    there, here = torch.arange(3.0).to(device), torch.arange(3.0)
    layer = torch.nn.Linear(3, 2).to(device)
    assert isinstance(layer(there), There)
    with pytest.raises(RuntimeError, match="numpy"):
        there.numpy()
    for mixed in (lambda: there + here, lambda: layer(here), lambda: here @ there):
        with pytest.raises(RuntimeError, match="another device and on the CPU"):
            mixed()
    assert (there + 1).cpu().numpy().tolist() == [1, 2, 3]


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in METHODS])
def test_what_is_fitted_on_another_device_predicts_on_both(name: str, device: str, sections: AnnData) -> None:
    bl.tl.fit(sections, **METHODS[name], device=device)
    there, here = (sections[:30].copy() for _ in range(2))
    for query, at in ((there, device), (here, "cpu")):
        del query.uns["bleep"]
        bl.tl.impute(query, sections, device=at)
    np.testing.assert_allclose(there.layers["bleep"], here.layers["bleep"], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_spots_are_embedded_and_calibrated_on_another_device(device: str, sections: AnnData) -> None:
    bl.tl.fit(sections, max_epochs=3, device=device)
    placed = sections.obsm["X_bleep_image"].copy()
    bl.tl.embed(sections, device=device)
    np.testing.assert_allclose(sections.obsm["X_bleep_image"], placed, rtol=1e-4, atol=1e-5)
    bl.tl.calibrate(sections, device=device)


def test_neighbours_are_searched_on_another_device(device: str) -> None:
    rng = np.random.default_rng(0)
    query, keys = (rng.standard_normal((n, 8), dtype=np.float32) for n in (20, 90))
    own = np.where(np.arange(20) % 2, np.arange(20), -1)
    there = nearest(query, keys, 7, leave_out=own, device=torch.device(device))
    here = nearest(query, keys, 7, leave_out=own)
    assert np.array_equal(there[0], here[0])
    np.testing.assert_allclose(there[1], here[1], atol=1e-6)


@pytest.mark.slow
def test_crops_are_read_by_a_frozen_network_on_another_device(device: str, sections: AnnData) -> None:
    few, same = (sections[:6].copy() for _ in range(2))
    bl.tl.encode(few, encoder="resnet18", weights=None, device=device)
    bl.tl.encode(same, encoder="resnet18", weights=None, device="cpu")
    np.testing.assert_allclose(few.obsm["X_resnet18"], same.obsm["X_resnet18"], rtol=1e-4, atol=1e-5)
