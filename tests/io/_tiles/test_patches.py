"""Patch files of TRIDENT, HEST and CLAM: places in full-resolution pixels, features, and a record that says whose."""

import json
from pathlib import Path
from typing import Any

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import patch_files
import pytest
import scanpy as sc
import squidpy as sq
from anndata import AnnData

import bleep_sc as bl

CORNERS = np.array([[0, 0], [512, 0], [0, 512], [1024, 2048]])
FEATURES = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
BARCODES = ["AAAC-1", "CCGT-1", "GGTA-1", "TTAA-1"]


def config(slide: AnnData, key: str) -> dict[str, Any]:
    return json.loads(slide.uns[key]["config"])


def scalefactors(slide: AnnData) -> dict[str, float]:
    (library,) = slide.uns["spatial"].values()
    return library["scalefactors"]


def test_trident(tmp_path: Path) -> None:
    """256 px at 20x of a slide at 40x are 512 px of level 0, and 128 µm at 0.25 µm per pixel."""
    slide = bl.io.from_patches(patch_files.trident(tmp_path / "a.h5", CORNERS, FEATURES), mpp=0.25)
    np.testing.assert_array_equal(slide.obsm["spatial"], [[256, 256], [768, 256], [256, 768], [1280, 2304]])
    np.testing.assert_array_equal(slide.obsm["X_uni_v1"], FEATURES)
    assert slide.obsm["X_uni_v1"].dtype == np.float32
    assert config(slide, "X_uni_v1") == {
        "encoders": [
            {
                "name": "uni_v1",
                "kind": "features",
                "n_features": 6,
                "feature_set": None,
                "weights": None,
                "reading": None,
            }
        ],
        "scale": {"size": 256, "size_um": 128.0, "spot_diameters": None},
    }
    assert list(slide.uns["spatial"]) == ["TCGA-01"]
    assert list(slide.obs_names) == [f"TCGA-01_{i}" for i in range(4)]
    assert scalefactors(slide) == {
        "microns_per_pixel": 0.25,
        "spot_diameter_fullres": 512,
        "fiducial_diameter_fullres": 512,
    }
    assert slide.X is None
    assert slide.n_vars == 0


def test_hest(tmp_path: Path) -> None:
    """The file has names and a scale of its own."""
    slide = bl.io.from_patches(patch_files.hest(tmp_path / "a.h5", CORNERS, BARCODES))
    np.testing.assert_array_equal(slide.obsm["spatial"], CORNERS + 224)
    assert list(slide.obs_names) == BARCODES
    assert list(slide.uns["spatial"]) == ["MEND1"]
    assert scalefactors(slide)["microns_per_pixel"] == 0.5
    assert set(slide.obsm) == {"spatial"}


def test_the_pictures_of_hest_are_crops(tmp_path: Path) -> None:
    """Pictures of 224 px show 448 px of level 0, of 0.5 µm each."""
    path = patch_files.hest(tmp_path / "a.h5", CORNERS, BARCODES)
    with bl.settings.override(memory=1):  # portions of one picture
        slide = bl.io.from_patches(path, crops=True)
    assert slide.obsm["crops"].shape == (4, 224, 224, 3)
    assert slide.obsm["crops"].dtype == np.uint8
    assert [set(np.unique(crop)) for crop in slide.obsm["crops"]] == [{0}, {1}, {2}, {3}]
    record = slide.uns["crops"]["MEND1"]
    assert (record["size"], record["size_um"], record["um_per_px"]) == (224, 224.0, 1.0)
    assert (record["level_scale"], record["source"]) == (0.5, "a.h5")
    assert np.isnan(record["spot_diameters"])
    slide.write_h5ad(tmp_path / "slide.h5ad")
    bl.tl.encode(ad.read_h5ad(tmp_path / "slide.h5ad"), encoder="color")  # the record is one that it understands


