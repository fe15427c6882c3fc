"""What a config of an earlier version becomes."""

import json

import anndata as ad
import numpy as np
import pytest
from anndata import AnnData

import bleep_sc as bl
from bleep_sc.io import upgrade as module
from bleep_sc.io.upgrade import FORMAT_VERSION, upgrade

NOT_ALWAYS_THERE = ("preset", "library_key", "params", "versions")


def test_todays_config_stays_as_it_is(fitted: AnnData) -> None:
    config = json.loads(fitted.uns["bleep"]["config"])
    assert upgrade(config, FORMAT_VERSION) == config


@pytest.mark.parametrize("name", NOT_ALWAYS_THERE)
def test_a_model_without_what_no_config_needs_predicts_the_same(name: str, fitted: AnnData, query: AnnData) -> None:
    bl.tl.impute(query, fitted, k=5)
    before = query.layers["bleep"].copy()
    config = json.loads(fitted.uns["bleep"]["config"])
    del config[name]
    fitted.uns["bleep"]["config"] = json.dumps(config)
    bl.tl.impute(query, fitted, k=5)
    np.testing.assert_array_equal(query.layers["bleep"], before)


def test_what_a_later_release_adds_is_kept(fitted: AnnData, tmp_path: object) -> None:
    config = json.loads(fitted.uns["bleep"]["config"])
    fitted.uns["bleep"]["config"] = json.dumps({**config, "added_later": [1, 2]})
    bl.io.write_model(fitted, f"{tmp_path}/model")
    other = ad.AnnData(np.zeros((2, 2), dtype=np.float32))
    bl.io.read_model(other, f"{tmp_path}/model")
    assert json.loads(other.uns["bleep"]["config"]) == {**config, "added_later": [1, 2]}


def test_each_version_is_taken_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FORMAT_VERSION", 3)  # whatever it is today
    monkeypatch.setattr(
        module,
        "_STEPS",
        {1: lambda found: {**found, "renamed": found.pop("old")}, 2: lambda found: {**found, "new": True}},
    )
    assert upgrade({"old": 7}, 1).items() >= {"renamed": 7, "new": True}.items()
    assert "new" not in upgrade({"renamed": 7}, 3)
