import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._adata import as_numbers, check_readable
from bleep_sc._checks import check_in, check_number
from bleep_sc.pl._figure import NOT_KNOWN, axes_for, check_axes, colour_map, errors_naming, finish, text_colour
from bleep_sc.pl._summary import number_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKERS = {"image": "o", "expression": "^"}
_LEGEND_ROWS, _TITLE_WIDTH = 20, 72
_NEAREST = 10
"""The headline takes the number of nearest profiles that is closest to this."""
_BY_CHANCE = 1.05
"""Less than this times chance is not said to be more than chance."""


def alignment(
    adata: AnnData,
    *,
    key: str = _keys.MODEL,
    color: str | None = None,
    lines: bool = False,
    cmap: str = "viridis",
    palette: str | Sequence[str] | None = None,
    size: float = 20.0,
    ax: "Axes | None" = None,
    show: bool | None = None,
    return_fig: bool = False,
) -> "Figure | None":
    """Draw images and expression of the same spots in one plane, to see whether they lie close together.

    The headline says how often an image finds the expression of its own spot, compared with chance. The lines below the
    figure give all numbers. They are from the joint space itself, since a plane cannot keep distances.

    Parameters
    ----------
    adata
        Spots that :func:`~bleep_sc.tl.alignment` was run on.
    key
        Name of the model.
    color
        Column of `obs` to colour the points by, such as the section or ``"bleep_pair_distance"``. Images are discs,
        expression triangles. ``None`` takes one colour for images and another for expression.
    lines
        Join the two points of each spot by a line. This is useful for some hundred spots, not for thousands.
    cmap
        Colour map for a column of numbers.
    palette
        Colours for a column of categories: the name of a colour map, or a colour for each category. ``None`` takes the
        colours that scanpy stored in ``uns['<color>_colors']``, else those of matplotlib.
    size
        Area of a point, in square typographic points.
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
        :func:`~bleep_sc.tl.alignment` was not run, or no such column.
    ValueError
        Fewer colours in `palette` than categories.

    Examples
    --------
    >>> bl.tl.alignment(query)  # doctest: +SKIP
    >>> bl.pl.alignment(query, color="section", lines=True)  # doctest: +SKIP
    """
    check_readable(adata)
    check_axes(ax)
    size = check_number("size", size, above=0)
    places, layout, headline, details = _stored(adata, key)
    if color is not None:
        check_in("adata.obs", color, adata.obs.columns, remedy="`color` names a column of `obs`.")

    paint, categories = ({}, {}) if color is None else _paint(adata, color, cmap=cmap, palette=palette)
    columns = math.ceil((len(_MARKERS) + len(categories)) / _LEGEND_ROWS) if categories else 0
    fig, drawn = axes_for(ax, figsize=(6.4 + columns * (0.4 + 0.09 * max(map(len, categories), default=0)), 5.4))
    if lines:
        from matplotlib.collections import LineCollection

        pairs = np.stack(list(places.values()), axis=1)
        drawn.add_collection(LineCollection(list(pairs), colors=[text_colour(pale=True)], linewidths=0.3, zorder=0.5))
    points: Any = None
    for number, (kind, xy) in enumerate(places.items()):
        shade = paint or {"color": f"C{number}"}
        points = drawn.scatter(xy[:, 0], xy[:, 1], s=size, marker=_MARKERS[kind], linewidths=0, label=kind, **shade)
    if "cmap" in paint:
        fig.colorbar(points, ax=drawn, label=color)
    _add_legend(drawn, categories, title=color, by_kind=color is None)
    drawn.set(xticks=[], yticks=[])
    drawn.set_ylabel(f"{layout} 2", fontsize="small")
    drawn.set_xlabel(f"{layout} 1\n{details}".strip(), fontsize="small")
    drawn.set_title(headline, loc="left", fontsize="medium")
    return finish(fig, show=show, return_fig=return_fig, ax=ax)


def _stored(adata: AnnData, key: str) -> tuple[dict[str, np.ndarray], str, str, str]:
    """Read the places of images and of expression, the name of the layout, a headline, and what lies behind it."""
    remedy = "`bleep_sc.tl.alignment` writes it."
    check_in("adata.uns", _keys.alignment(key), adata.uns.keys(), remedy=remedy)
    places = {}
    for kind in _MARKERS:
        name = _keys.alignment_coordinates(key, kind)
        check_in("adata.obsm", name, adata.obsm.keys(), remedy=remedy)
        path = f"adata.obsm[{name!r}]"
        places[kind] = as_numbers(adata.obsm[name], path=path, remedy=remedy).astype(np.float64)
        if places[kind].shape != (adata.n_obs, 2):
            msg = f"`{path}` must have the shape ({adata.n_obs}, 2), found {places[kind].shape}. {remedy}"
            raise ValueError(msg)
    with errors_naming(f"adata.uns[{_keys.alignment(key)!r}]", writer="alignment"):
        numbers = adata.uns[_keys.alignment(key)]
        layout = {"umap": "UMAP", "tsne": "t-SNE"}.get(str(numbers["params"]["layout"]), "")
        return places, layout, _headline(numbers), _in_words(numbers)


