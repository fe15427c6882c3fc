from collections.abc import Sequence
from datetime import datetime
from os import PathLike
from pathlib import Path

from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._checks import check_key
from bleep_sc._report.asked import Asked, check_path, read_asked
from bleep_sc._report.records import Content

_SIDES = (900, 700, 520, 380, 280)
"""Longer side of the maps in pixels: smaller ones are taken where the file would be too large."""
_MOST_BYTES = 15_000_000


def report(
    query: AnnData,
    ref: AnnData | None = None,
    *,
    path: str | PathLike[str] = "report.html",
    genes: str | Sequence[str] | None = None,
    spots: str | Sequence[str] | None = None,
    title: str | None = None,
    note: str = "",
    key: str = _keys.MODEL,
    layer: str | None = None,
    truth: str | None = None,
    image_key: str = _keys.CROPS,
    library_key: str | None = None,
    library_id: str | Sequence[str] | None = None,
    img_key: str | None = "hires",
    progress_bar: bool | None = None,
) -> Path:
    """Write one HTML file that shows a prediction to someone without Python, such as a pathologist.

    The file opens in any browser, loads nothing from elsewhere, and is smaller than 15 MB. It shows the H&E picture,
    with measured and predicted maps, bounds and reliability as overlays. It says which genes can be predicted, which
    tissue a value came from, whether image and scale are right, what the model is, and what its limits are. If `query`
    or `ref` lack something, the report says so, and gives the line of code that gets it.

    Parameters
    ----------
    query
        Spots that :func:`~bleep_sc.tl.impute` has filled in. Nothing in it is changed.
    ref
        The reference with the model. ``None`` leaves out what only the reference holds: expected scores of genes, the
        tissue that values came from, and most facts about the model.
    path
        The file to write. An earlier file of that name is replaced.
    genes
        One gene or several, at most 12. ``None`` chooses three: those with the best expected prediction, else those
        that vary most in the reference. The report gives the reason.
    spots
        Names of spots of `query`. The report shows which tissue their values came from. ``None`` takes the spots with
        the highest predictions of the chosen genes, and the spot that looks least like the reference.
    title
        Title of the report. ``None`` names the slides.
    note
        A text of your own for the reader. It is shown at the beginning.
    key
        Name of the model in `ref.uns`.
    layer
        The imputed layer of `query`; ``None`` is `key`.
    truth
        Layer with the measured expression, in the units of the prediction; ``None`` is `query.X`. Raw counts are not
        shown, and the report says so.
    image_key
        Key of the crops in `obsm` of both.
    library_key
        Column of `obs` with each spot's section, where `query` holds several. ``None`` takes the column that
        :func:`~bleep_sc.pp.crops` was given.
    library_id
        The section to show, or several; ``None`` shows all.
    img_key
        Key of the picture in ``uns['spatial'][library_id]['images']``; ``None`` shows no picture.
    progress_bar
        Overrides the value of the same name in :attr:`bleep_sc.settings` for this call.

    Returns
    -------
    The path of the file. The file is written whole or not at all: an error leaves an earlier one as it was.

    Raises
    ------
    KeyError
        No such layer, gene, spot, column, section, picture or scale factor, or no model in `ref`.
    ValueError
        - `ref` holds another model than the one that made the layer.
        - A gene without any prediction.
        - More than 12 genes.
        - `path` does not end in ".html".
        - Several sections, and no column that says which spot belongs to which.
        - A report that would be too large.
        - A field that is damaged.
    FileNotFoundError, IsADirectoryError, PermissionError
        The folder of `path` does not exist or may not be written to, or `path` itself is a folder.

    Notes
    -----
    Genes are never chosen by their score on `query`, which would make the model look too good.

    All names and texts are escaped. The page tells the browser to run no script but its own, so that a gene or a
    section whose name holds HTML cannot run anything.

    The report holds a small copy of the H&E picture, maps of the chosen genes, and a few crops of `query` and `ref`. It
    holds no table of expression. Mind that before you send pictures of patients.

    Examples
    --------
    >>> bl.tl.calibrate(ref)  # doctest: +SKIP
    >>> bl.tl.impute(query, ref)  # doctest: +SKIP
    >>> bl.tl.intervals(query, ref, key_added="bleep")  # doctest: +SKIP
    >>> bl.report(query, ref, path="slide.html", genes=["ERBB2", "CD74"])  # doctest: +SKIP
    """
    for name, value in (("title", title), ("note", note)):
        if value is not None:
            check_key(name, value)
    target = check_path(path)
    asked = read_asked(
        query,
        ref,
        genes=genes,
        spots=spots,
        key=key,
        layer=layer,
        truth=truth,
        image_key=image_key,
        library_key=library_key,
        library_id=library_id,
        img_key=img_key,
    )

    from bleep_sc._files import write_whole
    from bleep_sc._logging import logger

    page = _page(asked, title=title, note=note, progress_bar=progress_bar)
    write_whole(target, page)
    logger.info("Wrote %s (%.1f MB).", target, len(page) / 1e6)
    return target


