from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._adata import check_readable, recorded_library_key, section_of_spots
from bleep_sc._checks import MissingKeyError, check_in
from bleep_sc._stats import section_rows
from bleep_sc.pl._figure import colour_map, errors_naming, finish, values_of
from bleep_sc.pl._summary import named_genes, number_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FEWEST_GENES_TO_CLUSTER, _FEWEST_SPOTS_TO_CORRELATE = 3, 3
_NAMED = 60


def gene_correlation(
    adata: AnnData,
    genes: str | Sequence[str] = "HVG-50",
    *,
    layer: str = _keys.MODEL,
    truth: str | None = None,
    library_key: str | None = None,
    cmap: str = "RdBu_r",
    show: bool | None = None,
    return_fig: bool = False,
) -> "Figure | None":
    """Draw which genes are correlated, as measured and as imputed.

    The figure shows two matrices of Pearson correlations between genes. Both are ordered by hierarchical clustering of
    the measured matrix. If the imputed matrix shows the same blocks, the structure is preserved. If all of it is red
    and blue, the prediction consists of a few patterns only.

    Parameters
    ----------
    adata
        Spots with an imputed layer and measured expression.
    genes
        Name of a panel in ``uns[layer]['panels']``, or a list of genes. Use some hundred genes at most.
    layer
        The imputed layer.
    truth
        Layer with the measured expression; ``None`` is `adata.X`.
    library_key
        Column of `obs` with each spot's section. ``None`` takes the column that :func:`~bleep_sc.pp.crops` was given,
        else all spots are one section.
    cmap
        Colour map, from -1 to 1.
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
        No such layer, panel, gene or column, or no measured expression.
    ValueError
        Fewer than 3 genes that vary as measured, or fewer than 3 spots.

    Notes
    -----
    Correlations are over the spots of all sections. Each gene is first centred within each section, since differences
    between sections are not structure within the tissue. Genes are clustered by average linkage on 1 - correlation.
    Genes whose measured values are constant come last. Pairs without a correlation are grey. The title of the imputed
    matrix gives the agreement that :func:`~bleep_sc.tl.evaluate` has written for the panel (``gene_gene``).

    Only the two matrices are computed when the figure is drawn. This is quick for as many genes as fit on a page.

    Examples
    --------
    >>> bl.pl.gene_correlation(query, "HVG-50")  # doctest: +SKIP
    >>> bl.pl.gene_correlation(query, ["ERBB2", "GRB7", "COL1A1", "COL1A2"])  # doctest: +SKIP
    """
    import matplotlib.pyplot as plt
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    check_readable(adata)
    check_in("adata.layers", layer, adata.layers.keys(), remedy="`bleep_sc.tl.impute` makes an imputed layer.")
    if truth is not None:
        check_in("adata.layers", truth, adata.layers.keys(), remedy="`truth=None` takes `X`.")
    elif adata.X is None:
        msg = "`adata.X` is empty: there is no measured expression to compare with. Name its layer by `truth`."
        raise MissingKeyError(msg)
    names = named_genes(adata, genes, layer=layer)
    if len(names) < _FEWEST_GENES_TO_CLUSTER:
        msg = f"`genes` must name at least {_FEWEST_GENES_TO_CLUSTER} genes of `adata`, found {names}."
        raise ValueError(msg)
    if adata.n_obs < _FEWEST_SPOTS_TO_CORRELATE:
        msg = f"`adata` has {adata.n_obs} spots; a correlation needs at least {_FEWEST_SPOTS_TO_CORRELATE}."
        raise ValueError(msg)
    sections = section_rows(section_of_spots(adata, library_key or recorded_library_key(adata)), adata.n_obs)
    by_section = [rows for _, rows in sections]
    measured = _correlations(values_of(adata, names, layer=truth), by_section)
    order = _order(measured)
    imputed = _correlations(values_of(adata, names, layer=layer), by_section)

    colours = colour_map("cmap", cmap)
    agreement = _agreement(adata, layer, genes)
    width = 2.2 + min(0.11 * len(names), 8)
    layout = ConstrainedLayoutEngine(h_pad=0.1, compress=True)
    fig, axes = plt.subplots(1, 2, figsize=(2 * width + 1.4, width + 0.5), layout=layout)
    for ax, matrix, title in zip(axes, (measured, imputed), ("measured", f"imputed{agreement}"), strict=True):
        cells = ax.imshow(matrix[np.ix_(order, order)], cmap=colours, vmin=-1, vmax=1, interpolation="nearest")
        ax.set_title(title, fontsize="medium")
        ax.set(xticks=[], yticks=[])
        if len(names) <= _NAMED:
            size = min(8.0, 72 * 0.9 * (width - 1) / len(names))
            ordered = [names[gene] for gene in order]
            ax.set_xticks(range(len(names)), ordered, rotation=90, fontsize=size, parse_math=False)
            ax.set_yticks(range(len(names)), ordered, fontsize=size, parse_math=False)
    fig.colorbar(cells, ax=list(axes), shrink=0.6, aspect=30, label="Pearson correlation")
    what = f"{genes}: {len(names)}" if isinstance(genes, str) else str(len(names))
    fig.suptitle(f"{what} genes, layer {layer!r}", parse_math=False)
    return finish(fig, show=show, return_fig=return_fig)


def _correlations(values: np.ndarray, sections: Sequence[np.ndarray]) -> np.ndarray:
    """Correlate genes over all spots, each gene centred within each section; NaN where one of two does not vary."""
    centred = values.copy()
    for rows in sections:
        centred[rows] -= values[rows].mean(axis=0)
    length = np.sqrt((centred**2).sum(axis=0))
    # what is left of a constant gene are rounding errors
    length[~(length > 1e-6 * np.abs(values).max(axis=0))] = np.nan
    unit = centred / length
    return np.clip(unit.T @ unit, -1, 1)


def _order(correlations: np.ndarray) -> np.ndarray:
    """Order of genes that puts those that go together side by side, and those without correlations last."""
    from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
    from scipy.spatial.distance import squareform

    varies = np.flatnonzero(~np.isnan(np.diag(correlations)))
    if len(varies) < _FEWEST_GENES_TO_CLUSTER:
        msg = (
            f"`genes`: {len(varies)} of {len(correlations)} vary as measured; at least {_FEWEST_GENES_TO_CLUSTER} must."
        )
        raise ValueError(msg)
    distance = 1 - correlations[np.ix_(varies, varies)]
    np.fill_diagonal(distance, 0)
    condensed = squareform(distance, checks=False)
    ordered = varies[leaves_list(optimal_leaf_ordering(linkage(condensed, method="average"), condensed))]
    return np.concatenate([ordered, np.setdiff1d(np.arange(len(correlations)), ordered)])


def _agreement(adata: AnnData, layer: str, genes: str | Sequence[str]) -> str:
    """The agreement that `tl.evaluate` has found for a panel, in words; empty for a list of the user's own genes."""
    scores = adata.uns.get(_keys.scores(layer))
    if not isinstance(genes, str) or not isinstance(scores, Mapping) or "summary" not in scores:
        return ""
    with errors_naming(f"adata.uns[{_keys.scores(layer)!r}]", writer="evaluate"):
        table = scores["summary"]
        agreement = table.loc[(table["panel"] == genes) & (table["metric"] == "gene_gene"), "value"]
        return f" (agreement {number_text(float(agreement.iloc[0]), decimals=2)})" if len(agreement) else ""
