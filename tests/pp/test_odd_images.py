"""Images of every kind, broken, cut short, or lying of their size: the right crops, or one error, in little memory."""

import io
import resource
import struct
import sys
import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import tifffile
from anndata import AnnData
from conftest import snapshot
from PIL import Image
from squidpy.im import ImageContainer

import bleep_sc as bl

pytestmark = pytest.mark.odd

RGB = np.random.default_rng(0).integers(0, 256, size=(40, 50, 3), dtype=np.uint8)
XY = ((20.0, 10.0), (30.0, 25.0))
Make = Callable[[], Any]


def spots(*xy: tuple[float, float], **uns: Any) -> AnnData:
    adata = AnnData(np.ones((len(xy), 2), dtype=np.float32), obsm={"spatial": np.array(xy, dtype=np.float64)})
    adata.uns = uns
    return adata


def expected(pixels: np.ndarray) -> np.ndarray:
    """Crops of 8 pixels around the two spots."""
    return np.stack([pixels[int(y) - 4 : int(y) + 4, int(x) - 4 : int(x) + 4] for x, y in XY])


def cut(adata: AnnData, image: Any = None, **how: Any) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        bl.pp.crops(adata, image, **{"size": 8, "mpp": 0.5} | how)
    return adata.obsm["crops"]


def drawn(ref: AnnData, image: Any) -> None:
    bl.pp.blank(ref, spatial=np.array(XY), library_id="library", image=image, spot_diameter=5)


