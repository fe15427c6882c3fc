"""What all plots do alike: fetch values, find colours that stand out from any ground, show or return the figure."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from anndata import AnnData
from scipy import sparse

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NOT_KNOWN = "0.7"
"""The grey of a spot without a value: it stands out from black and from white."""


def values_of(adata: AnnData, genes: Sequence[str], *, layer: str | None, rows: np.ndarray | None = None) -> np.ndarray:
    """`X` or a layer of some genes, and some spots, as float64 (n_spots, n_genes)."""
    part = adata[:, list(genes)] if rows is None else adata[rows, list(genes)]
    values: Any = part.X if layer is None else part.layers[layer]
    if hasattr(values, "compute"):  # dask
        values = values.compute()
    return np.asarray(values.toarray() if sparse.issparse(values) else values, dtype=np.float64)


def axes_for(ax: "Axes | None", *, figsize: tuple[float, float]) -> "tuple[Figure, Axes]":
    """The user's axes, or new ones in a figure of their own."""
    import matplotlib.pyplot as plt

    if ax is None:
        return plt.subplots(figsize=figsize, layout="constrained")
    return ax.figure, ax  # type: ignore[return-value]


def finish(fig: "Figure", *, show: bool | None, return_fig: bool, ax: "Axes | None" = None) -> "Figure | None":
    """Show the figure, unless it is returned or drawn into axes that the user is still at work on."""
    import matplotlib.pyplot as plt

    if show or (show is None and not return_fig and ax is None):
        plt.show()
    return fig if return_fig else None


def text_colour(*, pale: bool) -> Any:
    """The colour of text, or one nearer to the ground: opaque, so that nothing shows through a hollow dot."""
    from matplotlib import colors, rcParams

    ink, ground = (np.array(colors.to_rgb(rcParams[key])) for key in ("text.color", "figure.facecolor"))
    return tuple(0.65 * ink + 0.35 * ground) if pale else tuple(ink)
