import textwrap
from collections.abc import Mapping, Sequence
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
from bleep_sc.pl._maps import draw_colour_bars, page_for
from bleep_sc.pl._summary import check_gene, number_text
from bleep_sc.pl._tissue import Section, draw_ground, draw_spots, sections_to_draw, with_thumbnail

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TITLE_WIDTH, _COLUMN_WIDTH = 32, 20
_DIFFERENCE = "imputed − measured"
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
    """Draw the H&E image, measured and imputed expression, and their difference, with a row for each section.

    The H&E image is shown once, at the left. With one gene, its maps are beside the image. With several genes, each
    gene has a column: measured at the top, then imputed, then the difference. More than six genes continue below, in
    lines of equal length.

    Each gene has one colour scale, so equal colours mean equal expression. All its sections share this scale, with
    measured and imputed expression, and with the bounds if `interval` is set. The imputed map looks paler, because an
    average over neighbours varies less than a single measurement. This is no artefact, and the difference shows where
    it matters. To compare only the patterns, give each panel its own scale with ``shared_scale=False``.

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
        Column of `obs` with each spot's section, where `adata` holds several. ``None`` takes the column that
        :func:`~bleep_sc.pp.crops` was given.
    library_id
        The section to draw, or several; ``None`` draws all, one row each.
    img_key
        Key of the image in ``uns['spatial'][library_id]['images']``; ``None`` draws no image. Sections without images
        are drawn as spots only.
    alpha_img
        Opacity of the image below the spots. With a paler image, the colours of the spots stand out. 1 draws the image
        as it is.
    interval
        Also draw the lower and the upper bound, ``layers["{layer}_lower"]`` and ``layers["{layer}_upper"]``, on the
        scale of the expression. :func:`~bleep_sc.tl.intervals` writes them with ``key_added=layer``.
    shared_scale
        Use one colour scale for all expression of a gene. It runs from the lowest 1st percentile to the highest 99th
        percentile of the panels. Otherwise each panel has its own scale, from its own percentiles.
    cmap
        Colour map of the expression.
    difference_cmap
        Colour map of the difference, imputed - measured. Its middle is 0, and its ends are the 99th percentile of the
        absolute difference.
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
        There are several sections, and no column says which spot belongs to which.

    Notes
    -----
    The image is reduced once for each section, to the resolution of the figure. To save a figure for print, set the
    resolution before you draw: ``plt.rcParams["savefig.dpi"] = 300``.

    Grey spots have no value. The r in a title is the Pearson correlation of the gene that :func:`~bleep_sc.tl.evaluate`
    has written, over all scored sections.

    Examples
    --------
    >>> bl.tl.impute(query, ref)  # doctest: +SKIP
    >>> bl.pl.imputed(query, ["ERBB2", "COL1A1"], library_id="C6")  # doctest: +SKIP
    """
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
    drawn = _values_by_kind(adata, genes, layer=layer, truth=truth, bounds=bounds)

    correlations = _correlations(adata, genes, layer)

    pictures = any(section.image is not None for section in sections)
    page = page_for(sections, n_genes=len(genes), n_kinds=len(drawn), pictures=pictures)
    everywhere = np.concatenate([section.rows for section in sections])
    for section, picture_ax, of_genes in zip(sections, page.pictures, page.maps, strict=True):
        ground = with_thumbnail(section, pixels=page.picture_pixels)
        if picture_ax is not None:
            _draw_picture(picture_ax, ground, title="H&E" if section is sections[0] else "")
        if len(sections) > 1:
            named = of_genes[0][0] if picture_ax is None or section.image is None else picture_ax
            named.set_ylabel(section.name, parse_math=False)
        for column, (gene, panels) in enumerate(zip(genes, of_genes, strict=True)):
            of_gene = {kind: values[:, column] for kind, values in drawn.items()}
            limits = _scales(of_gene, everywhere, section.rows, shared=shared_scale)
            spots = []
            for ax, (kind, values) in zip(panels, of_gene.items(), strict=True):
                draw_ground(ax, ground, alpha=alpha_img)
                colours = maps["difference" if kind == "difference" else "imputed"]
                spots.append(draw_spots(ax, section, values[section.rows], cmap=colours, limits=limits[kind]))
            known = {kind: bool(np.isfinite(values[section.rows]).any()) for kind, values in of_gene.items()}
            if len(genes) == 1:
                _name_beside_one_another(panels, gene, known, correlations.get(gene, ""))
            else:
                _name_below_one_another(panels, gene, known, correlations.get(gene, ""), first=column in page.leftmost)
            draw_colour_bars(page.fig, panels, spots, names=list(of_gene), shared=shared_scale)
    return finish(page.fig, show=show, return_fig=return_fig)


