"""What a slim model costs: the default recipe with its reference, beside the form that holds no spot of it.

    python benchmarks/slim_model.py mob2k                      # both sections of one animal to the other animal
    python benchmarks/slim_model.py her2st --sections C2 C3    # leave one section out, for these two

The default recipe on colour features of crops three spot diameters wide; spots of at least 500 counts; folds and genes
are those of trust_intervals.py. Three predictions of what was left out: the full model (hybrid), its regressions alone,
and the slim form, written to a folder and read back. Pearson of each gene by `bl.tl.evaluate`. Panels are chosen on the
reference; "learned" are the genes that it learned from. Coverage: the share of measured values, of the learned genes,
within the 90 % intervals of `bl.tl.intervals(query, ref)`. "full" is calibrated as it is, "regression" and "slim" for
`predict="regression"`. Seconds of `impute` are the least of three, on features that are made. "full" needs the
reference as h5ad, of which the bytes are given: without features or crops, which it does not need.
"""

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from _sections import provenance
from anndata import AnnData
from trust_intervals import FEATURES, splits

import bleep_sc as bl

PANELS = ("HEG-50", "HVG-50")
LEVEL = 0.9
ROUNDS = 3


def main() -> None:
    arguments = _parse()
    warnings.filterwarnings("ignore")
    bl.settings.verbosity, bl.settings.progress_bar = "error", False
    rows: list[dict[str, Any]] = []
    for name, ref, query in splits(arguments.data, 0, "default"):
        if arguments.sections and name not in arguments.sections:
            continue
        bl.tl.fit(ref, image_key=FEATURES, library_key="section", check="off")
        found = of_split(ref, query)
        rows += [{"split": name, **row} for row in found]
        for row in found:
            print(name, {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()})
        if arguments.json:  # after each: a long run that is cut off keeps what it has
            record = {**provenance(arguments.json), "data": arguments.data, "rows": rows}
            arguments.json.write_text(json.dumps(record, indent=1) + "\n")


def of_split(ref: AnnData, query: AnnData) -> list[dict[str, Any]]:
    """What each form predicts of what was left out, and what it takes."""
    learned = [gene for gene in ref.var_names[ref.var["highly_variable"]] if gene in query.var_names]
    full = bl.tl.calibrate(ref, n_turns=0, copy=True)
    regression = bl.tl.calibrate(ref, n_turns=0, predict="regression", copy=True)
    with tempfile.TemporaryDirectory() as folder:
        slim_at, ref_at = Path(folder) / "slim", Path(folder) / "ref.h5ad"
        bl.io.write_model(regression, slim_at, slim=True)
        slim = bl.io.read_slim_model(slim_at)
        bare = full.copy()
        del bare.obsm[FEATURES]
        bare.write_h5ad(ref_at, compression="gzip")
        sizes = {"full": ref_at.stat().st_size, "slim": sum(path.stat().st_size for path in slim_at.iterdir())}
    forms: Mapping[str, tuple[AnnData, Any]] = {
        "full": (full, None),
        "regression": (regression, "regression"),
        "slim": (slim, None),
    }
    rows = []
    for form, (model, predict) in forms.items():
        seconds = []
        for _ in range(ROUNDS):
            start = time.perf_counter()
            bl.tl.impute(query, model, predict=predict, key_added=form)
            seconds.append(time.perf_counter() - start)
        row = {"form": form, "seconds": min(seconds), "bytes": sizes.get(form), "n_spots": query.n_obs}
        rows.append(row | _scores(query, form, learned) | _coverage(query, model, form, learned))
    found, expected = (np.nan_to_num(np.asarray(query.layers[form])) for form in ("slim", "regression"))
    spread = np.square(expected - expected.mean(axis=0)).sum()
    rows[-1]["apart"] = float(np.sqrt(np.square(found - expected).sum() / spread))
    return rows


def _scores(query: AnnData, layer: str, learned: list[str]) -> dict[str, float]:
    bl.tl.evaluate(query, layer=layer, markers=learned, library_key="section", n_bootstrap=0, metrics=["pearson"])
    found = query.uns[f"{layer}_scores"]["summary"].set_index("panel")["value"]
    return {panel: float(found[panel]) for panel in PANELS} | {"learned": float(found["markers"])}


def _coverage(query: AnnData, model: AnnData, layer: str, learned: list[str]) -> dict[str, float]:
    lower, upper = bl.tl.intervals(query, model, genes=learned, level=LEVEL, layer=layer)
    truth = query[:, learned].X.toarray()
    inside = (truth >= lower.to_numpy()) & (truth <= upper.to_numpy())
    return {"coverage": float(inside.mean()), "width": float((upper - lower).to_numpy().mean())}


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=["mob2k", "her2st"])
    parser.add_argument("--sections", nargs="+", help="of her2st, the sections to leave out; all by default")
    parser.add_argument("--json", type=Path, help="write the figures here")
    return parser.parse_args()


if __name__ == "__main__":
    main()
