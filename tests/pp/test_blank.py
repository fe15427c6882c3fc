from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pytest
import scanpy as sc
import squidpy as sq
import tifffile
from anndata import AnnData
from PIL import Image

import bleep_sc as bl


@pytest.fixture
def xy() -> np.ndarray:
    return np.random.default_rng(0).uniform(100, 2900, size=(12, 2))


@pytest.fixture
def image() -> Any:
    pixels = np.full((3000, 3200, 3), 230, dtype=np.uint8)
    pixels[1000:1100, 2000:2100] = (90, 0, 0)
    return sq.im.ImageContainer(pixels)


def test_has_genes_places_and_no_matrix(ref: AnnData, xy: np.ndarray, image: Any, tmp_path: Path) -> None:
    ref.var["gene_ids"] = [f"ENSG{i}" for i in range(ref.n_vars)]
    slide = bl.pp.blank(ref, spatial=xy, library_id="new", image=image, spot_diameter=90)
    assert slide.X is None
    assert slide.var.equals(ref.var)
    assert np.array_equal(slide.obsm["spatial"], xy)
    assert slide.obs_names[3] == "new_3"
    library = slide.uns["spatial"]["new"]
    assert max(library["images"]["hires"].shape) == 2000
    assert max(library["images"]["lowres"].shape) == 600
    assert library["scalefactors"]["tissue_hires_scalef"] == pytest.approx(2000 / 3200)
    slide.write_h5ad(tmp_path / "slide.h5ad")
    assert ad.read_h5ad(tmp_path / "slide.h5ad").uns["spatial"]["new"]["scalefactors"]["spot_diameter_fullres"] == 90


@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_places_fall_on_their_pixels(ref: AnnData, scale: float) -> None:
    pixels = np.full((750, 800, 3), 230, dtype=np.uint8)
    pixels[240:260, 490:510] = (90, 0, 0)
    image = sq.im.ImageContainer(pixels, scale=scale)
    slide = bl.pp.blank(ref, spatial=np.array([[500, 250.0]]) / scale, library_id="new", image=image, spot_diameter=9)
    library = slide.uns["spatial"]["new"]
    for name in ("hires", "lowres"):
        x, y = np.rint(slide.obsm["spatial"][0] * library["scalefactors"][f"tissue_{name}_scalef"]).astype(int)
        assert library["images"][name][y, x, 1] < 20


def test_can_be_cut_imputed_and_drawn(fitted: AnnData, xy: np.ndarray, image: Any) -> None:
    slide = bl.pp.blank(fitted, spatial=xy, library_id="new", image=image, spot_diameter=90)
    bl.pp.crops(slide, image, size=16, mpp=100 / 16)
    with pytest.warns(UserWarning, match="look unlike the reference"):  # it is no such tissue
        bl.tl.impute(slide, fitted, k=5)
    sc.pl.spatial(slide, color="g3", layer="bleep", show=False)
    assert len(plt.gca().collections[0].get_array()) == 12
    sq.pl.spatial_scatter(slide, color="g3", layer="bleep")
    plt.close("all")
    with pytest.raises(ValueError, match=r"never sequenced"):
        bl.tl.evaluate(slide)


@pytest.mark.slow
@pytest.mark.parametrize("made_by", ["blank", "grid"])
def test_crops_are_cut_from_the_file_itself(ref: AnnData, tmp_path: Path, made_by: str) -> None:
    """And not from the small picture in `uns`."""
    pixels = np.full((3000, 3200, 3), 240, dtype=np.uint8)
    pixels[800:1400, 800:1800] = (180, 90, 160)
    pixels[1000:1016, 1000:1016] = (90, 0, 0)  # lost in a picture of 2,000 pixels
    Image.fromarray(pixels).save(tmp_path / "slide.png")
    xy = np.array([[1008.0, 1008.0]])
    if made_by == "blank":
        slide = bl.pp.blank(ref, spatial=xy, library_id="new", image=tmp_path / "slide.png", spot_diameter=90)
    else:
        slide = bl.pp.grid(str(tmp_path / "slide.png"), ref, um=100, mpp=0.5)[:1].copy()
        slide.obsm["spatial"] = xy
    bl.pp.crops(slide, size=16, mpp=0.5, check="off")
    assert (slide.obsm["crops"][0] == (90, 0, 0)).all()


@pytest.mark.slow
def test_one_of_several_images_is_not_recorded(ref: AnnData, xy: np.ndarray, tmp_path: Path) -> None:
    """The path alone would lead to another of them."""
    pixels = np.full((3000, 3200, 3), 230, dtype=np.uint8)
    tifffile.imwrite(tmp_path / "slide.tif", pixels, photometric="rgb")
    at = {"spatial": xy, "library_id": "new", "spot_diameter": 90}
    slides = [bl.pp.blank(ref, **at, image=tmp_path / "slide.tif", series=series) for series in (None, 0)]
    recorded = [slide.uns["spatial"]["new"]["metadata"].get("source_image_path") for slide in slides]
    assert recorded == [str((tmp_path / "slide.tif").resolve()), None]


def test_spot_diameter_comes_from_the_reference(ref: AnnData, xy: np.ndarray, log: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ValueError, match=r"`spot_diameter` is needed"):
        bl.pp.blank(ref, spatial=xy, library_id="new")
    ref.uns["spatial"] = {s: {"scalefactors": {"spot_diameter_fullres": d}} for s, d in (("a", 70.0), ("b", 80.0))}
    slide = bl.pp.blank(ref, spatial=xy, library_id="new")
    assert slide.uns["spatial"]["new"]["scalefactors"]["spot_diameter_fullres"] == 75
    assert "taken from the reference" in log.text


@pytest.mark.odd
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spatial": np.ones((3, 3))}, r"\(3, 3\)"),
        ({"spatial": np.ones(4)}, r"\(n_obs, 2\)"),
        ({"spatial": np.empty((0, 2))}, r"at least one spot.*\(0, 2\)"),
        ({"spatial": [["left", "right"]]}, r"`spatial` must hold numbers"),
        (
            {"spatial": np.array([[1, 2], [3, np.nan], [5, 6]])},
            r"`spatial` is NaN or infinite for 1 of 3 spots, the first in row 1.*`spatial\[np\.isfinite",
        ),
        ({"library_id": 6}, r"`library_id`.*found 6"),
        ({"library_id": "a/b"}, r"`library_id`.*without '/'"),
        ({"obs_names": ["a"]}, r"`obs_names` has 1 names for 12"),
        ({"obs_names": ["a"] * 12}, r"not unique"),
        ({"spot_diameter": 0}, r"`spot_diameter`.*above 0"),
    ],
)
def test_bad_input(
    ref: AnnData, xy: np.ndarray, arguments: dict[str, Any], message: str, unchanged: Callable[..., None]
) -> None:
    unchanged(ref)
    with pytest.raises(ValueError, match=message):
        bl.pp.blank(ref, **{"spatial": xy, "library_id": "new", "spot_diameter": 9, **arguments})


@pytest.mark.odd
def test_a_cropped_image_is_refused(ref: AnnData, xy: np.ndarray, image: Any) -> None:
    with pytest.raises(ValueError, match=r"crop of a larger"):
        bl.pp.blank(ref, spatial=xy, library_id="n", image=image.crop_corner(10, 10, size=500), spot_diameter=9)
