"""Warns where another place of the spots suits images and expression clearly better, before anything is learned."""

from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

import numpy as np
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._adata import crop_records, known_places, recorded_spatial_key
from bleep_sc._library import libraries
from bleep_sc._logging import warn
from bleep_sc._stats import section_rows
from bleep_sc.methods.inputs import Spots
from bleep_sc.methods.task import Task
from bleep_sc.pp._alignment.compared import Compared, compared_places
from bleep_sc.pp._alignment.genes import most_varying
from bleep_sc.pp._alignment.looks import Look
from bleep_sc.pp._alignment.picture import full_size, picture_look
from bleep_sc.pp._alignment.section import judge
from bleep_sc.pp._alignment.stored import stored_look
from bleep_sc.pp._images.section import hires_image
from bleep_sc.pp._places_code import PlacesCode
from bleep_sc.tl._inputs.units import said_of_all_folds

_MOST_SPOTS = 1000
"""Of a section, or blocks of them; they are spread over it."""
_MOST_REMEMBERED = 4096
_UNKNOWN = "library"
_answers: dict[bytes, bool] = {}
"""Whether another way was better, by the digest of what was judged: several fits of one reference ask and warn once."""


def warn_of_alignment(adata: AnnData, task: Task[Any], *, library_key: str | None, image_key: str) -> None:
    """Warn once of all sections whose spots fit better in another way; say nothing within folds.

    Colours come from the hires picture of `uns`, where it is there, and from the crops or features that are learned.

    Parameters
    ----------
    adata
        The spots, with their places.
    task
        What was read of them.
    library_key, image_key
        The column of sections, and the key of the crops or features, which the message names.
    """
    xy, spatial_key = known_places(adata, image_key), recorded_spatial_key(adata, image_key)
    reads_images = task.spots.kind.width is None
    if said_of_all_folds() or not reads_images or xy is None or not np.isfinite(xy).all():
        return
    lines = []
    for section, rows in section_rows(task.spots.sections, adata.n_obs):
        library = section if task.spots.sections is not None else _only_library(adata, image_key)
        code = PlacesCode.of(adata.obsm[spatial_key], spatial_key, library, library_key)
        compared = compared_places(xy[rows], np.arange(len(rows)), _MOST_SPOTS, seed=None)
        expression = most_varying(compared.expression(task.all_genes.matrix, rows))
        for look, size, source in _looks(adata, task.spots, library, rows, compared, image_key=image_key):
            question = _digest(expression, compared.xy, look.content)
            another_is_better = _answers.get(question)
            if another_is_better is None:
                judged = judge(expression, compared, look, width_height=size, source=source, code=code)
                another_is_better = bool(judged.remedy)
                lines += [f"{library!r}: {judged}"] * another_is_better
                if len(_answers) >= _MOST_REMEMBERED:
                    _answers.clear()
                _answers[question] = another_is_better
            if another_is_better:
                break
    if lines:
        warn(
            "the image does not fit the spots as given, so that a model would learn little.\n"
            + "\n".join(lines)
            + f"\n`{_in_full(library_key, image_key, spatial_key)}` shows it in full. If all is as it "
            "should be, `check='off'` leaves this check out."
        )


def _in_full(library_key: str | None, image_key: str, spatial_key: str) -> str:
    """Write the call that compares the same places and images, with all that it would not find by itself."""
    usual = {"library_key": None, "image_key": _keys.CROPS, "spatial_key": _keys.SPATIAL}
    given = {"library_key": library_key, "image_key": image_key, "spatial_key": spatial_key}
    said = [f"{name}={value!r}" for name, value in given.items() if value != usual[name]]
    return f"bleep_sc.pp.check_alignment({', '.join(['adata', *said])})"


def _only_library(adata: AnnData, image_key: str) -> str:
    """Name the library of all spots: the one whose image their crops were cut from, else the only one there is.

    `uns["spatial"]` may hold others too: those of spots that were left out since.
    """
    for names in (crop_records(adata, image_key), crop_records(adata), libraries(adata.uns)):
        if names:
            return next(iter(names)) if len(names) == 1 else _UNKNOWN
    return _UNKNOWN


def _looks(
    adata: AnnData, spots: Spots, library: str, rows: np.ndarray, compared: Compared, *, image_key: str
) -> Iterator[tuple[Look, np.ndarray | None, str]]:
    """Give what tells the look of places: the picture in `uns`, then what is learned from, each with the image's size.

    Pictures that cannot be read are left out: they are no input of a model.
    """
    try:
        picture = hires_image(adata.uns, library)
        look = None
        if picture is not None and compared.pitch > 0:
            look = picture_look(picture, adata.uns, library, compared=compared)
    except ValueError:
        picture = look = None
    if look is not None:
        yield look, full_size(picture), "the hires image"
    if not isinstance(spots.rows, np.ndarray):  # lazy crops: to cut them takes long, and training will do it anyway
        return
    yield stored_look(spots.rows, rows, compared), None, f"`obsm[{image_key!r}]`"


def _digest(*arrays: np.ndarray) -> bytes:
    digest = blake2b(digest_size=16)
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.digest()
