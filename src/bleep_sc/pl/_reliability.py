import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._adata import check_readable, recorded_library_key
from bleep_sc._checks import check_in, check_number
from bleep_sc.pl._figure import NOT_KNOWN, errors_naming, finish
from bleep_sc.pl._tissue import Section, draw_ground, draw_spots, sections_to_draw

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import EllipseCollection
    from matplotlib.figure import Figure

_TITLE_WIDTH = 36
_COLUMNS = 3
_LEGEND_WIDTH = 5.6
UNLIKE = 0.05
STEPS = (0.01, UNLIKE, 0.2)
LABELS = ("p ≤ .01: unlike the reference", "p ≤ .05", "p ≤ .2", "above: like the reference")
FILLS = ("#ffe000", "#00b3a4", "#c4f3eee0", "#ffffff00")
"""Yellow and turquoise, which no stain of tissue has; the tissue shows through spots that are like the reference."""
_EDGES = ("#000000", "#000000", "#00000080", "#00000059")
_WIDTHS = (1.1, 0.8, 0.4, 0.4)


def reliability(
    adata: AnnData,
    *,
    key: str = _keys.MODEL,
    library_key: str | None = None,
    library_id: str | Sequence[str] | None = None,
    img_key: str | None = "hires",
    alpha_img: float = 1.0,
    size: float = 1.0,
    show: bool | None = None,
    return_fig: bool = False,
) -> "Figure | None":
    """Draw which spots look unlike the reference, on the H&E image, a panel for each section.

    Parameters
    ----------
    adata
        Spots that :func:`~bleep_sc.tl.impute` has filled in, by a method that reads images.
    key
        Name of the imputed layer, and of the fields beside it.
    library_key
        Column of `obs` with each spot's section, where `adata` holds several. ``None`` takes the column that
        :func:`~bleep_sc.pp.crops` was given.
    library_id
        The section to draw, or several; ``None`` draws all.
    img_key
        Key of the image in ``uns['spatial'][library_id]['images']``; ``None`` draws no image. Sections without images
        are drawn as spots only.
    alpha_img
        Opacity of the image below the spots.
    size
        Size of the spots in the figure, relative to their true size.
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
        No reliability, column, section, image or scale factor.
    ValueError
        There are several sections and no column says which spot belongs to which, or a field is damaged.

    Notes
    -----
    The colour is the p-value of ``obs['bleep_reliability']``, in four steps. Among spots that are like the reference,
    one in twenty has p ≤ .05 by chance. The title gives the verdict on the section, and its share of spots with p ≤
    .05. Grey spots have no value.

    Examples
    --------
    >>> bl.tl.impute(query, ref)  # doctest: +SKIP
    >>> bl.pl.reliability(query)  # doctest: +SKIP
    """
    import matplotlib.pyplot as plt

    check_readable(adata)
    if check_number("alpha_img", alpha_img, minimum=0) > 1:
        msg = f"`alpha_img` must be from 0 to 1, found {alpha_img!r}."
        raise ValueError(msg)
    column = _keys.reliability(key)
    remedy = "`bleep_sc.tl.impute` writes it, where the model reads images."
    check_in("adata.obs", column, adata.obs.columns, remedy=remedy)
    p_values = p_values_of(adata, column)
    verdicts = verdicts_of(adata, key)
    sections = sections_to_draw(
        adata,
        library_key=library_key or recorded_library_key(adata),
        library_id=library_id,
        img_key=img_key,
        size=size,
    )
    sizes = np.array([np.diff(section.window, axis=0)[0] for section in sections])
    height = 1.2 + 3.6 * float(np.clip((sizes[:, 1] / sizes[:, 0]).max(), 0.4, 2))
    n_columns = min(_COLUMNS, len(sections))
    n_rows = -(-len(sections) // n_columns)
    figsize = max(4.2 * n_columns, _LEGEND_WIDTH), height * n_rows + 0.5
    fig, axes = plt.subplots(n_rows, n_columns, figsize=figsize, squeeze=False, layout="constrained")
    for ax in axes.flat[len(sections) :]:
        ax.set_axis_off()
    for ax, section in zip(axes.flat, sections, strict=False):
        verdict = verdicts.get(section.name) or (next(iter(verdicts.values())) if len(verdicts) == 1 else "")
        _draw(ax, section, p_values[section.rows], verdict, alpha=alpha_img)
    _draw_legend(fig, n_columns)
    return finish(fig, show=show, return_fig=return_fig)


def p_values_of(adata: AnnData, column: str) -> np.ndarray:
    """Fetch the p-value of each spot; NaN where it is no number from 0 to 1."""
    with errors_naming(f"adata.obs[{column!r}]", writer="impute"):
        p_values = np.asarray(adata.obs[column], dtype=np.float64)
    return np.where((p_values >= 0) & (p_values <= 1), p_values, np.nan)


def verdicts_of(adata: AnnData, key: str) -> dict[str, str]:
    """Fetch the verdict on each section; none where another version wrote none."""
    path = f"adata.uns[{key!r}]['reliability']"
    with errors_naming(path, writer="impute"):
        table: Any = adata.uns.get(key, {}).get("reliability")
        if table is None:
            return {}
        return dict(zip(table["section"].astype(str), table["verdict"].astype(str), strict=True))


def draw_steps(ax: "Axes", section: Section, p_values: np.ndarray) -> "EllipseCollection":
    """Draw a disc for each spot in the colour of its step; those unlike the reference lie above the others."""
    from matplotlib.colors import ListedColormap

    steps = np.searchsorted(STEPS, p_values, side="left")
    order = np.argsort(-steps, kind="stable")
    drawn = Section(section.name, section.rows[order], section.xy[order], section.diameter, section.image)
    cmap = ListedColormap(FILLS).with_extremes(bad=NOT_KNOWN)
    values = np.where(np.isfinite(p_values), steps, np.nan)[order]
    spots = draw_spots(ax, drawn, values, cmap=cmap, limits=(-0.5, len(FILLS) - 0.5))
    spots.set_edgecolor([_EDGES[step] for step in steps[order]])
    spots.set_linewidth([_WIDTHS[step] for step in steps[order]])
    return spots


def _draw(ax: "Axes", section: Section, p_values: np.ndarray, verdict: str, *, alpha: float) -> None:
    draw_ground(ax, section, alpha=alpha)
    draw_steps(ax, section, p_values)
    known = np.isfinite(p_values)
    n_unlike = int((p_values[known] <= UNLIKE).sum())
    said = f"{n_unlike} of {known.sum()} spots ({n_unlike / max(known.sum(), 1):.0%}) at p ≤ .05"
    lines = [section.name, *textwrap.wrap(verdict, _TITLE_WIDTH), said]
    ax.set_title("\n".join(line for line in lines if line), fontsize="medium", parse_math=False)


def _draw_legend(fig: "Figure", n_columns: int) -> None:
    """Draw a disc as on the tissue for each step, on a ground of the tissue's pink."""
    from matplotlib.lines import Line2D

    discs: list[Any] = [
        Line2D([], [], marker="o", linestyle="", markersize=9, label=label, mfc=fill, mec=edge, mew=width)
        for label, fill, edge, width in zip(LABELS, FILLS, _EDGES, _WIDTHS, strict=True)
    ]
    legend = fig.legend(handles=discs, loc="outside lower center", ncols=4 if n_columns > 1 else 2, frameon=False)
    legend.set_in_layout(True)
