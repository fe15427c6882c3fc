"""Every colour model that a file can state comes out right, or is refused by its name."""

from pathlib import Path

import numpy as np
import pytest
from anndata import AnnData
from image_kinds import REFUSED, RGB, RIGHT, SIDE
from PIL import Image

import bleep_sc as bl

pytestmark = [
    pytest.mark.odd,
    pytest.mark.filterwarnings("ignore:the scale of the image is unknown:UserWarning"),
]
CLOSE, OF_LAB = 2, 4
"""Grey levels by which decoders may differ, and Little CMS in 8 bits from the formulas of CIELab."""


def whole(path: Path) -> np.ndarray:
    """Cut the whole picture as one crop."""
    adata = AnnData(np.ones((1, 1), dtype=np.float32), obsm={"spatial": np.array([[SIDE, SIDE]], dtype=float)})
    bl.pp.crops(adata, path, size=2 * SIDE)
    return np.asarray(adata.obsm["crops"][0])


@pytest.mark.parametrize("kind", RIGHT)
def test_right_colors(kind: str, tmp_path: Path) -> None:
    suffix, write, expected = RIGHT[kind]
    path = tmp_path / f"slide.{suffix}"
    write(path)
    expected = expected if expected.ndim == 3 else expected[..., None].repeat(3, axis=2)
    difference = np.abs(whole(path).astype(int) - expected)
    # next to an edge of colours lossy codecs ring
    inner = np.ix_(*[[i for i in range(2 * SIDE) if 4 <= i % SIDE < SIDE - 4]] * 2)
    assert difference[inner].max() <= (OF_LAB if "Lab" in kind else CLOSE)


@pytest.mark.parametrize("kind", ["RGB", "YCbCr", "CMYK", "grey", "grey, white is zero", "palette", "YCbCr in JPEG"])
def test_as_pillow_decodes_them(kind: str, tmp_path: Path) -> None:
    """By a decoder that shares nothing with ours, libtiff."""
    path = tmp_path / "slide.tif"
    RIGHT[kind][1](path)
    with Image.open(path) as image:
        decoded = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(whole(path) - decoded).max() <= CLOSE


@pytest.mark.parametrize("kind", REFUSED)
def test_refused_by_name(kind: str, tmp_path: Path) -> None:
    write, message = REFUSED[kind]
    path = tmp_path / "slide.tif"
    write(path)
    with pytest.raises(ValueError, match=rf"`image`: 'slide\.tif' .*{message}.*as RGB of 8 bits"):
        whole(path)


def test_channels_that_are_red_green_and_blue(tmp_path: Path) -> None:
    import tifffile

    names = {"axes": "CYX", "Channel": {"Name": ["Red", "Green", "Blue"]}}
    tifffile.imwrite(tmp_path / "a.ome.tif", np.moveaxis(RGB, 2, 0), photometric="minisblack", metadata=names)
    assert np.array_equal(whole(tmp_path / "a.ome.tif"), RGB)


def test_values_that_leave_their_range_are_refused(tmp_path: Path) -> None:
    """What looked like 8 bits in 16 and is not."""
    import tifffile

    wide = RGB.astype(np.uint16)
    wide[5, 7] = 4000
    tifffile.imwrite(tmp_path / "a.tif", wide, photometric="rgb", rowsperstrip=1)
    with pytest.raises(ValueError, match=r"16 bits that seemed to go from 0 to 255 and go up to 4000.*in 8 bits"):
        whole(tmp_path / "a.tif")
