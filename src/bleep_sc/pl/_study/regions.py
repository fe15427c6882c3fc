import textwrap
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._adata import check_readable
from bleep_sc._checks import check_in, check_key
from bleep_sc.pl._figure import errors_naming, finish, text_colour
from bleep_sc.pl._summary import number_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANELS = (
    ("AUROC of the markers' score", "auroc_measured", "auroc_predicted", 0.5),
    ("log2 fold change", "log2_fold_measured", "log2_fold_predicted", 0.0),
    ("Pearson of the score", "pearson", "pearson_within", 0.0),
)
_LETTER = 0.068
_CIRCULAR = (
    "The model sees the image, and regions can be told apart by eye: a high AUROC shows that the image shows the "
    "region, not that genes are predicted beyond it. What is left within regions says that."
)


def regions(
    adata: AnnData,
    *,
    layer: str = _keys.MODEL,
    show: bool | None = None,
    return_fig: bool = False,
) -> "Figure | None":
    """Draw how markers stand out in their regions as predicted and as measured, and how clusters and genes agree.

    Parameters
    ----------
    adata
        Spots that :func:`~bleep_sc.tl.evaluate_regions` has compared.
    layer
        Name of the predicted layer.
    show
        Whether to show the figure. ``None`` shows it unless it is returned.
    return_fig
        Return the figure.

    Returns
    -------
    ``None``, or the :class:`matplotlib.figure.Figure` if ``return_fig=True``.

    Raises
    ------
    KeyError
        The layer was not compared with regions.

    Notes
    -----
    Dots are means over sections. Hollow dots are measured, or over the whole section in the last panel; filled ones are
    predicted, or within regions in the last panel.

    Examples
    --------
    >>> bl.tl.evaluate_regions(query, labels="annotation", markers=markers)  # doctest: +SKIP
    >>> bl.pl.regions(query)  # doctest: +SKIP
    """
    import matplotlib.pyplot as plt

    check_readable(adata)
    check_key("layer", layer)
    key = _keys.regions(layer)
    check_in("adata.uns", key, adata.uns.keys(), remedy="`bleep_sc.tl.evaluate_regions` writes it.")
    with errors_naming(f"adata.uns[{key!r}]", writer="evaluate_regions"):
        entry = dict(adata.uns[key])
        summary = entry["summary"]
        values = {name: pd.to_numeric(summary[name]).to_numpy(dtype=float) for panel in _PANELS for name in panel[1:3]}
        names = list(map(str, summary["region"]))
        notes = _notes(entry["clusters"], entry["spatial_genes"], in_sample=bool(entry.get("in_sample", False)))
    width = 10.5
    lines = [line for note in notes for line in textwrap.wrap(note, int(width / _LETTER))]
    size = (width, 1.9 + 0.38 * len(names) + 0.17 * len(lines))
    fig, axes = plt.subplots(1, len(_PANELS), figsize=size, sharey=True, layout="constrained")
    for ax, (title, hollow, filled, mark) in zip(axes, _PANELS, strict=True):
        _draw_dots(ax, values[hollow], values[filled], mark, labels=_words(hollow))
        ax.set_title(title, fontsize="medium", loc="left")
    axes[0].set_yticks(range(len(names)), names, parse_math=False)
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    fig.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize="small", fontweight="normal")
    return finish(fig, show=show, return_fig=return_fig)


def _words(hollow: str) -> tuple[str, str]:
    return ("whole section", "within regions") if hollow == "pearson" else ("measured", "predicted")


def _draw_dots(ax: "Axes", hollow: np.ndarray, filled: np.ndarray, mark: float, *, labels: tuple[str, str]) -> None:
    """Draw two values of each region on one line, and what none of them means."""
    rows = np.arange(len(hollow))
    ink = text_colour(pale=False)
    ax.axvline(mark, lw=0.8, color=ink, alpha=0.4, zorder=0)
    ax.hlines(rows, hollow, filled, color=ink, alpha=0.35, lw=1.2, zorder=1)
    ax.plot(hollow, rows, "o", mfc=ax.get_facecolor(), mec="C0", ms=7, zorder=2, label=labels[0])
    ax.plot(filled, rows, "o", color="C0", ms=7, zorder=3, label=labels[1])
    ax.grid(visible=False)
    ax.spines[["left", "right", "top"]].set_visible(False)
    ax.tick_params(axis="y", length=0)
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.08), ncols=2, frameon=False, fontsize="small")


def _notes(clusters: pd.DataFrame, genes: pd.DataFrame, *, in_sample: bool) -> list[str]:
    """Put in words what is one number a section, as means over sections."""
    ari, chance, of_measured, of_predicted = (
        _mean(clusters, name) for name in ("ari", "ari_chance", "ari_labels_measured", "ari_labels_predicted")
    )
    known = genes[genes["n_both"].notna()]
    both, by_chance, n_measured = (_mean(known, name) for name in ("n_both", "n_chance", "n_measured"))
    of_labels = [number_text(value, decimals=2) for value in (of_measured, of_predicted)]
    notes = [
        f"Clusters, adjusted Rand index: predicted to measured {number_text(ari, decimals=2)} (turned maps "
        f"{number_text(chance, decimals=2)}); to the labels, measured {of_labels[0]}, predicted {of_labels[1]}.",
        f"Genes that vary over the section, {number_text(n_measured, decimals=0)} as measured: in both lists "
        f"{number_text(both, decimals=0)}, by chance {number_text(by_chance, decimals=0)}.",
        _CIRCULAR,
    ]
    return ["IN-SAMPLE: the model was trained on these spots."] * in_sample + notes


def _mean(table: pd.DataFrame, name: str) -> float:
    known = pd.to_numeric(table[name]).dropna()
    return float(known.mean()) if len(known) else float("nan")
