"""Draws the scores of genes by stratum, and of gene sets: `pl.predictable_genes(by=...)`."""

import textwrap
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData

from bleep_sc._checks import check_choice, check_in
from bleep_sc.pl._figure import axes_for, errors_naming, finish, text_colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WORDS = {
    "expression": "mean expression",
    "autocorrelation": "Moran's I within sections",
    "morphology": "likeness of spots that look alike (1 − Geary's C)",
}
"""What the ends of the strata are, in words."""
_SETS = "gene set"
_FDR = 0.1
_PALE = "0.72"
_NAME_WIDTH = 34
_NUMBERS = ("value", "low", "high", "ceiling", "from", "to", "programme", "programme_chance", "qvalue", "n_genes")


def draw_strata(
    adata: AnnData,
    by: str,
    *,
    key: str,
    n_sets: int,
    ax: "Axes | None",
    show: bool | None,
    return_fig: bool,
) -> "Figure | None":
    """Draw strata, lowest first, beside the noise ceiling; or gene sets, best first, beside random ones."""
    check_choice("by", by, (*_WORDS, _SETS))
    check_in("ref.uns", key, adata.uns.keys(), remedy="`bleep_sc.tl.gene_strata` writes it.")
    with errors_naming(f"ref.uns[{key!r}]", writer="gene_strata"):
        table = adata.uns[key]["table"]
        numbers = {name: pd.to_numeric(table[name]) for name in _NUMBERS}
        rows = table.assign(**numbers)[(table["by"] == by).to_numpy()]
        scope = str(table["scope"].iloc[0])
        notes = list(map(str, rows["note"]))
    known = rows[rows["programme" if by == _SETS else "value"].notna()]
    if known.empty:
        why = notes[0] if notes and notes[0] else "`bleep_sc.tl.gene_strata` was not asked for it"
        msg = f"`by={by!r}`: there is nothing to draw in `ref.uns[{key!r}]`: {why}."
        raise ValueError(msg)
    if by == _SETS:
        best = known.sort_values("programme", ascending=False, kind="stable").head(n_sets)
        fig, drawn = axes_for(ax, figsize=(6.4, 1.8 + 0.27 * max(len(best), 3)))
        _draw_sets(drawn, best, n_left_out=len(rows) - len(known), n_known=len(known))
    else:
        fig, drawn = axes_for(ax, figsize=(1.8 + 1.0 * len(known), 4.0))
        _draw_strata(drawn, known, by)
    drawn.set_title(
        ("Gene sets read off the image" if by == _SETS else f"Genes by {by}") + f" ({scope})",
        fontsize="medium",
        loc="left",
    )
    return finish(fig, show=show, return_fig=return_fig, ax=ax)


def _draw_strata(ax: "Axes", rows: pd.DataFrame, by: str) -> None:
    """Draw a bar for each stratum, its interval, and the ceiling as a line above it."""
    at = np.arange(len(rows))
    ink = text_colour(pale=False)
    ax.bar(at, rows["value"], width=0.7, color="C0", alpha=0.8, zorder=2, label="Pearson, held out")
    ax.vlines(at, rows["low"], rows["high"], color=ink, lw=1.6, zorder=3)
    ceilings = rows["ceiling"].notna().to_numpy()
    if ceilings.any():
        ax.hlines(
            rows["ceiling"][ceilings],
            at[ceilings] - 0.4,
            at[ceilings] + 0.4,
            color=ink,
            ls=":",
            lw=1.6,
            zorder=3,
            label="noise ceiling",
        )
    ax.axhline(0, lw=0.8, color=ink, alpha=0.4, zorder=1)
    ends = [f"{low:.2g} to\n{high:.2g}" for low, high in zip(rows["from"], rows["to"], strict=True)]
    ax.set_xticks(at, ends, fontsize="small")
    ax.grid(visible=False)
    over = [text for text in rows["interval_over"].astype(str).unique() if text]
    note = f"{_WORDS[by]} on training sections; {int(rows['n_genes'].median()):,} genes each"
    note += f"; lines: interval over {' or '.join(over)}" if over else "; no interval could be given"
    ax.set_xlabel("\n".join(textwrap.wrap(note, 16 + 11 * len(rows))))
    ax.set_ylabel("Pearson within held-out sections")
    ax.set_ylim(top=1.22 * max(ax.get_ylim()[1], float(np.nanmax(rows[["value", "high", "ceiling"]]))))
    ax.legend(loc="upper left", frameon=False, fontsize="small", ncols=2)


def _draw_sets(ax: "Axes", rows: pd.DataFrame, *, n_left_out: int, n_known: int) -> None:
    """Draw each set's correlation beside that of random sets; in colour where it is above them."""
    at = np.arange(len(rows))
    ink = text_colour(pale=False)
    above = (rows["qvalue"] <= _FDR).to_numpy()
    ax.axvline(0, lw=0.8, color=ink, alpha=0.4, zorder=0)
    ax.hlines(at, rows["programme_chance"], rows["programme"], color=ink, alpha=0.3, lw=1.2, zorder=1)
    ax.plot(
        rows["programme_chance"],
        at,
        "o",
        mfc=ax.get_facecolor(),
        mec=text_colour(pale=True),
        ms=5,
        ls="none",
        label="random sets of like genes",
    )
    for chosen, colour, label in ((above, "C0", f"above them (q ≤ {_FDR})"), (~above, _PALE, "not shown to be")):
        if chosen.any():
            ax.plot(rows["programme"][chosen], at[chosen], "o", color=colour, ms=7, ls="none", label=label)
    names = [
        textwrap.shorten(str(name).replace("_", " "), _NAME_WIDTH, placeholder="…") + f" ({n})"
        for name, n in zip(rows["stratum"], rows["n_genes"].astype(int), strict=True)
    ]
    ax.set_yticks(at, names, fontsize="small", parse_math=False)
    ax.set_ylim(max(len(rows), 3) - 0.4, -0.6)
    ax.grid(visible=False)
    ax.tick_params(axis="y", length=0)
    ax.spines[["left", "right", "top"]].set_visible(False)
    note = f"Pearson of the set's mean, predicted and measured. Best {len(rows)} of {n_known} sets"
    note += f"; {n_left_out} with too few genes left out" if n_left_out else ""
    ax.set_xlabel("\n".join(textwrap.wrap(note, 52)))
    ax.legend(loc="lower center", bbox_to_anchor=(0.4, 1.1), frameon=False, fontsize="small", ncols=3)
