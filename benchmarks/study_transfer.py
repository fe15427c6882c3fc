"""Whether a model of one tissue can be used on another, and what a joint reference of several tissues costs.

    python benchmarks/study_transfer.py real                      # HER2ST and both olfactory bulbs, ridge
    python benchmarks/study_transfer.py real --method bleep       # the same under the default recipe
    python benchmarks/study_transfer.py bulbs                     # the two olfactory bulbs alone
    python benchmarks/study_transfer.py toy                       # painted tissues, whose truth is known

Spots of at least 500 counts, colour features of crops three spot diameters wide, genes by name in capitals. Held out
are sections of HER2ST (one patient), animals of the bulb on the 2k array, sections of the bulb on the 1k array. `toy`
has three painted tissues of three patients: "toy", "toy, moved" with other stains and depths of the same painting
rules, and "other toy", in which the same looks go with other genes. The table is that of `bl.tl.transfer_matrix`;
`--draw` draws it.
"""

import argparse
import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from _sections import provenance
from anndata import AnnData
from compare import load

import bleep_sc as bl

PACKS = {"HER2 tumour": "her2st", "bulb, 2k array": "mob2k", "bulb, 1k array": "mob1k_layers"}
TOY: dict[str, dict[str, Any]] = {
    "toy": {},
    "toy, moved": {"patient_shift": 1.0},
    "other toy": {"random_state": 1},
}


def main() -> None:
    arguments = _parse()
    warnings.filterwarnings("ignore", module="squidpy|docrep|anndata|scanpy")
    warnings.filterwarnings("ignore", message="near-empty|.*DecompressionBomb|Image size")
    bl.settings.progress_bar = sys.stderr.isatty()
    tissues = toy() if arguments.data == "toy" else real(bulbs_alone=arguments.data == "bulbs")
    start, cpu = time.perf_counter(), time.process_time()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        table = bl.tl.transfer_matrix(
            tissues,
            method=arguments.method,
            method_kwargs={"image_key": "X_color"},
            map_genes="upper",
            library_key="section",
            checkpoint_dir=arguments.checkpoint_dir,
        )
    seconds = {"wall": time.perf_counter() - start, "processor": time.process_time() - cpu}
    costs = [str(each.message) for each in said if "one reference of all tissues" in str(each.message)]
    print(f"{seconds['wall']:.0f} s, {seconds['processor']:.0f} s of the processor.")
    print("\n".join(costs) or "No warning: the joint reference costs none of them.")
    if arguments.draw:
        bl.pl.transfer_matrix(table, return_fig=True).savefig(arguments.draw, dpi=150)
    if arguments.json:
        record = {
            **provenance(arguments.json, arguments.draw, arguments.checkpoint_dir),
            "method": arguments.method,
            "seconds": seconds,
            "warning": costs,
            "table": json.loads(table.to_json(orient="records")),
        }
        arguments.json.write_text(json.dumps(record, indent=1))


def real(*, bulbs_alone: bool) -> dict[str, AnnData]:
    """The real tissues by name, with features and without crops."""
    tissues = {}
    for name, pack in PACKS.items():
        if bulbs_alone and not name.startswith("bulb"):
            continue
        adata = load(pack, size=32, keep_crops=True)
        adata.obs["patient"] = adata.obs["animal" if "animal" in adata.obs else "patient"].astype(str)
        tissues[name] = encoded(adata)
    return tissues


def toy() -> dict[str, AnnData]:
    """Painted tissues of three patients, two sections each."""
    return {name: encoded(bl.datasets.toy(**how)) for name, how in TOY.items()}


def encoded(adata: AnnData) -> AnnData:
    """Make features with their record, by which the verdict knows what they are, and let the crops go."""
    bl.tl.encode(adata, encoder="color")
    for key in ("crops", "crops_near"):
        adata.obsm.pop(key, None)
        adata.uns.pop(key, None)
    return adata


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=("real", "bulbs", "toy"))
    parser.add_argument("--method", default="ridge")
    parser.add_argument("--checkpoint-dir", type=Path, help="go on from here, and keep what is done here")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--draw", type=Path, help="also draw the matrix here")
    return parser.parse_args()


if __name__ == "__main__":
    main()
