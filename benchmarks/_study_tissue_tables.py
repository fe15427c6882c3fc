"""The tables and figures of the page on other tissues, regions and genes, from the files in `results/`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

import bleep_sc as bl

RESULTS = Path(__file__).parent / "results"
TRANSFER, REGIONS, GENES = (RESULTS / f"study-{name}.md" for name in ("transfer", "regions", "genes"))
STATIC = Path(__file__).parents[1] / "docs" / "_static"
TRANSFERS = {
    "real": "Real tissues",
    "bulbs": "The two bulbs alone",
    "real-bleep": "Real tissues, the default recipe",
    "bulbs-bleep": "The two bulbs alone, the default recipe",
    "toy": "Painted tissues, truth known",
}
PANELS = ("all", "HEG-50", "HVG-50")


def read(name: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((RESULTS / f"study-{name}.json").read_text())
    return record


def draw_tissues() -> None:
    """Draw the figures that the page shows."""
    how: dict[str, Any] = {"metadata": {"Date": None}}
    table = pd.DataFrame(read("transfer-real")["table"])
    bl.pl.transfer_matrix(table, return_fig=True).savefig(STATIC / "study-transfer.svg", **how)
    adata = AnnData(np.zeros((1, 1)))
    record = read("regions-mob")
    adata.uns["bleep_regions"] = {name: pd.DataFrame(record[name]) for name in ("summary", "clusters", "spatial_genes")}
    bl.pl.regions(adata, return_fig=True).savefig(STATIC / "study-regions.svg", **how)
    adata.uns["gene_strata"] = {"table": pd.DataFrame(read("genes-her2st")["table"])}
    for by in ("morphology", "gene set"):
        fig = bl.pl.predictable_genes(adata, by=by, return_fig=True)
        fig.savefig(STATIC / f"study-genes-{by.replace(' ', '-')}.svg", **how)


def _source(record: dict[str, Any]) -> str:
    return f"Made by `{record['command']}` (commit {record['commit']})."


def _number(value: Any, decimals: int = 3) -> str:
    if value is None or not np.isfinite(value):
        return "–"
    return f"{round(float(value), decimals) + 0.0:.{decimals}f}".replace("-", "−")


def _rows(header: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def transfer_records() -> dict[str, dict[str, Any]]:
    """What `study_transfer.py` has written, in a fixed order."""
    return {name: read(f"transfer-{name}") for name in TRANSFERS if (RESULTS / f"study-transfer-{name}.json").exists()}


def transfer() -> str:
    """A table for each set of tissues: the score over HVG-50, beyond depth in brackets, and the verdict."""
    parts = []
    for name, record in transfer_records().items():
        table = pd.DataFrame(record["table"])
        shown = table[table["panel"] == "HVG-50"]
        tested = list(dict.fromkeys(shown["tested_on"]))
        rows = []
        for trained, of_reference in shown.groupby("trained_on", sort=False):
            cells = [
                f"{_number(row.value)} ({_number(row.depth_free)})" + (", do not" if row.n_unlike else "")
                for row in of_reference.itertuples()
            ]
            rows.append([f"all {len(tested)}" if trained == "all" else str(trained), *cells])
        joint = table[table["trained_on"] == "all"].pivot(index="panel", columns="tested_on", values="cost")
        rows += [
            [f"loss of all {len(tested)}, {panel}", *(_number(joint.loc[panel, one]) for one in tested)]
            for panel in PANELS
        ]
        genes = int(table["n_shared_genes"].iloc[0])
        title = f"**{TRANSFERS[name]}**, on {genes:,} shared genes."
        parts.append(f"{title} {_source(record)}\n\n{_rows(['trained on', *tested], rows)}")
    return "\n\n".join(parts) + "\n"


def regions() -> str:
    """A table by region, and one by section."""
    record = read("regions-mob")
    names = (
        "auroc_measured",
        "auroc_predicted",
        "log2_fold_measured",
        "log2_fold_predicted",
        "pearson",
        "pearson_within",
    )
    by_region = [[row["region"], *(_number(row[name], 2) for name in names)] for row in record["summary"]]
    header = ["region", "AUROC, measured", "predicted", "log2 fold, measured", "predicted", "Pearson", "within regions"]
    by_section = [
        [
            *(clusters["section"], _number(clusters["ari"], 2), _number(clusters["ari_chance"], 2)),
            *(_number(clusters[name], 2) for name in ("ari_labels_measured", "ari_labels_predicted")),
            *(f"{genes[name]:.0f}" for name in ("n_genes", "n_measured", "n_both", "n_chance")),
        ]
        for clusters, genes in zip(record["clusters"], record["spatial_genes"], strict=True)
    ]
    second = ["section", "ARI, predicted to measured", "turned maps", "ARI to labels, measured", "predicted"]
    second += ["genes", "vary as measured", "in both lists", "by chance"]
    return f"{_source(record)}\n\n{_rows(header, by_region)}\n\n{_rows(second, by_section)}\n"


def genes() -> str:
    """A table of strata for each tissue, and the gene sets that are read best and worst."""
    parts = []
    for name, title in {"her2st": "HER2ST", "mob2k": "Olfactory bulb"}.items():
        path = RESULTS / f"study-genes-{name}.json"
        if not path.exists():
            continue
        record = json.loads(path.read_text())
        table = pd.DataFrame(record["table"])
        strata = table[~table["by"].isin(["all", "gene set"])]
        numbers = list(dict.fromkeys(strata["stratum"]))
        rows = [
            [str(by), *(f"{_number(row.value)} of {_number(row.ceiling, 2)}" for row in own.itertuples())]
            for by, own in strata.groupby("by", sort=False)
        ]
        header = ["genes by", *(["lowest", *("" for _ in numbers[2:]), "highest"])]
        parts.append(f"**{title}** ({table['scope'].iloc[0]}). {_source(record)}\n\n{_rows(header, rows)}")
        sets = table[(table["by"] == "gene set") & table["programme"].notna()].sort_values("programme", ascending=False)
        if len(sets):
            above = int((sets["qvalue"] <= 0.1).sum())
            told = (
                f"{above} of {len(sets)} Hallmark sets are predicted better than random sets of similar genes "
                "(q ≤ 0.1). The best and the worst:"
            )
            picked = pd.concat([sets.head(5), sets.tail(3)])
            of_sets = [
                [
                    *(str(row.stratum), str(int(row.n_genes)), _number(row.programme, 2)),
                    *(_number(row.programme_chance, 2), _number(row.qvalue, 2)),
                ]
                for row in picked.itertuples()
            ]
            parts.append(f"{told}\n\n{_rows(['set', 'genes', 'Pearson of its mean', 'random sets', 'q'], of_sets)}")
    return "\n\n".join(parts) + "\n"


TISSUE_PAGES: dict[Path, Callable[[], str]] = {TRANSFER: transfer, REGIONS: regions, GENES: genes}
"""What is written, and what it is made by."""
