"""Crops from TIFFs of all makes, compared with the same pixels in memory."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from anndata import AnnData
from conftest import import_path, threads_left
from squidpy.im import ImageContainer

import bleep_sc as bl
from bleep_sc.pp._images import tiff
from bleep_sc.pp._images.tiff import TiffImage

pytestmark = [
    pytest.mark.filterwarnings("ignore:the scale of the image is unknown:UserWarning"),
]


@pytest.fixture
def pixels() -> np.ndarray:
    """Not a multiple of any tile; 8 by 8 blocks, so that JPEG changes little."""
    blocks = np.random.default_rng(0).integers(0, 256, size=(25, 31, 3), dtype=np.uint8)
    return blocks.repeat(8, axis=0).repeat(8, axis=1)[:193, :241]


def spots(n: int = 60, seed: int = 0) -> AnnData:
    xy = np.random.default_rng(seed).uniform(0, [240, 192], size=(n, 2))
    xy[:4] = [(0, 0), (240, 192), (0, 192), (240, 0)]
    return AnnData(np.ones((n, 2), dtype=np.float32), obsm={"spatial": xy})


def pyramid(path: Path, pixels: np.ndarray, *, subifds: bool, **options: Any) -> None:
    with tifffile.TiffWriter(path) as file:
        options = {"photometric": "rgb", "tile": (64, 64), **options}
        file.write(pixels, subifds=2 if subifds else 0, **options)
        for step in (2, 4):
            file.write(pixels[::step, ::step], subfiletype=1, **options)


def sparse(path: Path, pixels: np.ndarray) -> None:
    """The lower half is left out."""
    tiles = (
        None if y >= 96 else np.pad(part, ((0, 96 - part.shape[0]), (0, 80 - part.shape[1]), (0, 0)))
        for y in range(0, 193, 96)
        for x in range(0, 241, 80)
        for part in [pixels[y : y + 96, x : x + 80]]
    )
    tifffile.imwrite(
        path, tiles, shape=pixels.shape, dtype=np.uint8, tile=(96, 80), compression="zlib", photometric="rgb"
    )


def written(**options: Any) -> Callable[[Path, np.ndarray], None]:
    axis = 0 if options.get("planarconfig") == "separate" else 2
    return lambda path, pixels: tifffile.imwrite(path, np.moveaxis(pixels, 2, axis), photometric="rgb", **options)


MAKES: dict[str, Callable[[Path, np.ndarray], None]] = {
    "one bare strip": written(),
    "bare strips": written(rowsperstrip=10),
    "bare strips, big endian": written(rowsperstrip=10, byteorder=">"),
    "deflated strips": written(rowsperstrip=10, compression="zlib"),
    "large deflated strips": written(rowsperstrip=100, compression="zlib"),
    "planes of strips": written(rowsperstrip=7, compression="zlib", planarconfig="separate"),
    "bare planes": written(planarconfig="separate"),
    "bare tiles": written(tile=(32, 48)),
    "deflated tiles": written(tile=(32, 48), compression="zlib"),
    "predicted tiles": written(tile=(32, 48), compression="zlib", predictor=True),
    "LZW tiles": written(tile=(64, 64), compression="lzw"),
    "JPEG tiles": written(tile=(64, 64), compression="jpeg"),
    "large JPEG tile": written(tile=(256, 256), compression="jpeg"),
    "planes of tiles": written(planarconfig="separate", tile=(32, 48), compression="zlib"),
    "BigTIFF": written(tile=(32, 48), bigtiff=True),
    "sparse tiles": sparse,
    "pyramid": lambda path, pixels: pyramid(path, pixels, subifds=True, compression="zlib"),
    "pyramid of pages": lambda path, pixels: pyramid(path, pixels, subifds=False, compression="jpeg"),
    "OME": lambda path, pixels: pyramid(path.with_suffix(".ome.tif"), pixels, subifds=True, metadata={"axes": "YXS"}),
    "OME, page for each channel": lambda path, pixels: tifffile.imwrite(
        path.with_suffix(".ome.tif"),
        np.moveaxis(pixels, 2, 0),
        photometric="minisblack",
        tile=(32, 48),
        compression="zlib",
        metadata={"axes": "CYX", "Channel": {"Name": ["R", "G", "B"]}},
    ),
    "smaller image first": lambda path, pixels: (
        tifffile.imwrite(path, pixels[:50, :60], photometric="rgb"),
        tifffile.imwrite(path, pixels, photometric="rgb", tile=(64, 64), append=True),
    )[0],
}
EXACT = [make for make in MAKES if make not in ("JPEG tiles", "large JPEG tile", "pyramid of pages", "sparse tiles")]


def made(make: str, pixels: np.ndarray, folder: Path) -> Path:
    MAKES[make](folder / "slide.tif", pixels)
    return next(folder.glob("slide*"))


def cut_in_memory(adata: AnnData, pixels: np.ndarray, **arguments: Any) -> np.ndarray:
    adata = adata.copy()
    bl.pp.crops(adata, ImageContainer(pixels), **arguments)
    return np.asarray(adata.obsm["crops"])


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("make", MAKES)
def test_every_make_is_read_as_the_whole_page(
    make: str, threads: int, pixels: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tifffile.TIFF, "MAXWORKERS", threads)
    path, adata = made(make, pixels, tmp_path), spots()
    with tifffile.TiffFile(path) as file:
        whole = max(file.series, key=lambda series: series.keyframe.imagelength).asarray()
    whole = np.moveaxis(whole, 0, -1) if whole.shape[0] == 3 else whole
    if make == "sparse tiles":  # tifffile makes them black
        whole = np.where((np.arange(len(whole)) >= 96)[:, None, None], np.uint8(255), whole)
    assert whole.shape == pixels.shape
    if make in EXACT:
        assert np.array_equal(whole, pixels)
    bl.pp.crops(adata, path, size=40)
    assert np.array_equal(adata.obsm["crops"], cut_in_memory(adata, whole, size=40))
    assert adata.uns["crops"]["library"]["source"] == path.name


@pytest.mark.parametrize("working_mb", [1e-6, 128])
@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("make", ["bare strips", "planes of strips", "deflated strips", "planes of tiles", "pyramid"])
@pytest.mark.slow
def test_at_random(
    make: str,
    lazy: bool,  # noqa: FBT001
    working_mb: float,
    pixels: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Any size, border and resampling; with memory for one crop at a time, and for all."""
    monkeypatch.setattr(bl.settings, "_memory", 2 * working_mb)
    monkeypatch.setattr(tiff, "_ROWS", 44)
    path, rng = made(make, pixels, tmp_path), np.random.default_rng(7)
    for seed in range(6):
        adata = spots(20 if lazy else 40, seed=seed)
        arguments = {
            "size": int(rng.integers(1, 300 if seed == 5 else 90)),
            "border": rng.choice(["white", "reflect"]),
            "um": rng.choice([None, rng.uniform(3, 60)]),
            "mpp": 0.5,
        }
        bl.pp.crops(adata, path, lazy=lazy, **arguments)
        assert np.array_equal(np.asarray(adata.obsm["crops"]), cut_in_memory(adata, pixels, **arguments)), arguments