def _page(asked: Asked, *, title: str | None, note: str, progress_bar: bool | None) -> bytes:
    """Make the page, with smaller maps where it would be too large."""
    from bleep_sc._report.page import page_of
    from bleep_sc._report.words import counted

    for side in _SIDES:
        page = page_of(_content(asked, title=title, note=note, side=side, progress_bar=progress_bar))
        if len(page) < _MOST_BYTES:
            return page
    msg = (
        f"The report would take {len(page) / 1e6:.0f} MB, more than the {_MOST_BYTES / 1e6:.0f} that can be mailed: "
        f"{counted(len(asked.genes), 'gene')} on {counted(len(asked.sections), 'section')} are too many for one. Name "
        "fewer by `genes` and `library_id`."
    )
    raise ValueError(msg)


def _content(asked: Asked, *, title: str | None, note: str, side: int, progress_bar: bool | None) -> Content:
    """Gather all that the report says, and draw its pictures."""
    from importlib.metadata import version

    from bleep_sc._progress import progress
    from bleep_sc._report import citation, figures, genes, maps, missing, model, origins, pictures, slides, words
    from bleep_sc._settings import settings
    from bleep_sc.pl._reliability import FILLS, LABELS

    with settings.override(verbosity="warning"), figures.plain_matplotlib():
        shown = slides.slides_of(asked, side=side)
        of_genes = genes.chosen_genes(asked, shown)
        of_origins, without_origins = origins.origins_of(asked)
        best, _, _ = genes.best_genes(asked)
        n_maps = maps.number_of_maps(asked)
        drawn = progress(maps.maps_of(asked, side=side), desc="Drawing maps", total=n_maps, show=progress_bar)
        return Content(
            title=title or words.title_of(asked),
            date=f"{datetime.now().astimezone():%d %B %Y}".lstrip("0"),
            version=version("bleep-sc"),
            units=model.units_of(asked),
            note=note,
            brief=words.brief_of(asked, shown, of_genes),
            slides=shown,
            genes=of_genes,
            why_genes=asked.why_genes,
            best_genes=best,
            scope=genes.scope_of(asked),
            kinds=maps.kinds_of(asked),
            maps=tuple(drawn),
            scales=maps.scales_of(asked),
            colour_bar=pictures.colour_bar(maps.CMAP),
            bounds=words.bounds_of(asked),
            figures=tuple(figures.side_by_side(asked)),
            predictable=figures.of_predictable_genes(asked),
            calibration=figures.of_calibration(asked),
            origins=of_origins,
            model=model.model_of(asked),
            limits=words.limits_of(asked),
            missing=missing.missing_of(asked, without_origins),
            citations=(*model.papers_of(asked), citation.package(version("bleep-sc"))),
            steps=tuple(zip(FILLS, LABELS, strict=True)),
        )
