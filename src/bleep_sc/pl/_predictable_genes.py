import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._adata import check_reference
from bleep_sc._checks import check_in, check_int, check_key
from bleep_sc.pl._figure import axes_for, check_axes, errors_naming, finish, text_colour
from bleep_sc.pl._study.strata import draw_strata

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FEW = 40
"""Up to so many genes each has its name below it, and an interval of its own."""
_BEST_THAT_FIT = 20
_NOTE_WIDTH = 80
_PALE = "0.72"


def predictable_genes(
    ref: AnnData,
    *,
    by: str | None = None,
    key: str | None = None,
    n_genes: int = 12,
    ax: "Axes | None" = None,
    show: bool | None = None,
    return_fig: bool = False,
) -> "Figure | None":
    """Draw the expected score of each gene in a new section, best gene first, or the scores of strata of genes.

    Genes that :func:`~bleep_sc.tl.calibrate` listed as predictable are drawn in colour, the others pale. A gene may
    have a good expected score and still not be listed. This happens if smooth maps reach the same score by chance.

    Parameters
    ----------
    ref
        Reference whose model :func:`~bleep_sc.tl.calibrate` has calibrated. With `by`, spots whose genes
        :func:`~bleep_sc.tl.gene_strata` has scored.
    by
        How genes are divided: ``"expression"``, ``"autocorrelation"`` or ``"morphology"``. ``"gene set"`` draws the
        gene sets that are predicted best. ``None`` draws each gene by itself.
    key
        Name of the model; with `by`, key of the strata in `uns`. ``None`` is ``"bleep"`` and ``"gene_strata"``.
    n_genes
        Number of the best listed genes to draw a second time, beside their names. If there are at most 40 genes in all,
        each is named below the axis instead. With ``by="gene set"``, the number of gene sets to draw.
    ax
        Axes to draw into. There the best genes are named below the axis only.
    show
        Whether to show the figure. ``None`` shows it unless it is returned, or drawn into `ax`.
    return_fig
        Return the figure.

    Returns
    -------
    ``None``, or the :class:`matplotlib.figure.Figure` if ``return_fig=True``.

    Raises
    ------
    KeyError
        The model was not calibrated, or the genes were not divided into strata.
    ValueError
        No gene has an expected correlation, or the strata were not requested or could not be computed.

    Notes
    -----
    The bars, or the band if there are many genes, are the interval for a new section. Genes without an expected
    correlation are left out, and their number is given below the axis.

    Examples
    --------
    >>> bl.tl.calibrate(ref)  # doctest: +SKIP
    >>> bl.pl.predictable_genes(ref)  # doctest: +SKIP
    >>> bl.tl.gene_strata(ref)  # doctest: +SKIP
    >>> bl.pl.predictable_genes(ref, by="morphology")  # doctest: +SKIP
    """
    check_reference(ref)
    key = key if key is not None else _keys.MODEL if by is None else _keys.GENE_STRATA
    check_key("key", key)
    check_int("n_genes", n_genes, minimum=0)
    check_axes(ax)
    if by is not None:
        return draw_strata(ref, by, key=key, n_sets=n_genes, ax=ax, show=show, return_fig=return_fig)
    table, left_out = _ranked_genes(ref, key)
    listed = table["predictable"].to_numpy()
    few = len(table) <= _FEW

    named = table[listed].head(0 if few else n_genes)
    if ax is None and len(named):
        fig, drawn, beside = _two_axes(len(named))
        _draw_best(beside, named)
    else:
        fig, drawn = axes_for(ax, figsize=(6.4, 4.2))
    drawn.axhline(0, lw=0.8, color=text_colour(pale=False), alpha=0.3, zorder=0)
    _draw_intervals(drawn, table, few=few)
    rank = np.arange(1, len(table) + 1)
    for chosen, colour, label in ((~listed, _PALE, "not shown to be"), (listed, "C0", "predictable")):
        if chosen.any():
            drawn.scatter(
                rank[chosen],
                table["mean"][chosen],
                s=22 if few else 5,
                color=colour,
                zorder=3,
                lw=0,
                label=f"{label} ({chosen.sum():,})",
                gid=label,
            )
    notes = ["Genes, best first"]
    if ax is not None and len(named):
        notes.append("Best: " + ", ".join(f"{gene} {r:.2f}" for gene, r in named["mean"].items()))
    if left_out:
        notes.append(f"{left_out:,} gene{'s' * (left_out > 1)} without an expected correlation left out")
    lines = [line for note in notes for line in textwrap.wrap(note, _NOTE_WIDTH, break_on_hyphens=False)]
    drawn.set_xlabel("\n".join(lines), parse_math=False)
    drawn.set_ylabel("Pearson expected in another section")
    drawn.set_xlim(_around(1, len(table), 0.7 if few else 0.02 * len(table)))
    if few:
        _name_all(drawn, table)
    drawn.legend(loc="upper right", frameon=False, fontsize="small", reverse=True)
    drawn.set_title(_title(ref, key, table), fontsize="medium", loc="left", parse_math=False)
    return finish(fig, show=show, return_fig=return_fig, ax=ax)


