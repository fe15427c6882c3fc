import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._adata import check_readable
from bleep_sc._checks import check_in, check_int, check_names
from bleep_sc.metrics.registry import PlottedMetric
from bleep_sc.pl._figure import axes_for, check_axes, errors_naming, finish, text_colour
from bleep_sc.pl._summary import named_genes, number_text, panel_names, record_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NOTE_WIDTH = 80
_RUG = 0.045
_MOST_ON_THE_AXIS = 40
"""The most genes whose names stand on the axis."""
_CROWDED = 200


def gene_scores(
    adata: AnnData,
    *,
    layers: str | Sequence[str] = _keys.MODEL,
    metric: str = "pearson",
    genes: str | Sequence[str] | None = None,
    panels: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    ceiling: bool = True,
    n_named: int = 5,
    ax: "Axes | None" = None,
    show: bool | None = None,
    return_fig: bool = False,
) -> "Figure | None":
    """Draw the score of each gene, best gene first, for one layer or several.

    Up to 40 genes are named on the axis, in the order of the first layer. The scores of all layers are drawn above the
    name of the gene.

    More genes are drawn as curves. Each curve has its own ranking, from its best gene to its worst. So a curve that
    lies above another is better throughout. All curves show the same genes, but at one position two curves may show
    different genes. Floors are drawn like any other layer.

    Parameters
    ----------
    adata
        Spots with layers that :func:`~bleep_sc.tl.evaluate` has scored.
    layers
        One layer or several. The first is drawn strongest. Its genes are named, and its panels are marked.
    metric
        Score to draw, one that each gene has, such as ``"pearson"`` or ``"rmse"``.
    genes
        Genes to draw: the name of a panel in ``uns[<first layer>]['panels']``, or a list of genes. ``None`` draws all.
    panels
        Gene panels to mark by ticks at the ranks of their genes in the first layer: names as above, or a dict from
        name to genes. ``None`` marks all panels of the first layer.
    ceiling
        Draw the noise ceiling of each gene (``var['noise_ceiling']``) at the gene's position in the first layer. This
        needs a known ceiling and the metric ``"pearson"``. The gap between a score and its ceiling is what a better
        prediction could gain.
    n_named
        Number of the first layer's best genes to name below the axis, if there are too many genes to name all.
    ax
        Axes to draw into.
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
        A layer that was not scored by this metric, or no such gene or panel.
    ValueError
        No layer is named, or no gene has a score in all of them.

    Notes
    -----
    A gene without a score in one of the layers (constant as measured, or not predicted) is left out of all of them.
    Such genes are counted below the axis. So a layer that predicts few genes shortens every curve. Draw it by itself
    too.

    Examples
    --------
    >>> bl.tl.evaluate(query)  # doctest: +SKIP
    >>> bl.pl.gene_scores(query, layers=["bleep", "ridge"], panels=["HVG-50"])  # doctest: +SKIP
    """
    check_readable(adata)
    check_axes(ax)
    layers = list(dict.fromkeys(check_names("layers", layers)))
    if not layers:
        msg = "`layers` names none: pass a layer that `bleep_sc.tl.evaluate` has scored, or several."
        raise ValueError(msg)
    check_int("n_named", n_named, minimum=0)
    table, left_out = _scored_genes(adata, layers, metric, genes)
    marked = _panels(adata, layers[0], panels)
    measure = record_of(metric)
    ranked = _ranked(table[layers[0]], measure)
    named = len(ranked) <= _MOST_ON_THE_AXIS

    names = [str(name) for name in ranked.index] if named else []
    fig, drawn = axes_for(ax, figsize=(6.4, 4.2 + 0.16 * len(marked) + 0.06 * max(map(len, names), default=0)))
    if measure.mark is not None:
        drawn.axhline(measure.mark, lw=0.8, color=text_colour(pale=False), alpha=0.3, zorder=0)
    for number, layer in enumerate(layers):
        first = number == 0
        # under names, each score stands at its gene; else, each curve falls
        values = table.loc[ranked.index, layer] if named else _ranked(table[layer], measure)
        drawn.plot(
            np.arange(1, len(values) + 1),
            values.to_numpy(),
            ls="-" if first or not named else "",
            marker="o" if named else "",
            markersize=6 if first else 4.5,
            lw=2.2 if first and not named else 1.2,
            zorder=3 - 0.5 * number / len(layers),
            color=f"C{number}",
            label=f"{layer} (mean {number_text(float(values.mean()), decimals=2)})",
        )
    if ceiling and measure.has_ceiling and _keys.NOISE_CEILING in adata.var:
        var: pd.DataFrame = adata.var
        _draw_ceiling(drawn, pd.to_numeric(var.loc[ranked.index, _keys.NOISE_CEILING], errors="coerce"), named=named)
    _mark_panels(drawn, ranked.index, marked)
    order = "best first in each layer" if not named else f"best of {layers[0]} first"
    notes = ["Genes, " + ("best first" if len(layers) == 1 else order)]
    if named:
        drawn.set_xticks(np.arange(1, len(ranked) + 1), names, rotation=90, size="small", parse_math=False)
    elif n_named:
        best = [f"{gene} {number_text(value, decimals=2)}" for gene, value in ranked[:n_named].items()]
        notes.append(f"Best of {layers[0]}: " + ", ".join(best))
    if left_out:
        notes.append(f"{left_out:,} gene{'s' * (left_out > 1)} without a score left out")
    lines = [line for note in notes for line in textwrap.wrap(note, _NOTE_WIDTH)]
    drawn.set_xlabel("\n".join(lines), parse_math=False)
    margin = max(0.02 * len(table), 0.5 if named else 0)
    drawn.set(ylabel=measure.title, xlim=(1 - margin, len(table) + margin))
    for text in drawn.legend().get_texts():
        text.set_parse_math(False)
    if ax is None and named and marked:
        fig.draw_without_rendering()  # long names below and ticks above take the layout one more round than a draw has
    return finish(fig, show=show, return_fig=return_fig, ax=ax)


