import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._adata import as_numbers, check_readable
from bleep_sc._checks import MissingKeyError, check_in, check_int, check_listed, check_names
from bleep_sc.pl._figure import colour_map, errors_naming, finish, picture, values_of
from bleep_sc.pl._summary import check_gene, number_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH, _GENE_HEIGHT = 1.35, 0.24
_TITLE_WIDTH = 18


def neighbors(
    adata: AnnData,
    ref: AnnData,
    *,
    spot: str | Sequence[str],
    genes: str | Sequence[str] = (),
    key: str = _keys.MODEL,
    n_neighbors: int = 8,
    image_key: str = _keys.CROPS,
    cmap: str = "viridis",
    show: bool | None = None,
    return_fig: bool = False,
) -> "Figure | None":
    """Draw where the values of a spot come from: its crop beside the crops of the reference spots that were averaged.

    Each query spot has a row. It shows the spot's own crop, then the crops of its nearest reference spots with their
    distance (1 - cosine) and section. Below each reference crop is its measured expression of the chosen genes. Below
    the query's crop is the imputed expression, with the measured one in brackets if there is any. If the model mixes
    the average with a regression, the title of the query gives the share of each.

    Parameters
    ----------
    adata
        The query, as :func:`~bleep_sc.tl.impute` left it, with its crops.
    ref
        The reference that it was imputed from, all spots in the same order, with its crops.
    spot
        Name of a query spot, or of several.
    genes
        One gene or a few, whose expression is given below the crops.
    key
        Name of the imputed layer.
    n_neighbors
        Number of reference spots to draw, nearest first. The imputed values are the average of all retrieved spots,
        also of those that are not drawn.
    image_key
        Key of the crops in `obsm` of both `adata` and `ref`.
    cmap
        Colour map of the expression. Its colours run from the lowest to the highest value of the whole figure, so equal
        colours mean equal expression.
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
        No such spot or gene, no retrieved neighbours in `adata`, or no crops in one of the two objects.
    ValueError
        `ref` is not the reference that `adata` was imputed from, or `image_key` names features instead of crops.

    Examples
    --------
    >>> bl.tl.impute(query, ref)  # doctest: +SKIP
    >>> bl.pl.neighbors(query, ref, spot=query.obs_names[0], genes=["ERBB2", "COL1A1"])  # doctest: +SKIP
    """
    import matplotlib.pyplot as plt
    from matplotlib.colors import Normalize

    check_readable(adata)
    check_readable(ref, name="ref")
    spots = list(dict.fromkeys(check_names("spot", spot)))
    genes = list(dict.fromkeys(check_names("genes", genes)))
    if not spots:
        msg = "`spot` names none: pass the name of a query spot, or several."
        raise ValueError(msg)
    for name in spots:
        check_listed("adata.obs_names", name, adata.obs_names, argument="spot", noun="spot")
    for gene in genes:
        check_gene(adata, gene)
        check_gene(ref, gene, name="ref")
    check_int("n_neighbors", n_neighbors)
    colours = colour_map("cmap", cmap)
    sections, params = provenance(adata, ref, key)
    queries = adata.obs_names.get_indexer(spots)
    rows, distances = retrieved(adata, key, n_reference=ref.n_obs)
    k = rows.shape[1]
    with errors_naming(f"adata.uns[{key!r}]['params']", writer="impute"):
        made_of, averaged = made_of_words(params, k), str(params.get("layer", "X"))
    drawn_rows, distances = rows[queries, :n_neighbors], distances[queries]
    n_drawn = drawn_rows.shape[1]
    own_crops = crops_of(adata, image_key, queries, name="adata")
    ref_crops = crops_of(ref, image_key, drawn_rows.ravel(), name="ref")
    imputed = values_of(adata, genes, layer=key, rows=queries)
    measured = np.full_like(imputed, np.nan) if adata.X is None else values_of(adata, genes, layer=None, rows=queries)
    source = None if averaged == "X" else averaged
    if source is not None:
        check_in("ref.layers", source, ref.layers.keys(), remedy="Its values were averaged by `bleep_sc.tl.impute`.")
    elif genes and ref.X is None:
        msg = (
            "`ref.X` is empty: the measured expression of the neighbours is drawn. Pass the AnnData that was averaged."
        )
        raise MissingKeyError(msg)
    profiles = values_of(ref, genes, layer=source, rows=drawn_rows.ravel(), name="ref") if genes else np.empty((0, 0))

    shown = np.concatenate([imputed.ravel(), profiles.ravel()])
    scale = Normalize(*_ends(shown))
    per_spot = [_WIDTH, _GENE_HEIGHT * len(genes)] if genes else [_WIDTH]
    margin = _WIDTH + 0.09 * max(map(len, genes), default=0)
    fig, axes = plt.subplots(
        len(per_spot) * len(spots),
        1 + n_drawn,
        figsize=(_WIDTH * n_drawn + margin, (sum(per_spot) + 0.75) * len(spots)),
        height_ratios=per_spot * len(spots),
        squeeze=False,
        layout="constrained",
    )
    for row, name in enumerate(spots):
        of_spot = slice(row * n_drawn, (row + 1) * n_drawn)
        patches, *strips = axes[len(per_spot) * row : len(per_spot) * (row + 1)]
        for ax, crop in zip(patches, [own_crops[row], *ref_crops[of_spot]], strict=True):
            ax.imshow(crop)
            ax.set(xticks=[], yticks=[])
        patches[0].spines[:].set(color="C1", linewidth=3)
        _set_title(patches[0], [name, *made_of])
        for ax, at, distance in zip(patches[1:], drawn_rows[row], distances[row], strict=False):
            _set_title(ax, [f"distance {number_text(float(distance))}", sections[at]])
        if strips:
            values = np.vstack([imputed[row], profiles[of_spot]])
            _draw_values(strips[0], genes, values, measured[row], shades=colours(scale(values)))
    return finish(fig, show=show, return_fig=return_fig)


