from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._adata import (
    as_numbers,
    check_adata,
    crop_records,
    recorded_library_key,
    spatial_coordinates,
    with_frames,
)
from bleep_sc._all_or_nothing import all_or_nothing
from bleep_sc._checks import check_in, check_int, check_key, check_key_added
from bleep_sc._expression import expression_values
from bleep_sc._logging import logger, warn
from bleep_sc._progress import progress
from bleep_sc._settings import settings
from bleep_sc._side_effects import on_allowed_cores
from bleep_sc.pp._alignment.compared import Compared, compared_places
from bleep_sc.pp._alignment.genes import most_varying
from bleep_sc.pp._alignment.looks import Look
from bleep_sc.pp._alignment.picture import full_size, picture_look
from bleep_sc.pp._alignment.record import record_of
from bleep_sc.pp._alignment.section import Judged, judge, of_the_picture_alone
from bleep_sc.pp._alignment.stored import stored_look
from bleep_sc.pp._finding import findings_in
from bleep_sc.pp._images.section import SectionImage, hires_image
from bleep_sc.pp._places_code import PlacesCode
from bleep_sc.pp._section_images import images_by_library, rows_by_library
from bleep_sc.pp._signs.section import said_on_tissue

if TYPE_CHECKING:
    from bleep_sc.pp._crops import Image


