"""Ridge regression reads image features as their section sees them, on every way from a model to a prediction."""

import json
import warnings
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
from anndata import AnnData
from conftest import make_sections
from sklearn.linear_model import Ridge

import bleep_sc as bl
from bleep_sc.io._trained import load_model
from bleep_sc.models.device import resolve_compute
from bleep_sc.models.scheduled import encode_images

NETWORK: dict[str, Any] = {"method": "ridge", "encoder": "resnet18", "weights": None, "alpha": 10.0}

stain_is_noticed = pytest.mark.filterwarnings("ignore:section 'q2'.* look unlike the reference:UserWarning")


def with_features(adata: AnnData, seed: int = 0) -> AnnData:
    """Add ready-made features: the mean colour, and noise."""
    rng = np.random.default_rng(seed)
    adata.obsm["X_made"] = np.hstack(
        [adata.obsm["crops"].mean(axis=(1, 2)), rng.normal(2, 3, size=(adata.n_obs, 2))]
    ).astype(np.float32)
    return adata


def stained(adata: AnnData, section: str) -> AnnData:
    """A copy with another gain and offset of each feature of one whole section."""
    adata = adata.copy()
    rows = (adata.obs["section"] == section).to_numpy()
    adata.obsm["X_made"][rows] = adata.obsm["X_made"][rows] * [1.5, 0.7, 2, 0.5, 1.2] + [30, -20, 5, 100, 1]
    return adata


def fit(adata: AnnData, **more: Any) -> AnnData:
    bl.tl.fit(adata, **{"method": "ridge", "image_key": "X_made", **more})
    return adata


def imputed(query: AnnData, ref: AnnData, **more: Any) -> np.ndarray:
    query = query.copy()
    bl.tl.impute(query, ref, **more)
    return np.asarray(query.layers["bleep"])


def config(adata: AnnData) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(adata.uns["bleep"]["config"])
    return found


@pytest.fixture
def ref() -> AnnData:
    return with_features(make_sections())


@pytest.fixture
def query() -> AnnData:
    """Two further sections."""
    query = with_features(make_sections(40, sections=("q1", "q2"), seed=1), seed=1)
    query.obs_names = [f"query{name}" for name in query.obs_names]
    return query


@stain_is_noticed
def test_another_stain_of_a_whole_section_changes_no_prediction(ref: AnnData, query: AnnData) -> None:
    expected = imputed(query, fit(ref.copy(), alpha=3.0))
    assert expected.std(axis=0).mean() > 0.1
    np.testing.assert_allclose(imputed(stained(query, "q2"), fit(ref.copy(), alpha=3.0)), expected, atol=1e-4)
    np.testing.assert_allclose(imputed(query, fit(stained(ref, "s2"), alpha=3.0)), expected, atol=1e-4)


def test_the_penalty_is_chosen_on_features_standardised_by_section(ref: AnnData, log: pytest.LogCaptureFixture) -> None:
    for adata in (ref, stained(ref, "s2")):
        fit(adata)
    chosen = [record.getMessage() for record in log.records if "penalty chosen" in record.getMessage()]
    assert len(chosen) == 2
    assert chosen[0] == chosen[1], "with the same score, to three digits"


def test_it_is_scikit_learns_on_features_standardised_by_section(ref: AnnData, query: AnnData) -> None:
    def standardized(adata: AnnData) -> np.ndarray:
        out = adata.obsm["X_made"].astype(np.float64)
        for section in adata.obs["section"].unique():
            rows = (adata.obs["section"] == section).to_numpy()
            out[rows] = (out[rows] - out[rows].mean(axis=0)) / out[rows].std(axis=0)
        return out

    ref = stained(ref, "s1")
    expected = Ridge(alpha=3.0).fit(standardized(ref), ref.X.toarray()).predict(standardized(query))
    found = imputed(query, fit(ref, alpha=3.0, n_components=0))
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_sections_too_small_for_their_own_take_the_references_and_warn_once(ref: AnnData, query: AnnData) -> None:
    ref = stained(ref, "s1")
    fit(ref, alpha=3.0, n_components=0)
    few = query[np.r_[:10, 40:52, 52:80]].copy()
    few.obs["section"] = np.repeat(["q1", "q2", "q3"], [10, 12, 28])
    with pytest.warns(UserWarning, match="standardised within each section") as caught:
        found = imputed(few, ref)
    texts = [str(warning.message) for warning in caught if warning.category is UserWarning]
    assert [text for text in texts if "fewer than 30 spots" in text] == [
        "image features are standardised within each section, but 'q1' (10 spots) and 2 other sections have fewer than "
        "30 spots, too few to tell a section's own mean and spread: the reference's are used, so differences in "
        "staining remain."
    ]
    x = ref.obsm["X_made"].astype(np.float64)
    parts = [x[(ref.obs["section"] == section).to_numpy()] for section in ("s1", "s2")]
    mean, scale = x.mean(axis=0), np.mean([part.std(axis=0) for part in parts], axis=0)
    z = np.vstack([(part - part.mean(axis=0)) / part.std(axis=0) for part in parts])
    model = Ridge(alpha=3.0).fit(z, ref.X.toarray())
    np.testing.assert_allclose(found, model.predict((few.obsm["X_made"] - mean) / scale), atol=1e-3)