def provenance(adata: AnnData, ref: AnnData, key: str) -> tuple[np.ndarray, Mapping[str, Any]]:
    """Sections of the reference's spots, and how these were averaged; refuse another reference than the query's."""
    for name in (_keys.neighbors(key), _keys.distances(key)):
        check_in(
            "adata.obsm",
            name,
            adata.obsm.keys(),
            remedy="`bleep_sc.tl.impute` writes it for methods that retrieve; ridge, for one, has no neighbours.",
        )
    check_in("adata.layers", key, adata.layers.keys(), remedy="`bleep_sc.tl.impute` makes an imputed layer.")
    check_in("adata.uns", key, adata.uns.keys(), remedy="`bleep_sc.tl.impute` writes it.")
    with errors_naming(f"adata.uns[{key!r}]", writer="impute"):
        entry: Mapping[str, Any] = adata.uns[key]
        check_in(f"adata.uns[{key!r}]", "reference_names", entry.keys(), remedy="`bleep_sc.tl.impute` writes it.")
        names = np.asarray(list(entry["reference_names"]), dtype=object).astype(str)
        first = str(names[0])
        sections = np.asarray(list(entry.get("reference_library", np.full(len(names), ""))), dtype=object).astype(str)
        if len(sections) != len(names):
            msg = f"{len(names)} spots, but the sections of {len(sections)}"
            raise ValueError(msg)
    if not np.array_equal(names, ref.obs_names.to_numpy().astype(str)):
        n_present = int(np.isin(names, ref.obs_names).sum())
        msg = (
            f"`ref` is not the reference that `adata` was imputed from: of the {len(names)} spots in "
            f"`adata.uns[{key!r}]['reference_names']`, such as {first!r}, {n_present} are among the {ref.n_obs} of "
            "`ref`"
            + (
                f", in other places. Put them in order: `ref[adata.uns[{key!r}]['reference_names']]`."
                if n_present == len(names)
                else ". Pass the AnnData that `bleep_sc.tl.impute` was given."
            )
        )
        raise ValueError(msg)
    return sections, entry.get("params", {})