@pytest.fixture(autouse=True)
def nothing_left_over(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No temporary file stays."""
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield
    assert not list(folder.iterdir())


def box(pixels: Any, **how: Any) -> Make:
    return lambda: ImageContainer(pixels, **how)


def watched(function: Callable[[np.ndarray], np.ndarray], dtype: Any = np.uint8) -> Make:
    """A dask image whose blocks are what a function makes of them."""
    blocks = da.from_array(RGB, chunks=(20, 25, 3)).map_blocks(function, dtype=dtype, meta=np.empty((0, 0, 0), dtype))
    return lambda: ImageContainer(blocks)


def with_attribute(name: str, value: Any) -> Make:
    def make() -> Any:
        image = ImageContainer(RGB)
        image.data.attrs[name] = value
        return image

    return make


def fails(_: np.ndarray) -> np.ndarray:
    raise KeyError("the disk is gone")


GREY, ALPHA = RGB[..., :1].repeat(3, axis=2), np.full_like(RGB[..., :1], 255)
SOUND: dict[str, tuple[Make, np.ndarray]] = {
    "floats 0 to 1": (box((RGB / 255).astype(np.float32)), RGB),
    "half floats": (box((RGB / 255).astype(np.float16)), RGB),
    "uint16 up to 255": (box(RGB.astype(np.uint16)), RGB),
    "int64 up to 255": (box(RGB.astype(np.int64)), RGB),
    "boolean": (box(RGB > 127), (RGB > 127) * np.uint8(255)),
    "opaque": (box(np.concatenate([RGB, ALPHA], axis=2)), RGB),
    "transparent": (box(np.concatenate([RGB, 0 * ALPHA], axis=2)), np.full_like(RGB, 255)),
    "grey of two axes": (box(RGB[..., 0]), GREY),
    "grey of one channel": (box(RGB[..., :1]), GREY),
    "channels first": (box(np.moveaxis(RGB, 2, 0)), RGB),
    "channels first, said": (box(np.moveaxis(RGB, 2, 0), dims=("channels", "y", "x")), RGB),
    "by columns": (box(np.asfortranarray(RGB)), RGB),
    "a plane of this library": (
        box(np.stack([255 - RGB, RGB], axis=2), dims=("y", "x", "z", "channels"), library_id=["other", "library"]),
        RGB,
    ),
    "dask": (box(da.from_array(RGB, chunks=(7, 11, 1))), RGB),
    "dask of other numbers than it says": (watched(lambda block: block.astype(np.float32) / 255), RGB),
    "no place in a larger one": (with_attribute("coords", None), RGB),
    "no padding": (with_attribute("padding", None), RGB),
}
REFUSED: dict[str, tuple[Make, str]] = {
    "floats 0 to 255": (box(RGB.astype(float)), "holds floats from .*0 to 1 is expected. Divide"),
    "floats below 0": (box(RGB / 255 - 0.5), "holds floats from -.*0 to 1 is expected"),
    "all NaN": (box(np.full(RGB.shape, np.nan)), r"holds NaN or infinite values. Replace them, as by 1 \(white\)"),
    "infinite": (box(np.full(RGB.shape, np.inf)), "holds NaN or infinite values. Replace"),
    "uint16": (box(RGB.astype(np.uint16) * 257), "uint16 with values from .*0 to 255 is expected. Scale it"),
    "negative": (box(-RGB.astype(int)), "int64 with values from -.*0 to 255 is expected"),
    "complex": (box(RGB.astype(complex)), "`image` must hold numbers, found complex128"),
    "text": (box(RGB.astype(str)), "`image` must hold numbers, found <U"),
    "two channels": (box(RGB[..., :2]), r"`image` has 2 channels; an H&E image has 3 \(RGB\)"),
    "five channels": (box(np.concatenate([RGB, RGB], axis=2)[..., :5]), "`image` has 5 channels"),
    "no channel": (box(RGB[..., :0]), "`image` has 0 channels"),
    "no pixel": (box(RGB[:0], dims=("y", "x", "channels")), "`image` is empty, 50 x 0 pixels"),
    "no image": (ImageContainer, r"`image` has the layers \[\]: choose one"),
    "planes of others": (
        box(np.stack([RGB, RGB], axis=2), dims=("y", "x", "z", "channels")),
        r"2 planes, for the libraries \['0', '1'\], and none for 'library'.*library_ids",
    ),
    "dask that fails": (watched(fails), "could not be read.*the disk is gone"),
    "dask of smaller blocks than it says": (watched(lambda block: block[:3]), "a part should have the shape"),
    "dask of other channels than it says": (watched(lambda block: block[..., :1]), "a part should have the shape"),
    "huge dask in one block": (
        box(da.zeros((100_000, 100_000, 3), chunks=-1, dtype=np.uint8)),
        r"`image` says that it has 100000 x 100000 pixels, of which .* at one go: 27\.9 GiB.*TIFF of small tiles",
    ),
    "huge dask in large blocks": (
        box(da.zeros((200_000, 200_000, 3), chunks=(100_000, 100_000, 3), dtype=np.uint8)),
        "of which 100000 x 100000 must be read at one go",
    ),
    **{
        f"scale {value!r}": (with_attribute("scale", value), r"`image\.data\.attrs\['scale'\]` must be a finite number")
        for value in (0, -1.0, np.nan, np.inf, "1", None, [1], True)
    },
}


@pytest.mark.parametrize("kind", SOUND)
def test_kinds_of_images(kind: str) -> None:
    make, pixels = SOUND[kind]
    image = make()
    before = image.data["image"].data
    before = before.copy() if isinstance(before, np.ndarray) else None
    assert np.array_equal(cut(spots(*XY), image), expected(pixels))
    drawn(spots(*XY), image)
    if before is not None:
        assert np.array_equal(image.data["image"].data, before)


def test_nan_matters_only_where_it_is_cut() -> None:
    pixels = RGB / 255
    pixels[0, 0] = np.nan
    assert np.array_equal(cut(spots(*XY), ImageContainer(pixels)), expected(RGB))
    with pytest.raises(ValueError, match="`image` holds NaN"):
        drawn(spots(*XY), ImageContainer(pixels))


@pytest.mark.parametrize("border", ["white", "reflect"])
def test_an_image_of_one_pixel(border: Any) -> None:
    pixel = np.array([[[10, 20, 30]]], dtype=np.uint8)
    image = ImageContainer(pixel, dims=("y", "x", "channels"))
    found = cut(spots((0.0, 0.0)), image, border=border)[0]
    wanted = np.broadcast_to(pixel[0, 0], (8, 8, 3)).copy()
    if border == "white":
        wanted[np.indices((8, 8)).max(axis=0) != 4] = 255
        wanted[:4], wanted[:, :4] = 255, 255
    assert np.array_equal(found, wanted)
    drawn(spots(*XY), image)


def refuses(image: Any, message: str) -> None:
    """By both functions, with nothing changed."""
    adata = spots(*XY)
    before = snapshot(adata)
    for work in (cut, drawn):
        with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
            work(adata, image)
        assert len(str(caught.value)) < 1000
        assert snapshot(adata) == before


@pytest.mark.parametrize("kind", REFUSED)
def test_images_that_are_refused(kind: str) -> None:
    make, message = REFUSED[kind]
    refuses(make(), message)


def test_a_huge_image_is_read_only_in_part() -> None:
    read = []

    def block(x: np.ndarray) -> np.ndarray:
        read.append(x.shape)
        return x + np.uint8(7)

    tiles = da.zeros((100_000, 100_000, 3), chunks=(2000, 2000, 3), dtype=np.uint8)
    image = ImageContainer(tiles.map_blocks(block, dtype=np.uint8, meta=np.empty((0, 0, 0), np.uint8)))
    read.clear()
    assert (cut(spots((70_100.0, 90_100.0), (5.0, 99_999.0)), image, border="reflect") == 7).all()
    assert len(read) == 2


# files


def jpeg(width: int, height: int) -> bytes:
    """A small one whose header claims this size."""
    file = io.BytesIO()
    Image.fromarray(RGB).save(file, "jpeg")
    found = bytearray(file.getvalue())
    start = found.find(b"\xff\xc0") + 5
    found[start : start + 4] = struct.pack(">HH", height, width)
    return bytes(found)


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    ends = chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + ends


def tiff(side: int, *, compression: int = 8, data: bytes | None = None, count: int = 1, **layout: int) -> bytes:
    """An RGB TIFF of some bytes that claims this size; `layout` is ``rows`` of its strip, or the side of a ``tile``."""
    data = zlib.compress(bytes(1000)) if data is None else data
    numbers = {256: side, 257: side, 259: compression, 262: 2, 277: 3}
    rows, tile = layout.get("rows"), layout.get("tile")
    where = (322, 323, 324, 325) if tile is not None else (278, 273, 279)
    numbers |= {322: tile, 323: tile} if tile is not None else {278: rows}
    start = 8 + 2 + 12 * (len(numbers) + 3) + 4
    entries = {tag: (4, 1, value) for tag, value in numbers.items()}
    entries |= {258: (3, 3, start), where[-2]: (4, count, start + 6), where[-1]: (4, count, len(data))}
    packed = b"".join(struct.pack("<HHII", tag, *entries[tag]) for tag in sorted(entries))
    head = b"II*\0" + struct.pack("<IH", 8, len(entries)) + packed + bytes(4)
    return head + struct.pack("<3H", 8, 8, 8) + data


def saved(kind: str, **how: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(RGB).save(file, kind, **how)
    return file.getvalue()


def tiled() -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, RGB, photometric="rgb", tile=(16, 16), compression="zlib")
    return file.getvalue()


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def inner(kind: str) -> bytes:
    """An image file of 1200 x 1200 pixels, to stand in a tile of 64 x 64."""
    file = io.BytesIO()
    Image.new("RGB", (1200, 1200)).save(file, kind)
    return file.getvalue()


AT_ONCE = r"`image` says that it has .* must be read at one go: .*TIFF of small tiles.*lazy=False"
DAMAGED = "`image.* could not be read, its file may be cut short or damaged: "
NO_IMAGE = "`image`: .*slide.* could not be read as an image.*JPEG, PNG, TIFF"
FILES: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "half a JPEG": ("jpg", lambda: half(saved("jpeg")), DAMAGED + ".*truncated"),
    "half a PNG": ("png", lambda: half(saved("png")), DAMAGED + ".*truncated"),
    "half a TIFF": ("tif", lambda: half(saved("tiff")), DAMAGED + "|" + NO_IMAGE),
    "half a tiled TIFF": ("tif", lambda: half(tiled())[:-200], DAMAGED + "|" + NO_IMAGE),
    "the head of a PNG": ("png", lambda: saved("png")[:20], NO_IMAGE),
    "the head of a TIFF": ("tif", lambda: tiled()[:30], NO_IMAGE),
    "nothing": ("png", bytes, NO_IMAGE),
    "nothing of a TIFF": ("tif", bytes, NO_IMAGE),
    "text": ("jpg", lambda: b"<html>not found</html>", NO_IMAGE),
    "a ZIP": ("png", lambda: b"PK\3\4" + bytes(100), NO_IMAGE),
    "a PNG of 10^5 pixels a side": ("png", lambda: png(100_000, 100_000), AT_ONCE),
    "a PNG of 2^31 pixels a side": ("png", lambda: png(2**31 - 1, 2**31 - 1), AT_ONCE),
    "a JPEG of 65500 pixels a side": ("jpg", lambda: jpeg(65_500, 65_500), AT_ONCE),
    "a strip of 10^5 rows": ("tif", lambda: tiff(100_000, rows=100_000), AT_ONCE),
    "a strip of all rows": ("tif", lambda: tiff(100_000, rows=2**32 - 1), AT_ONCE),
    "a tile of 65536 pixels a side": ("tif", lambda: tiff(40, tile=65_536), AT_ONCE),
    "a tile of 2^31 pixels a side": ("tif", lambda: tiff(40, tile=2**31), AT_ONCE),
    "a tile that is too short": ("tif", lambda: tiff(40, tile=20_000), DAMAGED + "corrupted tile"),
    "a tile that is too long": ("tif", lambda: tiff(40, tile=64, data=zlib.compress(bytes(10**7))), DAMAGED),
    "very many tiles": ("tif", lambda: tiff(100_000, tile=256), DAMAGED),
    "more places of tiles than bytes": ("tif", lambda: tiff(100_000, tile=256, count=2**31), DAMAGED),
    "tiles without a side": ("tif", lambda: tiff(40, tile=0), NO_IMAGE),
    "bare pixels that are not there": ("tif", lambda: tiff(100_000, compression=1, rows=100_000), DAMAGED),
    "no pixel": ("tif", lambda: tiff(0, rows=1), NO_IMAGE),
    "a JPEG in a tile": ("tif", lambda: tiff(40, compression=7, tile=64, data=jpeg(60_000, 60_000)), DAMAGED),
    "a JPEG 2000 in a tile": (
        "tif",
        lambda: tiff(40, compression=34712, tile=64, data=inner("jpeg2000")),
        DAMAGED + "a tile of 64 x 64 pixels says that it has 1440000",
    ),
    "a PNG in a tile": (
        "tif",
        lambda: tiff(40, compression=34933, tile=64, data=inner("png")),
        DAMAGED + "a tile of 64 x 64 pixels says",
    ),
}
"""Suffix, content, and what is said of them."""


def peak_memory() -> float:
    """In MiB, of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("kind", FILES)
def test_damaged_and_lying_files(kind: str, tmp_path: Path) -> None:
    suffix, make, message = FILES[kind]
    path = tmp_path / f"slide.{suffix}"
    path.write_bytes(make())
    before, content = peak_memory(), path.read_bytes()
    refuses(path, message)
    assert peak_memory() - before < 300
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("what", ["slide", "slide.tif", "slide.png", "slide.zarr"])
def test_a_folder_in_place_of_a_file(what: str, tmp_path: Path) -> None:
    (tmp_path / what).mkdir()
    refuses(tmp_path / what, "`image`: .*slide.* is a folder; pass the image file in it")
    assert not list((tmp_path / what).iterdir())


@pytest.mark.parametrize("path", ["", "gone.tif", Path("gone.tif"), "a\0b", "x" * 5000, "~nobody-of-that-name/x.png"])
def test_no_file(path: Any) -> None:
    refuses(path, "`image`: there is no file")


def test_a_path_as_text_and_as_path(tmp_path: Path) -> None:
    path = tmp_path / "slide.tif"
    path.write_bytes(tiled())
    for given in (path, str(path)):
        assert np.array_equal(cut(spots(*XY), given), expected(RGB))


def test_a_large_tiff_is_drawn_in_little_memory(tmp_path: Path) -> None:
    """As from memory, to the bit, though never more than a few rows of tiles are there."""
    pixels = np.random.default_rng(0).integers(0, 256, size=(1100, 9001, 1), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "slide.tif", pixels[..., 0], tile=(512, 512), compression="zlib")
    ref = spots(*XY)
    found = []
    with bl.settings.override(memory=8):
        for image in (tmp_path / "slide.tif", ImageContainer(pixels)):
            slide = bl.pp.blank(ref, spatial=np.array(XY), library_id="l", image=image, spot_diameter=5)
            found.append(slide.uns["spatial"]["l"])
    whole = Image.fromarray(pixels[..., 0].repeat(3).reshape(1100, 9001, 3))
    wanted = whole.resize((2000, 244), Image.Resampling.LANCZOS, reducing_gap=2.0)
    for entry in found:
        assert np.array_equal(entry["images"]["hires"], wanted)
        assert entry["images"]["lowres"].shape == (73, 600, 3)
        assert entry["scalefactors"]["tissue_hires_scalef"] == 2000 / 9001


# what `uns` says


def library(**changed: Any) -> dict[str, Any]:
    factors = {"tissue_hires_scalef": 1.0, "spot_diameter_fullres": 16.0, "microns_per_pixel": 0.5}
    return {"images": {"hires": RGB}, "scalefactors": factors | changed, "metadata": {}}


UNKNOWN = (None, np.nan, 0, np.array(0.0))
WRONG = (-5, np.inf, "1.0", [1, 2], True, b"1")


@pytest.mark.parametrize("value", UNKNOWN, ids=repr)
def test_scale_factors_that_are_not_known(value: Any) -> None:
    adata = spots(*XY, spatial={"l": library(spot_diameter_fullres=value, microns_per_pixel=value)})
    assert np.array_equal(cut(adata, ImageContainer(RGB), mpp=None), expected(RGB))
    assert np.isnan([adata.uns["crops"]["l"][name] for name in ("size_um", "spot_diameters")]).all()
    adata = spots(*XY, spatial={"l": library(tissue_hires_scalef=value)})
    with pytest.raises(ValueError, match=r"no `image` was given for 'l'.*nor a hires image"):
        cut(adata)
    ref = spots(*XY, spatial={"l": library(spot_diameter_fullres=value)})
    with pytest.raises(ValueError, match=r"`spot_diameter` is needed"):
        bl.pp.blank(ref, spatial=np.array(XY), library_id="n")


@pytest.mark.parametrize("value", WRONG, ids=repr)
def test_scale_factors_that_are_wrong(value: Any) -> None:
    def message(name: str, owner: str = "adata") -> str:
        return rf"`{owner}\.uns\['spatial'\]\['l'\]\['scalefactors'\]\['{name}'\]` must be a finite number above 0"

    for name, given in (
        ("tissue_hires_scalef", None),
        ("spot_diameter_fullres", ImageContainer(RGB)),
        ("microns_per_pixel", ImageContainer(RGB)),
    ):
        adata = spots(*XY, spatial={"l": library(**{name: value})})
        before = snapshot(adata)
        with pytest.raises(ValueError, match=message(name) + ".*Set it right, or delete it"):
            cut(adata, given, mpp=None)
        assert snapshot(adata) == before
        if name != "spot_diameter_fullres":  # which is then not needed
            assert np.array_equal(cut(adata, ImageContainer(RGB)), expected(RGB))
    ref = spots(*XY, spatial={"l": library(spot_diameter_fullres=value)})
    with pytest.raises(ValueError, match=message("spot_diameter_fullres", "ref")):
        bl.pp.blank(ref, spatial=np.array(XY), library_id="n")


@pytest.mark.parametrize(
    "found",
    [None, 3, [1], {"l": None}, {"l": {"scalefactors": None}}, {"l": {"images": [1], "metadata": 3}}, {3: {}}],
    ids=repr,
)
def test_records_that_are_none(found: Any) -> None:
    """Where no mapping stands, nothing is said."""
    adata = spots(*XY, spatial=found)
    with pytest.raises(ValueError, match=r"no `image` was given for .*Pass `image=`"):
        cut(adata)
    assert np.array_equal(cut(adata, ImageContainer(RGB)), expected(RGB))
    with pytest.raises(ValueError, match=r"`spot_diameter` is needed"):
        bl.pp.blank(adata, spatial=np.array(XY), library_id="n")


@pytest.mark.parametrize("path", [3, [1], b"x", "", "a\0b", "x" * 5000, "~nobody-of-that-name/x.png"], ids=str)
def test_recorded_paths_that_are_none(path: Any) -> None:
    entry = library()
    entry["metadata"] = {"source_image_path": path}
    assert np.array_equal(cut(spots(*XY, spatial={"l": entry})), expected(RGB))


@pytest.mark.parametrize("hires", ["x", RGB[0, 0], RGB[None]], ids=["text", "a pixel", "four axes"])
def test_a_hires_image_that_is_none(hires: Any) -> None:
    adata = spots(*XY, spatial={"l": library() | {"images": {"hires": hires}}})
    before = snapshot(adata)
    with pytest.raises(ValueError, match=r"`adata\.uns\['spatial'\]\['l'\]\['images'\]\['hires'\]` must be an image"):
        cut(adata)
    assert snapshot(adata) == before


OUTSIDE: dict[str, tuple[tuple[float, float], dict[str, Any], str]] = {
    "one": ((50.0, 10.0), {}, r"1 of 2 spots of 'library' \(x from 20 to 50"),
    "far away": ((1e300, 10.0), {}, r"1 of 2 spots.*x from 20 to 1e\+300"),
    "a large scale": ((30.0, 10.0), {"scale": 1e6}, r"2 of 2 spots.*on an image of 50 x 40 pixels"),
}


@pytest.mark.parametrize("case", OUTSIDE)
def test_spots_outside_the_image(case: str) -> None:
    place, how, message = OUTSIDE[case]
    adata = spots(XY[0], place)
    before = snapshot(adata)
    with pytest.raises(ValueError, match=r"`adata\.obsm\['spatial'\]` lies outside the image for " + message) as caught:
        cut(adata, ImageContainer(RGB, **how))
    assert len(str(caught.value)) < 500
    assert snapshot(adata) == before


@pytest.mark.parametrize(("um", "mpp"), [(1e12, 0.5), (1e-9, 0.5), (100, 1e-9), (1, 1e9)])
def test_windows_of_an_absurd_width(um: float, mpp: float) -> None:
    adata = spots(*XY)
    before = snapshot(adata)
    with pytest.raises(ValueError, match=r"`um=.*pixels wide on the image of 'library', of .*not in µm, or the scale"):
        cut(adata, ImageContainer(RGB), um=um, mpp=mpp)
    assert snapshot(adata) == before


def test_more_crops_than_memory_holds() -> None:
    adata = AnnData(np.ones((200_000, 1), dtype=np.float32), obsm={"spatial": np.full((200_000, 2), 20.0)})
    with pytest.raises(MemoryError, match=r"200000 crops of `size=16384` take .* GiB.*Pass `lazy=True`"):
        cut(adata, ImageContainer(RGB), size=16_384)
    assert list(adata.obsm) == ["spatial"]