def test_a_fit_on_small_sections_warns_once(ref: AnnData) -> None:
    ref.obs["section"] = np.repeat(["s1", "s2", "s3", "s4"], 24)
    with pytest.warns(UserWarning) as caught:
        fit(ref)
    texts = [str(warning.message) for warning in caught if warning.category is UserWarning]
    assert sum("fewer than 30 spots" in text for text in texts) == 1


@pytest.mark.slow
def test_a_frozen_network_is_read_by_section_on_every_way(ref: AnnData, query: AnnData, tmp_path: Path) -> None:
    bl.tl.fit(ref, **NETWORK)
    expected = imputed(query, ref)
    _, trained = load_model(ref, "bleep")
    seen = encode_images(trained.model, query.obsm["crops"], compute=resolve_compute())
    for section in ("q1", "q2"):
        rows = (query.obs["section"] == section).to_numpy()
        spread = seen[rows].std(axis=0)
        assert (spread > 1e-3).any()
        seen[rows] = (seen[rows] - seen[rows].mean(axis=0)) / np.where(spread > 1e-3, spread, 1)
    import torch

    with torch.inference_mode():
        by_hand = trained.model.after_encoder().predict(torch.from_numpy(seen)).numpy()
    np.testing.assert_allclose(expected, by_hand, atol=1e-3)
    lazy = query.copy()
    lazy.obsm["crops"] = da.from_array(query.obsm["crops"], chunks=(17, -1, -1, -1))
    old = ref.copy()
    del old.uns["bleep"]["novelty"]
    bl.io.write_model(old, tmp_path / "model")
    read = AnnData(ref.X.copy(), obs=ref.obs.copy(), var=ref.var.copy())
    bl.io.read_model(read, tmp_path / "model")
    assert "novelty" not in read.uns["bleep"]
    ways = {
        "lazy crops": imputed(lazy, ref),
        "without novelty": imputed(query, old),
        "from a folder without novelty": imputed(query, read),
        "lazy, from a folder": imputed(lazy, read),
        "into a store": imputed(query, ref, store=tmp_path / "a.zarr"),
        "into a store without novelty": imputed(query, old, store=tmp_path / "b.zarr"),
        "lazy, into a store": imputed(lazy, read, store=tmp_path / "c.zarr"),
    }
    for way, found in ways.items():
        np.testing.assert_allclose(found, expected, atol=1e-4, err_msg=way)


@pytest.mark.slow
def test_cross_validation_reads_a_frozen_network_by_section(ref: AnnData) -> None:
    test = (ref.obs["section"] == "s2").to_numpy()
    training, held_out = ref[~test].copy(), ref[test].copy()
    bl.tl.fit(training, **NETWORK)
    expected = imputed(held_out, training)
    bl.tl.cross_validate(
        ref, group_key="section", methods=["ridge"], method_kwargs={"ridge": NETWORK}, counts_layer=None, n_top_genes=30
    )
    found = ref.layers["cv_ridge"]
    found = found.toarray() if hasattr(found, "toarray") else np.asarray(found)
    np.testing.assert_allclose(found[test], expected, atol=1e-4)


def test_its_reliability_sees_the_stain(ref: AnnData, query: AnnData) -> None:
    fit(ref)
    query = stained(query, "q2")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        bl.tl.impute(query, ref)
    table = query.uns["bleep"]["reliability"].set_index("section")
    assert table.loc["q1", "share_unlike"] < 0.3
    assert table.loc["q2", "share_unlike"] > 0.9


@stain_is_noticed
def test_a_model_without_the_record_reads_features_as_they_are(ref: AnnData, query: AnnData) -> None:
    fit(ref, alpha=3.0)
    values = config(ref)
    assert values.pop("by_section") is True
    ref.uns["bleep"]["config"] = json.dumps(values)
    before = imputed(query, ref)
    other = imputed(stained(query, "q2"), ref)
    second = (query.obs["section"] == "q2").to_numpy()
    assert np.array_equal(other[~second], before[~second])
    assert np.abs(other[second] - before[second]).max() > 0.1


@pytest.mark.parametrize("method", ["coordinates", "knn"])
def test_other_floors_are_as_they_were(method: Any, ref: AnnData, query: AnnData) -> None:
    bl.tl.fit(ref, method=method, **({"image_key": "X_made"} if method == "knn" else {}))
    assert "by_section" not in config(ref)


@pytest.mark.odd
def test_a_damaged_record_is_refused(ref: AnnData, query: AnnData) -> None:
    fit(ref)
    good = config(ref)
    ref.uns["bleep"]["config"] = json.dumps({**good, "by_section": "yes"})
    with pytest.raises(ValueError, match="`by_section` of the config must be true or false; found 'yes'"):
        bl.tl.impute(query, ref)
    bl.tl.fit(ref, **NETWORK)
    good = config(ref)
    ref.uns["bleep"]["config"] = json.dumps({**good, "model": {**good["model"], "symmetries": True}})
    with pytest.raises(ValueError, match=r"`by_section` and `model\.symmetries` do not go together, so it is damaged"):
        bl.tl.impute(query, ref)
