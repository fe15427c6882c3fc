import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
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


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Writing zarr v2 data:UserWarning")  # anndata's own default
def test_a_reference_from_zarr_serves(fitted: AnnData, query: AnnData, tmp_path: Path) -> None:
    """Zarr gives back names as NumPy's variable-width strings."""
    bl.tl.impute(query, fitted, k=5)
    expected = query.layers["bleep"].copy()
    fitted.write_zarr(tmp_path / "ref.zarr")
    back = ad.read_zarr(tmp_path / "ref.zarr")
    bl.tl.impute(query, back, k=5)
    assert np.array_equal(query.layers["bleep"], expected)
    bl.io.write_model(back, tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["genes"] == list(fitted.var_names)
    assert config["panels"]["HVG-50"] == list(fitted.uns["bleep"]["panels"]["HVG-50"])


def test_weights_are_a_plain_safetensors_file(fitted: AnnData, tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    bl.io.write_model(fitted, tmp_path)
    assert load_file(tmp_path / "model.safetensors")["expression_projection.projection.weight"].shape == (256, 30)


def test_writing_twice_replaces_and_leaves_nothing_else(fitted: AnnData, tmp_path: Path) -> None:
    bl.io.write_model(fitted, tmp_path)
    bl.io.write_model(fitted, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.odd
def test_no_model(ref: AnnData, tmp_path: Path) -> None:
    with pytest.raises(KeyError, match=r"uns\['bleep'\].*holds no model"):
        bl.io.write_model(ref, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_embeddings_of_another_model_are_removed(
    fitted: AnnData, query: AnnData, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    """They lie in another space: to retrieve among them would give plausible nonsense."""
    bl.io.write_model(fitted, tmp_path)
    bl.io.read_model(fitted, tmp_path)
    assert "X_bleep_expression" in fitted.obsm, "the same model keeps its embeddings"
    other = fitted.copy()
    weights = other.uns["bleep"]["model"].copy()
    other.uns["bleep"]["model"] = weights[::-1].copy()
    bl.io.read_model(other, tmp_path)
    assert not {"X_bleep_image", "X_bleep_expression"} & set(other.obsm)
    assert "X_bleep_expression" in log.text
    with pytest.raises(KeyError, match=r"bleep_sc\.tl\.embed"):
        bl.tl.impute(query, other, k=5)


@pytest.mark.odd
def test_a_changed_byte_is_noticed(fitted: AnnData, query: AnnData, unchanged: Callable[..., None]) -> None:
    fitted.uns["bleep"]["model"][-5000] ^= 64
    unchanged(fitted, query)
    with pytest.raises(ValueError, match=r"ref\.uns\['bleep'\].*damaged.*checksum"):
        bl.tl.impute(query, fitted, k=5)


@pytest.mark.odd
@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("history", "lost", r"\['history'\]` must be a mapping.*str"),
        ("panels", ["g1"], r"\['panels'\]` must be a mapping.*list"),
        ("panels", {"HEG-50": "g1"}, r"\['panels'\]\['HEG-50'\]` must be a list of gene names"),
        ("genes", None, r"\['genes'\]` must be a list of gene names"),
        ("config", None, r"`: the config is not JSON"),
        ("config", "[]", r"` does not describe a model"),
    ],
)
def test_foreign_entries_are_refused(
    fitted: AnnData, query: AnnData, part: str, value: Any, message: str, unchanged: Callable[..., None]
) -> None:
    fitted.uns["bleep"][part] = value
    unchanged(fitted, query)
    with pytest.raises(ValueError, match=rf"ref\.uns\['bleep'\]{message}"):
        bl.tl.impute(query, fitted, k=5)


@pytest.mark.odd
def test_names_and_places_are_checked(fitted: AnnData, ref: AnnData, tmp_path: Path) -> None:
    bl.io.write_model(fitted, tmp_path / "model")
    with pytest.raises(ValueError, match=r"`key_added`.*'a/b'"):
        bl.io.read_model(ref, tmp_path / "model", key_added="a/b")
    with pytest.raises(ValueError, match=r"view"):
        bl.io.read_model(ref[:20], tmp_path / "model")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match=r"is a file"):
        bl.io.write_model(fitted, tmp_path / "file")


def break_config(folder: Path) -> None:
    (folder / "config.json").write_text("{]")


def swap_weights(folder: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"x": np.ones(3)}, folder / "model.safetensors")


def binary_config(folder: Path) -> None:
    (folder / "config.json").write_bytes(b"\xff\xfe\x00")


def drop_genes(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    del config["genes"]
    (folder / "config.json").write_text(json.dumps(config))


def words_as_losses(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["history"]["train_loss"] = ["low"]
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.odd
@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), FileNotFoundError, r"no 'model.safetensors'"),
        (break_config, ValueError, r"config\.json.*the config is not JSON"),
        (swap_weights, ValueError, r"checksums differ"),
        (binary_config, ValueError, r"config\.json.*the config is not JSON"),
        (drop_genes, ValueError, r"`genes` must be a list"),
        (words_as_losses, ValueError, r"`history\.train_loss` must be a list of numbers"),
    ],
    ids=["file gone", "config broken", "other weights", "binary config", "no genes", "words as losses"],
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
