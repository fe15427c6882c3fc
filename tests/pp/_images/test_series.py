"""Which image of a file is read, at which level, and how it is turned."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from anndata import AnnData
from PIL import Image, ImageOps

import bleep_sc as bl
from bleep_sc.pp._images.open import open_image
from bleep_sc.pp._images.tags import scale_of

pytestmark = [
    pytest.mark.odd,
    pytest.mark.filterwarnings("ignore:the scale of the image is unknown:UserWarning"),
]


def solid(value: int, height: int = 120, width: int = 120) -> np.ndarray:
    return np.full((height, width, 3), value, dtype=np.uint8)


def grey(value: int, side: int) -> np.ndarray:
    return np.full((side, side), value, dtype=np.uint8)


def written(path: Path, *parts: np.ndarray, names: tuple[str, ...] = (), ome: bool = True) -> Path:
    with tifffile.TiffWriter(path, ome=ome) as out:
        for number, part in enumerate(parts):
            kind, axes = ("rgb", "YXS") if part.shape[-1] == 3 else ("minisblack", "YX")
            name = {"axes": axes, "Name": names[number] if names else f"scene {number}"}
            out.write(part, photometric=kind, tile=(64, 64), metadata=name if ome else None)
    return path


def value_of(path: Path, **how: Any) -> int:
    adata = AnnData(np.ones((1, 1), dtype=np.float32), obsm={"spatial": np.array([[50.0, 50.0]])})
    bl.pp.crops(adata, path, size=8, **how)
    return int(adata.obsm["crops"][0, 4, 4, 0])


CHOICES: dict[str, tuple[tuple[np.ndarray, ...], tuple[str, ...]]] = {
    "a larger grey scan": ((solid(50), grey(9, 250)), ("H&E", "DAPI")),
    "a larger label": ((solid(50), solid(200, 250, 250)), ("scan", "label image")),
    "a larger macro": ((solid(50), solid(200, 250, 250)), ("scan", "Macro")),
    "a small thumbnail": ((solid(50), solid(200, 30, 30)), ("scan", "picture")),
    "levels that are not marked": ((solid(50), solid(50, 60, 60), solid(50, 30, 30)), ("a", "b", "c")),
}


@pytest.mark.parametrize("kind", CHOICES)
def test_the_scan_is_chosen_and_named(kind: str, tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    parts, names = CHOICES[kind]
    path = written(tmp_path / "a.ome.tif", *parts, names=names)
    with log.at_level(logging.INFO, logger="bleep_sc"):
        assert value_of(path, mpp=0.5) == 50
    assert f"a.ome.tif holds {len(parts)} images: 0: {names[0]!r} 120 x 120 (colour)" in log.text
    assert "Number 0 is read" in log.text


LIKE_SIZE: dict[str, tuple[tuple[np.ndarray, ...], bool]] = {
    "two scenes": ((solid(50), solid(200)), True),
    "one a little larger": ((solid(50), solid(200, 123, 121)), True),
    "two pages": ((solid(50), solid(200)), False),
    "two grey scans": ((grey(50, 120), grey(200, 120)), True),
}


@pytest.mark.parametrize("kind", LIKE_SIZE)
def test_two_of_like_size_are_refused_unless_one_is_named(kind: str, tmp_path: Path) -> None:
    parts, ome = LIKE_SIZE[kind]
    path = written(tmp_path / "a.tif", *parts, ome=ome)
    with pytest.raises(ValueError, match=r"holds 2 images, of which 2 are about equally large: 0: .*; 1: .*`series="):
        value_of(path)
    assert [value_of(path, series=number, mpp=0.5) for number in (0, 1)] == [50, 200]
    if ome:
        assert value_of(path, series="scene 1", mpp=0.5) == 200


def test_each_section_may_have_an_image_of_the_file(tmp_path: Path) -> None:
    path = written(tmp_path / "a.ome.tif", solid(50), solid(200))
    adata = AnnData(np.ones((2, 1), dtype=np.float32), obsm={"spatial": np.full((2, 2), 50.0)})
    adata.obs["section"] = ["b", "a"]
    bl.pp.crops(adata, {"a": path, "b": path}, library_key="section", series={"a": 1, "b": "scene 0"}, size=8, mpp=1.0)
    assert adata.obsm["crops"][:, 4, 4, 0].tolist() == [50, 200]


def test_focal_planes_are_refused_unless_one_is_named(tmp_path: Path) -> None:
    planes = np.stack([solid(50), solid(200), solid(90)])
    tifffile.imwrite(tmp_path / "z.ome.tif", planes, photometric="rgb", metadata={"axes": "ZYXS"})
    with pytest.raises(ValueError, match=r"holds 3 images.*focal plane 1' 120 x 120"):
        value_of(tmp_path / "z.ome.tif")
    assert value_of(tmp_path / "z.ome.tif", series=2, mpp=0.5) == 90


@pytest.mark.parametrize(
    ("series", "message"),
    [
        (2, "holds no image of that name or number"),
        ("scene", "no image of that"),
        (-1, "found -1"),
        (1.5, "found 1.5"),
    ],
)
def test_series_that_is_not_there(series: Any, message: str, tmp_path: Path) -> None:
    path = written(tmp_path / "a.ome.tif", solid(50), solid(200))
    with pytest.raises(ValueError, match=rf"`series.*{message}"):
        value_of(path, series=series)
    with pytest.raises(ValueError, match=r"`series` names \['other'\]"):
        value_of(path, series={"other": 0})
    Image.fromarray(solid(1)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="chooses one of the images in a TIFF"):
        value_of(tmp_path / "a.png", series=0)


def test_the_largest_image_is_never_passed_over_because_it_cannot_be_read(tmp_path: Path) -> None:
    """An overview beside it is no stand-in; a fluorescence scan is none for H&E, however large."""
    with tifffile.TiffWriter(tmp_path / "a.tif") as out:
        out.write(np.zeros((300, 300), dtype=np.uint8), photometric="cfa", tile=(64, 64))
        out.write(solid(50, 90, 100), photometric="rgb", tile=(64, 64))
    with pytest.raises(ValueError, match=r"'a\.tif' stores its colours as CFA.*as RGB of 8 bits"):
        value_of(tmp_path / "a.tif")
    assert value_of(tmp_path / "a.tif", series=1, mpp=0.5) == 50
    with tifffile.TiffWriter(tmp_path / "b.tif") as out:
        out.write(np.zeros((300, 300, 3), dtype=np.uint8), photometric="minisblack", planarconfig="contig")
        out.write(solid(50, 90, 100), photometric="rgb", tile=(64, 64))
    assert value_of(tmp_path / "b.tif", mpp=0.5) == 50


def test_another_large_image_is_told(tmp_path: Path) -> None:
    path = written(tmp_path / "a.ome.tif", solid(50), solid(200, 70, 80))
    with pytest.warns(UserWarning, match=r"holds 2 images.*Number 0 is read.*`series=1`"):
        assert value_of(path, mpp=0.5) == 50
    assert value_of(path, mpp=0.5, check="off") == 50


# levels


def smooth(side: int) -> np.ndarray:
    """Random tissue without single pixels."""
    coarse = np.random.default_rng(0).integers(40, 250, size=(side // 16, side // 16, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))


def pyramid(path: Path, pixels: np.ndarray, steps: tuple[int, ...] = (2, 4, 8), **options: Any) -> Path:
    with tifffile.TiffWriter(path) as file:
        options = {"photometric": "rgb", "tile": (64, 64), **options}
        file.write(pixels, subifds=len(steps), **options)
        for step in steps:
            smaller = Image.fromarray(pixels).reduce(step)
            file.write(np.asarray(smaller), subfiletype=1, **options)
    return path


@pytest.mark.parametrize(("um", "scale"), [(20.0, 1.0), (60.0, 0.5), (100.0, 0.25), (220.0, 0.125)])
@pytest.mark.parametrize("side", [1024, 1016])
def test_the_level_nearest_above_the_need_is_read(um: float, scale: float, side: int, tmp_path: Path) -> None:
    """Crops of it are those of full resolution, within three grey levels in the mean of each, on harsh noise."""
    pixels = smooth(side)
    path = pyramid(tmp_path / "a.tif", pixels)
    tifffile.imwrite(tmp_path / "flat.tif", pixels, photometric="rgb", tile=(64, 64))
    xy = np.random.default_rng(1).uniform(0, side - 1, size=(40, 2))
    found = []
    for file in (path, tmp_path / "flat.tif"):
        adata = AnnData(np.ones((40, 1), dtype=np.float32), obsm={"spatial": xy})
        bl.pp.crops(adata, file, size=48, um=um, mpp=0.5)
        found.append(adata)
    record = found[0].uns["crops"]["library"]
    assert record["level_scale"] == scale
    assert found[1].uns["crops"]["library"]["level_scale"] == 1.0
    assert record["padded"] == found[1].uns["crops"]["library"]["padded"]
    assert record["size_um"] == pytest.approx(um)
    difference = np.abs(found[0].obsm["crops"].astype(int) - found[1].obsm["crops"])
    assert difference.mean(axis=(1, 2, 3)).max() < 3


@pytest.mark.parametrize("is_copy", [True, False])
def test_an_image_of_half_the_size_is_a_level_if_it_shows_the_same(is_copy: bool, tmp_path: Path) -> None:  # noqa: FBT001
    """As where a file does not mark its levels, or marks them as something else; another scene is told."""
    pixels = smooth(512)
    small = np.asarray(Image.fromarray(pixels).reduce(2))
    path = written(tmp_path / "a.ome.tif", pixels, small if is_copy else small[::-1].copy(), names=("scan", "label"))
    adata = AnnData(np.ones((1, 1), dtype=np.float32), obsm={"spatial": np.array([[200.0, 100.0]])})
    bl.pp.crops(adata, path, size=16, um=40.0, mpp=0.5)
    assert adata.uns["crops"]["library"]["level_scale"] == (0.5 if is_copy else 1.0)
    scenes = written(tmp_path / "b.ome.tif", pixels, small if is_copy else small[::-1].copy())
    bl.pp.crops(adata, scenes, size=16, um=40.0, mpp=0.5, check="warn" if is_copy else "off")
    if not is_copy:
        with pytest.warns(UserWarning, match=r"holds 2 images.*`series=1`"):
            bl.pp.crops(adata, scenes, size=16, um=40.0, mpp=0.5)


def test_places_are_judged_at_full_resolution(tmp_path: Path) -> None:
    """A level may lack the last pixels of an image whose side is no multiple of its step."""
    path = pyramid(tmp_path / "a.tif", smooth(1024)[:1023, :1023], steps=(2, 4, 8))
    adata = AnnData(np.ones((2, 1), dtype=np.float32), obsm={"spatial": np.array([[1022.0, 500.0], [10.0, 1022.0]])})
    bl.pp.crops(adata, path, size=8, um=80, mpp=1.0)
    assert adata.uns["crops"]["library"]["level_scale"] == 0.125


def test_native_pixels_are_those_of_full_resolution(tmp_path: Path) -> None:
    pixels = smooth(512)
    path = pyramid(tmp_path / "a.tif", pixels)
    adata = AnnData(np.ones((1, 1), dtype=np.float32), obsm={"spatial": np.array([[200.0, 100.0]])})
    bl.pp.crops(adata, path, size=40)
    assert np.array_equal(adata.obsm["crops"][0], pixels[80:120, 180:220])


def test_tiles_that_the_scanner_left_out_are_white_and_counted(tmp_path: Path) -> None:
    tile = np.full((128, 128, 3), (225, 180, 210), dtype=np.uint8)
    tiles = (tile if number in (0, 2, 5) else None for number in range(6))
    tifffile.imwrite(
        tmp_path / "a.tif",
        tiles,
        shape=(256, 384, 3),
        dtype=np.uint8,
        tile=(128, 128),
        photometric="rgb",
        compression="zlib",
    )
    adata = AnnData(np.ones((2, 1), dtype=np.float32), obsm={"spatial": np.array([[120.0, 60.0], [130.0, 120.0]])})
    for lazy in (False, True):
        bl.pp.crops(adata, tmp_path / "a.tif", size=64, mpp=0.5, lazy=lazy)
        crops = np.asarray(adata.obsm["crops"])
        assert crops[0, 32, 5].tolist() == [225, 180, 210]
        assert crops[0, 32, 60].tolist() == [255, 255, 255]
        assert adata.uns["crops"]["library"]["missing_tiles"] == 3, "1, 3 and 4, each once"


# orientation


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "tiled.tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_file_that_says_how_it_lies_is_turned_upright(orientation: int, suffix: str, tmp_path: Path) -> None:
    """As every viewer shows it; spots lie where they are seen."""
    stored = smooth(160)[:96]
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / f"a.{suffix}"
    if suffix.endswith("tif"):
        options = {"tile": (32, 48)} if suffix.startswith("tiled") else {}
        tifffile.imwrite(path, stored, photometric="rgb", extratags=[(274, 3, 1, orientation, True)], **options)
    else:
        Image.fromarray(stored).save(path, exif=exif, quality=99, subsampling=0)
    tagged = Image.fromarray(stored)
    tagged.getexif()[274] = orientation
    upright = np.asarray(ImageOps.exif_transpose(tagged))
    assert open_image(path, library_id="a").array.shape == upright.shape
    adata = AnnData(np.ones((3, 1), dtype=np.float32), obsm={"spatial": np.array([[30.0, 25.0], [0, 90], [70.0, 1]])})
    bl.pp.crops(adata, path, size=20)
    padded = np.pad(upright, ((10, 10), (10, 10), (0, 0)), constant_values=255)
    expected = [padded[int(y) : int(y) + 20, int(x) : int(x) + 20] for x, y in adata.obsm["spatial"]]
    assert np.abs(adata.obsm["crops"].astype(int) - expected).max() <= (6 if suffix == "jpg" else 0)


# tags


CM, INCH = 3, 2
TAGS: dict[str, tuple[dict[str, Any], float | None]] = {
    "OME": ({"ome": True, "metadata": {"axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}}, 0.5),
    "OME in nm": (
        {
            "ome": True,
            "metadata": {"axes": "YXS", "PhysicalSizeX": 500, "PhysicalSizeY": 500}
            | {f"PhysicalSize{axis}Unit": "nm" for axis in "XY"},
        },
        0.5,
    ),
    "Aperio": ({"description": "Aperio Image Library v12\n100x100 |AppMag = 20|MPP = 0.4990", "metadata": None}, 0.499),
    "ten times too small": ({"ome": True, "metadata": {"PhysicalSizeX": 0.02734, "PhysicalSizeY": 0.02734}}, 0.02734),
    "centimetres": ({"resolution": (20_000, 20_000), "resolutionunit": CM}, 0.5),
    "inches": ({"resolution": (50_800, 50_800), "resolutionunit": INCH}, 0.5),
    "ImageJ": ({"imagej": True, "resolution": (2, 2), "metadata": {"unit": "micron"}}, 0.5),
    "a printer's resolution": ({"resolution": (300, 300), "resolutionunit": INCH}, None),
    "no square pixels": ({"resolution": (20_000, 10_000), "resolutionunit": CM}, None),
    "nothing": ({}, None),
}


@pytest.mark.parametrize("kind", TAGS)
def test_what_tags_say_of_the_scale(kind: str, tmp_path: Path) -> None:
    options, expected = TAGS[kind]
    tifffile.imwrite(tmp_path / "a.tif", solid(50), photometric="rgb", **options)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        witness = scale_of(file, 0)
    assert (witness and witness.um_per_px) == (expected and pytest.approx(expected, rel=1e-3))
    assert witness is None or witness.believed == (kind != "ten times too small")


def test_a_real_slide(real_data: Path) -> None:
    """Aperio's baseline, not its thumbnail, label or macro; with its own scale."""
    path = real_data / "slides" / "CMU-1-Small-Region.svs"
    opened = open_image(path, library_id="a")
    assert opened.array.shape == (2967, 2220, 3)
    assert opened.tag is not None
    assert opened.tag.um_per_px == pytest.approx(0.499)
    assert opened.findings == ()
    with tifffile.TiffFile(path) as file:
        whole = file.pages[0].asarray()
    adata = AnnData(np.ones((1, 1), dtype=np.float32), obsm={"spatial": np.array([[900.0, 1200.0]])})
    bl.pp.crops(adata, path, size=64, mpp=0.499)
    assert np.array_equal(adata.obsm["crops"][0], whole[1168:1232, 868:932])
