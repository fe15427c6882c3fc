"""Predicted against measured expression by layer of the olfactory bulb, on labels that the model never saw.

    python benchmarks/study_regions.py                  # ridge
    python benchmarks/study_regions.py --method bleep   # the default recipe

Trained on the bulb on the 2k array (four sections of two animals), imputed for both sections on the 1k array: other
animals, another array, another scan. Spots of at least 500 counts, colour features of crops three spot diameters wide.
Labels are the layers that come with the sections. Markers are genes that are named for these layers in the literature
of the bulb, as far as the 2k array's 1,000 genes hold them, chosen before anything was scored here. The tables are
those of `bl.tl.evaluate_regions`; `--draw` draws them.
"""

import argparse
import json
import time
import warnings
from pathlib import Path

import scanpy as sc
from _sections import provenance
from compare import load

import bleep_sc as bl

MARKERS = {
    "Olfactory nerve layer": ["Fabp7", "Kctd12", "Npy", "Apod", "Ptn", "S100a5"],
    "Glomerular layer": ["Doc2g", "Calb2"],
    "Mitral Cell Layer": ["Cdhr1", "Slc17a7", "Reln", "Rcan2", "Uchl1"],
    "Granular Cell Layer": ["Penk", "Gpsm1", "Nrgn", "Pcp4", "Meis2"],
}
"""The outer plexiform layer holds few cells and has no marker of its own here."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="ridge")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--draw", type=Path, help="also draw the comparison here")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", module="squidpy|docrep|anndata|scanpy")
    warnings.filterwarnings("ignore", message="near-empty|.*DecompressionBomb|Image size")
    ref, query = (load(pack, size=32) for pack in ("mob2k", "mob1k_layers"))
    for adata in (ref, query):
        sc.pp.normalize_total(adata)
        sc.pp.log1p(adata)
    bl.tl.fit(ref, method=arguments.method, image_key="X_color", library_key="section", patient_key="animal")
    bl.tl.impute(query, ref, image_key="X_color")
    query.obs["layer"] = query.obs["label"].astype(str).replace("undetermined", None)
    start = time.perf_counter()
    bl.tl.evaluate_regions(query, labels="layer", markers=MARKERS, library_key="section")
    seconds = time.perf_counter() - start
    print(f"{seconds:.0f} s")
    found = query.uns["bleep_regions"]
    for name in ("clusters", "spatial_genes"):
        print(found[name].round(3).to_string())
    if arguments.draw:
        bl.pl.regions(query, return_fig=True).savefig(arguments.draw, dpi=150)
    if arguments.json:
        tables = {
            name: json.loads(found[name].to_json(orient="records"))
            for name in ("markers", "summary", "clusters", "spatial_genes")
        }
        record = {**provenance(arguments.json, arguments.draw), "seconds": seconds, **tables}
        arguments.json.write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
