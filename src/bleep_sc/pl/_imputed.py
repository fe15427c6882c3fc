import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._adata import check_readable, recorded_library_key
from bleep_sc._checks import check_in, check_names, check_number
from bleep_sc._expression import path_of
from bleep_sc._logging import warn
from bleep_sc._stats import looks_like_counts
from bleep_sc.pl._figure import colour_map, errors_naming, finish, values_of
from bleep_sc.pl._summary import check_gene, number_text
from bleep_sc.pl._tissue import Section, draw_ground, draw_spots, sections_to_draw

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import EllipseCollection
    from matplotlib.figure import Figure

_TITLE_WIDTH = 32
_WRITES_BOUNDS = "`bleep_sc.tl.intervals(query, ref, key_added={layer!r})` writes the bounds."


def imputed(
    adata: AnnData,
    genes: str | Sequence[str],
    *,
    layer: str = _keys.MODEL,
    truth: str | None = None,
    library_key: str | None = None,
    library_id: str | Sequence[str] | None = None,
    img_key: str | None = "hires",
    alpha_img: float = 0.5,
    interval: bool = False,
    shared_scale: bool = True,
    cmap: str = "viridis",
    difference_cmap: str = "RdBu_r",
    size: float = 1.0,
    show: bool | None = None,
    return_fig: bool = False,
) -> "Figure | None":
    """Draw H&E, measured and imputed expression and their difference side by side, a row for each gene and section.

    Measured and imputed expression, and the bounds with `interval`, share one colour scale for each gene, over all
    its sections, so that equal colours are equal expression. The imputed map looks paler, because an average over
    neighbours varies less than a single measurement. That is no artefact, and the difference shows where. To
    compare the patterns alone, give each panel a scale of its own by ``shared_scale=False``.

    Parameters
    ----------
    adata
        Spots with an imputed layer.
    genes
        One gene or several.
    layer
        The imputed layer.
    truth
        Layer with the measured expression, in the imputed layer's units; ``None`` is `adata.X`. If `adata.X` is empty,
        imputed expression is drawn alone.
    library_key
        Column of `obs` with each spot's section, where `adata` holds several. ``None`` takes the one that
        :func:`~bleep_sc.pp.crops` was told.
    library_id
        The section to draw, or several; ``None`` draws all, one row each.
    img_key
        Key of the image in ``uns['spatial'][library_id]['images']``; ``None`` draws no image. Sections that have no
        images are drawn as spots alone.
    alpha_img
        Opacity of the image below the spots. A paler image keeps its colours apart from theirs; 1 draws it as it is.
    interval
        Also draw the lower and the upper bound, ``layers["{layer}_lower"]`` and ``layers["{layer}_upper"]``, on the
        scale of the expression. :func:`~bleep_sc.tl.intervals` writes them with ``key_added=layer``.
    shared_scale
        Give all values of expression one colour scale. It runs from the lowest of their 1st percentiles to the
        highest of their 99th. Otherwise each panel has a scale of its own, by its own percentiles.
    cmap
        Colour map of the expression.
    difference_cmap
        Colour map of imputed - measured; its middle is 0. Colours run to the 99th percentile of the absolute
        difference.
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
        No such layer, gene, column, section, image or scale factor.
    ValueError
        Several sections, and nothing tells which spot is of which.

    Notes
    -----
    Grey spots have no value. The r in a title is the gene's Pearson correlation that :func:`~bleep_sc.tl.evaluate` has
    written, over all sections that were scored.

    Examples
    --------
    >>> bl.tl.impute(query, ref)  # doctest: +SKIP
    >>> bl.pl.imputed(query, ["ERBB2", "COL1A1"], library_id="C6")  # doctest: +SKIP
    """
    import matplotlib.pyplot as plt

    check_readable(adata)
    genes = list(check_names("genes", genes))
    if check_number("alpha_img", alpha_img, minimum=0) > 1:
        msg = f"`alpha_img` must be from 0 to 1, found {alpha_img!r}."
        raise ValueError(msg)
    maps = {"imputed": colour_map("cmap", cmap), "difference": colour_map("difference_cmap", difference_cmap)}
    if not genes:
        msg = "`genes` names none: pass a gene or several."
        raise ValueError(msg)
    check_in("adata.layers", layer, adata.layers.keys(), remedy="`bleep_sc.tl.impute` makes an imputed layer.")
    if truth is not None:
        check_in("adata.layers", truth, adata.layers.keys(), remedy="`truth=None` takes `X`.")
    bounds = {f"{end} bound": _keys.bound(layer, end) for end in ("lower", "upper")} if interval else {}
    for bound in bounds.values():
        check_in("adata.layers", bound, adata.layers.keys(), remedy=_WRITES_BOUNDS.format(layer=layer))
    for gene in genes:
        check_gene(adata, gene)
    sections = sections_to_draw(
        adata,
        library_key=library_key or recorded_library_key(adata),
        library_id=library_id,
        img_key=img_key,
        size=size,
    )
    drawn = {"imputed": values_of(adata, genes, layer=layer)}
    drawn |= {title: values_of(adata, genes, layer=bound) for title, bound in bounds.items()}
    for title, bound in bounds.items():
        of_genes: Any = adata.layers[bound]
        of_genes = np.asarray(of_genes[:, adata.var_names.get_indexer(genes)], dtype=np.float64)
        if (without := np.isnan(of_genes).all(axis=0)).any():
            msg = (
                f"`adata.layers[{bound!r}]` has no {title} of {genes[int(without.argmax())]!r}: they were made for "
                f"other genes. {_WRITES_BOUNDS.format(layer=layer)}"
            )
            raise ValueError(msg)
    if truth is not None or adata.X is not None:
        drawn = {"measured": values_of(adata, genes, layer=truth), **drawn}
        if looks_like_counts(drawn["measured"]) and not looks_like_counts(np.nan_to_num(drawn["imputed"])):
            warn(
                f"`{path_of('adata', truth)}` looks like raw counts, `adata.layers[{layer!r}]` does not: colours and "
                "differences mean nothing. Name the measured expression in the layer's units by `truth`."
            )
        drawn["difference"] = drawn["imputed"] - drawn["measured"]

    correlations = _correlations(adata, genes, layer)
    pictures = any(section.image is not None for section in sections)
    shape = (len(genes) * len(sections), pictures + len(drawn))
    sizes = np.array([np.diff(section.window, axis=0)[0] for section in sections])
    height = 0.5 + 2.9 * float(np.clip((sizes[:, 1] / sizes[:, 0]).max(), 0.4, 2))
    fig, axes = plt.subplots(*shape, figsize=(3.6 * shape[1], height * shape[0]), squeeze=False, layout="constrained")
    everywhere = np.concatenate([section.rows for section in sections])
    rows = iter(axes)
    for column, gene in enumerate(genes):
        of_gene = {name: values[:, column] for name, values in drawn.items()}
        shared = _limits([values[everywhere] for name, values in of_gene.items() if name != "difference"])
        for section in sections:
            row = next(rows)
            panels = list(row[pictures:])
            if pictures:
                _draw_picture(row[0], section, title="H&E" if row[0] is axes[0, 0] else "")
            if len(sections) > 1:
                (panels[0] if section.image is None else row[0]).set_ylabel(section.name, parse_math=False)
            spots = []
            for ax, (name, values) in zip(panels, of_gene.items(), strict=True):
                section_values = values[section.rows]
                limits = shared if shared_scale else _limits([section_values])
                if name == "difference":
                    limits = _limits([values[everywhere]], centred=True)
                draw_ground(ax, section, alpha=alpha_img)
                colours = maps["difference" if name == "difference" else "imputed"]
                spots.append(draw_spots(ax, section, section_values, cmap=colours, limits=limits))
                ax.set_title(
                    _title(gene, name, section_values, correlations.get(gene, "")), fontsize="medium", parse_math=False
                )
            _draw_colour_bars(fig, panels, spots, names=list(of_gene), shared=shared_scale)
    return finish(fig, show=show, return_fig=return_fig)


