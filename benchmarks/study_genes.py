"""Which genes can be read off the image, by expression, pattern and look, and which gene sets.

    python benchmarks/study_genes.py her2st --gmt h.all.gmt   # HER2ST C2 to C6, leave one section out, Hallmark sets
    python benchmarks/study_genes.py mob2k                    # mouse olfactory bulb, leave one animal out
    python benchmarks/study_genes.py toy                      # toy tissue, leave one patient out, truth known

Spots of at least 500 counts, colour features of crops three spot diameters wide, ridge; nearly all genes that are
detected in a tenth of the training spots. The table is that of `bl.tl.gene_strata`; `--draw` names a folder for its
plots.
"""

import argparse
import json
import time
import warnings
from pathlib import Path

from _sections import provenance
from compare import PATIENT_KEYS, load

import bleep_sc as bl


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=tuple(PATIENT_KEYS))
    parser.add_argument("--method", default="ridge")
    parser.add_argument("--gmt", type=Path, help="gene sets")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--draw", type=Path, help="also draw them into this folder")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", module="squidpy|docrep|anndata|scanpy")
    warnings.filterwarnings("ignore", message="near-empty|.*DecompressionBomb|Image size")
    adata = load(arguments.data, size=32)
    group_key, patient_key = PATIENT_KEYS[arguments.data]
    start = time.perf_counter()
    table = bl.tl.gene_strata(
        adata,
        method=arguments.method,
        method_kwargs={"image_key": "X_color"},
        gene_sets=arguments.gmt,
        group_key=group_key,
        patient_key=patient_key,
        library_key="section",
    )
    seconds = time.perf_counter() - start
    print(f"{seconds:.0f} s")
    if arguments.draw:
        for by in (*("expression", "autocorrelation", "morphology"), *(["gene set"] if arguments.gmt else [])):
            figure = bl.pl.predictable_genes(adata, by=by, return_fig=True)
            figure.savefig(arguments.draw / f"study-genes-{arguments.data}-{by.replace(' ', '-')}.png", dpi=150)
    if arguments.json:
        made_by = provenance(arguments.json, arguments.gmt, arguments.draw)
        rows = json.loads(table.to_json(orient="records"))
        record = {**made_by, "seconds": seconds, "table": rows}
        arguments.json.write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