def _values_by_kind(
    adata: AnnData, genes: Sequence[str], *, layer: str, truth: str | None, bounds: Mapping[str, str]
) -> dict[str, np.ndarray]:
    """Fetch what is drawn of the genes, in the order of the figure: measured, imputed, their bounds, the difference."""
    drawn = {"imputed": values_of(adata, genes, layer=layer)}
    drawn |= {kind: values_of(adata, genes, layer=bound) for kind, bound in bounds.items()}
    for kind, bound in bounds.items():
        of_genes: Any = adata.layers[bound]
        of_genes = np.asarray(of_genes[:, adata.var_names.get_indexer(genes)], dtype=np.float64)
        if (without := np.isnan(of_genes).all(axis=0)).any():
            msg = (
                f"`adata.layers[{bound!r}]` has no {kind} of {genes[int(without.argmax())]!r}: they were made for "
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
    return drawn


def _scales(
    of_gene: Mapping[str, np.ndarray], everywhere: np.ndarray, here: np.ndarray, *, shared: bool
) -> dict[str, tuple[float, float] | None]:
    """Ends of the colour scale of each map of a gene in one section; the difference has one scale in all sections."""
    of_expression = [values[everywhere] for kind, values in of_gene.items() if kind != "difference"]
    scales = {kind: _limits(of_expression if shared else [values[here]]) for kind, values in of_gene.items()}
    if "difference" in of_gene:
        scales["difference"] = _limits([of_gene["difference"][everywhere]], centred=True)
    return scales


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
        return {gene: f"{mean}r = {number_text(r, decimals=2)}" for gene, r in of_genes.items()}


def _name_beside_one_another(panels: "Sequence[Axes]", gene: str, known: Mapping[str, bool], correlation: str) -> None:
    """Write a title above each map of a gene: the gene, what is drawn of it, and its correlation where it is known."""
    for ax, (kind, has_values) in zip(panels, known.items(), strict=True):
        text = f"{gene}, {kind}"
        if not has_values:
            text += ": no values"
        elif kind == "difference":
            text = f"{gene}, {_DIFFERENCE}"
        elif kind == "imputed" and correlation:
            text += f" ({correlation})"
        ax.set_title(textwrap.fill(text, _TITLE_WIDTH), fontsize="medium", parse_math=False)


def _name_below_one_another(
    panels: "Sequence[Axes]", gene: str, known: Mapping[str, bool], correlation: str, *, first: bool
) -> None:
    """Write the gene and its correlation above its column of maps, and left of the first column what they show."""
    lines = [*textwrap.wrap(gene, _COLUMN_WIDTH), correlation]
    panels[0].set_title("\n".join(filter(None, lines)), fontsize="medium", parse_math=False)
    for ax, (kind, has_values) in zip(panels, known.items(), strict=True):
        if first:
            words = _DIFFERENCE.replace("− ", "−\n") if kind == "difference" else kind
            ax.set_ylabel("\n".join(filter(None, [ax.get_ylabel(), words])), parse_math=False)
        if not has_values:
            ax.set_xlabel("no values", fontsize="small")
