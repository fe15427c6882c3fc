"""What writing and reading a model make of every odd object: the same model, or one error with nothing half done."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from anndata import AnnData
from conftest import snapshot
from odd_inputs import EVERY

import bleep_sc as bl

pytestmark = pytest.mark.odd

NOT_UNIQUE = {
    "no spots": r"`adata` has no spots",
    "genes twice": r"`adata\.var_names` are not unique.*var_names_make_unique",
    "spots twice": r"`adata\.obs_names` are not unique.*obs_names_make_unique",
}
VIEW = {"a view": r"`adata` is a view.*`adata = adata\.copy\(\)`"}
FILES = ("model.safetensors", "config.json")


@pytest.fixture(scope="module")
def folder(fitted_once: AnnData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the sound model; nobody may change it."""
    made = tmp_path_factory.mktemp("io") / "sound"
    bl.io.write_model(fitted_once, made)
    return made


def odd(adata: AnnData, case: str) -> AnnData:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # anndata's, of names that are there twice
        return EVERY[case](adata)


@pytest.mark.parametrize("case", EVERY)
def test_any_object_gives_the_model_that_it_holds(case: str, fitted: AnnData, folder: Path, tmp_path: Path) -> None:
    del fitted.obsm["crops"]
    adata = odd(fitted, case)
    before = snapshot(adata)
    if case in NOT_UNIQUE:
        with pytest.raises(ValueError, match=NOT_UNIQUE[case]):
            bl.io.write_model(adata, tmp_path / "model")
        assert not list(tmp_path.iterdir())
    else:
        bl.io.write_model(adata, tmp_path / "model")
        assert sorted(path.name for path in (tmp_path / "model").iterdir()) == sorted(FILES)
        for name in FILES:
            assert (tmp_path / "model" / name).read_bytes() == (folder / name).read_bytes()
    assert snapshot(adata) == before


@pytest.mark.parametrize("case", EVERY)
def test_any_object_takes_a_model(case: str, ref: AnnData, fitted_once: AnnData, folder: Path) -> None:
    del ref.obsm["crops"]
    adata = odd(ref, case)
    before = snapshot(adata)
    if case in (refused := NOT_UNIQUE | VIEW):
        with pytest.raises(ValueError, match=refused[case]):
            bl.io.read_model(adata, folder)
        assert snapshot(adata) == before
        return
    bl.io.read_model(adata, folder)
    assert np.array_equal(adata.uns["bleep"]["model"], fitted_once.uns["bleep"]["model"])
    assert adata.uns["bleep"]["config"] == fitted_once.uns["bleep"]["config"]
    del adata.uns["bleep"]
    assert snapshot(adata) == before


ARGUMENTS: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
    *[(what, {}, TypeError, r"`adata` must be an AnnData, found \w+") for what in (None, "ref.h5ad", np.zeros((3, 2)))],
    *[
        ("sound", {"path": path}, TypeError, r"`path` must be the path of a folder, found")
        for path in (None, 3, b"a", [])
    ],
    *[("sound", {"path": path}, ValueError, r"`path` must be the path of a folder, found") for path in ("", "a\0b")],
]


@pytest.mark.parametrize(("what", "arguments", "kind", "message"), ARGUMENTS)
def test_bad_arguments(
    what: Any, arguments: dict[str, Any], kind: type[Exception], message: str, fitted: AnnData, tmp_path: Path
) -> None:
    adata = fitted if isinstance(what, str) and what == "sound" else what
    before = snapshot(fitted)
    for work in (bl.io.write_model, bl.io.read_model):
        with pytest.raises(kind, match=message):
            work(adata, **{"path": tmp_path / "model"} | arguments)
    assert snapshot(fitted) == before
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("key", [None, 3, ["bleep"]])
def test_keys_that_are_no_names(key: Any, fitted: AnnData, folder: Path, tmp_path: Path) -> None:
    before = snapshot(fitted)
    with pytest.raises(TypeError, match="`key` must be a name, found"):
        bl.io.write_model(fitted, tmp_path / "model", key=key)
    with pytest.raises(ValueError, match=r"`key_added` must be a name without '/'.*found"):
        bl.io.read_model(fitted, folder, key_added=key)
    assert snapshot(fitted) == before
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("key", ["spatial", "crops"])
def test_a_model_never_takes_the_place_of_something_else(key: str, fitted: AnnData, folder: Path) -> None:
    fitted.uns["spatial"] = {"s1": {"images": {}}}
    before = snapshot(fitted)
    with pytest.raises(ValueError, match=rf"`key_added='{key}'`: under that name something else is kept"):
        bl.io.read_model(fitted, folder, key_added=key)
    assert snapshot(fitted) == before