@on_allowed_cores()
def check_alignment(
    adata: AnnData,
    image: "Image | Mapping[str, Image] | None" = None,
    *,
    layer: str | None = None,
    image_key: str = _keys.CROPS,
    library_key: str | None = None,
    library_id: str | None = None,
    image_layer: str | None = None,
    series: "int | str | Mapping[str, int | str] | None" = None,
    max_spots: int = 2000,
    random_state: int = 0,
    spatial_key: str = _keys.SPATIAL,
    key_added: str = _keys.ALIGNMENT_CHECK,
    progress_bar: bool | None = None,
    copy: bool = False,
) -> AnnData | None:
    """Check that image and spots fit together: the colours under the spots should predict their expression.

    If they fit, a regression on colours explains part of the expression of spots that it has not seen. The given places
    are compared with other placements: turned, mirrored, with x and y swapped, or shifted. If another placement
    explains clearly more, the places or the image are wrong. A warning then gives the line of code that corrects them.

    Parameters
    ----------
    adata
        Spots with their centres in `obsm['spatial']`: x and y in full-resolution pixels. Without expression (`X` is
        None, or there are no genes), the check only asks whether spots lie on tissue.
    image
        The section's H&E image, as in :func:`~bleep_sc.pp.crops`. For several sections, pass a mapping from library to
        image. It is read at a low resolution. ``None`` takes the hires picture of ``uns['spatial']``. If there is none,
        the crops or features of `image_key` are used. Each place then gets the look of the nearest spot within half a
        pitch.
    layer
        Layer with counts or log-normalised expression; ``None`` is `X`. Counts are log-normalised internally, and
        `adata` does not change.
    image_key
        Key in `obsm` of crops or features, for sections without a picture.
    library_key
        Column of `obs` with each spot's section. ``None`` takes the column that :func:`~bleep_sc.pp.crops` was given.
    library_id
        Library of ``uns['spatial']`` that all spots belong to.
    image_layer, series
        The layer, or the image within a file, that shows the section, as in :func:`~bleep_sc.pp.crops`.
    max_spots
        Largest number of spots to compare in a section. If there are more, this many are drawn at random. A section of
        more than 16,000 spots is taken to hold bins or cells. Neighbours are then joined to at most this many square
        blocks. More blocks are smaller and detect smaller shifts, as long as each still holds some hundred transcripts.
    random_state
        Seed of this random draw.
    spatial_key
        Key of the centres in `obsm`.
    key_added
        Key of the result in `uns`.
    progress_bar
        Overrides the value of the same name in :attr:`bleep_sc.settings` for this call.
    copy
        Return a changed copy instead of changing `adata`.

    Returns
    -------
    ``None``, or the changed copy if ``copy=True``. Sets the following fields:

    `adata.uns['alignment_check' | key_added][library_id]` : `dict`
        - ``verdict``: "fits", "another way fits better: ..." or "cannot tell". If the crops were cut from an image that
          does not look like the hires picture, "fits" goes on to say that it speaks of the picture alone.
        - ``found``: the same with figures. ``remedy``: the line of code that corrects it.
        - ``by``: "expression" or "tissue". ``source``: where the colours come from.
        - ``best``: the best other placement. ``chance``: the shares that impossible placements reach.
        - ``rows``: the compared spots, or those of all blocks, as row numbers within the section.
        - ``table``: a :class:`pandas.DataFrame` with a row for each placement, the given one first. ``score`` is the
          share of expression that colours explain, or the share of spots on tissue. ``score_given`` is that of the
          given places, on the same spots. ``gain`` is the difference, with its ``standard_error``. ``above_chance`` is
          in standard deviations of ``chance``. The other columns are ``way``, ``kind``, ``gain_in_errors``,
          ``score_in_errors`` and ``n_spots``. If nothing could be compared, the table has no rows.

    Raises
    ------
    KeyError
        No coordinates, no such column or layer, or neither a picture nor crops.
    ValueError
        - Coordinates, expression or features that are NaN.
        - Several libraries and no `library_key`.
        - A library that `image` has no entry for.
        - An image that cannot be read.
        - `series` or `image_layer` without an `image`.
    FileNotFoundError
        No file exists at the path `image`.

    Notes
    -----
    **How it is measured.** Red, green, blue and darkness (optical density) are averaged within the width of each spot,
    and their standard deviations are taken too. Ridge regression predicts the 200 genes of highest variance from these
    values. The section is cut into ten contiguous stripes, and each is predicted from the other nine. So a spot is not
    predicted from its own neighbours. The score is the explained share of the squared deviations. It is below 0 if
    colours say nothing.

    **What is compared.** The spots are turned by quarter turns and mirrored, about their own centre and within the
    frame of the image. They are also shifted by 1 to 3 pitches in 8 directions. This makes about 40 placements. Each is
    compared with the given places on the same spots. Standard errors are over 16 blocks of neighbouring spots. Chance
    is measured with 24 placements that cannot be right. They are turned by 12 odd angles (30°, 45° and 60° beyond each
    quarter turn), each also mirrored.

    **Bins and cells.** A single bin of Visium HD says little, and its pitch is smaller than a typical shift. So blocks
    of neighbouring bins are compared instead of spots. The counts of a block are summed, and its colours are taken over
    the width of the block. Shifts are by 1 to 3 blocks. With 2,000 blocks on an area of 6.5 mm, a block is about 145 µm
    wide.

    **The verdict.** Another placement fits better if it passes three tests. It explains more than the given places by 2
    standard errors, more than nothing by 2.5, and more than chance by 3 standard deviations. The given places fit if
    they pass the last two tests and no other placement is better. Everything else is "cannot tell". This happens with
    few spots, shallow counts, or tissue that looks the same everywhere or is symmetric. With independent smooth
    patterns of expression and colour, another placement was named by accident in 2 % of cases.

    **Without expression**, the rule of :func:`~bleep_sc.pp.crops` applies. Another turn fits better if 15 % more of the
    spots lie on tissue, and at least 75 %. Spots that cover the whole slide, glass included, say nothing.

    Examples
    --------
    >>> import numpy as np
    >>> import bleep_sc as bl
    >>> tissue = bl.datasets.toy(n_patients=1, n_sections=1, progress_bar=False)
    >>> bl.pp.check_alignment(tissue)
    >>> next(iter(tissue.uns["alignment_check"].values()))["verdict"]
    'fits'
    """
    check_adata(adata, copy=copy)
    for name, key in (("spatial_key", spatial_key), ("image_key", image_key)):
        check_key(name, key)
    check_key_added("key_added", key_added, allowed=_keys.ALIGNMENT_CHECK)
    most = check_int("max_spots", max_spots)
    seed = check_int("random_state", random_state, minimum=0)
    coordinates = spatial_coordinates(adata, spatial_key=spatial_key)
    if library_key is None and library_id is None:
        library_key = recorded_library_key(adata, image_key) or recorded_library_key(adata)
    spots = rows_by_library(adata, library_key, library_id)
    measured = adata.n_vars > 0 and (layer is not None or adata.X is not None)
    images: Mapping[str, SectionImage | None]
    if image is None:
        for name, value in (("image_layer", image_layer), ("series", series)):
            if value is not None:
                msg = f"`{name}={value!r}` chooses within an `image`, and none is given: leave it out, or pass `image`."
                raise ValueError(msg)
        images = {library: hires_image(adata.uns, library) for library in spots}
    else:
        images = images_by_library(
            adata, image, list(spots), image_layer=image_layer, series=series, library_key=library_key
        )
    obs = with_frames(adata).obs
    judged, compared = {}, {}
    show = settings.progress_bar if progress_bar is None else bool(progress_bar)
    with settings.override(progress_bar=show):  # also of the small pictures that are made
        for library in progress(list(spots), desc="Checking how spots fit", show=None if len(spots) > 1 else False):
            rows, xy = spots[library], coordinates[spots[library]]
            places = compared_places(xy, np.flatnonzero(said_on_tissue(obs.iloc[rows])), most, seed=seed)
            look, source = _look(adata, library, rows, places, image=images[library], image_key=image_key)
            judged[library] = judge(
                _expression(adata, layer, rows, places) if measured else None,
                places,
                look,
                width_height=full_size(images[library]),
                source=source,
                code=PlacesCode.of(adata.obsm[spatial_key], spatial_key, library, library_key),
            )
            compared[library] = places
            if image is None and images[library] is not None and (other := _cut_from(adata, library, image_key)):
                judged[library] = of_the_picture_alone(judged[library], other)
    adata = adata.copy() if copy else adata
    with all_or_nothing(adata):
        adata.uns[key_added] = {library: record_of(judged[library], compared[library].rows) for library in spots}
    _tell(judged)
    return adata if copy else None


