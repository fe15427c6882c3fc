"""How long hand-made features of colour and texture take, against decoding the same tissue and against another version.

    git worktree add ../before a6017e6
    python benchmarks/speed_color.py --before ../before --json speed_color.json

Crops of 224 pixels around spots of a HER2ST section are described on one thread and on all. Decoding is that of the
JPEG tiles of 256 pixels that the crops touch, each once, on one thread. Another version describes the same crops in a
process of its own, which waits while this one works. All take turns.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anndata as ad
import numpy as np
import tifffile
import torch
from _sections import data_folder, image_of
from _timing import Row, ratio, report, take_turns
from anndata import AnnData
from PIL import Image
from speed_crops import SIZE, touched

import bleep_sc as bl
from bleep_sc.models.encoders.color import color_features

SECTION, TILE = "C2", 256
GOAL = "<= 0.17"
"""Six times as fast."""

OTHER = """
import sys, time
import numpy as np, torch
from bleep_sc.models.encoders.color import color_features
crops = np.load(sys.argv[1])
torch.set_num_threads(int(sys.argv[2]))
for _ in sys.stdin:
    start = time.process_time()
    color_features(crops, progress_bar=False)
    print(time.process_time() - start, flush=True)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spots", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--before", type=Path, help="a checkout of another version")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    bl.settings.progress_bar = False
    n_threads = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        spots, crops, slide = tissue(arguments.spots, Path(folder))

        cpu: dict[str, list[float]] = {"alone": [], "all": [], "before": []}

        def described(name: str, threads: int) -> None:
            torch.set_num_threads(threads)
            start = time.process_time()
            color_features(crops, progress_bar=False)
            cpu[name].append(time.process_time() - start)

        runs = {
            "alone": lambda: described("alone", 1),
            "all": lambda: described("all", n_threads),
            "decoding": decoding(spots, slide),
        }
        if arguments.before is None:
            seconds = take_turns(arguments.rounds, **runs)
        else:
            with other_version(arguments.before, crops, Path(folder), n_threads) as before:
                seconds = take_turns(arguments.rounds, **runs, before=lambda: cpu["before"].append(before()))
    report(rows_of(seconds, cpu, len(crops), n_threads), arguments.json)


def rows_of(seconds: dict[str, list[float]], cpu: dict[str, list[float]], n: int, n_threads: int) -> Iterator[Row]:
    each = {name: f"{1000 * np.median(times) / n:.2f} ms a spot" for name, times in seconds.items()}
    what = f'`encoder="color"`, {n} crops of {SIZE} px'
    threads = f"{n_threads} threads"
    if "before" in seconds:
        detail = f"{each['all']} on {threads}, {each['before']} before"
        yield Row(what, "the version before", ratio(seconds, "all", "before"), GOAL, detail)
        processor = ratio(cpu, "all", "before")
        yield Row("the same, in seconds of the processor", "the version before", processor, "for comparison")
    detail = f"{each['all']} on {threads}, {each['decoding']} to decode"
    against = f"decoding touched JPEG tiles of {TILE} px once, on one thread"
    yield Row(what, against, ratio(seconds, "all", "decoding"), "for comparison", detail)
    detail = f"{each['alone']} on one thread"
    yield Row(what + f" on {threads}", "one thread", ratio(seconds, "all", "alone"), "for comparison", detail)


def tissue(n: int, folder: Path) -> tuple[AnnData, np.ndarray, Path]:
    """Spots of a section, their crops, and its image as a slide of JPEG tiles."""
    adata = ad.read_h5ad(data_folder() / "her2st" / f"{SECTION}.h5ad")
    spots = AnnData(obs=adata.obs[:n], obsm={"spatial": adata.obsm["spatial"][:n]})
    Image.MAX_IMAGE_PIXELS = None
    with Image.open(image_of(SECTION)) as picture:
        image = np.asarray(picture.convert("RGB"))
    corners = np.rint(spots.obsm["spatial"]).astype(int) - SIZE // 2
    crops = np.stack([image[y : y + SIZE, x : x + SIZE] for x, y in corners])
    slide = folder / "slide.tif"
    tifffile.imwrite(slide, image, tile=(TILE, TILE), compression="jpeg", photometric="rgb")
    return spots, crops, slide


def decoding(spots: AnnData, slide: Path) -> Callable[[], None]:
    tiles = touched(spots, slide, TILE)

    def decode() -> None:
        with tifffile.TiffFile(slide) as file:
            page = file.pages[0]
            offsets, counts = ([numbers[i] for i in tiles] for numbers in (page.dataoffsets, page.databytecounts))
            for encoded, i in file.filehandle.read_segments(offsets, counts, tiles, buffersize=2**24):
                page.decode(encoded, i, jpegtables=page.jpegtables)

    return decode


@contextmanager
def other_version(checkout: Path, crops: np.ndarray, folder: Path, n_threads: int) -> Iterator[Callable[[], float]]:
    """Lend a function that has another checkout describe the crops, in a process that lives as long as the block.

    It returns the seconds of the processor that this took, which tell more than the clock's on a busy machine.
    """
    np.save(folder / "crops.npy", crops)
    command = [sys.executable, "-W", "ignore", "-c", OTHER, str(folder / "crops.npy"), str(n_threads)]
    environment = os.environ | {"PYTHONPATH": str((checkout / "src").resolve())}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as process:  # noqa: S603 - this Python, with a script of ours
        assert process.stdin is not None
        assert process.stdout is not None

        def describe() -> float:
            print(file=process.stdin, flush=True)
            answer = process.stdout.readline()
            if not answer:
                msg = f"the version at {checkout} could not describe the crops"
                raise SystemExit(msg)
            return float(answer)

        yield describe
        process.stdin.close()


if __name__ == "__main__":
    main()
