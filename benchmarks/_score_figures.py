"""The pictures of BENCHMARKS.md, from the figures in benchmarks/results/: scores, and speed beside its goal."""

import json
import re
import textwrap
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from anndata import AnnData

import bleep_sc as bl

RESULTS = Path(__file__).parent / "results"
STATIC = Path(__file__).parents[1] / "docs" / "_static"
METHODS_FIGURE, BREAST_FIGURE, BULB_FIGURE, SPEED_FIGURE = (
    STATIC / f"benchmarks-{name}.svg" for name in ("methods", "breast", "bulb", "speed")
)
PANEL, LEAST_COUNTS = "HVG-50", 500
WITHIN = {"her2st": "breast, same patient", "mob2k": "bulb, other animal"}
BREAST = {"transfer_c_b4": "patient C → patient B", "transfer_b4_c": "patient B → patient C"}
BULB = {"transfer_mob2k_mob1k": "2k array → 1k array", "transfer_mob1k_mob2k": "1k array → 2k array"}
"""What the pictures call the data sets."""
METHODS = {
    "best": 'bleep, preset="best"',
    "default": "bleep, default",
    "published BLEEP on features, z": "published BLEEP, colour features",
    "BLEEP, ResNet-18": "published BLEEP, ResNet-18",
    "ST-Net, Adam": "ST-Net",
    "HisToGene, lr 1e-4": "HisToGene",
    "regressor, ResNet-18": "regressor, ResNet-18",
    "ridge, z": "ridge, colour",
    "knn, z": "knn, colour",
    "counts": "counts",
    "coordinates": "coordinates",
    "mean": "mean",
}
"""Which rows of the tables the first picture shows, and what it calls them."""
PRESETS = {
    "best": METHODS["best"],
    "lite0": 'bleep, encoder="efficientnet_lite0"',
    "default": METHODS["default"],
    "ridge, lite0": "ridge, efficientnet_lite0",
    "ridge": METHODS["ridge, z"],
}
"""The same of the pictures of transfers."""
_HOW: dict[str, Any] = {"format": "svg", "bbox_inches": "tight", "metadata": {"Date": None}}


def draw_benchmarks() -> None:
    """Draw the pictures; the same figures give the same files."""
    with mpl.rc_context({"svg.hashsalt": "bleep_sc", "svg.fonttype": "path", "font.size": 9}):
        _draw_scores(METHODS_FIGURE, WITHIN, METHODS, groups=("features", "networks", "presets"))
        _draw_scores(BREAST_FIGURE, BREAST, PRESETS, groups=("presets",))
        _draw_scores(BULB_FIGURE, BULB, PRESETS, groups=("presets",))
        _draw_speed(SPEED_FIGURE)


def comparison(data_sets: dict[str, str], methods: dict[str, str], groups: tuple[str, ...]) -> pd.DataFrame:
    """The stored scores of one panel of genes as `pl.scores` reads them: a column of the picture for each data set.

    Scores and bounds are means over seeds, and the ceiling is that of all methods of the data set.
    """
    tables = []
    for data, title in data_sets.items():
        records = [json.loads(path.read_text()) for group in groups for path in _files(data, group)]
        rows = pd.concat([pd.DataFrame(record["summary"]) for record in records])
        rows = rows[(rows["panel"] == PANEL) & (rows["metric"] == "pearson") & rows["method"].isin(methods)]
        if "at_least" in rows:
            rows = rows[rows["at_least"] == LEAST_COUNTS]
        numbers = rows.groupby("method", sort=False)[["value", "low", "high"]].mean()
        words = rows.groupby("method", sort=False).first().drop(columns=["value", "low", "high", "ceiling"])
        tables.append(numbers.join(words).assign(panel=title, ceiling=rows["ceiling"].mean()).reset_index())
    table = pd.concat(tables, ignore_index=True)
    return table.assign(method=table["method"].map(methods))


def _files(data: str, group: str) -> list[Path]:
    return sorted(RESULTS.glob(f"{data}-{group}*.json"))


def _draw_scores(path: Path, data_sets: dict[str, str], methods: dict[str, str], *, groups: tuple[str, ...]) -> None:
    import matplotlib.pyplot as plt

    adata = AnnData(np.zeros((1, 1)), uns={"benchmarks": {"summary": comparison(data_sets, methods, groups)}})
    fig = bl.pl.scores(adata, key="benchmarks", return_fig=True)
    assert fig is not None
    fig.savefig(path, **_HOW)
    plt.close(fig)


def speed_rows() -> pd.DataFrame:
    """Every timing that has a goal as a number, with how many times what the goal allows it takes: 1 just meets it."""
    rows = [row for path in sorted(RESULTS.glob("speed-*.json")) for row in json.loads(path.read_text())["rows"]]
    found, subject = [], ""
    for row in rows:
        going_on = row["what"].startswith(("the same", "their "))  # of the row before
        subject = subject if going_on else row["what"]
        precision = re.search(r"\(([\w-]+)\)$", row["detail"])
        what = f"{subject}: {row['what']}" if going_on else subject
        what += f", {precision[1]}" if precision else ""
        if goal := re.fullmatch(r"(<=|≤|>=|≥) ([\d.]+)", row["goal"]):
            wanted, ratio = float(goal[2]), float(row["ratio"])
            takes = ratio / wanted if goal[1] in "<=≤" else wanted / ratio
            found.append({"what": what, "against": row["against"], "takes": takes})
    return pd.DataFrame(found)


def _draw_speed(path: Path) -> None:
    """Bars on a logarithmic axis, worst first; what misses its goal has another colour and reaches over the line."""
    import matplotlib.pyplot as plt

    rows = speed_rows().sort_values("takes", kind="stable").reset_index(drop=True)
    met, shown = rows["takes"] <= 1, rows["takes"].clip(lower=0.11)  # a little longer than none, to be seen
    told = (rows["what"] + ", against " + rows["against"]).str.replace("`", "")
    names = [textwrap.fill(text, 52) for text in told]
    fig, ax = plt.subplots(figsize=(7.5, 0.42 * len(rows) + 1), layout="constrained")
    ax.barh(rows.index, shown - 0.1, left=0.1, height=0.6, color=met.map({True: "C0", False: "C1"}))
    ax.axvline(1, color="black", lw=1)
    ax.set(xscale="log", xlim=(0.1, max(5, 1.2 * rows["takes"].max())), ylim=(-0.6, len(rows) - 0.4))
    ax.set_xticks([0.1, 0.5, 1, 2, 5], ["a tenth", "half", "goal", "2 ×", "5 ×"])
    ax.minorticks_off()
    ax.set_yticks(rows.index, names, fontsize="small", linespacing=0.95, parse_math=False)
    ax.set_xlabel(f"Share of what the goal allows: shorter is better. {met.sum()} of {len(rows)} goals are met.")
    ax.spines[["right", "top"]].set_visible(False)
    fig.savefig(path, **_HOW)
    plt.close(fig)