def test_hest_of_the_first_release_holds_centres_y_first(tmp_path: Path) -> None:
    centres = CORNERS + np.array([300, 700])
    slide = bl.io.from_patches(patch_files.first_hest(tmp_path / "a.h5", centres, BARCODES), mpp=0.5)
    np.testing.assert_array_equal(slide.obsm["spatial"], centres)
    assert scalefactors(slide)["spot_diameter_fullres"] == 448


def test_embeddings_of_hest(tmp_path: Path) -> None:
    path = patch_files.embeddings(tmp_path / "MEND2.h5", CORNERS, BARCODES, FEATURES.astype(np.float16))
    slide = bl.io.from_patches(path, encoder="uni", patch_size=448, mpp=0.5)
    np.testing.assert_array_equal(slide.obsm["X_uni"], FEATURES.astype(np.float16).astype(np.float32))
    np.testing.assert_array_equal(slide.obsm["spatial"], CORNERS + 224)
    assert list(slide.obs_names) == BARCODES
    assert list(slide.uns["spatial"]) == ["MEND2"]
    assert config(slide, "X_uni")["scale"] == {"size": None, "size_um": 224.0, "spot_diameters": None}


def test_clam(tmp_path: Path) -> None:
    """256 px of a level that is reduced 4 times are 1024 px of level 0."""
    slide = bl.io.from_patches(patch_files.clam(tmp_path / "a.h5", CORNERS), mpp=0.25)
    np.testing.assert_array_equal(slide.obsm["spatial"], CORNERS + 512)
    path = patch_files.clam_features(tmp_path / "b.h5", CORNERS, FEATURES)
    slide = bl.io.from_patches(path, mpp=0.25, patch_size=1024, encoder="resnet50", library_id="mine")
    np.testing.assert_array_equal(slide.obsm["spatial"], CORNERS + 512)
    assert list(slide.obs_names) == [f"mine_{i}" for i in range(4)]
    assert config(slide, "X_resnet50")["scale"]["size_um"] == 256


def test_features_may_have_an_axis_of_one_slide(tmp_path: Path) -> None:
    path = patch_files.clam_features(tmp_path / "a.h5", CORNERS, FEATURES[None])
    slide = bl.io.from_patches(path, mpp=1, patch_size=512, encoder="a b/c")
    np.testing.assert_array_equal(slide.obsm["X_a_b_c"], FEATURES)
    assert config(slide, "X_a_b_c")["encoders"][0]["name"] == "a b/c"


def test_a_single_patch(tmp_path: Path) -> None:
    """An axis of length 1 comes first in every array, and is the patches' own."""
    slide = bl.io.from_patches(patch_files.hest(tmp_path / "a.h5", CORNERS[1:2], BARCODES[:1]), crops=True)
    assert slide.obsm["crops"].shape == (1, 224, 224, 3)
    slide = bl.io.from_patches(patch_files.trident(tmp_path / "b.h5", CORNERS[1:2], FEATURES[1:2]), mpp=0.25)
    np.testing.assert_array_equal(slide.obsm["X_uni_v1"], FEATURES[1:2])
    np.testing.assert_array_equal(slide.obsm["spatial"], [[768, 256]])


def test_portion_by_portion(tmp_path: Path) -> None:
    """1 MB is 500 rows of 4 portions: more rows than fit into one."""
    rng = np.random.default_rng(1)
    features, corners = rng.normal(size=(900, 256)).astype(np.float32), rng.integers(0, 9999, size=(900, 2))
    with bl.settings.override(memory=1):
        slide = bl.io.from_patches(patch_files.trident(tmp_path / "a.h5", corners, features), mpp=0.25)
    np.testing.assert_array_equal(slide.obsm["X_uni_v1"], features)
    np.testing.assert_array_equal(slide.obsm["spatial"], corners + 256.0)


