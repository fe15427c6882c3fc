"""Files and objects from elsewhere: what `uns` names is read only if it is a file, and R's tables are understood."""

import logging
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from squidpy.im import ImageContainer

import bleep_sc as bl
from bleep_sc._adata import spatial_coordinates

pytestmark = pytest.mark.odd
PIXELS = np.random.default_rng(0).integers(0, 256, size=(60, 80, 3), dtype=np.uint8)


def section(path: Any, *, hires: bool = True) -> AnnData:
    adata = AnnData(np.ones((2, 1), dtype=np.float32), obsm={"spatial": np.array([[20.0, 20.0], [40.0, 30.0]])})
    adata.uns["spatial"] = {
        "lib": {
            "images": {"hires": PIXELS} if hires else {},
            "scalefactors": {"tissue_hires_scalef": 1.0, "spot_diameter_fullres": 9.0, "microns_per_pixel": 1.0},
            "metadata": {"source_image_path": str(path)},
        }
    }
    return adata


def folder(path: Path) -> None:
    path.mkdir()
    (path / "scalefactors_json.json").write_text("{}")


NO_IMAGES: dict[str, Callable[[Path], Any]] = {
    "a text file": lambda path: path.write_text("SECRET\n" * 5),
    "a folder": folder,
    "nothing in it": lambda path: path.write_bytes(b""),
    "the head of a TIFF": lambda path: path.write_bytes(b"II*\0" + bytes(20)),
    "not there": lambda path: None,
}
if sys.platform != "win32":
    NO_IMAGES["a pipe"] = os.mkfifo
    NO_IMAGES["a link to a device"] = lambda path: path.symlink_to("/dev/zero")
    NO_IMAGES["a link to itself"] = lambda path: path.symlink_to(path)


@pytest.mark.parametrize("suffix", ["", ".tif", ".png"])
@pytest.mark.parametrize("kind", NO_IMAGES)
def test_what_is_no_image_gives_way_to_the_hires_image(kind: str, suffix: str, tmp_path: Path) -> None:
    """With a warning that does not print what the file holds; nothing waits for a pipe."""
    path = tmp_path / f"slide{suffix}"
    NO_IMAGES[kind](path)
    adata = section(path)
    with pytest.warns(
        UserWarning, match=r"no full-resolution image of 'lib': the hires image.*slide.*Pass `image=`"
    ) as said:
        bl.pp.crops(adata, size=8)
    assert "SECRET" not in str(said[0].message)
    assert adata.uns["crops"]["lib"]["source"] == "hires image"
    assert np.array_equal(adata.obsm["crops"][0], PIXELS[16:24, 16:24])
    refused = "is a folder; pass the image file" if kind == "a folder" else "could not be read as an image"
    with pytest.raises((ValueError, FileNotFoundError), match=rf"{refused}|no `image` was given"):
        bl.pp.crops(section(path, hires=False), size=8)
    with pytest.raises((ValueError, FileNotFoundError), match=rf"{refused}|there is no file"):
        bl.pp.crops(adata, path, size=8)


def test_the_path_that_uns_names_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    """A bare name is found in the working folder: the log says which file that is."""
    Image.fromarray(PIXELS).save(tmp_path / "slide.png")
    monkeypatch.chdir(tmp_path)
    with log.at_level(logging.INFO, logger="bleep_sc"):
        bl.pp.crops(section("slide.png"), size=8)
    assert f"The image of 'lib' is read from {(tmp_path / 'slide.png').resolve()}" in log.text


def test_scale_factors_that_r_wrote() -> None:
    adata = section("gone")
    factors = adata.uns["spatial"]["lib"]["scalefactors"]
    plain, as_arrays = section("gone"), {name: np.array([value]) for name, value in factors.items()}
    adata.uns["spatial"]["lib"]["scalefactors"] = as_arrays
    for each in (plain, adata):
        with pytest.warns(UserWarning, match="the hires image of `uns` is used"):
            bl.pp.crops(each, um=8, size=8)
    assert np.array_equal(adata.obsm["crops"], plain.obsm["crops"])
    assert adata.uns["crops"]["lib"]["size_um"] == plain.uns["crops"]["lib"]["size_um"]


