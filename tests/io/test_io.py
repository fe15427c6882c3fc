import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from anndata import AnnData

import bleep_sc as bl


def test_round_trip(fitted: AnnData, query: AnnData, tmp_path: Path) -> None:
    bl.io.write_model(fitted, tmp_path / "model")
    assert {path.name for path in (tmp_path / "model").iterdir()} == {"model.safetensors", "config.json"}
    fresh = fitted.copy()
    del fresh.uns["bleep"], fresh.obsm["X_bleep_image"], fresh.obsm["X_bleep_expression"]
    bl.io.read_model(fresh, tmp_path / "model")
    assert fresh.uns["bleep"]["config"] == fitted.uns["bleep"]["config"]
    assert np.array_equal(fresh.uns["bleep"]["model"], fitted.uns["bleep"]["model"])
    for part in ("panels", "history"):
        for name, values in fitted.uns["bleep"][part].items():
            assert np.array_equal(fresh.uns["bleep"][part][name], values)
    bl.tl.embed(fresh)
    bl.tl.impute(query, fresh, k=5)
    expected = query.layers["bleep"].copy()
    bl.tl.impute(query, fitted, k=5)
    np.testing.assert_allclose(query.layers["bleep"], expected, atol=1e-6)


def test_weights_are_a_plain_safetensors_file(fitted: AnnData, tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    bl.io.write_model(fitted, tmp_path)
    assert load_file(tmp_path / "model.safetensors")["expression_projection.projection.weight"].shape == (256, 30)


def test_writing_twice_replaces_and_leaves_nothing_else(fitted: AnnData, tmp_path: Path) -> None:
    bl.io.write_model(fitted, tmp_path)
    bl.io.write_model(fitted, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_no_model(ref: AnnData, tmp_path: Path) -> None:
    with pytest.raises(KeyError, match=r"uns\['bleep'\].*holds no model"):
        bl.io.write_model(ref, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def break_config(folder: Path) -> None:
    (folder / "config.json").write_text("{]")


def swap_weights(folder: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"x": np.ones(3)}, folder / "model.safetensors")


def drop_genes(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    del config["genes"]
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), FileNotFoundError, r"no 'model.safetensors'"),
        (break_config, ValueError, r"config\.json.*not JSON"),
        (swap_weights, ValueError, r"checksums differ"),
        (drop_genes, ValueError, r"`genes` must be a list"),
    ],
    ids=["file gone", "config broken", "other weights", "no genes"],
)
def test_damaged_folders_are_refused(
    fitted: AnnData,
    ref: AnnData,
    tmp_path: Path,
    damage: Callable[[Path], None],
    error: type[Exception],
    message: str,
    unchanged: Callable[..., None],
) -> None:
    bl.io.write_model(fitted, tmp_path)
    damage(tmp_path)
    unchanged(ref)
    with pytest.raises(error, match=message):
        bl.io.read_model(ref, tmp_path)