def retrieved(adata: AnnData, key: str, *, n_reference: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the reference that each spot retrieved, and their distances (n_obs, k)."""
    remedy = "`bleep_sc.tl.impute` writes it again."
    path, beside = (f"adata.obsm[{name(key)!r}]" for name in (_keys.neighbors, _keys.distances))
    rows: np.ndarray = np.asarray(adata.obsm[_keys.neighbors(key)])
    if rows.dtype.kind not in "iu" or rows.ndim != 2 or not rows.size or rows.min() < 0 or rows.max() >= n_reference:
        msg = f"`{path}` must hold rows of `ref`, integers from 0 to {n_reference - 1} (n_obs, k). {remedy}"
        raise ValueError(msg)
    distances = as_numbers(adata.obsm[_keys.distances(key)], path=beside, remedy=remedy)
    if distances.shape != rows.shape:
        msg = f"`{beside}` must have the shape of `{path}`, {rows.shape}, found {distances.shape}. {remedy}"
        raise ValueError(msg)
    return rows, distances


def made_of_words(params: Mapping[str, Any], k: int) -> list[str]:
    """Say how the retrieved spots became the imputed values, and which share a regression has."""
    average = f"{'' if params.get('weighting', 'mean') == 'mean' else 'weighted '}mean of {k}"
    weights = params.get("weights")
    if weights is None:
        return [average]
    share = float(weights["retrieval"]) / sum(map(float, weights.values()))
    return [f"{share:.0%} {average}", f"{1 - share:.0%} regression"]


def crops_of(adata: AnnData, image_key: str, rows: np.ndarray, *, name: str) -> np.ndarray:
    """Take some crops into memory; no others of a lazy array are read."""
    path = f"{name}.obsm[{image_key!r}]"
    if image_key not in adata.obsm:
        msg = (
            f"`{path}` does not exist: the crops themselves are drawn. Cut them with `bleep_sc.pp.crops({name}, ...)`; "
            "a reference may have been saved without them."
        )
        raise MissingKeyError(msg)
    crops: Any = adata.obsm[image_key]
    if np.ndim(crops) != 4 or crops.shape[-1] != 3:
        msg = (
            f"`{path}` must hold crops (n_obs, size, size, 3), found the shape {np.shape(crops)}: name the crops that "
            "belong to it by `image_key`."
        )
        raise ValueError(msg)
    different, where = np.unique(rows, return_inverse=True)
    part = crops[different]
    part = np.asarray(part.compute() if hasattr(part, "compute") else part)
    return np.stack([picture(crop, path) for crop in part])[where]


def _set_title(ax: "Axes", lines: Sequence[str]) -> None:
    """Write lines above a crop, wrapped to its width."""
    text = "\n".join(part for line in lines for part in textwrap.wrap(line, _TITLE_WIDTH))
    ax.set_title(text, fontsize="small", parse_math=False)


def _ends(values: np.ndarray) -> tuple[float, float]:
    """The lowest and the highest value; 0 and 1 where there is none."""
    known = values[np.isfinite(values)]
    return (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)


def _draw_values(
    axes: "Sequence[Axes]", genes: Sequence[str], values: np.ndarray, measured: np.ndarray, *, shades: np.ndarray
) -> None:
    """Draw a column of cells below each crop: the query's imputed values, then the profiles that were averaged."""
    for column, ax in enumerate(axes):
        ax.imshow(shades[column][:, None], aspect="auto")
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        for row, value in enumerate(values[column]):
            text = number_text(value, decimals=2)
            if column == 0 and np.isfinite(measured[row]):
                text += f" ({number_text(measured[row], decimals=2)})"
            bright = shades[column][row, :3] @ (0.299, 0.587, 0.114) > 0.5
            ax.text(0, row, text, ha="center", va="center", size="small", color="black" if bright else "white")
    axes[0].set_yticks(range(len(genes)), genes, parse_math=False)
    axes[0].tick_params(axis="y", length=0)
    axes[0].set_xlabel("imputed (measured)" if np.isfinite(measured).any() else "imputed", fontsize="small")
    axes[1].set_xlabel("measured", fontsize="small")
