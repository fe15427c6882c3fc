"""What `pp.check_alignment` and `fit` say of real sections as given, and with their places laid in every other way.

    python benchmarks/alignment_check.py --json alignment-check.json

Each section is checked as it is, where another way must not be named. Then its places are turned, mirrored, swapped or
shifted, so that each way that the check tries brings them back in turn, and that one must be named. A line is a section
and a kind of way: how many were noticed, and how many named right. The last figure is the margin: the gain of the best
other way in standard errors, which must stay below 2 as given, and of the least clear case among the others. Then the
same of painted tissue, and of painted tissue whose spots have exchanged their expression, where nothing can be told.
Last, bins of 8 µm on the picture of a real section, whose simulated counts follow its colours, strongly or weakly: as
they are, and shifted by 16 to 150 µm. Some fifteen minutes on one core.
"""

import argparse
import json
import shlex
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import scanpy as sc
from _sections import commit, data_folder
from anndata import AnnData
from scipy import sparse

import bleep_sc as bl
from bleep_sc.pp._alignment.compare import OTHER
from bleep_sc.pp._alignment.compared import Compared, compared_places, pitch_of
from bleep_sc.pp._alignment.picture import full_size
from bleep_sc.pp._alignment.ways import Way, ways
from bleep_sc.pp._images.section import hires_image

SECTIONS = {
    "her2st": ("C2", "C3", "C4", "C5", "C6"),
    "her2st_b": ("B4",),
    "mob2k": ("MOB1", "MOB2", "MOB3", "MOB4"),
    "mob1k_layers": ("Rep11", "Rep12"),
}
KINDS = ("given", "turn", "image turn", "shift")
TOY_SEEDS = range(10)
BINS_ON = "C6"


def cases(adata: AnnData, library: str) -> Iterator[tuple[Way, AnnData]]:
    """The section with its places laid so that each way brings them back."""
    xy = adata.obsm["spatial"].astype(np.float64)
    for way in candidates(adata, library)[1]:
        moved = adata.copy()
        wrong = way.signs * (xy - way.offset)
        moved.obsm["spatial"] = np.ascontiguousarray(wrong[:, ::-1] if way.exchange else wrong)
        yield way, moved


def candidates(adata: AnnData, library: str) -> tuple[Compared, list[Way]]:
    """What the check compares, and the ways that it tries."""
    xy = adata.obsm["spatial"].astype(np.float64)
    compared = compared_places(xy, np.arange(len(xy)), 2000, seed=0)
    size = full_size(hires_image(adata.uns, library))
    return compared, ways(compared.xy, compared.pitch, size, step=compared.step)


def undoes(named: str, way: Way, moved: AnnData, library: str) -> bool:
    """Whether the way that was named brings the places back to within half a pitch, or half a block."""
    compared, found = candidates(moved, library)
    xy = moved.obsm["spatial"]
    by_name = {each.name: each for each in found}
    apart = np.linalg.norm(by_name[named].places(xy) - way.places(xy), axis=1)
    return bool(np.median(apart) <= compared.pitch / 2)


def checked(adata: AnnData, library: str) -> dict[str, Any]:
    """The record of the check, beside its seconds."""
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bl.pp.check_alignment(adata, library_id=library)
    return {**adata.uns["alignment_check"][library], "seconds": time.perf_counter() - start}


