"""Models of every format version that was ever released keep loading, and predict what they did."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import bleep_sc as bl
from bleep_sc.io.upgrade import FORMAT_VERSION

STORED = Path(__file__).parent / "stored"
CASES = sorted(path.parent for path in STORED.glob("v*/*/config.json"))


@pytest.fixture(scope="module")
def make() -> ModuleType:
    """The script that wrote them."""
    spec = importlib.util.spec_from_file_location("make_stored", STORED / "make.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_there_are_models_of_each_version(make: ModuleType) -> None:
    assert {path.parent.name for path in CASES} == {f"v{version + 1}" for version in range(FORMAT_VERSION)}
    assert {path.name for path in CASES if path.parent.name == "v1"} == set(make.MODELS)
    assert {path.name for path in CASES if path.parent.name == "v3"} == set(make.MODELS | make.ADDED)
    files = [file for file in STORED.rglob("*") if file.is_file() and file.parent.name != "fused"]
    assert all(file.stat().st_size < 10_000 for file in files)
    assert sum(file.stat().st_size for file in STORED.rglob("fused/*")) < 200_000, "with a network in it"


@pytest.mark.parametrize("folder", CASES, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_earlier_models_predict_what_they_did(folder: Path, make: ModuleType) -> None:
    ref, query = make.load(folder.parent)
    key = folder.name
    bl.io.read_model(ref, folder, key_added=key)
    if key not in ("regressor", "ridge"):
        bl.tl.embed(ref, key=key)
    expected = np.load(folder / "expected.npy")
    np.testing.assert_allclose(make.predict(ref, query, key), expected, atol=1e-5)
    assert expected.std() > 0.1
    assert ("novelty" in ref.uns[key]) == (folder.parent.name > "v1")
    if (folder / "upper.npy").exists():
        np.testing.assert_allclose(make.upper_bounds(ref, query, key), np.load(folder / "upper.npy"), atol=1e-3)


def test_an_earlier_ridge_regression_reads_features_as_they_are(make: ModuleType) -> None:
    """It was fitted before features were standardised by section: to the last bit, as on that day."""
    ref, query = make.load(STORED / "v2")
    bl.io.read_model(ref, STORED / "v2" / "ridge", key_added="ridge")
    assert "by_section" not in json.loads(ref.uns["ridge"]["config"])
    expected = np.load(STORED / "v2" / "ridge" / "expected.npy")
    np.testing.assert_allclose(make.predict(ref, query, "ridge"), expected, atol=1e-6)
    query.obsm["features"] = query.obsm["features"] * 2 + 1
    assert np.abs(make.predict(ref, query, "ridge") - expected).max() > 0.1


def test_what_is_written_now_is_what_was_written_then(make: ModuleType, tmp_path: Path) -> None:
    """A model that is read and written again loses nothing: else the format has changed and needs a new version."""
    now = STORED / f"v{FORMAT_VERSION}"
    ref, _ = make.load(now)
    for key in make.MODELS | make.ADDED:
        bl.io.read_model(ref, now / key, key_added=key)
        bl.io.write_model(ref, tmp_path / key, key=key)
        weights, config = (tmp_path / key / name for name in ("model.safetensors", "config.json"))
        assert weights.read_bytes() == (now / key / weights.name).read_bytes()
        assert json.loads(config.read_text()) == json.loads((now / key / config.name).read_text())
