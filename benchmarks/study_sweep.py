"""How much k and the temperature matter: the check that BLEEP's paper leaves open, on real sections and toy tissue.

    python benchmarks/study_sweep.py her2st --recipe published --json study-sweep-her2st-published.json
    python benchmarks/study_sweep.py mob2k --recipe default --json study-sweep-mob2k-default.json

k from 1 to 20 and temperatures from .01 to .5, by `bl.tl.sweep`: each fold also chooses for itself on its training
sections. Spots, genes, panels and features are those of compare.py: leave one section out on HER2ST, one animal out on
the olfactory bulb, one patient out on toy tissue; colour features of crops three spot diameters wide. "paper" is
`preset="paper"` on these features. "published" are the same heads and loss with single steps and an early stop, as
compare.py trains them, in a third of the time. "default" is the default recipe.
"""

import argparse
import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from _sections import MARKERS, provenance
from _timing import machine
from compare import PATIENT_KEYS, WIDE, load

import bleep_sc as bl

RECIPES: dict[str, dict[str, Any]] = {
    "paper": {"preset": "paper"},
    "published": {"preset": "paper", "accumulate": 1, "patience": 10},
    "default": {},
}
K = list(range(1, 21))
TEMPERATURES = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5]
DATA = ("her2st", "mob2k", "toy")
PANELS = ("all", "HVG-50")
"""The panels whose scores are kept."""


def main() -> None:
    arguments = _parse()
    warnings.filterwarnings("ignore", module="squidpy|docrep|anndata|scanpy")
    warnings.filterwarnings("ignore", message="the model has nearly collapsed|near-empty|.*DecompressionBomb")
    bl.settings.progress_bar = sys.stderr.isatty()
    adata = load(arguments.data, size=64)
    group_key, patient_key = PATIENT_KEYS[arguments.data]
    start, cpu = time.perf_counter(), time.process_time()
    bl.tl.sweep(
        adata,
        {"k": arguments.k, "temperature": arguments.temperature},
        method_kwargs={**RECIPES[arguments.recipe], "image_key": WIDE},
        group_key=group_key,
        patient_key=patient_key,
        library_key="section",
        markers=[gene for gene in MARKERS if gene in adata.var_names] if arguments.data == "her2st" else [],
        random_state=arguments.seed,
        checkpoint_dir=arguments.checkpoint_dir,
    )
    seconds = {"wall": time.perf_counter() - start, "processor": time.process_time() - cpu}
    entry = adata.uns["sweep"]
    print(f"{seconds['wall']:.0f} s, {seconds['processor']:.0f} s of the processor, {machine()}")
    if arguments.json:
        kept = entry["summary"].query("metric == 'pearson' and panel in @PANELS")
        record = {
            **provenance(arguments.json, arguments.checkpoint_dir),
            "machine": machine(),
            "data": arguments.data,
            "recipe": arguments.recipe,
            "seconds": seconds,
            "resumed": arguments.checkpoint_dir is not None,
            "verdict": entry["verdict"],
            "config": entry["config"],
            "chosen": json.loads(entry["chosen"].to_json(orient="records")),
            "summary": json.loads(kept.to_json(orient="records")),
        }
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=DATA)
    parser.add_argument("--recipe", choices=RECIPES, default="paper")
    parser.add_argument("--k", type=int, nargs="+", default=K)
    parser.add_argument("--temperature", type=float, nargs="+", default=TEMPERATURES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint-dir", type=Path, help="go on from here, and keep what is done here")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    return parser.parse_args()


if __name__ == "__main__":
    main()
