"""How large a reference is enough: scores against its size, on real sections and on painted tissue.

    python benchmarks/study_learning_curve.py her2st                       # ridge, by spots
    python benchmarks/study_learning_curve.py her2st --by sections
    python benchmarks/study_learning_curve.py her2st --method bleep --draws 2
    python benchmarks/study_learning_curve.py toy --patients 10 --by patients

`bl.tl.learning_curve` as it is, on features made by hand of crops three spot diameters wide, with the protocol of
`compare.py`: spots of at least 500 counts, and one section, animal or patient held out at a time.
"""

import argparse
import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from _sections import MARKERS, provenance
from anndata import AnnData
from compare import PATIENT_KEYS, WIDE, load

import bleep_sc as bl
from bleep_sc.models.encoders.color import color_features


def main() -> None:
    arguments = _parse()
    warnings.filterwarnings("ignore", module="squidpy|docrep|anndata|scanpy")
    warnings.filterwarnings("ignore", message="near-empty|.*DecompressionBomb|Image size|the model has nearly")
    bl.settings.progress_bar = sys.stderr.isatty()
    adata = _tissue(arguments.data, arguments.patients)
    group_key, patient_key = PATIENT_KEYS[arguments.data]
    start, cpu = time.perf_counter(), time.process_time()
    bl.tl.learning_curve(
        adata,
        method=arguments.method,
        by=arguments.by,
        draws=arguments.draws,
        sizes=arguments.sizes,
        method_kwargs={"image_key": WIDE},
        group_key=group_key,
        patient_key=patient_key,
        library_key="section",
        markers=[gene for gene in MARKERS if gene in adata.var_names] if arguments.data == "her2st" else [],
        checkpoint_dir=arguments.checkpoint_dir,
    )
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    result: Any = adata.uns["learning_curve"]
    print(f"{len(result['cost'])} trainings in {seconds:.0f} s, {cpu:.0f} s of the processor")
    if arguments.json:
        _write(arguments, result, seconds=seconds, cpu=cpu)


def _tissue(data: str, n_patients: int) -> AnnData:
    if data != "toy":
        return load(data, size=64)
    adata: Any = bl.datasets.toy(n_patients=n_patients, n_sections=1, patient_shift=1.0)
    adata.obs = adata.obs.astype({"section": str})
    adata.obsm[WIDE] = color_features(adata.obsm["crops"])
    return adata


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=tuple(PATIENT_KEYS))
    parser.add_argument("--method", default="ridge")
    parser.add_argument("--by", choices=("spots", "sections", "patients"), default="spots")
    parser.add_argument("--sizes", type=int, nargs="+")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--patients", type=int, default=3, help="of toy tissue")
    parser.add_argument("--checkpoint-dir", type=Path, help="go on from here, and keep what is done here")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    return parser.parse_args()


def _write(arguments: argparse.Namespace, result: Any, *, seconds: float, cpu: float) -> None:
    costs = result["cost"].groupby("size").median(numeric_only=True).reset_index()
    record = {
        **provenance(arguments.json, arguments.checkpoint_dir),
        "data": arguments.data,
        "method": arguments.method,
        "by": arguments.by,
        "seconds": seconds,
        "seconds_of_processor": cpu,
        "trainings": len(result["cost"]),
        **{name: json.loads(result[name].to_json(orient="records")) for name in ("summary", "forecast", "law")},
        "cost": json.loads(costs.to_json(orient="records")),
    }
    arguments.json.write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