def _draw_ceiling(ax: "Axes", ceiling: pd.Series, *, named: bool) -> None:
    """Draw the noise ceiling of each gene at the gene's own place: a step, or a dot where there are many."""
    if not ceiling.notna().any():
        return
    ax.plot(
        np.arange(1, len(ceiling) + 1),
        ceiling.to_numpy(dtype=float),
        ls="",
        marker="_" if named else ".",
        markersize=11 if named else 6 if len(ceiling) < _CROWDED else 3,
        markeredgewidth=1.6 if named else 0,
        color=text_colour(pale=True),
        zorder=1,
        label="noise ceiling of each gene",
    )


def _scored_genes(
    adata: AnnData, layers: Sequence[str], metric: str, genes: str | Sequence[str] | None
) -> tuple[pd.DataFrame, int]:
    """The scores of all genes that have one in every layer, and the number of genes that have not."""
    for layer in layers:
        check_in(
            "adata.var",
            _keys.score(layer, metric),
            adata.var.columns,
            remedy=f"`bleep_sc.tl.evaluate(adata, layer={layer!r})` writes the scores of a layer.",
        )
    names = list(adata.var_names) if genes is None else named_genes(adata, genes, layer=layers[0])
    var: pd.DataFrame = adata.var
    scores = {}
    for layer in layers:
        column = _keys.score(layer, metric)
        with errors_naming(f"adata.var[{column!r}]", writer="evaluate"):
            scores[layer] = pd.to_numeric(var.loc[names, column]).replace([np.inf, -np.inf], np.nan)
    table = pd.DataFrame(scores, index=names)
    complete = table.dropna()
    if complete.empty:
        columns = " and ".join(f"`adata.var[{_keys.score(layer, metric)!r}]`" for layer in layers)
        msg = (
            f"none of the {len(table)} genes has a score in {columns}: they are constant as measured, or were not "
            "predicted. Draw other `genes` or `layers`."
        )
        raise ValueError(msg)
    return complete, len(table) - len(complete)


def _panels(
    adata: AnnData, layer: str, panels: Sequence[str] | Mapping[str, Sequence[str]] | None
) -> dict[str, np.ndarray]:
    """Find the genes of each panel that is to be marked."""
    if isinstance(panels, Mapping):
        return {
            str(name): np.asarray(check_names(f"panels[{name!r}]", genes), dtype=object)
            for name, genes in panels.items()
        }
    names = panel_names(adata, layer) if panels is None else check_names("panels", panels)
    return {name: np.asarray(named_genes(adata, name, layer=layer), dtype=object) for name in names}


def _ranked(values: pd.Series, measure: PlottedMetric) -> pd.Series:
    """Order the values of genes, best first."""
    return values.loc[measure.rank(values).sort_values(ascending=False, kind="stable").index]


def _mark_panels(ax: "Axes", ranked: pd.Index, panels: Mapping[str, np.ndarray]) -> None:
    """Draw a row of ticks above the axes for each panel, at the ranks of its genes."""
    to_axes = ax.get_xaxis_transform()
    for number, (name, genes) in enumerate(reversed(list(panels.items()))):
        at = 1.03 + _RUG * number
        ranks = np.flatnonzero(ranked.isin(genes)) + 1
        ax.vlines(
            ranks,
            at,
            at + 0.7 * _RUG,
            transform=to_axes,
            clip_on=False,
            lw=0.7,
            color=text_colour(pale=False),
            gid=name,
        )
        ax.text(1.01, at + 0.35 * _RUG, name, va="center", transform=ax.transAxes, fontsize="small", parse_math=False)