@pytest.mark.parametrize(
    ("row", "column"),
    [
        ("pxl_row_in_fullres", "pxl_col_in_fullres"),
        ("imagerow", "imagecol"),
        ("y", "x"),
        ("Row", "Col"),
        ("Y_px", "X_px"),
    ],
)
@pytest.mark.parametrize("row_first", [True, False])
def test_tables_of_places_are_read_by_their_names(row: str, column: str, row_first: bool) -> None:  # noqa: FBT001
    adata, xy = section("gone"), np.array([[20.0, 31.0], [40.0, 30.0]])
    table = pd.DataFrame({column: xy[:, 0], row: xy[:, 1]}, index=adata.obs_names)
    adata.obsm["spatial"] = table[[row, column] if row_first else [column, row]]
    assert np.array_equal(spatial_coordinates(adata), xy)


def test_a_table_without_names_is_x_then_y() -> None:
    adata, xy = section("gone"), np.array([[20.0, 31.0], [40.0, 30.0]])
    adata.obsm["spatial"] = pd.DataFrame(xy, columns=["a", "b"], index=adata.obs_names)
    assert np.array_equal(spatial_coordinates(adata), xy)


# good inputs

SHADES = np.random.default_rng(3).integers(90, 200, size=(12, 12, 3), dtype=np.uint8)


@st.composite
def good_sections(draw: st.DrawFn) -> tuple[AnnData, Any, dict[str, Any]]:
    """Tissue of any form on glass; spots on a lattice under it; a picture that belongs to it, or none."""
    width, height = draw(st.integers(120, 400)), draw(st.integers(120, 400))
    seed = draw(st.integers(0, 2**16))
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    centre, radius = (
        rng.uniform(0.35, 0.65, size=2) * (width, height),
        rng.uniform(0.15, 0.45, size=2) * (width, height),
    )
    angle = np.arctan2(y - centre[1], x - centre[0])
    rim = 1 + rng.uniform(0, 0.3) * np.sin(rng.integers(1, 5) * angle + rng.uniform(0, 6))
    tissue = np.hypot((x - centre[0]) / radius[0], (y - centre[1]) / radius[1]) < rim
    shade = np.asarray(Image.fromarray(SHADES).resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    shade = shade - [0, 60, 20]
    pixels = np.clip(np.where(tissue[..., None], shade, 245) + rng.normal(0, 4, (height, width, 3)), 0, 255)
    pixels = pixels.astype(np.uint8)
    pitch = draw(st.sampled_from([7.0, 9.0, 12.0]))
    grid = np.stack(np.meshgrid(np.arange(3, width - 3, pitch), np.arange(3, height - 3, pitch)), -1).reshape(-1, 2)
    all_spots = draw(st.booleans())
    under = tissue[grid[:, 1].astype(int), grid[:, 0].astype(int)]
    xy = grid if all_spots or under.sum() < 4 else grid[under]
    adata = AnnData(np.ones((len(xy), 1), dtype=np.float32), obsm={"spatial": xy})
    mpp = draw(st.sampled_from([0.25, 0.5, 2.0]))
    factor = draw(st.sampled_from([0.2, 0.5, 1.0]))
    size = (max(2, round(width * factor)), max(2, round(height * factor)))
    hires = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))
    hires = hires if draw(st.booleans()) else hires / np.float32(255)
    images = {"hires": hires} if draw(st.booleans()) else {}
    factors = {"tissue_hires_scalef": size[0] / width, "spot_diameter_fullres": pitch * 0.55, "microns_per_pixel": mpp}
    adata.uns["spatial"] = {"lib": {"images": images, "scalefactors": factors}}
    how = {"size": draw(st.sampled_from([8, 24])), "um": draw(st.sampled_from([None, 10 * mpp, 30 * mpp]))}
    return adata, pixels, how | {"lazy": draw(st.booleans())}


def without_a_word(section: tuple[AnnData, Any, dict[str, Any]]) -> None:
    adata, pixels, how = section
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bl.pp.crops(adata, ImageContainer(pixels), check="raise", **how)
    assert all(record["findings"].empty for record in adata.uns["crops"].values())


@settings(max_examples=60, deadline=None, derandomize=True)
@given(good_sections())
def test_good_sections_are_cut_without_a_word(section: tuple[AnnData, Any, dict[str, Any]]) -> None:
    without_a_word(section)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(good_sections())
def test_hundreds_of_good_sections_are_cut_without_a_word(section: tuple[AnnData, Any, dict[str, Any]]) -> None:
    without_a_word(section)
