"""The tables and the figure of "How large a reference is enough?", from the figures in benchmarks/results/."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from _trust_tables import sources
from matplotlib.ticker import NullLocator

RESULTS = Path(__file__).parent / "results"
CURVES = RESULTS / "study-curves.md"
THINNED = RESULTS / "study-thinned.md"
PLANNED = RESULTS / "study-plan.md"
HELD = RESULTS / "study-forecast.md"
REFERENCE_FIGURE = Path(__file__).parents[1] / "docs" / "_static" / "study-reference.svg"
TITLES = {
    "her2st-spots": "HER2ST, five sections of one patient, by spots",
    "her2st-sections": "HER2ST, by sections",
    "mob2k-spots": "Bulb, two animals, by spots",
    "mob2k-bleep": "Bulb, the default recipe, by spots",
    "her2st-bleep": "HER2ST, the default recipe, by spots",
    "toy-patients": "Toy tissue, ten patients, by patients",
}
PANELS = ("all", "HVG-50")
TISSUES = {"her2st": "HER2ST", "mob2k": "Bulb"}


def _records(kind: str, names: dict[str, str]) -> dict[str, dict[str, Any]]:
    paths = {name: RESULTS / f"study-{kind}-{name}.json" for name in names}
    return {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}


def curve_records() -> dict[str, dict[str, Any]]:
    """What `study_learning_curve.py` has written, in a fixed order."""
    return _records("curve", TITLES)


def curves() -> str:
    """The scores by size and the forecasts, and what made them."""
    records = curve_records()
    lines = []
    for name, record in records.items():
        summary = pd.DataFrame(record["summary"]).query("metric == 'pearson'")
        sizes = sorted(summary["size"].unique())
        ceilings = summary.groupby("panel")["ceiling"].mean()
        lines += [f"{TITLES[name]} ({summary['scope'].iloc[0]}):", ""]
        lines.append("| panel | " + " | ".join(f"{size:,}" for size in sizes) + " | ceiling |")
        lines.append("|" + "---|" * (len(sizes) + 2))
        for panel in PANELS:
            own = summary[summary["panel"] == panel].set_index("size")
            cells = [_cell(own.loc[size]) for size in sizes]
            lines.append(f"| {panel} | " + " | ".join(cells) + f" | {ceilings[panel]:.3f} |")
        forecast = pd.DataFrame(record["forecast"]).query("metric == 'pearson'")
        lines += ["", "| asked | panel | answer |", "|---|---|---|"]
        for panel in PANELS:
            for row in forecast[forecast["panel"] == panel].itertuples():
                answer = row.answer.replace("-", "−")
                lines.append(f"| {row.question} ({row.size_from:,} to {row.size_to:,}) | {panel} | {answer} |")
        lines.append("")
    return "\n".join([*lines, sources(list(records.values())), ""])


def _cell(row: pd.Series) -> str:
    interval = "" if pd.isna(row["low"]) else f" [{row['low']:.3f}, {row['high']:.3f}]"
    return f"{row['value']:.3f}{interval}"


def thinned() -> str:
    """What a thinned reference keeps, and how much of a reference is used."""
    records = _records("redundancy", TISSUES)
    lines = []
    for name, record in records.items():
        rows = pd.DataFrame(record["rows"])
        rows = rows[rows["panel"] == "HVG-50"]
        shares = sorted(rows["share"].unique(), reverse=True)[1:]
        whole = rows[rows["thinned"] == "no"].groupby("method", sort=False).mean(numeric_only=True)
        lines += [
            f"{TISSUES[name]}, HVG-50:",
            "",
            "| method | k | spots | used | all of them | thinned | " + " | ".join(f"{s:.0%}" for s in shares) + " |",
            "|" + "---|" * (6 + len(shares)),
        ]
        for method, of_method in rows[rows["thinned"] != "no"].groupby("method", sort=False):
            at = whole.loc[method]
            for way, own in of_method.groupby("thinned", sort=False):
                mean = own.groupby("share")["score"].mean()
                cells = [str(method), f"{at['k']:.0f}", f"{at['n_reference']:.0f}", f"{at['used']:.1%}"]
                cells += [f"{at['score']:.3f}", str(way), *(f"{mean[share] - at['score']:+.3f}" for share in shares)]
                lines.append("| " + " | ".join(cells).replace("-0.", "−0.") + " |")
        lines.append("")
    return "\n".join([*lines, sources(list(records.values())), ""])


def draw_curves(path: Path) -> None:
    """Draw the learning curves of all tissues side by side."""
    plt.rcParams["svg.hashsalt"] = "bleep_sc"  # the same figures give the same file
    records = {name: record for name, record in curve_records().items() if record["method"] == "ridge"}
    n_rows = -(-len(records) // 2)  # two beside each other are as wide as the page
    fig, axes = plt.subplots(max(1, n_rows), 2, figsize=(7, 2.8 * n_rows), layout="constrained", squeeze=False)
    for ax, (name, record) in zip(axes.flat, records.items(), strict=False):
        summary, law = (pd.DataFrame(record[table]).query("metric == 'pearson'") for table in ("summary", "law"))
        for number, panel in enumerate(PANELS):
            own, through = (table[table["panel"] == panel] for table in (summary, law))
            ax.vlines(own["size"], own["low"], own["high"], color=f"C{number}", lw=1.5, alpha=0.6)
            ax.plot(own["size"], own["value"], "o", color=f"C{number}", ms=4, label=panel)
            if len(through):
                ax.plot(through["size"], through["value"], "--", color=f"C{number}", lw=0.9)
            ax.axhline(own["ceiling"].mean(), ls=":", color=f"C{number}", lw=0.9)
        sizes = sorted(summary["size"].unique())
        if record["by"] == "spots":
            ax.set_xscale("log")
            ax.xaxis.set_minor_locator(NullLocator())
            sizes = [*sizes[::2], sizes[-1]]
        ax.set_xticks(sizes, [str(size) for size in sizes], fontsize="small")
        ax.set_title(TITLES[name].replace(", ", "\n", 1), fontsize="small")
        ax.set_xlabel(f"{record['by']} trained on")
        ax.set_ylim(0)
    for ax in axes[:, 0]:
        ax.set_ylabel("Pearson (dotted: ceiling)")
    for ax in axes.flat[len(records) :]:
        ax.set_axis_off()
    axes[0, 0].legend(frameon=False, fontsize="small")
    fig.savefig(path, metadata={"Date": None})
    plt.close(fig)


def planned() -> str:
    """How well ten patients tell how many are needed."""
    record = json.loads(PLANNED.with_suffix(".json").read_text())
    lines = [
        "| toy tissue | needed in truth | best guess | held | upper number | held | spread of a pilot |",
        "|" + "---|" * 7,
    ]
    for panel, row in record["summary"].items():
        cells = [
            panel,
            f"{row['needed_in_truth']:.0f}",
            *(
                cell
                for name in ("guess", "enough")
                for cell in (f"{row[f'{name}_low']:.0f} to {row[f'{name}_high']:.0f}", f"{row[f'held_{name}']:.0%}")
            ),
            f"{row['sd_pilot_low']:.3f} to {row['sd_pilot_high']:.3f} (all patients: {row['sd']:.3f})",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    note = (
        f"Pilots of ten patients were drawn 2,000 times from {len(record['scores']['all'])} painted patients. Ranges "
        "hold eight pilots in ten. Held: studies of that many other patients whose interval was as narrow as wanted."
    )
    return "\n".join([*lines, "", note, "", sources([record]), ""])


def held() -> str:
    """How often forecasts held and how often they told something, on simulated curves."""
    record = json.loads(HELD.with_suffix(".json").read_text())
    rows = pd.DataFrame(record["rows"])
    lines = [
        "| true curve | true gain | held | told: 3 units | 5 units | 10 units | told and missed |",
        "|" + "---|" * 7,
    ]
    for law, own in rows.groupby("law", sort=False):
        told = own.groupby("units")["told"].mean()
        cells = [str(law), f"{own['truth'].mean():.3f}", f"{own['held'].mean():.0%}"]
        cells += [f"{told[n]:.0%}" for n in (3, 5, 10)] + [f"{own['told_and_missed'].mean():.0%}"]
        lines.append("| " + " | ".join(cells) + " |")
    noises = sorted(rows["noise"].unique())
    note = (
        f"Simulated {record['draws']} times for each number of units, with a noise of "
        f"{', '.join(f'{n:g}' for n in noises)} at the smallest size. Held: the interval contains the true gain. "
        'Told: any answer but "cannot be told".'
    )
    return "\n".join([*lines, "", note, "", sources([record]), ""])


REFERENCE_PAGES: dict[Path, Callable[[], str]] = {CURVES: curves, THINNED: thinned, PLANNED: planned, HELD: held}
"""What is written, and what it is made by."""
