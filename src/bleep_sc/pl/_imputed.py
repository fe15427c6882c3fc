from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from anndata import AnnData
from scipy import sparse

from bleep_sc import _keys
from bleep_sc._errors import MissingKeyError
from bleep_sc._validate import (
    check_in,
    check_number,
    check_readable,
    recorded_library_key,
    section_of_spots,
    spatial_coordinates,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def imputed(
    adata: AnnData,
    genes: str | Sequence[str],
    *,
    layer: str = _keys.MODEL,
    truth: str | None = None,
    library_key: str | None = None,
    library_id: str | None = None,
    img_key: str = "hires",
    cmap: str = "viridis",
    size: float = 1.0,
    show: bool | None = None,
    return_fig: bool = False,
) -> "Figure | None":
    """Draw H&E, measured and imputed expression side by side, a row for each gene.

    Each panel has a colour scale of its own, from its 1st to its 99th percentile: an average over neighbours varies
    less than a single measurement, and what counts is the pattern.

    Parameters
    ----------
    adata
        Spots with an imputed layer.
    genes
        One gene or several.
    layer
        The imputed layer.
    truth
        Layer with the measured expression; ``None`` is `adata.X`. Where there is none, the column is left out.
    library_key
        Column of `obs` with each spot's section, where `adata` holds several; ``None``: what
        :func:`~bleep_sc.pp.crops` was told.
    library_id
        The section to draw; needed only where there are several.
    img_key
        Which image of ``uns['spatial'][library_id]['images']``.
    cmap
        Colour map.
    size
        Spots are drawn this many times their true size.
    show
        Whether to show the figure; ``None``: unless it is returned.
    return_fig
        Return the figure.

    Returns
    -------
    ``None``, or the :class:`matplotlib.figure.Figure` if ``return_fig=True``.

    Raises
    ------
    KeyError
        No such layer, gene, column, section, image or scale factor.
    ValueError
        Several sections and none chosen.
    """
    import matplotlib.pyplot as plt

    check_readable(adata)
    genes = [genes] if isinstance(genes, str) else list(genes)
    if not genes:
        msg = "`genes` names none: pass a gene or several."
        raise ValueError(msg)
    check_in("adata.layers", layer, adata.layers.keys(), remedy="`bleep_sc.tl.impute` makes an imputed layer.")
    if truth is not None:
        check_in("adata.layers", truth, adata.layers.keys())
    for gene in genes:
        check_in("adata.var_names", gene, adata.var_names)
    library_id, rows = _one_section(adata, library_key or recorded_library_key(adata), library_id)
    library = adata.uns.get(_keys.SPATIAL, {}).get(library_id, {})
    image = library.get("images", {}).get(img_key)
    if image is None:
        msg = f"`adata.uns['spatial'][{library_id!r}]['images'][{img_key!r}]` does not exist: no image to draw on."
        raise MissingKeyError(msg)
    scale, diameter = (
        _scalefactor(library, library_id, name) for name in (f"tissue_{img_key}_scalef", "spot_diameter_fullres")
    )
    xy = spatial_coordinates(adata)[rows] * scale
    diameter *= scale * check_number("size", size, above=0)

    columns = {"imputed": adata.layers[layer]}
    if truth is not None or adata.X is not None:
        columns = {"measured": adata.X if truth is None else adata.layers[truth], **columns}
    shape = (len(genes), 1 + len(columns))
    fig, axes = plt.subplots(*shape, figsize=(3.6 * shape[1], 3.3 * shape[0]), squeeze=False, layout="constrained")
    for row, gene in zip(axes, genes, strict=True):
        _draw_image(row[0], image, xy, diameter)
        row[0].set_title("H&E" if row[0] is axes[0, 0] else "")
        for ax, (name, values) in zip(row[1:], columns.items(), strict=True):
            _draw_image(ax, image, xy, diameter)
            column = values[rows][:, adata.var_names.get_loc(gene)]
            column = np.asarray(column.toarray() if sparse.issparse(column) else column, dtype=np.float64).ravel()
            spots = _draw_spots(ax, xy, diameter, column, cmap=cmap)
            fig.colorbar(spots, ax=ax, shrink=0.8)
            ax.set_title(f"{gene}, {name}" + (_score(adata, layer, gene) if name == "imputed" else ""))
    if show or (show is None and not return_fig):
        plt.show()
    return fig if return_fig else None


def _one_section(adata: AnnData, library_key: str | None, library_id: str | None) -> tuple[str, np.ndarray]:
    sections = section_of_spots(adata, library_key)
    found = list(adata.uns.get(_keys.SPATIAL, {})) if sections is None else sorted(set(sections))
    if not found:
        msg = "`adata.uns['spatial']` does not exist or is empty: no image to draw on."
        raise MissingKeyError(msg)
    if library_id is None:
        if len(found) != 1:
            msg = (
                f"`adata` holds the sections {found}: choose one by `library_id`, and name the column by `library_key`."
            )
            raise ValueError(msg)
        library_id = found[0]
    check_in("adata.uns['spatial']", library_id, found)
    return library_id, np.arange(adata.n_obs) if sections is None else np.flatnonzero(sections == library_id)


def _scalefactor(library: Mapping[str, Any], library_id: str, name: str) -> float:
    factors = library.get("scalefactors", {})
    check_in(
        f"adata.uns['spatial'][{library_id!r}]['scalefactors']",
        name,
        factors,
        remedy="It tells where spots lie on the image, as `squidpy.read.visium` stores it.",
    )
    return float(factors[name])


def _draw_image(ax: Any, image: Any, xy: np.ndarray, diameter: float) -> None:
    ax.imshow(image)
    low, high = xy.min(axis=0) - diameter, xy.max(axis=0) + diameter
    ax.set(xlim=(low[0], high[0]), ylim=(high[1], low[1]), xticks=[], yticks=[])


def _draw_spots(ax: Any, xy: np.ndarray, diameter: float, values: np.ndarray, *, cmap: str) -> Any:
    from matplotlib.collections import EllipseCollection

    spots = EllipseCollection(
        diameter, diameter, 0, units="xy", offsets=xy, offset_transform=ax.transData, cmap=cmap, array=values
    )
    finite = values[np.isfinite(values)]
    if len(finite):
        spots.set_clim(*np.percentile(finite, [1, 99]))
    return ax.add_collection(spots)


def _score(adata: AnnData, layer: str, gene: str) -> str:
    """The gene's correlation, where `tl.evaluate` has written one."""
    column = _keys.pearson(layer)
    return f" (r = {adata.var.loc[gene, column]:.2f})" if column in adata.var else ""