def _expression(adata: AnnData, layer: str | None, rows: np.ndarray, places: Compared) -> np.ndarray:
    """Read the expression of what is compared in a section, whose spots are `rows`."""
    spots = rows[places.rows]
    values = expression_values(adata[spots], layer, name="adata")
    number = np.full(len(rows), -1)
    number[places.rows] = np.arange(len(spots))
    return most_varying(places.expression(values, number))


def _look(
    adata: AnnData, library: str, rows: np.ndarray, places: Compared, *, image: SectionImage | None, image_key: str
) -> tuple[Look, str]:
    """Find what tells the look of places in a section, and say what it is."""
    if image is not None:
        return picture_look(image, adata.uns, library, compared=places), f"the {image.source}"
    remedy = f"`uns['spatial']` has no hires picture of {library!r} either: pass `image=`, or cut crops."
    check_in("adata.obsm", image_key, adata.obsm.keys(), remedy=remedy)
    stored: Any = adata.obsm[image_key]
    source = f"`obsm[{image_key!r}]`"
    if getattr(stored, "ndim", 0) not in (2, 4):
        msg = f"`adata.{source[1:-1]}` must hold crops (n_obs, y, x, 3) or features (n_obs, n_features). {remedy}"
        raise ValueError(msg)
    if stored.ndim == 2:
        _check_features(adata, rows, image_key)
    return stored_look(stored, rows, places), source


_ANOTHER_IMAGE = ("look", "size")
"""Signs of `pp.crops` that say: the crops come from another image than the hires picture shows."""


def _cut_from(adata: AnnData, library: str, image_key: str) -> str:
    """Name the image of the crops where it was found to be another than the hires picture; empty otherwise."""
    record = (crop_records(adata, image_key) or crop_records(adata)).get(library, {})
    if any(finding.sign in _ANOTHER_IMAGE for finding in findings_in(record)):
        return str(record.get("source", "another image"))
    return ""


def _check_features(adata: AnnData, rows: np.ndarray, image_key: str) -> None:
    """Refuse features of a section that are NaN or no numbers: all of it would look alike."""
    path = f"adata.obsm[{image_key!r}]"
    features = as_numbers(adata.obsm[image_key], path=path, remedy="Features (n_obs, n_features) are expected.")[rows]
    bad = ~np.isfinite(features).all(axis=1)
    if bad.any():
        msg = (
            f"`{path}` is NaN or infinite for {bad.sum()} of {len(rows)} spots, such as "
            f"{adata.obs_names[rows[bad]][0]!r}. Make the features again, or leave these spots out: "
            f"`adata = adata[np.isfinite({path}).all(axis=1)].copy()`."
        )
        raise ValueError(msg)


def _tell(judged: Mapping[str, Judged]) -> None:
    """Log the verdicts, and warn once of sections that fit better in another way."""
    for library, section in judged.items():
        logger.info("%r: %s", library, section)
    if wrong := [f"{library!r}: {section}" for library, section in judged.items() if section.remedy]:
        warn("the image does not fit the spots as given.\n" + "\n".join(wrong))
