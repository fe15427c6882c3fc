"""What `pp.crops` makes of every kind of image, what it notices where image and spots do not fit, and what that costs.

    python benchmarks/images.py colors
    python benchmarks/images.py alarms
    python benchmarks/images.py levels
    git worktree add /tmp/before bc8365f && python benchmarks/images.py times --before /tmp/before

`colors` writes a small image of each kind of colours and compares the crop with the colours that are to be seen.
`alarms` cuts each real section as it is, where nothing must be found, and with its image or places turned, swapped,
scaled or taken from another section, with and without the small picture in `uns`. `levels` makes a pyramid of a real
section and compares crops of its lower levels with those of full resolution. `times` cuts the same crops by this
checkout and by an earlier one, in turns, each in a process of its own.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import tifffile
from _sections import commit, data_folder
from anndata import AnnData
from PIL import Image

import bleep_sc as bl

Image.MAX_IMAGE_PIXELS = None
SECTIONS = {
    "her2st": ("C2", "C3", "C4", "C5", "C6"),
    "her2st_b": ("B4",),
    "mob2k": ("MOB1", "MOB2", "MOB3", "MOB4"),
    "mob1k_layers": ("Rep11", "Rep12"),
}
TURNS = {
    "image mirrored left to right": np.fliplr,
    "image upside down": np.flipud,
    "image turned by 90°": np.rot90,
    "image turned by 180°": lambda image: np.rot90(image, 2),
}
ONE_CUT = """
import sys, time, warnings
import anndata as ad
import bleep_sc as bl
bl.settings.progress_bar, bl.settings.verbosity = False, "error"
warnings.simplefilter("ignore")
path, image, mpp, um, n = sys.argv[1:]
adata = ad.read_h5ad(path)
times = []
for _ in range(int(n)):
    start = time.perf_counter()
    bl.pp.crops(adata, image, mpp=float(mpp), um=float(um) or None)
    times.append(time.perf_counter() - start)
