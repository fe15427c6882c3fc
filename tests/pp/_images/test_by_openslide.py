"""Slides that OpenSlide reads: the same pixels as tifffile's, levels, scale, and what is said where it is missing."""

import pickle
import sys
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from anndata import AnnData
from miniature_mrxs import write_mrxs
from PIL import Image

import bleep_sc as bl
from bleep_sc.pp._images.by_openslide import OpenSlideImage, open_by_openslide
from bleep_sc.pp._images.open import open_image
from bleep_sc.pp._images.patches import patches
from bleep_sc.pp._images.section import with_levels

openslide = pytest.importorskip("openslide")


@pytest.fixture
def pixels() -> np.ndarray:
    """A slide of 1024 x 768 pixels: smooth colours, glass at the left, and a dark square."""
    rows, columns = np.mgrid[:768, :1024]
    out = np.stack([150 + columns // 16, 60 + rows // 10, 130 + (rows + columns) // 30], axis=-1).astype(np.uint8)
    out[:, :128] = 245
    out[300:340, 600:640] = (60, 20, 80)
    return out


@pytest.fixture
def mrxs(tmp_path: Path, pixels: np.ndarray) -> Path:
    path = tmp_path / "case.mrxs"
    write_mrxs(path, pixels, um_per_px=0.5, n_levels=3)
    return path


def whole(image: Any) -> np.ndarray:
    (_, read), *_ = patches(image, np.zeros((1, 2), dtype=int), np.array([[image.shape[1], image.shape[0]]]))
    return read


def test_a_real_svs_has_the_same_pixels_read_both_ways(real_data: Path) -> None:
    path = real_data / "slides" / "CMU-1-Small-Region.svs"
    image, lower = open_by_openslide(path, name="image")
    assert not lower
    assert image.array.tile == (240, 240)
    by_tifffile = open_image(path, library_id="s")
    assert np.array_equal(whole(image.array), whole(by_tifffile.array))
    assert image.tag is not None and by_tifffile.tag is not None
    assert image.tag.um_per_px == by_tifffile.tag.um_per_px == 0.499
    assert "OpenSlide" in image.tag.source


def test_parts_of_it_are_those_of_the_whole(real_data: Path) -> None:
    path = real_data / "slides" / "CMU-1-Small-Region.svs"
    image = pickle.loads(pickle.dumps(open_by_openslide(path, name="image")[0].array))  # as a cluster sends it
    low = np.random.default_rng(0).integers(0, 2000, size=(9, 2))
    read = tifffile.imread(path)
    for number, part in patches(image, low, low + 200):
        x, y = low[number]
        assert np.array_equal(part, read[y : y + 200, x : x + 200])


def test_bare_parts_are_those_of_the_tiles(mrxs: Path) -> None:
    image = open_image(mrxs, library_id="a").array
    assert isinstance(image, OpenSlideImage)
    with image.bare_parts() as read:
        found = read(slice(3, 40), slice(11, 29))
    np.testing.assert_array_equal(found, whole(image)[3:40, 11:29])


def test_a_mirax_slide_is_opened_with_its_levels_and_scale(mrxs: Path, pixels: np.ndarray) -> None:
    image = open_image(mrxs, library_id="s")
    assert isinstance(image.array, OpenSlideImage)
    assert image.array.shape == pixels.shape
    assert image.tag is not None and image.tag.um_per_px == 0.5
    assert [level.scale for level in image.levels] == [0.5, 0.25]
    assert np.abs(whole(image.array).astype(int) - pixels).max() <= 12  # JPEG of quality 95
    averaged = pixels.reshape(192, 4, 256, 4, 3).mean(axis=(1, 3))
    assert np.abs(whole(image.levels[-1].array) - averaged).mean() < 2


def test_crops_of_a_mirax_slide_are_those_of_its_tiff(mrxs: Path, pixels: np.ndarray, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "same.tif", pixels, photometric="rgb", tile=(256, 256))
    xy = np.random.default_rng(0).uniform(100, 650, size=(20, 2))
    cut = {}
    for path in (mrxs, tmp_path / "same.tif"):
        for um in (None, 60.0):
            adata = AnnData(np.ones((20, 2), dtype=np.float32), obsm={"spatial": xy})
            bl.pp.crops(adata, path, size=32, um=um, mpp=0.5, check="off")
            cut[path.suffix, um] = adata.obsm["crops"].astype(int)
    for um in (None, 60.0):
        assert np.abs(cut[".mrxs", um] - cut[".tif", um]).mean() < 1.5


def test_a_grid_over_a_mirax_slide(mrxs: Path) -> None:
    ref = AnnData(np.ones((1, 3), dtype=np.float32), obsm={"spatial": np.zeros((1, 2))})
    mask = np.zeros((6, 8), dtype=bool)
    mask[:, 1:] = True
    slide = bl.pp.grid(mrxs, ref, um=32, mask=mask)  # 64 pixels
    assert slide.obsm["spatial"][:, 0].min() == 160
    assert slide.n_obs == 14 * 12
    assert slide.uns["spatial"]["case"]["scalefactors"]["microns_per_pixel"] == 0.5


def test_what_was_not_scanned_is_white(mrxs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def transparent(self: Any, corner: Any, level: int, size: tuple[int, int]) -> Image.Image:
        return Image.new("RGBA", size, (0, 0, 0, 0))

    monkeypatch.setattr(openslide.OpenSlide, "read_region", transparent)
    assert (whole(open_image(mrxs, library_id="s").array) == 255).all()


@pytest.fixture
def jpeg_2000(tmp_path: Path, pixels: np.ndarray) -> Path:
    """An old Aperio file: tiles of JPEG 2000."""
    path = tmp_path / "old.svs"
    tifffile.imwrite(
        path,
        pixels,
        photometric="rgb",
        tile=(256, 256),
        compression="APERIO_JP2000_RGB",
        compressionargs={"level": 0, "codecformat": "J2K"},
        description="Aperio Image Library v10\r\n1024x768 (256x256) J2K/KDU Q=70|AppMag = 20|MPP = 0.5",
        metadata=None,
    )
    return path


def test_jpeg_2000_needs_no_openslide_where_its_codec_is_there(jpeg_2000: Path, pixels: np.ndarray) -> None:
    image = open_image(jpeg_2000, library_id="s")
    assert not isinstance(image.array, OpenSlideImage)
    assert np.array_equal(whole(image.array), pixels)


def test_jpeg_2000_without_its_codec_is_read_by_openslide(
    jpeg_2000: Path, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imagecodecs.JPEG2K, "available", False)
    image = open_image(jpeg_2000, library_id="s")
    assert isinstance(image.array, OpenSlideImage)
    assert np.abs(whole(image.array).astype(int) - pixels).max() <= 1


@pytest.mark.odd
def test_without_openslide_the_extra_is_named(
    mrxs: Path, jpeg_2000: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openslide", None)
    with pytest.raises(ValueError, match=r"'case\.mrxs' is MIRAX.*`pip install \"bleep-sc\[slides\]\"`.*OME-TIFF"):
        open_image(mrxs, library_id="s")
    (tmp_path / "a.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\0" * 100)
    with pytest.raises(ValueError, match=r"'a\.dcm' is DICOM.*bleep-sc\[slides\]"):
        open_image(tmp_path / "a.dcm", library_id="s")
    monkeypatch.setattr(imagecodecs.JPEG2K, "available", False)
    with pytest.raises(ValueError, match=r"'old\.svs' holds JPEG 2000, for which no codec.*bleep-sc\[slides\]"):
        open_image(jpeg_2000, library_id="s")


@pytest.mark.odd
@pytest.mark.parametrize("name", ["slide.vsi", "frame_t.ETS", "slide.czi"])
def test_formats_that_nobody_reads_are_refused_with_the_way_out(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"II*\0" + b"\0" * 200)
    with pytest.raises(ValueError, match=r"which is not read. Export it as OME-TIFF .*QuPath"):
        bl.pp.crops(AnnData(np.ones((1, 1)), obsm={"spatial": np.ones((1, 2))}), tmp_path / name)


@pytest.mark.odd
def test_damaged_slides(mrxs: Path, tmp_path: Path) -> None:
    """One error each, before or while pixels are read."""
    adata = AnnData(np.ones((4, 1), dtype=np.float32), obsm={"spatial": np.full((4, 2), 400.0)})
    data = mrxs.with_suffix("") / "Data0000.dat"
    content = data.read_bytes()
    data.write_bytes(content[: len(content) // 3])
    with pytest.raises(ValueError, match=r"could not be read"):
        bl.pp.crops(adata, mrxs, size=64, mpp=0.5, check="off")
    (mrxs.with_suffix("") / "Index.dat").write_bytes(b"01.02")
    with pytest.raises(ValueError, match=r"could not be read"):
        open_image(mrxs, library_id="s")
    for name, content in {"a.mrxs": b"", "b.dcm": b"\0" * 500, "c.bif": b"II*\0", "d.vms": b"[x]\n"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=r"could not be read as an image"):
            open_image(tmp_path / name, library_id="s")


@pytest.mark.odd
def test_series_and_layers_are_not_of_such_slides(mrxs: Path) -> None:
    with pytest.raises(ValueError, match=r"`series=1` chooses one of the images in a TIFF"):
        open_image(mrxs, library_id="s", series=1)


def test_levels_that_are_no_power_of_two_begin_where_they_should(mrxs: Path) -> None:
    image, lower = open_by_openslide(mrxs, name="image")
    levels = with_levels(image, lower).levels
    assert [tuple(level.offset.tolist()) for level in levels] == [(0.25, 0.25), (0.375, 0.375)]