def _paint(
    adata: AnnData, color: str, *, cmap: str, palette: str | Sequence[str] | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the arguments of `scatter` that colour spots by a column, and the colour of each of its categories."""
    from matplotlib import colors

    column: pd.Series = adata.obs[color]
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        numbers = column.to_numpy(dtype=np.float64, na_value=np.nan)
        return {"c": numbers, "cmap": colour_map("cmap", cmap), "plotnonfinite": True}, {}
    try:
        categories = column.astype("category").cat.categories
    except TypeError as err:
        msg = f"`adata.obs[{color!r}]` must hold numbers or names, found {column.iloc[0]!r}."
        raise ValueError(msg) from err
    source = "palette"
    if palette is None:
        source = f"adata.uns['{color}_colors']"
        stored = adata.uns.get(f"{color}_colors")
        palette = [] if stored is None or isinstance(stored, str) else list(stored)
        if len(palette) < len(categories):
            palette = "tab10" if len(categories) <= 10 else "tab20" if len(categories) <= 20 else "turbo"
    if isinstance(palette, str):
        colormap = colour_map("palette", palette)
        # of a list of colours the first ones, of a continuous map some at equal distances
        at = range(len(categories)) if colormap.N < 256 else np.linspace(0, 1, len(categories))
        palette = [colors.to_hex(colormap(place)) for place in at]
    if not isinstance(palette, Sequence | np.ndarray):
        msg = f"`palette` must be the name of a colour map or a list of colours, found {palette!r}."
        raise TypeError(msg)
    if len(palette) < len(categories):
        msg = f"`palette` has {len(palette)} colours, `adata.obs[{color!r}]` has {len(categories)} categories."
        raise ValueError(msg)
    wrong = [shade for shade in palette[: len(categories)] if not colors.is_color_like(shade)]
    if wrong:
        msg = f"`{source}` must hold colours, found {wrong[0]!r}. `palette` names others."
        raise ValueError(msg)
    of = {category: colors.to_rgba(shade) for category, shade in zip(categories, palette, strict=False)}
    shades = [of.get(value, colors.to_rgba(NOT_KNOWN)) for value in column.astype(object)]
    return {"c": shades}, {str(category): shade for category, shade in of.items()}


def _add_legend(ax: "Axes", categories: Mapping[str, Any], *, title: str | None, by_kind: bool) -> None:
    """Add a legend of the two kinds of points, and of the categories that colour them."""
    from matplotlib.lines import Line2D

    ink = text_colour(pale=False)
    handles = [
        Line2D([], [], ls="", marker=marker, color=f"C{number}" if by_kind else ink, label=kind)
        for number, (kind, marker) in enumerate(_MARKERS.items())
    ]
    if not categories:
        ax.legend(handles=handles)
        return
    handles += [Line2D([], [], ls="", marker="s", color=shade, label=name) for name, shade in categories.items()]
    columns = math.ceil(len(handles) / _LEGEND_ROWS)
    legend = ax.legend(handles=handles, title=title, ncols=columns, loc="upper left", bbox_to_anchor=(1.01, 1))
    for text in legend.get_texts():
        text.set_parse_math(False)


def _headline(numbers: Mapping[str, Any]) -> str:
    """Say in one sentence how well images and expression agree: how often an image finds its own expression."""
    images = "On training spots, images" if numbers["in_sample"] else "Images"
    if not len(numbers["recall"]):
        own, others = (number_text(float(numbers[name]), decimals=2) for name in ("pair_distance", "other_distance"))
        text = f"{images} lie at distance {own} from their own expression, and at {others} from that of others."
        return textwrap.fill(text, _TITLE_WIDTH)
    k = min(numbers["recall"], key=lambda count: (abs(int(count) - _NEAREST), int(count)))
    share, chance = (float(numbers[name][k]) for name in ("recall", "recall_by_chance"))
    times = share / chance
    often = "no more often than" if times < _BY_CHANCE else f"{times:.{0 if times >= 10 else 1}f} times as often as"
    among = "as the nearest" if int(k) == 1 else f"among the {k} nearest"
    return f"{images} find their own expression {often} by chance:\n{100 * share:.1f} % have it {among}."


def _in_words(numbers: Mapping[str, Any]) -> str:
    """Put the numbers of the joint space into words."""
    own_distance, other_distance = (number_text(float(numbers[name])) for name in ("pair_distance", "other_distance"))
    lines = [f"Distance of image to own expression {own_distance}, to that of others {other_distance}"]
    if len(numbers["recall"]):
        counts = sorted(numbers["recall"], key=int)
        shares, chances = (
            ", ".join(f"{100 * float(numbers[name][k]):.1f}" for k in counts) for name in ("recall", "recall_by_chance")
        )
        lines += [f"Own expression among the {', '.join(counts)} nearest: {shares} %", f"By chance: {chances} %"]
    lines.append(
        f"{numbers['n_spots']:,} spots" + (", in-sample: the model was trained on them" if numbers["in_sample"] else "")
    )
    return "\n".join(part for line in lines for part in textwrap.wrap(line, _TITLE_WIDTH))