print(sorted(times[1:])[len(times) // 2 - 1])
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["colors", "alarms", "levels", "times"])
    parser.add_argument("--before", type=Path, help="checkout of an earlier version, for `times`")
    parser.add_argument("--turns", type=int, default=5, help="number of turns of `times`")
    arguments = parser.parse_args()
    bl.settings.progress_bar, bl.settings.verbosity = False, "error"
    print(f"commit {commit()}")
    if arguments.what == "times":
        if arguments.before is None:
            parser.error("`times` needs --before")
        times(arguments.before, arguments.turns)
    else:
        {"colors": colors, "alarms": alarms, "levels": levels}[arguments.what]()


def colors() -> None:
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from image_kinds import REFUSED, RIGHT, SIDE

    print("| kind | to be seen (upper left) | crop | furthest apart |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for kind, (suffix, write, expected) in RIGHT.items():
            path = Path(folder) / f"{len(kind)}.{suffix}"
            write(path)
            crop = _one_crop(path, SIDE)
            seen = expected if expected.ndim == 3 else expected[..., None].repeat(3, axis=2)
            inner = np.ix_(*[[i for i in range(2 * SIDE) if 4 <= i % SIDE < SIDE - 4]] * 2)
            apart = np.abs(crop.astype(int) - seen)[inner].max()
            print(f"| {kind} | {tuple(seen[8, 8].tolist())} | {tuple(crop[8, 8].tolist())} | {apart} |", flush=True)
        for kind, (write, _) in REFUSED.items():
            path = Path(folder) / "refused.tif"
            write(path)
            try:
                outcome = f"cut: {tuple(_one_crop(path, SIDE)[8, 8].tolist())}"
            except ValueError as err:
                outcome = "refused: " + str(err).split("'refused.tif' ")[-1].split(". ")[0]
            print(f"| {kind} | – | {outcome} | |", flush=True)


def alarms() -> None:
    false, noticed, named, tried = [], {}, {}, {}
    for pack, name, adata, image, mpp in _real_sections():
        for picture in (True, False):
            section = _without_picture(adata) if not picture else adata
            found = _findings(section.copy(), image, mpp)
            if found:
                false.append(f"{pack}/{name}: {found}")
            for case, (wrong, pixels, right) in _wrong(section, image).items():
                found = _findings(wrong, pixels, mpp)
                key = case, "with the small picture" if picture else "without"
                tried[key] = tried.get(key, 0) + 1
                noticed[key] = noticed.get(key, 0) + bool(found)
                named[key] = named.get(key, 0) + (right in found)
    n_sections = len(list(_names()))
    print(f"\nfalse alarms on {n_sections} sections, with and without the small picture: {len(false)} {false}\n")
    print("| what is wrong | small picture | noticed | the right way named |\n|---|---|---|---|")
    for key, n in tried.items():
        print(f"| {key[0]} | {key[1]} | {noticed[key]} of {n} | {named[key]} of {n} |")


def levels() -> None:
    adata = ad.read_h5ad(data_folder() / "her2st" / "C6.h5ad")
    pixels = np.asarray(Image.open(data_folder() / "her2st" / "C6.jpg").convert("RGB"))
    with tempfile.TemporaryDirectory() as folder:
        files = {kind: Path(folder) / f"{kind}.tif" for kind in ("pyramid", "flat")}
        options: dict[str, Any] = {
            "photometric": "rgb",
            "tile": (256, 256),
            "compression": "jpeg",
            "compressionargs": {"level": 95},
        }
        with tifffile.TiffWriter(files["pyramid"]) as out:
            out.write(pixels, subifds=3, **options)
            for step in (2, 4, 8):
                out.write(np.asarray(Image.fromarray(pixels).reduce(step)), subfiletype=1, **options)
        tifffile.imwrite(files["flat"], pixels, **options)
        print("| µm | level read | seconds | at full resolution | mean difference of a crop, largest |")
        print("|---|---|---|---|---|")
        for um in (100, 200, 350, 500, 1000):
            found, seconds = {}, {}
            for kind in ("pyramid", "flat") * 2:
                cut = adata.copy()
                start = time.perf_counter()
                bl.pp.crops(cut, files[kind], um=um, mpp=0.69, check="off")
                seconds[kind] = min(seconds.get(kind, 1e9), time.perf_counter() - start)
                found[kind] = cut
            crops = [found[kind].obsm["crops"].astype(int) for kind in ("pyramid", "flat")]
            apart = np.abs(crops[0] - crops[1]).mean(axis=(1, 2, 3))
            level = next(iter(found["pyramid"].uns["crops"].values()))["level_scale"]
            line = f"| {um} | 1 : {1 / level:.0f} | {seconds['pyramid']:.2f} | {seconds['flat']:.2f} |"
            print(f"{line} {apart.mean():.2f}, {apart.max():.2f} |", flush=True)


def times(before: Path, turns: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tiled = Path(folder) / "C6.tif"
        pixels = np.asarray(Image.open(data_folder() / "her2st" / "C6.jpg").convert("RGB"))
        tifffile.imwrite(
            tiled, pixels, photometric="rgb", tile=(256, 256), compression="jpeg", compressionargs={"level": 95}
        )
        del pixels
        her2st, mob = data_folder() / "her2st", data_folder() / "mob2k"
        cases = {
            "HER2ST C6, JPEG, 224 px": (her2st / "C6.h5ad", her2st / "C6.jpg", 0.69, 0),
            "HER2ST C6, JPEG, 100 µm": (her2st / "C6.h5ad", her2st / "C6.jpg", 0.69, 100),
            "HER2ST C6, tiled TIFF, 224 px": (her2st / "C6.h5ad", tiled, 0.69, 0),
            "HER2ST C6, tiled TIFF, 100 µm": (her2st / "C6.h5ad", tiled, 0.69, 100),
            "MOB1, 1,923 spots, JPEG, 100 µm": (mob / "MOB1_all_spots.h5ad", mob / "MOB1.jpg", 4.42, 100),
        }
        sources = {"before": before / "src", "now": Path(__file__).parents[1] / "src"}
        print("| crops | before, s | now, s | ratio, median of turns |\n|---|---|---|---|")
        for case, (path, image, mpp, um) in cases.items():
            found: dict[str, list[float]] = {name: [] for name in sources}
            for _ in range(turns):
                for name, source in sources.items():
                    run = subprocess.run(  # noqa: S603 - this very interpreter
                        [sys.executable, "-c", ONE_CUT, *map(str, (path, image, mpp, um, 6))],
                        env=os.environ | {"PYTHONPATH": str(source)},
                        capture_output=True,
                        text=True,
                        check=True,
                    )
                    found[name].append(float(run.stdout.split()[-1]))
            ratios = [now / then for then, now in zip(found["before"], found["now"], strict=True)]
            medians = [statistics.median(found[name]) for name in ("before", "now")]
            print(f"| {case} | {medians[0]:.3f} | {medians[1]:.3f} | {statistics.median(ratios):.3f} |", flush=True)


def _one_crop(path: Path, side: int) -> np.ndarray:
    adata = AnnData(np.ones((1, 1), dtype=np.float32), obsm={"spatial": np.array([[side, side]], dtype=float)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bl.pp.crops(adata, path, size=2 * side)
    return np.asarray(adata.obsm["crops"][0])


def _names() -> Iterator[tuple[str, str]]:
    return ((pack, name) for pack, names in SECTIONS.items() for name in names)


def _real_sections() -> Iterator[tuple[str, str, AnnData, np.ndarray, float]]:
    for pack, name in _names():
        adata = ad.read_h5ad(data_folder() / pack / f"{name}.h5ad")
        image = np.asarray(Image.open(data_folder() / pack / f"{name}.jpg").convert("RGB"))
        yield pack, name, adata, image, float(adata.uns["source"]["um_per_px"])


def _without_picture(adata: AnnData) -> AnnData:
    without = adata.copy()
    for library in without.uns["spatial"].values():
        library["images"] = {}
    return without


def _findings(adata: AnnData, image: np.ndarray, mpp: float) -> str:
    """What is found, in words; the spots beyond the rim are an error, which is found too."""
    import squidpy as sq

    library = next(iter(adata.uns["spatial"]))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            bl.pp.crops(adata, sq.im.ImageContainer(np.ascontiguousarray(image)), size=32, mpp=mpp)
    except ValueError as err:
        return str(err)
    findings = adata.uns["crops"][library]["findings"]
    return " ".join(f"{row.found} {row.remedy}" for row in findings.itertuples())


def _wrong(adata: AnnData, image: np.ndarray) -> dict[str, tuple[AnnData, np.ndarray, str]]:
    """Ways in which image and spots do not fit, each with what its remedy must hold to be right."""
    library = next(iter(adata.uns["spatial"].values()))
    factor = library["scalefactors"]["tissue_hires_scalef"]
    picture = bool(library["images"])
    remedies = {
        "image mirrored left to right": ("numpy.fliplr(image)", "mirrored left to right"),
        "image upside down": ("numpy.flipud(image)", "mirrored upside down"),
        "image turned by 90°": ("numpy.rot90(image, -1)", "turned by 90°"),
        "image turned by 180°": ("numpy.rot90(image, 2)", "turned by 180°"),
    }
    cases = {name: (adata.copy(), turn(image), remedies[name][0 if picture else 1]) for name, turn in TURNS.items()}
    swapped, small = adata.copy(), adata.copy()
    swapped.obsm["spatial"] = swapped.obsm["spatial"][:, ::-1].copy()
    small.obsm["spatial"] = small.obsm["spatial"] * factor
    cases["x and y swapped"] = (swapped, image, "x and y swapped")
    cases["places in pixels of the small picture"] = (small, image, f"/ {factor:.6g}")
    half = np.full_like(image, 250)
    half[: -(-image.shape[0] // 2), : -(-image.shape[1] // 2)] = image[::2, ::2]
    cases["image of half the size on the same canvas"] = (adata.copy(), half, "full size" if picture else "on tissue")
    return cases


if __name__ == "__main__":
    main()
