"""Helpers of all plots: fetch values, find colours that stand out from any ground, show or return the figure."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from anndata import AnnData
from scipy import sparse

from bleep_sc._checks import MissingKeyError
from bleep_sc._expression import path_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

NOT_KNOWN = "0.7"
"""The grey of a spot without a value: it stands out from black and from white."""


@contextmanager
def errors_naming(path: str, *, writer: str, room: str = "tl") -> Iterator[None]:
    """Turn an error while a stored field is read into one that names the field, and what writes it again."""
    try:
        yield
    except MissingKeyError:
        raise
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, ZeroDivisionError) as err:
        msg = (
            f"`{path}` is damaged, or another program's ({type(err).__name__}: {err}). "
            f"`bleep_sc.{room}.{writer}` writes it again."
        )
        raise ValueError(msg) from err


def values_of(
    adata: AnnData,
    genes: Sequence[str],
    *,
    layer: str | None,
    rows: np.ndarray | None = None,
    name: str = "adata",
) -> np.ndarray:
    """Fetch `X` or a layer of some genes and spots as float64 (n_spots, n_genes); NaN for what is no finite number."""
    if layer is None and adata.isbacked:  # what lies on disk is not cut in any order
        values: Any = (adata[:, list(genes)] if rows is None else adata[rows, list(genes)]).X
    else:
        values = adata.X if layer is None else adata.layers[layer]
        values = (values if rows is None else values[rows])[:, adata.var_names.get_indexer(list(genes))]
    if hasattr(values, "compute"):  # dask
        values = values.compute()
    values = np.asarray(values.toarray() if sparse.issparse(values) else values)
    if values.dtype.kind not in "fiub":
        msg = f"`{path_of(name, layer)}` must hold numbers, found {values.dtype}."
        raise ValueError(msg)
    values = values.astype(np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def colour_map(name: str, value: "str | Colormap") -> "Colormap":
    """Return the colour map that an argument names, with grey for spots without a value."""
    from matplotlib import colormaps

    try:
        return colormaps.get_cmap(value).with_extremes(bad=NOT_KNOWN)
    except (TypeError, ValueError) as err:
        msg = f"`{name}` must be a colour map of matplotlib's, such as 'viridis', found {value!r}."
        raise ValueError(msg) from err


def picture(image: Any, path: str) -> np.ndarray:
    """Return an image that matplotlib can draw: bytes, or numbers from 0 to 1; grey, RGB or RGBA."""
    image = np.asarray(image)
    shape, kind = image.shape, image.dtype.kind
    flat = image.ndim == 2 or (image.ndim == 3 and shape[2] in (3, 4))
    most = 255 if kind in "iu" else 1
    if (
        not flat
        or not image.size
        or kind not in "fiub"
        or np.nanmin(image, initial=0) < 0
        or np.nanmax(image, initial=0) > most
    ):
        msg = f"`{path}` must be an image (y, x, 3), uint8 or of numbers from 0 to 1, found {image.dtype} {shape}" + (
            f" up to {np.nanmax(image):.4g}." if flat and image.size and kind in "fiub" else "."
        )
        raise ValueError(msg)
    return image


def check_axes(ax: Any) -> None:
    """Check that a plot is drawn into axes of matplotlib's, or into none of the user's."""
    from matplotlib.axes import Axes

    if ax is not None and not isinstance(ax, Axes):
        msg = f"`ax` must be a matplotlib Axes, as of `plt.subplots()`, found {type(ax).__name__}."
        raise TypeError(msg)


def axes_for(ax: "Axes | None", *, figsize: tuple[float, float]) -> "tuple[Figure, Axes]":
    """Return the user's axes with their figure, or new axes in a figure of their own."""
    import matplotlib.pyplot as plt

    if ax is None:
        return plt.subplots(figsize=figsize, layout="constrained")
    check_axes(ax)
    return ax.figure, ax  # type: ignore[return-value]


def finish(fig: "Figure", *, show: bool | None, return_fig: bool, ax: "Axes | None" = None) -> "Figure | None":
    """Show the figure, unless it is returned or drawn into axes that the user is still at work on."""
    import matplotlib.pyplot as plt

    if show or (show is None and not return_fig and ax is None):
        plt.show()
    return fig if return_fig else None


def text_colour(*, pale: bool) -> Any:
    """Return the colour of text, or a paler one that is opaque, so that nothing shows through a hollow dot."""
    from matplotlib import colors, rcParams

    ink, ground = (np.array(colors.to_rgb(rcParams[key])) for key in ("text.color", "figure.facecolor"))
    return tuple(0.65 * ink + 0.35 * ground) if pale else tuple(ink)