def grey(p: np.ndarray) -> np.ndarray:
    return p[..., 0]


KINDS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], dict[str, Any]]] = {
    "grey": (grey, {"photometric": "minisblack"}),
    "RGBA": (lambda p: np.concatenate([p, p[..., :1]], axis=2), {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
    "uint16": (lambda p: p.astype(np.uint16), {"photometric": "rgb"}),
    "uint16, big endian": (lambda p: p.astype(np.uint16), {"photometric": "rgb", "byteorder": ">"}),
    "float": (lambda p: (p / 255).astype(np.float32), {"photometric": "rgb"}),
}


@pytest.mark.parametrize("tiles", [{}, {"tile": (32, 48), "compression": "zlib"}], ids=["bare", "tiles"])
@pytest.mark.parametrize("um", [None, 20.0])
@pytest.mark.parametrize("kind", KINDS)
def test_other_images_become_rgb(
    kind: str, um: float | None, tiles: dict[str, Any], pixels: np.ndarray, tmp_path: Path
) -> None:
    turn, options = KINDS[kind]
    tifffile.imwrite(tmp_path / "slide.tif", turn(pixels), **options, **tiles)
    adata, arguments = spots(), {"size": 30, "um": um, "mpp": 0.5, "border": "reflect"}
    bl.pp.crops(adata, tmp_path / "slide.tif", **arguments)
    in_memory = turn(pixels)[..., None] if kind == "grey" else turn(pixels)
    assert np.array_equal(adata.obsm["crops"], cut_in_memory(adata, in_memory, **arguments))


def test_any_suffix_will_do(pixels: np.ndarray, tmp_path: Path) -> None:
    path, adata = made("pyramid", pixels, tmp_path).rename(tmp_path / "slide.svs"), spots()
    bl.pp.crops(adata, str(path), size=16)
    assert np.array_equal(adata.obsm["crops"], cut_in_memory(adata, pixels, size=16))
    with pytest.raises(ValueError, match=r"no layer 'he'.*'image'"):
        bl.pp.crops(adata, path, image_layer="he")


def test_each_section_may_have_a_plane(pixels: np.ndarray, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "slide.tif", np.stack([pixels, 255 - pixels]), photometric="rgb")
    adata = spots()
    adata.obs["section"] = np.where(np.arange(adata.n_obs) % 2, "1", "0")
    paths = dict.fromkeys("01", tmp_path / "slide.tif")
    bl.pp.crops(adata, paths, size=16, library_key="section", series={"0": 0, "1": 1})
    assert np.array_equal(adata.obsm["crops"][1::2], cut_in_memory(adata, 255 - pixels, size=16)[1::2])


def test_only_touched_tiles_are_decoded_and_each_once(
    pixels: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[tuple[int, int]] = []
    read_tiles = TiffImage.read_tiles

    def noting(self: TiffImage, tiles: Any) -> Any:
        decoded.extend(tiles)
        return read_tiles(self, tiles)

    monkeypatch.setattr(TiffImage, "read_tiles", noting)
    path = made("JPEG tiles", pixels, tmp_path)
    adata = spots()[:3].copy()
    adata.obsm["spatial"] = np.array([[30, 30], [60, 40], [200, 180]])
    bl.pp.crops(adata, path, size=20)
    assert decoded == [(0, 0), (0, 1), (2, 2), (2, 3)]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    files = []

    class Noted(tifffile.TiffFile):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            files.append(self)

    monkeypatch.setattr(tifffile, "TiffFile", Noted)
    return files


@pytest.mark.odd
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("make", ["one bare strip", "deflated strips", "deflated tiles", "JPEG tiles"])
def test_a_truncated_file_is_named_and_closed(
    make: str,
    threads: int,
    pixels: np.ndarray,
    tmp_path: Path,
    opened: list[Any],
    unchanged: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tifffile.TIFF, "MAXWORKERS", threads)
    path, adata, running = made(make, pixels, tmp_path), spots(), threading.enumerate()
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    unchanged(adata)
    with pytest.raises(ValueError, match=r"image of 'library'.*cut short or damaged"):
        bl.pp.crops(adata, path, size=20)
    assert len(opened) == 2, "once to look, once to read"
    assert all(file.filehandle.closed for file in opened)
    assert threads_left(running) == []


def test_files_are_closed(pixels: np.ndarray, tmp_path: Path, opened: list[Any]) -> None:
    adata, threads = spots(), threading.enumerate()
    bl.pp.crops(adata, made("JPEG tiles", pixels, tmp_path), size=20)
    assert len(opened) == 2
    assert all(file.filehandle.closed for file in opened)
    assert threads_left(threads) == []


@pytest.mark.odd
def test_a_range_that_fails_late_changes_nothing(
    pixels: np.ndarray, tmp_path: Path, unchanged: Callable[..., None], opened: list[Any]
) -> None:
    wide = pixels.astype(np.uint16)
    wide[-1, -1] = 256
    tifffile.imwrite(tmp_path / "slide.tif", wide, photometric="rgb", tile=(32, 48), compression="zlib")
    adata = spots()
    unchanged(adata)
    with pytest.raises(ValueError, match=r"values of 16 bits that seemed to go from 0 to 255 and go up to 256"):
        bl.pp.crops(adata, tmp_path / "slide.tif", size=20)
    assert all(file.filehandle.closed for file in opened)


def test_progress_bar_moves_by_spots(pixels: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bl.pp.crops(spots(), made("JPEG tiles", pixels, tmp_path), size=20, progress_bar=True)
    assert "/60 [" in capsys.readouterr().err


def test_lazy_crops_reopen_the_file_elsewhere(pixels: np.ndarray, tmp_path: Path) -> None:
    import cloudpickle

    adata = spots(300)
    bl.pp.crops(adata, made("JPEG tiles", pixels, tmp_path), size=20, lazy=True)
    packed = cloudpickle.dumps(adata.obsm["crops"])
    assert len(packed) < pixels.nbytes, "the pixels must not travel"
    assert np.array_equal(cloudpickle.loads(packed).compute(scheduler="sync"), adata.obsm["crops"].compute())


@pytest.mark.slow
def test_lazy_crops_on_a_cluster(pixels: np.ndarray, tmp_path: Path) -> None:
    """In a process of its own: a cluster that fails would stay every later test's scheduler."""
    path, found = made("deflated tiles", pixels, tmp_path), tmp_path / "found.npy"
    command = [sys.executable, __file__, str(path), str(found)]
    environment = os.environ | import_path(Path(__file__).parents[2])  # of conftest
    subprocess.run(command, env=environment, check=True, timeout=120, capture_output=True)
    assert np.array_equal(np.load(found), cut_in_memory(spots(300), pixels, size=20))


def cut_on_a_cluster(path: str, found: str) -> None:
    from distributed import Client

    adata = spots(300)
    bl.pp.crops(adata, path, size=20, lazy=True)
    with Client(n_workers=1, threads_per_worker=1, dashboard_address=":0", local_directory=Path(found).parent):
        np.save(found, adata.obsm["crops"].compute())


if __name__ == "__main__":
    cut_on_a_cluster(*sys.argv[1:])