def _limits(values: Sequence[np.ndarray], *, centred: bool = False) -> tuple[float, float] | None:
    """Ends of a colour scale: the lowest 1st percentile and the highest 99th; None without any value.

    A centred scale reaches as far to both sides of 0.
    """
    known = [section_values[np.isfinite(section_values)] for section_values in values]
    known = [np.abs(section_values) if centred else section_values for section_values in known if len(section_values)]
    if not known:
        return None
    low, high = np.transpose([np.percentile(section_values, [1, 99]) for section_values in known])
    if centred:
        furthest = float(high.max()) or 1.0  # where nothing differs, all is the colour of 0
        return -furthest, furthest
    return float(low.min()), float(high.max())


def _draw_picture(ax: "Axes", section: Section, *, title: str) -> None:
    """Draw the picture of a section; leave the axes empty where it has none."""
    if section.image is None:
        ax.set_axis_off()
        return
    draw_ground(ax, section)
    ax.set_title(title, fontsize="medium")


def _draw_colour_bars(
    fig: "Figure",
    panels: "Sequence[Axes]",
    spots: "Sequence[EllipseCollection]",
    *,
    names: Sequence[str],
    shared: bool,
) -> None:
    """Draw a colour bar for each scale: one for all panels of expression together where they share it.

    Panels without any value get none.
    """
    groups = [[panel] for panel in range(len(panels))]
    if shared:
        of_expression = [panel for panel, name in enumerate(names) if name != "difference"]
        groups = [of_expression, [panel for panel in range(len(panels)) if panel not in of_expression]]
    for group in groups:
        with_values = [spots[panel] for panel in group if np.isfinite(np.asarray(spots[panel].get_array())).any()]
        if with_values:
            fig.colorbar(with_values[0], ax=[panels[panel] for panel in group], shrink=0.8)


def _correlations(adata: AnnData, genes: Sequence[str], layer: str) -> dict[str, str]:
    """The correlation of each gene that `tl.evaluate` has written, in words; empty where it has not."""
    column, entry = _keys.pearson(layer), _keys.scores(layer)
    if column not in adata.var:
        return {}
    with errors_naming(f"adata.uns[{entry!r}]", writer="evaluate"):
        mean = "mean " * (int(adata.uns.get(entry, {}).get("n_sections", 1)) > 1)
    with errors_naming(f"adata.var[{column!r}]", writer="evaluate"):
        var: pd.DataFrame = adata.var
        of_genes = var.loc[list(genes), column].astype(float)
        return {gene: f" ({mean}r = {number_text(r, decimals=2)})" for gene, r in of_genes.items()}


def _title(gene: str, name: str, values: np.ndarray, correlation: str) -> str:
    """Title of a panel: the gene, what is drawn of it, and its correlation where that is known."""
    text = f"{gene}, {name}"
    if not np.isfinite(values).any():
        text += ": no values"
    elif name == "difference":
        text = f"{gene}, imputed − measured"
    elif name == "imputed":
        text += correlation
    return textwrap.fill(text, _TITLE_WIDTH)
