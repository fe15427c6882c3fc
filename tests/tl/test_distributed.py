"""Two processes train what one would. Run as a script, this file is what both of them run."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from anndata import AnnData
from conftest import make_sections

import bleep_sc as bl

HEADS: dict[str, Any] = {
    "image_key": "X_features",
    "use_rep": "X_profile",
    "weights": None,
    "dropout": 0.0,
    "max_epochs": 4,
    "device": "cpu",
}
# 77 training and 20 validation spots: batches of 26, 26 and 25, or of 77 and 20, of which no odd one can be halved
FITS: dict[str, dict[str, Any]] = {
    "bleep": {"preset": "paper", "batch_size": 26, "accumulate": 1},
    "accumulated": {"preset": "paper", "batch_size": 26, "accumulate": 2},
    "whole": {"preset": "paper", "batch_size": 77, "accumulate": 1},
    "stopped": {"preset": "paper", "batch_size": 26, "accumulate": 2, "max_epochs": 40, "patience": 1},
    "regressor": {"method": "regressor", "batch_size": 26, "hidden": 8},
}


def spots() -> AnnData:
    adata = make_sections()[:-1].copy()
    pixels = adata.obsm["crops"].reshape(adata.n_obs, -1).astype(np.float32)
    adata.obsm["X_features"] = pixels @ np.random.default_rng(0).normal(size=(pixels.shape[1], 12)).astype(np.float32)
    profile = adata.X.toarray().astype(np.float32)
    # small values: where a GELU has nearly no slope, Adam makes whole steps of rounding
    adata.obsm["X_profile"] = 0.1 * (profile - profile.mean(axis=0))
    return adata


def train(folder: Path | None = None, **processes: Any) -> AnnData:
    """All fits one after another, in one object; in many processes, each writes what it got."""
    adata = spots()
    for name, arguments in FITS.items():
        bl.tl.fit(adata, **(HEADS | arguments), key_added=name, **processes)
    if folder is not None:
        adata.write_h5ad(folder / f"{torch.distributed.get_rank()}.h5ad")
    return adata


def run(command: list[str], folder: Path) -> list[AnnData]:
    import anndata as ad

    here = Path(__file__)
    started = {
        name for name in os.environ if name in ("LOCAL_RANK", "WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT")
    }
    environment = {name: value for name, value in os.environ.items() if name not in started}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(here.parents[1])}
    done = subprocess.run(
        [sys.executable, *command, str(here), str(folder)],
        cwd=folder,
        env=environment,
        timeout=240,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert sorted(path.name for path in folder.iterdir()) == ["0.h5ad", "1.h5ad"], "other files were left behind"
    assert done.stderr.count("Expected training time") == len(FITS), "one process alone should say it"
    return [ad.read_h5ad(folder / f"{rank}.h5ad") for rank in range(2)]


@pytest.fixture(scope="module")
def alone() -> AnnData:
    with bl.settings.override(progress_bar=False, verbosity="error"):
        return train()


def weights(adata: AnnData, name: str) -> dict[str, np.ndarray]:
    from safetensors.numpy import load

    return load(adata.uns[name]["model"].tobytes())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the model has nearly collapsed:UserWarning")
@pytest.mark.parametrize("launcher", ["lightning", "torchrun"])
def test_two_processes_train_what_one_would(launcher: str, alone: AnnData, tmp_path: Path) -> None:
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    both = run(torchrun if launcher == "torchrun" else [], tmp_path)
    assert len(alone.uns["stopped"]["history"]["train_loss"]) < 40, "it did not stop early: the test shows nothing"
    for name in FITS:
        entries = [adata.uns[name] for adata in both]
        assert entries[0]["model"].tobytes() == entries[1]["model"].tobytes(), "the two ended with other weights"
        assert entries[0]["config"] == entries[1]["config"]
        expected, found = alone.uns[name], entries[0]
        for loss in ("train_loss", "validation_loss", "best_epoch"):
            assert np.array_equal(entries[0]["history"][loss], entries[1]["history"][loss])
            np.testing.assert_allclose(found["history"][loss], expected["history"][loss], rtol=1e-5)
        tensors = weights(both[0], name)
        for tensor, values in weights(alone, name).items():
            np.testing.assert_allclose(tensors[tensor], values, atol=1e-5, err_msg=f"{name}: {tensor}")
        assert json.loads(found["config"])["params"] == json.loads(expected["config"])["params"]
        for rank in range(2):
            if f"X_{name}_image" in alone.obsm:
                np.testing.assert_allclose(both[rank].obsm[f"X_{name}_image"], alone.obsm[f"X_{name}_image"], atol=1e-4)


@pytest.mark.parametrize("loss", ["mse", "stnet"])
def test_losses_of_parts_average_to_that_of_the_whole(loss: Any) -> None:
    """In one process: values and gradients of three uneven parts, whose mean is what DDP makes."""
    from bleep_sc.models.nets.arguments import BuiltEncoder
    from bleep_sc.models.nets.regressor import Regressor, RegressorArguments
    from bleep_sc.models.train.batches import Batches

    rng = np.random.default_rng(0)
    features, expression = (rng.normal(size=(11, width)).astype(np.float32) for width in (3, 5))
    arguments = RegressorArguments(
        **{"encoder": None, "image_size": None, "n_image_features": 3, "standardize": False, "n_genes": 5},
        **{"hidden": None, "rank": None, "dropout": 0.0, "loss": loss, "symmetries": False},
    )
    model = Regressor(arguments, BuiltEncoder(torch.nn.Identity(), 3))

    def loss_and_gradient(rank: int, n_processes: int) -> tuple[float, np.ndarray]:
        batches = Batches(features, expression, np.arange(11), batch_size=11, seed=0)
        if n_processes > 1:
            batches.divide(rank, n_processes)
        (batch,) = batches
        assert len(batch) == 11
        model.zero_grad()
        value = model.loss(batch)
        value.backward()
        return value.item(), model.head[-1].weight.grad.numpy().copy()

    whole, gradient = loss_and_gradient(0, 1)
    parts = [loss_and_gradient(rank, 3) for rank in range(3)]
    assert np.mean([value for value, _ in parts]) == pytest.approx(whole, rel=1e-5)
    np.testing.assert_allclose(np.mean([part for _, part in parts], axis=0), gradient, rtol=1e-5)


def test_gathered_rows_get_the_gradient_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    from bleep_sc.models.nets.losses import bleep_loss
    from bleep_sc.models.train.shares import Share

    rng = np.random.default_rng(0)
    image, profile = (torch.from_numpy(rng.normal(size=(5, 4))).requires_grad_() for _ in range(2))
    expected = bleep_loss(image, profile)
    expected.backward()
    pieces: list[torch.Tensor] = []

    def all_gather(parts: list[torch.Tensor], own: torch.Tensor) -> None:
        whole = pieces.pop(0).detach()
        for part, rows in zip(parts, (whole[:3], whole[3:]), strict=True):
            assert own.shape == part.shape == (3, 4)
            part[: len(rows)] = rows

    monkeypatch.setattr(torch.distributed, "all_gather", all_gather)
    for rank, rows in enumerate((slice(0, 3), slice(3, 5))):
        share, own = Share.of(np.arange(5), rank, 2)
        assert share.sizes == (3, 2)
        assert own.tolist() == list(range(5))[rows]
        mine = [whole[rows].detach().requires_grad_() for whole in (image, profile)]
        pieces[:] = [image, profile]
        loss = bleep_loss(share.gather(mine[0]), share.gather(mine[1]))
        assert loss.item() == pytest.approx(expected.item())
        loss.backward()
        for part, whole in zip(mine, (image, profile), strict=True):
            # DDP will halve it
            torch.testing.assert_close(part.grad / 2, whole.grad[rows])


def prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)


def other_world(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "is_torchelastic_launched", lambda: True)
    monkeypatch.setenv("WORLD_SIZE", "4")


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "default recipe": ({"method": "bleep", "preset": "default"}, r"'bleep'.*2 processes.*preset='paper'"),
    "ridge": ({"method": "ridge"}, r"'ridge'.*2 processes.*Leave `devices`"),
    "histogene": ({"method": "histogene", "image_key": "crops"}, r"'histogene'.*2 processes"),
    "batch normalisation": (
        {"image_key": "crops", "encoder": "resnet18"},
        r"'resnet18'.*batch normalisation.*'cpu'.*vit_b_16.*image_key",
    ),
    "ST-Net": ({"method": "stnet", "image_key": "crops"}, r"'densenet121'.*batch normalisation"),
    "devices": ({"devices": 0}, r"`devices`.*at least 1.*0"),
    "nodes": ({"num_nodes": 1.5}, r"`num_nodes`.*integer.*1\.5"),
    "strategy": ({"strategy": "fsdp"}, r"`strategy` must be one of 'auto', 'ddp'.*'fsdp'"),
    "one device on Apple": ({"device": "meta"}, r"`devices=2`.*on 'meta' there is one device"),
    "few spots": ({"devices": 200}, r"batches of 76 training spots.*200 processes"),
    "few validation spots": ({"devices": 4, "validation_share": 0.02}, r"2 validation spots.*validation_share"),
}


@pytest.mark.odd
@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_divided_is_named_before_any_work(case: str, unchanged: Callable[..., None]) -> None:
    arguments, message = BAD[case]
    adata = spots()
    unchanged(adata)
    common = {"image_key": "X_features", "weights": None, "devices": 2, "device": "cpu"}
    if "method" not in arguments:
        common["preset"] = "paper"
    with pytest.raises(ValueError, match=message):
        bl.tl.fit(adata, **(common | arguments))


@pytest.mark.odd
@pytest.mark.parametrize(
    ("start", "message"),
    [(prompt, r"notebook or prompt.*script"), (other_world, r"2 processes train together, but torchrun started 4")],
)
def test_a_start_that_would_hang_is_refused(
    start: Callable[[pytest.MonkeyPatch], None], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(monkeypatch)
    with pytest.raises(ValueError, match=message):
        bl.tl.fit(spots(), **HEADS, preset="paper", devices=2)


if __name__ == "__main__":
    bl.settings.progress_bar = False
    train(Path(sys.argv[1]), devices=2, strategy="ddp")