def warned_by_fit(adata: AnnData) -> bool:
    """Whether `fit` warns that the image does not fit the spots."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        bl.tl.fit(adata, method="ridge", image_key="X_colors", key_added="fitted", alpha=1.0)
    return any("does not fit the spots" in str(each.message) for each in seen)


def row_of(section: str, way: Way, moved: AnnData, *, library: str, fit: bool) -> dict[str, Any]:
    record = checked(moved, library)
    noticed = record["verdict"].startswith(OTHER)
    table = record["table"].set_index("way")
    given, best = table.iloc[0], table.loc[record["best"]]
    return {
        "section": section,
        "way": way.name,
        "kind": way.kind,
        "verdict": record["verdict"],
        "noticed": noticed,
        "named right": noticed and undoes(record["best"], way, moved, library),
        "noticed by fit": warned_by_fit(moved) if fit else None,
        "score": float(given["score"]),
        "best": float(best["score"]),
        "gain": float(best["gain"]),
        "gain_in_errors": float(best["gain_in_errors"]),
        "score_in_errors": float(best["score_in_errors"]),
        "above_chance": float(best["above_chance"]),
        "seconds": record["seconds"],
    }


def real() -> Iterator[dict[str, Any]]:
    for pack, names in SECTIONS.items():
        for name in names:
            adata = ad.read_h5ad(data_folder() / pack / f"{name}.h5ad")
            sc.pp.normalize_total(adata)
            sc.pp.log1p(adata)
            bl.pp.crops(adata, data_folder() / pack / f"{name}.jpg", size=32, check="off")
            bl.tl.encode(adata, encoder="color", key_added="X_colors")
            del adata.obsm["crops"]
            for way, moved in cases(adata, name):
                yield row_of(name, way, moved, library=name, fit=way.kind != "shift")


def painted() -> Iterator[dict[str, Any]]:
    given = Way("as given", "given", exchange=False, signs=np.ones(2), offset=np.zeros(2))
    for seed in TOY_SEEDS:
        tissue = bl.datasets.toy(n_patients=1, n_sections=1, random_state=seed)
        library = next(iter(tissue.uns["spatial"]))
        yield row_of(f"toy {seed}", given, tissue, library=library, fit=False)
        tissue.X = tissue.X[np.random.default_rng(seed).permutation(tissue.n_obs)]
        yield row_of(f"toy {seed}, shuffled", given, tissue, library=library, fit=False)


def bins() -> Iterator[dict[str, Any]]:
    source = ad.read_h5ad(data_folder() / "her2st" / f"{BINS_ON}.h5ad")
    pixels = hires_image(source.uns, BINS_ON)
    assert pixels is not None
    mpp = 200 / pitch_of(source.obsm["spatial"].astype(np.float64))  # how far these spots are apart
    picture, factor = np.asarray(pixels.array), pixels.scale
    width, height = picture.shape[1] / factor, picture.shape[0] / factor
    xy = np.stack(np.meshgrid(*(np.arange(8 / mpp, side - 8 / mpp, 8 / mpp) for side in (width, height))), axis=-1)
    xy = xy.reshape(-1, 2)
    at = np.floor(xy * factor).astype(int)
    colors = picture[at[:, 1], at[:, 0]].astype(np.float64)
    on_tissue = colors.mean(axis=1) < 215
    xy, colors = xy[on_tissue], colors[on_tissue]
    signal = (colors - colors.mean(axis=0)) / colors.std(axis=0)
    for word, slope in (("strong", 0.5), ("weak", 0.1)):
        rng = np.random.default_rng(0)
        slopes = rng.normal(size=(3, 500)) * slope
        parts = (signal[start : start + 10_000] for start in range(0, len(signal), 10_000))
        counts = (rng.poisson(0.15 * np.exp(np.clip(part @ slopes, -3, 3))).astype(np.float32) for part in parts)
        adata = AnnData(sparse.vstack([sparse.csr_matrix(part) for part in counts], format="csr"))
        adata.obsm["spatial"], adata.uns["spatial"] = xy, {BINS_ON: source.uns["spatial"][BINS_ON]}
        factors = dict(adata.uns["spatial"][BINS_ON]["scalefactors"], spot_diameter_fullres=8 / mpp)
        adata.uns["spatial"] = {BINS_ON: {**source.uns["spatial"][BINS_ON], "scalefactors": factors}}
        for um in (0, 16, 24, 50, 100, 150):
            for direction in ((1, 0), (0, 1), (-1, 0), (0, -1)) if um else ((0, 0),):
                offset = -np.array(direction) * um / mpp
                kind = "shift" if um else "given"
                way = Way(f"shifted back by {um} µm", kind, exchange=False, signs=np.ones(2), offset=offset)
                moved = adata.copy()
                moved.obsm["spatial"] = xy - offset
                section = f"bins, {word}" + (f", {um} µm" if um else "")
                yield row_of(section, way, moved, library=BINS_ON, fit=False)


def show(rows: list[dict[str, Any]]) -> None:
    for section in dict.fromkeys(row["section"] for row in rows):
        for kind in KINDS:
            some = [row for row in rows if row["section"] == section and row["kind"] == kind]
            if not some:
                continue
            by_fit = [row["noticed by fit"] for row in some if row["noticed by fit"] is not None]
            of_fit = f", by fit {sum(by_fit)} of {len(by_fit)}" if by_fit else ""
            noticed, right = (sum(row[name] for row in some) for name in ("noticed", "named right"))
            verdict = f": {some[0]['verdict']}, score {some[0]['score']:.3f}" if kind == "given" else ""
            nearest = (max if kind == "given" else min)(row["gain_in_errors"] for row in some)
            counts = f"noticed {noticed} of {len(some)}, named right {right}{of_fit}{verdict}"
            print(f"{section:18s} {kind:10s} {counts}; gain in standard errors {nearest:+.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    bl.settings.progress_bar, bl.settings.verbosity = False, "error"
    rows: list[dict[str, Any]] = []
    for source in (real, painted, bins):
        for row in source():
            if rows and rows[-1]["section"] != row["section"]:
                show([each for each in rows if each["section"] == rows[-1]["section"]])
            rows.append(row)
    show([each for each in rows if each["section"] == rows[-1]["section"]])
    if arguments.json is not None:
        command = "python " + shlex.join(["benchmarks/alignment_check.py", *sys.argv[1:]])
        short = [{name: round(v, 4) if isinstance(v, float) else v for name, v in row.items()} for row in rows]
        lines = ",\n  ".join(json.dumps(row, ensure_ascii=False) for row in short)
        head = json.dumps({"command": command, "commit": commit()}, indent=1).removesuffix("\n}")
        arguments.json.write_text(f'{head},\n "rows": [\n  {lines}\n ]\n}}\n')


if __name__ == "__main__":
    main()
