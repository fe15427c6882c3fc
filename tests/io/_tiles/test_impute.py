"""From another program's features to imputed expression: as with the same features in `obsm`, and never with others."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import patch_files
import pytest
from anndata import AnnData
from conftest import make_sections

import bleep_sc as bl

pytestmark = pytest.mark.filterwarnings("ignore:the model has nearly collapsed:UserWarning")

QUICK: dict[str, Any] = {"max_epochs": 2, "members": 1, "hidden": 8, "n_components": 4, "context": 2}
KEY = "X_uni"


def features_of(adata: AnnData) -> np.ndarray:
    """Means of the quarters of each crop, made outside of bleep_sc."""
    crops = adata.obsm["crops"].astype(np.float32)
    quarters = crops.reshape(len(crops), 2, 8, 2, 8, 3).mean(axis=(2, 4))
    return quarters.reshape(len(crops), 12)


def corners_of(adata: AnnData) -> np.ndarray:
    """Corners of tiles of 400 px around the spots, at whole pixels."""
    return np.rint(adata.obsm["spatial"] * 10).astype(int)


def trident(
    path: Path, adata: AnnData, *, encoder: str = "uni", values: np.ndarray | None = None, **other: Any
) -> Path:
    values = features_of(adata) if values is None else values
    sizes = {"patch_size": 200, "magnification": 40, "target": 20} | other
    return patch_files.trident(path, corners_of(adata), values, encoder=encoder, **sizes)


def wsi_of(adata: AnnData) -> SimpleNamespace:
    """A WSIData whose table of features is in the reverse order of its tiles."""
    corners, rows = corners_of(adata), np.arange(adata.n_obs)
    obs = pd.DataFrame({"tile_id": rows[::-1]}, index=rows[::-1].astype(str))
    return SimpleNamespace(
        name="q.svs",
        shapes={"tiles": pd.DataFrame({"tile_id": rows, "x": corners[:, 0], "y": corners[:, 1]})},
        tables={"uni_tiles": AnnData(features_of(adata)[::-1].copy(), obs=obs)},
        attrs={
            "tile_spec": {"tiles": {"width": 200, "height": 200, "base_downsample": 2.0}},
            "slide_properties": {"mpp": 0.25},
        },
    )


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> AnnData:
    """A measured reference that took its features, and their record, from a patch file."""
    ref = make_sections()
    with bl.settings.override(progress_bar=False, device="cpu", verbosity="error"):
        path = trident(tmp_path_factory.mktemp("ref") / "ref.h5", ref)
        slide = bl.io.from_patches(path, mpp=0.25)
        ref.obsm[KEY], ref.uns[KEY] = slide.obsm[KEY], slide.uns[KEY]
        bl.tl.fit(ref, image_key=KEY, **QUICK)
    return ref


@pytest.fixture
def trained(trained_once: AnnData) -> AnnData:
    return trained_once.copy()


@pytest.fixture
def direct(trained: AnnData, query: AnnData) -> np.ndarray:
    """What the same features in `obsm` give, with no file between."""
    query.obsm[KEY], query.uns[KEY] = features_of(query), trained.uns[KEY]
    query.obsm["spatial"] = corners_of(query) + 200.0
    bl.tl.impute(query, trained)
    return query.layers["bleep"]


def test_a_patch_file_gives_what_the_features_themselves_give(
    trained: AnnData, query: AnnData, direct: np.ndarray, tmp_path: Path
) -> None:
    slide = bl.io.from_patches(trident(tmp_path / "q.h5", query), trained, mpp=0.25)
    bl.tl.impute(slide, trained)
    np.testing.assert_array_equal(slide.layers["bleep"], direct)
    assert list(slide.var_names) == list(trained.var_names)
    assert slide.obs["bleep_reliability"].between(0, 1).all()
    assert np.corrcoef(slide.layers["bleep"].ravel(), query.X.toarray().ravel())[0, 1] > 0.5


def test_a_wsidata_gives_what_the_features_themselves_give(
    trained: AnnData, query: AnnData, direct: np.ndarray
) -> None:
    slide = bl.io.from_wsidata(wsi_of(query), trained, features="uni")
    bl.tl.impute(slide, trained)
    np.testing.assert_array_equal(slide.layers["bleep"], direct)


def test_the_model_keeps_the_record_in_its_files(trained: AnnData, query: AnnData, tmp_path: Path) -> None:
    bl.io.write_model(trained, tmp_path / "model")
    bl.io.read_model(trained, tmp_path / "model", key_added="again")
    bl.tl.embed(trained, key="again")
    slide = bl.io.from_wsidata(wsi_of(query), trained, features="uni")
    bl.tl.impute(slide, trained)
    bl.tl.impute(slide, trained, key="again")
    np.testing.assert_allclose(slide.layers["again"], slide.layers["bleep"], atol=1e-5)
    slide = bl.io.from_wsidata(wsi_of(query), trained, features="uni", encoder="uni2")
    with pytest.raises(ValueError, match="the model reads 'uni'"):
        bl.tl.impute(slide, trained, key="again", image_key="X_uni2")


def test_tiles_of_other_pixels_and_the_same_width_are_read_with_a_warning(
    trained: AnnData, query: AnnData, direct: np.ndarray, tmp_path: Path
) -> None:
    """A slide at 20x: 200 px of level 0 are the same 100 µm."""
    path = trident(tmp_path / "q.h5", query, patch_size=100, magnification=40, target=10)
    slide = bl.io.from_patches(path, trained, mpp=0.25)
    with pytest.warns(UserWarning, match=r"read tiles of 100 px for `query\.obsm\['X_uni'\]`, and of 200 px for the"):
        bl.tl.impute(slide, trained)
    np.testing.assert_array_equal(slide.layers["bleep"], direct)


def test_pixels_that_nobody_knows_are_not_compared(trained: AnnData, query: AnnData, tmp_path: Path) -> None:
    path = patch_files.clam_features(tmp_path / "q.h5", corners_of(query), features_of(query))
    slide = bl.io.from_patches(path, trained, mpp=0.5, patch_size=200, encoder="uni")
    bl.tl.impute(slide, trained)
    assert np.isfinite(slide.layers["bleep"]).all()


def test_a_cross_validation_reads_them_too(trained: AnnData) -> None:
    reads = {"ridge": {"image_key": KEY}}
    scores = bl.tl.cross_validate(
        trained, group_key="section", library_key="section", methods=["ridge"], method_kwargs=reads, n_bootstrap=0
    )
    assert np.isfinite(trained.layers["cv_ridge"]).all()
    assert len(scores)


# what is refused


def test_another_encoder_is_refused(trained: AnnData, query: AnnData, tmp_path: Path) -> None:
    slide = bl.io.from_patches(trident(tmp_path / "q.h5", query, encoder="gigapath"), trained, mpp=0.25)
    message = (
        r"`query\.obsm\['X_uni'\]` does not exist, and .* of 'uni'\. There are those of other encoders: 'X_gigapath'"
    )
    with pytest.raises(KeyError, match=message):
        bl.tl.impute(slide, trained)
    message = (
        r"`query\.obsm\['X_gigapath'\]` was made by 'gigapath', and the model reads 'uni'\. Make the features with the "
        r"program and the encoder .* pass its name as `encoder=`"
    )
    with pytest.raises(ValueError, match=message):
        bl.tl.impute(slide, trained, image_key="X_gigapath")


def test_another_width_of_the_features_is_refused(trained: AnnData, query: AnnData, tmp_path: Path) -> None:
    path = trident(tmp_path / "q.h5", query, values=features_of(query)[:, :8])
    slide = bl.io.from_patches(path, trained, mpp=0.25)
    with pytest.raises(ValueError, match=r"made by 'uni', and the model reads 'uni': features 8, not 12"):
        bl.tl.impute(slide, trained)


def test_another_width_of_tissue_is_refused(trained: AnnData, query: AnnData, tmp_path: Path) -> None:
    """A slide that was scanned at 0.5 µm per pixel and tiled by pixels: 200 µm in place of 100."""
    path = trident(tmp_path / "q.h5", query, magnification=20, target=10)
    slide = bl.io.from_patches(path, trained, mpp=0.5)
    message = r"tiles of reference and query show different widths of tissue: 100 and 200 µm wide\. Make .* 100 µm wide"
    with pytest.raises(ValueError, match=message):
        bl.tl.impute(slide, trained)
    assert "bleep" not in slide.layers


def test_the_same_name_by_bleep_sc_itself_is_refused(trained: AnnData, query: AnnData, tmp_path: Path) -> None:
    """`tl.encode` knows the weights, and another program's are unknown: nobody can say that they are the same."""
    bl.tl.encode(query, encoder="color", key_added=KEY)
    with pytest.raises(ValueError, match=r"was made by 'color', and the model reads 'uni'\. Make the features with"):
        bl.tl.impute(query, trained)
    ref = make_sections()
    bl.tl.encode(ref, encoder="color")
    bl.tl.fit(ref, image_key="X_color", **QUICK)
    path = trident(tmp_path / "q.h5", query, values=np.ones((query.n_obs, 164), dtype=np.float32), encoder="color")
    slide = bl.io.from_patches(path, ref, mpp=0.25)
    message = r"made by 'color', and .* 'color': made by another program, not by `bleep_sc\.tl\.encode`; .* Make the"
    with pytest.raises(ValueError, match=message):
        bl.tl.impute(slide, ref)


def test_features_without_a_record_are_warned_of(trained: AnnData, query: AnnData, direct: np.ndarray) -> None:
    del query.uns[KEY]
    with pytest.warns(UserWarning, match=r"nobody can check .* `bleep_sc\.io\.from_wsidata` or .* records it"):
        bl.tl.impute(query, trained)
    np.testing.assert_array_equal(query.layers["bleep"], direct)


def test_crops_in_their_place_are_refused(trained: AnnData, query: AnnData) -> None:
    query.obsm[KEY] = query.obsm.pop("crops")
    with pytest.raises(
        ValueError, match=r"trained on features: name these by `image_key`, such as 'X_uni' that `bleep"
    ):
        bl.tl.impute(query, trained)


def test_a_slide_without_genes_says_how_to_get_them(trained: AnnData, query: AnnData) -> None:
    slide = bl.io.from_wsidata(wsi_of(query), features="uni")
    with pytest.raises(ValueError, match=r"`query` has no genes, .* pass `ref` to the function that makes the slide"):
        bl.tl.impute(slide, trained)