def test_has_the_references_genes_and_can_be_stored_and_drawn(ref: AnnData, tmp_path: Path) -> None:
    image = sq.im.ImageContainer(np.full((3000, 2000, 3), 220, dtype=np.uint8))
    path = patch_files.trident(tmp_path / "a.h5", CORNERS, FEATURES)
    slide = bl.io.from_patches(path, ref, mpp=0.25, image=image, encoder="uni")
    assert slide.var.equals(ref.var)
    assert scalefactors(slide)["tissue_hires_scalef"] == pytest.approx(1333 / 2000)
    slide.write_h5ad(tmp_path / "slide.h5ad")
    back = ad.read_h5ad(tmp_path / "slide.h5ad")
    assert config(back, "X_uni") == config(slide, "X_uni")
    back.layers["bleep"] = np.ones(back.shape, dtype=np.float32)
    sc.pl.spatial(back, color="g3", layer="bleep", show=False)
    plt.close("all")


def test_crops_can_be_cut_at_the_patches(ref: AnnData, tmp_path: Path) -> None:
    """A tile of 512 px is drawn as a spot, but is no spot: it says nothing of the width of a crop in spots."""
    rng = np.random.default_rng(0)
    image = sq.im.ImageContainer(rng.integers(150, 220, size=(3000, 2000, 3), dtype=np.uint8))
    slide = bl.io.from_patches(patch_files.trident(tmp_path / "a.h5", CORNERS), ref, mpp=0.25)
    bl.pp.crops(slide, image, um=128, size=16, check="off")
    record = slide.uns["crops"]["TCGA-01"]
    assert record["size_um"] == pytest.approx(128)
    assert np.isnan(record["spot_diameters"])


# doubtful: one warning


def test_another_scale_in_the_file_is_named(tmp_path: Path) -> None:
    path = patch_files.hest(tmp_path / "a.h5", CORNERS, BARCODES, pixel_size=0.5)
    with pytest.warns(UserWarning, match=r"0\.25 by the argument `mpp`, 0\.5 by the patch file\. The first is used"):
        slide = bl.io.from_patches(path, mpp=0.25)
    assert scalefactors(slide)["microns_per_pixel"] == 0.25


def test_a_scale_that_does_not_go_with_the_magnification_is_named(tmp_path: Path) -> None:
    """The µm per pixel of the patches, given in place of the slide's."""
    path = patch_files.trident(tmp_path / "a.h5", CORNERS)
    with pytest.warns(UserWarning, match=r"0\.5 µm per pixel do not go with .* level 0 is 40x, about 0\.25 µm"):
        bl.io.from_patches(path, mpp=0.5)


@pytest.mark.parametrize("mpp", [0.16, 0.25, 0.3])
def test_scanners_of_one_magnification_differ(tmp_path: Path, mpp: float) -> None:
    """Warnings are errors here."""
    slide = bl.io.from_patches(patch_files.trident(tmp_path / "a.h5", CORNERS), mpp=mpp)
    assert scalefactors(slide)["microns_per_pixel"] == mpp


def test_another_width_in_the_file_is_named(tmp_path: Path) -> None:
    path = patch_files.trident(tmp_path / "a.h5", CORNERS)
    with pytest.warns(UserWarning, match=r"`patch_size=256`, but 'a\.h5' says that a patch is 512 full-resolution"):
        slide = bl.io.from_patches(path, mpp=0.25, patch_size=256)
    np.testing.assert_array_equal(slide.obsm["spatial"], CORNERS + 128)


def test_another_encoder_in_the_file_is_named(tmp_path: Path) -> None:
    path = patch_files.trident(tmp_path / "a.h5", CORNERS, FEATURES, encoder="conch_v15")
    with pytest.warns(UserWarning, match=r"`encoder='uni'`, but `features` in 'a\.h5' says that 'conch_v15' made it"):
        bl.io.from_patches(path, mpp=0.25, encoder="uni")


def test_tiles_outside_the_image_are_named(tmp_path: Path) -> None:
    image = sq.im.ImageContainer(np.full((1000, 1000, 3), 220, dtype=np.uint8))
    path = patch_files.trident(tmp_path / "a.h5", CORNERS)
    with pytest.warns(UserWarning, match=r"centres of 1 of 4 tiles .* outside `image`, which has 1000 x 1000 pixels"):
        bl.io.from_patches(path, mpp=0.25, image=image)
