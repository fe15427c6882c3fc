"""What `pp.check_alignment` and `fit` say of real sections as given, and with their places laid in every other way.

    python benchmarks/alignment_check.py --json alignment-check.json

Each section is checked as it is, where another way must not be named. Then its places are turned, mirrored, swapped or
shifted, so that each way that the check tries brings them back in turn, and that one must be named. A line is a section
and a kind of way: how many were noticed, and how many named right. The last figure is the margin: the gain of the best
other way in standard errors, which must stay below 2 as given, and of the least clear case among the others. Then the
same of painted tissue, and of painted tissue whose spots have exchanged their expression, where nothing can be told.
Some fifteen minutes on one core.
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

import bleep_sc as bl
from bleep_sc.pp._alignment.compare import OTHER
from bleep_sc.pp._alignment.compared import pitch_of
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


def cases(adata: AnnData, library: str) -> Iterator[tuple[Way, AnnData]]:
    """The section with its places laid so that each way brings them back."""
    xy = adata.obsm["spatial"].astype(np.float64)
    for way in ways(xy, pitch_of(xy), full_size(hires_image(adata.uns, library))):
        moved = adata.copy()
        wrong = way.signs * (xy - way.offset)
        moved.obsm["spatial"] = np.ascontiguousarray(wrong[:, ::-1] if way.exchange else wrong)
        yield way, moved


def undoes(named: str, way: Way, moved: AnnData, library: str) -> bool:
    """Whether the way that was named brings the places back to within half a pitch."""
    xy = moved.obsm["spatial"]
    found = {each.name: each for each in ways(xy, pitch_of(xy), full_size(hires_image(moved.uns, library)))}
    apart = np.linalg.norm(found[named].places(xy) - way.places(xy), axis=1)
    return bool(np.median(apart) < pitch_of(xy) / 2)


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
    for source in (real, painted):
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