def _ranked_genes(ref: AnnData, key: str) -> tuple[pd.DataFrame, int]:
    """The genes with an expected correlation, best first, and the number of those without."""
    columns = {
        "predictable": _keys.predictable(key),
        "mean": _keys.expected_pearson(key),
        "lower": _keys.expected_pearson(key, "lower"),
        "upper": _keys.expected_pearson(key, "upper"),
    }
    for column in columns.values():
        check_in(
            "ref.var",
            column,
            ref.var.columns,
            remedy=f"`bleep_sc.tl.calibrate(ref, key={key!r})` writes how well each gene is predicted.",
        )
    var: pd.DataFrame = ref.var
    table = pd.DataFrame(index=ref.var_names)
    for name, column in columns.items():
        with errors_naming(f"ref.var[{column!r}]", writer="calibrate"):
            table[name] = _flags(var[column]) if name == "predictable" else pd.to_numeric(var[column]).astype(float)
    known = table[np.isfinite(table["mean"])]
    if known.empty:
        msg = (
            f"none of the {len(table)} genes has an expected correlation in `ref.var[{columns['mean']!r}]`: all are "
            "constant as measured, or were not predicted."
        )
        raise ValueError(msg)
    return known.sort_values("mean", ascending=False, kind="stable"), len(table) - len(known)


def _flags(column: pd.Series) -> np.ndarray:
    if column.dtype != bool:
        msg = f"true or false expected, found {column.dtype}"
        raise TypeError(msg)
    return column.to_numpy()


def _draw_intervals(ax: "Axes", table: pd.DataFrame, *, few: bool) -> None:
    """Draw each gene's interval as a bar, or those of many genes as one band."""
    rank = np.arange(1, len(table) + 1)
    if not few:
        ax.fill_between(
            rank, table["lower"], table["upper"], color="C0", alpha=0.15, lw=0, label="interval in another section"
        )
        return
    colours = np.where(table["predictable"], "C0", _PALE)
    ax.vlines(rank, table["lower"], table["upper"], colors=list(colours), lw=2, alpha=0.5, zorder=2)


def _around(low: float, high: float, margin: float) -> tuple[float, float]:
    return low - margin, high + margin


def _name_all(ax: "Axes", table: pd.DataFrame) -> None:
    ax.set_xticks(np.arange(1, len(table) + 1), list(table.index), rotation=90, fontsize="small", parse_math=False)
    for label, listed in zip(ax.get_xticklabels(), table["predictable"], strict=True):
        label.set_color("C0" if listed else text_colour(pale=True))


def _two_axes(n_genes: int) -> "tuple[Figure, Axes, Axes]":
    """Make a figure with axes for all genes, and narrower ones for the best."""
    import matplotlib.pyplot as plt

    height = 4.2 + 0.2 * max(0, n_genes - _BEST_THAT_FIT)
    fig, (left, right) = plt.subplots(1, 2, figsize=(9, height), width_ratios=(5, 2), layout="constrained")
    return fig, left, right


def _draw_best(ax: "Axes", best: pd.DataFrame) -> None:
    """Draw genes beside their names, each with its interval."""
    row = np.arange(len(best))
    ax.hlines(row, best["lower"], best["upper"], color="C0", alpha=0.5, lw=2)
    ax.scatter(best["mean"], row, s=22, color="C0", zorder=3, lw=0)
    ax.set_yticks(row, list(best.index), fontsize="small", parse_math=False)
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(max(len(best), 8) - 0.4, -0.6)
    ax.set_xlabel("Expected Pearson")
    ax.set_title("Best predictable genes", fontsize="medium", loc="left")
    for side in ("top", "left", "right"):
        ax.spines[side].set_visible(False)


def _title(ref: AnnData, key: str, table: pd.DataFrame) -> str:
    title = f"{int(table['predictable'].sum()):,} of {len(table):,} genes shown to be predictable"
    entry = ref.uns.get(key)
    scope = entry.get("scope", "") if isinstance(entry, Mapping) else ""
    return f"{title} ({scope})" if isinstance(scope, str) and scope else title
