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
from conftest import import_path, make_sections

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
    environment |= {"OMP_NUM_THREADS": "1"} | import_path(here.parents[1])
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
