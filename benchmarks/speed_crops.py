"""Time and memory of `pp.crops`, from memory and from large tiled TIFFs.

    python benchmarks/speed_crops.py [--spots 5000] [--side 27000] [--json F]

From memory it is measured against slicing in a bare loop and against squidpy's own crops, from a file against
decoding each touched tile once. Wide crops of a pyramid are measured against those of the same slide without its lower
levels. Every comparison takes turns in one process; memory is measured in a fresh one.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile
from _timing import Row, arguments_of, peak_growth, ratio, report, take_turns
from anndata import AnnData
from squidpy.im import ImageContainer

import bleep_sc as bl

SIZE, SMALL, ROUNDS = 224, 32, 3
MAKES = {"jpeg": (256, "jpeg"), "deflate": (512, "zlib"), "bare": (512, None)}


def main() -> None:
    arguments = arguments_of(__doc__, spots=5000, side=27_000)
    bl.settings.progress_bar, bl.settings.verbosity = False, "error"
    rows = [*in_memory(2 * arguments.spots), growth()]
    with tempfile.TemporaryDirectory() as folder:
        for make, (tile, _) in MAKES.items():
            path = Path(folder) / f"{make}.tif"
            write_slide(path, arguments.side, make)
            rows += from_file(path, spots(arguments.spots, arguments.side, SIZE), tile)
            if make == "jpeg":  # as scanners write
                rows.append(by_level(path, arguments.side))
            path.unlink()
    report(rows, arguments.json)


def in_memory(n: int, side: int = 12_000) -> Iterator[Row]:
    image = np.random.default_rng(0).integers(0, 256, size=(side, side, 3), dtype=np.uint8)
    adata, container = spots(n, side, SIZE), ImageContainer(image, copy=False)
    corners = np.rint(adata.obsm["spatial"]).astype(int) - SIZE // 2
    few = adata[:: max(1, n // 100)].copy()
    few.uns["spatial"] = {"library": {"scalefactors": {"spot_diameter_fullres": SIZE}}}

    def slices(corners: np.ndarray = corners) -> None:
        out = np.empty((len(corners), SIZE, SIZE, 3), dtype=np.uint8)
        for i, (x, y) in enumerate(corners):
            out[i] = image[y : y + SIZE, x : x + SIZE]

    def squidpy() -> None:
        for _ in container.generate_spot_crops(few, library_id="library"):
            pass

    seconds = take_turns(ROUNDS, crops=lambda: cut(adata, container), slices=slices)
    yield Row(f"{n} crops of {SIZE} px from memory", "bare slicing", ratio(seconds, "crops", "slices"), "<= 1.5")
    where = np.rint(few.obsm["spatial"]).astype(int) - SIZE // 2
    seconds = take_turns(ROUNDS, slices=lambda: slices(where), squidpy=squidpy)
    slower = ratio(seconds, "squidpy", "slices")
    yield Row(f"generate_spot_crops of {few.n_obs} spots", "bare slicing", slower, "for comparison")


def growth(side: int = 4000) -> Row:
    """Slope of log time over log number of spots."""
    numbers = [1000, 3000, 10_000, 30_000]
    container = ImageContainer(np.full((side, side, 3), 200, dtype=np.uint8), copy=False)
    sets = {f"n{n}": spots(n, side, SMALL) for n in numbers}
    seconds = take_turns(3 * ROUNDS, **{n: lambda a=a: cut(a, container, size=SMALL) for n, a in sets.items()})
    fastest = [min(seconds[f"n{n}"]) for n in numbers]
    slope = float(np.polyfit(np.log(numbers), np.log(fastest), 1)[0])
    return Row(f"growth from 1,000 to 30,000 crops of {SMALL} px", "slope in log-log", slope, "<= 1.1")


def from_file(path: Path, adata: AnnData, tile: int) -> Iterator[Row]:
    tiles = touched(adata, path, tile)

    def decode_once() -> None:
        with tifffile.TiffFile(path) as file:
            page = file.pages[0]
            offsets, counts = ([numbers[i] for i in tiles] for numbers in (page.dataoffsets, page.databytecounts))
            for encoded, i in file.filehandle.read_segments(offsets, counts, tiles, buffersize=2**24):
                page.decode(encoded, i, jpegtables=page.jpegtables)

    def decode_and_write() -> None:
        decode_once()
        np.empty((adata.n_obs, SIZE, SIZE, 3), dtype=np.uint8).fill(200)

    what = f"{adata.n_obs} crops of {SIZE} px from {path.stat().st_size / 2**30:.1f} GB, {path.stem} tiles of {tile} px"
    seconds = take_turns(ROUNDS, crops=lambda: cut(adata, path), once=decode_once)
    yield Row(what, "decoding touched tiles once", ratio(seconds, "crops", "once"), "<= 2", f"{len(tiles)} tiles")
    if path.stem == "bare":  # what the system holds in memory is read faster than crops are written
        seconds = take_turns(ROUNDS, crops=lambda: cut(adata, path), both=decode_and_write)
        yield Row("the same", "that, and writing the crops' bytes", ratio(seconds, "crops", "both"), "<= 2")
    growth = float(subprocess.check_output([sys.executable, __file__, "--child", str(path), str(adata.n_obs)]))  # noqa: S603
    beyond = growth - adata.n_obs * SIZE**2 * 3 / 2**20
    yield Row("their memory beyond the crops", "1 GB", beyond / 1024, "<= 1", f"{beyond:.0f} MB")


def by_level(path: Path, side: int, *, n: int = 200, um: float = 500, mpp: float = 0.25) -> Row:
    """Time wide crops of a pyramid, beside those of level 0 alone, and compare their values."""
    flat = path.with_stem("flat")
    write_slide(flat, side, path.stem, levels=1)
    sets = {name: spots(n, side, round(um / mpp / 2)) for name in ("pyramid", "flat")}
    files = {"pyramid": path, "flat": flat}
    seconds = take_turns(
        ROUNDS, **{name: lambda name=name: bl.pp.crops(sets[name], files[name], um=um, mpp=mpp) for name in files}
    )
    flat.unlink()
    differ = np.abs(sets["pyramid"].obsm["crops"].astype(np.int16) - sets["flat"].obsm["crops"]).mean(axis=(1, 2, 3))
    scale = sets["pyramid"].uns["crops"]["library"]["level_scale"]
    detail = (
        f"{np.median(seconds['pyramid']):.1f} s from the level of scale {scale:g}, {np.median(seconds['flat']):.1f} s "
        f"from level 0, {differ.max():.1f} grey levels apart in the mean of a crop at most"
    )
    what = f"{n} crops of {um:g} µm from a pyramid of {mpp:g} µm a pixel"
    return Row(what, "the same slide without lower levels", ratio(seconds, "pyramid", "flat"), "<= 0.33", detail)


def child(path: str, n: str) -> None:
    """In a process of its own: how much memory grew."""
    bl.settings.progress_bar, bl.settings.verbosity = False, "error"
    with tifffile.TiffFile(path) as file:
        side = file.pages[0].imagelength
    adata = spots(int(n), side, SIZE)
    cut(spots(1, side, SIZE), path)  # so that libraries do not count
    print(peak_growth(lambda: cut(adata, path)))


def cut(adata: AnnData, image: object, *, size: int = SIZE) -> None:
    bl.pp.crops(adata, image, size=size, mpp=0.5)
    # or the next crops would be written to memory never touched, those of the loop to memory that was
    del adata.obsm["crops"]


def spots(n: int, side: int, size: int) -> AnnData:
    xy = np.random.default_rng(1).integers(size, side - size, size=(n, 2)).astype(np.float64)
    return AnnData(np.zeros((n, 1), dtype=np.float32), obsm={"spatial": xy})


def touched(adata: AnnData, path: Path, tile: int) -> list[int]:
    with tifffile.TiffFile(path) as file:
        wide = -(-file.pages[0].imagewidth // tile)
    corners = np.rint(adata.obsm["spatial"]).astype(int) - SIZE // 2
    first, last = corners // tile, (corners + SIZE - 1) // tile
    return sorted(
        {
            row * wide + column
            for (left, top), (right, bottom) in zip(first.tolist(), last.tolist(), strict=True)
            for row in range(top, bottom + 1)
            for column in range(left, right + 1)
        }
    )


def write_slide(path: Path, side: int, make: str, levels: int = 3) -> None:
    """A pyramid of grainy, smooth colours, each level averaged over 4 x 4 pixels; a few tiles, again and again."""
    tile, compression = MAKES[make]
    rng = np.random.default_rng(0)
    smooth = rng.normal(190, 30, size=(16, tile // 16, tile // 16, 3)).repeat(16, axis=1).repeat(16, axis=2)
    stock = np.clip(smooth + rng.normal(0, 5, size=smooth.shape), 0, 255).astype(np.uint8)
    which = rng.integers(16, size=2 * (16 * -(-side // (16 * tile)),))
    options = {"tile": (tile, tile), "compression": compression, "photometric": "rgb", "dtype": np.uint8}
    if compression == "zlib":
        options["compressionargs"] = {"level": 1}
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for level in range(levels):
            length = side // 4**level
            file.write(
                averaged(stock, which, 4**level, -(-length // tile)),
                shape=(length, length, 3),
                subifds=levels - 1 if level == 0 else 0,
                subfiletype=int(level > 0),
                **options,
            )


def averaged(stock: np.ndarray, which: np.ndarray, step: int, number: int) -> Iterator[np.ndarray]:
    """The tiles of a level, as many along each side, of which each shows `step` x `step` tiles of level 0."""
    tile = stock.shape[1]
    small = stock.reshape(-1, tile // step, step, tile // step, step, 3).mean(axis=(2, 4)).round().astype(np.uint8)
    for row in range(number):
        for column in range(number):
            part = small[which[row * step :, column * step :][:step, :step]]
            yield part.transpose(0, 2, 1, 3, 4).reshape(tile, tile, 3)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
    else:
        main()
