from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from anndata import AnnData

from bleep_sc._checks import check_number, check_section_names, odd_characters
from bleep_sc._logging import logger, warn
from bleep_sc.io._tiles.hdf5 import HDF5, Numbers, open_hdf5
from bleep_sc.io._tiles.layouts import Geometry, Layout, layout_of
from bleep_sc.io._tiles.scale import believed_scale
from bleep_sc.io._tiles.slide import (
    Features,
    Pictures,
    Tiles,
    check_encoder,
    check_slide,
    checked_corners,
    checked_features,
    make_slide,
)
from bleep_sc.models.nets.rules import MAX_SIDE
from bleep_sc.pp._scale.witness import Witness
from bleep_sc.pp._slide import whole_image

if TYPE_CHECKING:
    from squidpy.im import ImageContainer

_COORDS = "coords"
_FEATURES = ("features", "embeddings")
_BARCODES = ("barcode", "barcodes")
_IMAGES = "img"
_ENCODER = "encoder"
_APART = 0.02
"""The width of a tile by the argument and by the file may differ by so much."""
_UM_AT_1X = 10.0
"""µm per pixel times magnification: 20x is about 0.5 µm."""
_ODD_MAGNIFICATION = 1.7
"""Scanners of one magnification differ by less than this."""


def from_patches(
    path: str | Path,
    ref: AnnData | None = None,
    *,
    encoder: str | None = None,
    patch_size: float | None = None,
    mpp: float | None = None,
    library_id: str | None = None,
    crops: bool = False,
    image: "ImageContainer | str | Path | None" = None,
    progress_bar: bool | None = None,
) -> AnnData:
    """Read a slide's patches, and the features that TRIDENT, HEST or CLAM made of them, from an HDF5 file.

    Each patch becomes a spot at the patch's centre. With `ref` the result is ready for :func:`~bleep_sc.tl.impute`. A
    record of the encoder and of the width of a patch is stored beside the features. So a model can refuse features of
    another encoder or of wider patches.

    Parameters
    ----------
    path
        The file. It holds ``coords`` (n, 2), and may hold ``features`` or ``embeddings`` (n, n_features) or
        (1, n, n_features), and ``barcode`` or ``barcodes``.
    ref
        The reference to impute from. The result gets its genes. ``None`` makes a slide without genes. You can use its
        features, but you cannot impute into it.
    encoder
        Name of the encoder that made the features. ``None`` takes the name that TRIDENT writes; other files hold no
        name. Reference and query must use the same name.
    patch_size
        Width of a patch in full-resolution (level-0) pixels. ``None`` takes the width in the file. CLAM's feature files
        and HEST's embedding files do not hold it.
    mpp
        µm per full-resolution pixel. ``None`` takes the value in the file (HEST writes it), else that in the tags of
        `image`.
    library_id
        Name of the slide. ``None`` takes the name in the file, else the name of the file.
    crops
        Also read the pictures of the patches, if the file holds them (``img``, as HEST writes it). They are read into
        memory and stored where :func:`~bleep_sc.pp.crops` stores crops.
    image
        The slide's image: a path or an :class:`squidpy.im.ImageContainer`. Small copies are stored as a background for
        plots. ``None`` stores no image.
    progress_bar
        Overrides the value of the same name in :attr:`bleep_sc.settings` for this call.

    Returns
    -------
    An AnnData with the reference's `var`, no `X`, and the following fields:

    `obsm['spatial']` : :class:`numpy.ndarray` (float64, (n_obs, 2))
        Centres of the patches, x then y, in full-resolution pixels.
    `obsm['X_{encoder}']` : :class:`numpy.ndarray` (float32, (n_obs, n_features))
        Features, if the file holds any.
    `uns['X_{encoder}']` : `dict`
        ``config``, JSON: the encoder's name, its number of features, and the width of a patch in µm. If it is known,
        the width in the pixels that the encoder got is added. The encoder's weights are not known, so they are null.
    `obsm['crops']`, `uns['crops'][library_id]` : :class:`numpy.ndarray` (uint8, (n_obs, size, size, 3)), `dict`
        The pictures and their width, if ``crops=True``. It is not known whether any reach beyond the border of the
        slide.
    `uns['spatial'][library_id]` : `dict`
        ``scalefactors`` with ``microns_per_pixel``, and ``spot_diameter_fullres`` which is the width of a patch;
        ``images`` and ``metadata`` as :func:`~bleep_sc.pp.blank` makes them.

    The names of spots are the barcodes if the file has any, else ``"{library_id}_0"`` and so on.

    Raises
    ------
    KeyError
        No ``coords``, or no ``img`` although ``crops=True``.
    FileNotFoundError
        No such file.
    ValueError
        - A file that is not HDF5, or is damaged.
        - Different numbers of places, features and barcodes.
        - Values that are text or NaN.
        - Arrays of other shapes, of more than 32 GiB, or kept in another file.
        - Features without a name of their encoder.
        - An unknown width of the patches or scale of the slide.

    Notes
    -----
    Places are read as the upper left corners of patches, as TRIDENT, CLAM and HEST write them. Before August 2024, HEST
    wrote centres instead, y first. Such files are recognised by the attributes of ``img``. HEST's embedding files of
    that time lack these attributes, so take places and barcodes from the patch file.

    A magnification, such as TRIDENT's 20, does not give the scale: "20x" scanners have from 0.3 to 0.6 µm per pixel.
    `mpp` is compared with the magnification, but never taken from it.

    Nothing is unpickled, and links are not followed.

    Examples
    --------
    >>> import os, tempfile
    >>> import h5py
    >>> import bleep_sc as bl
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = os.path.join(folder.name, "slide.h5")
    >>> with h5py.File(path, "w") as file:  # as TRIDENT writes it
    ...     file["coords"] = [[0, 0], [512, 0]]
    ...     file["coords"].attrs.update(patch_size=256, patch_size_level0=512, level0_magnification=40)
    ...     file["features"] = [[0.5, 1.0, 2.0], [1.5, 0.0, 1.0]]
    ...     file["features"].attrs["encoder"] = "uni_v1"
    >>> slide = bl.io.from_patches(path, mpp=0.25)
    >>> slide.obsm["spatial"].tolist()
    [[256.0, 256.0], [768.0, 256.0]]
    >>> slide.obsm["X_uni_v1"].shape, slide.uns["spatial"]["slide"]["scalefactors"]["microns_per_pixel"]
    ((2, 3), 0.25)
    >>> folder.cleanup()
    """
    check_slide(ref, library_id, encoder)
    for name, value in (("patch_size", patch_size), ("mpp", mpp)):
        if value is not None:
            check_number(name, value, above=0)
    with open_hdf5(path) as file:
        holds = _one_of(file, _FEATURES)
        places = _places(file)
        attributes = file.attributes(_COORDS, *_FEATURES, _IMAGES)
        layout = layout_of(attributes)
        geometry = layout.geometry(attributes)
        logger.info("%r has the layout of %s.", file.path.name, layout.name)
        slide_name = library_id or _slide_name(attributes.get("name"), file.path)
        side = _side(patch_size, geometry, file)
        opened = None if image is None else whole_image(image, library_id=slide_name)
        um_per_px = _scale(mpp, geometry, opened, library_id=slide_name)
        made = None if holds is None else _features_array(file, holds, places.shape[0])
        drawn = _pictures_array(file, places.shape[0]) if crops else None
        made_by = _encoder_name(encoder, attributes, holds, file)
        corners = checked_corners(file.read(places, np.float64, show=progress_bar), path=file.named(_COORDS))
        names = _names(file, len(corners), slide_name)
        pixels = geometry.pixels or _pixels_of_images(file)
        tiles = Tiles(slide_name, _corners(corners, layout, side), side, pixels, names, file.named(_COORDS))
        features = None
        if made is not None and made_by is not None:
            rows = file.read(made, np.float32, show=progress_bar)
            features = Features(made_by, checked_features(rows, names, path=file.named(made.name)))
        pictures = None
        if drawn is not None:
            pictures = Pictures(file.read(drawn, np.uint8, show=progress_bar), file.path.name)
    return make_slide(tiles, um_per_px, features=features, pictures=pictures, ref=ref, image=opened)


def _places(file: HDF5) -> Numbers:
    places = file.numbers(_COORDS, ndim=2, expected="(n_patches, 2)")
    if places.shape[1] != 2:
        msg = f"{file.named(_COORDS)} must have the shape (n_patches, 2), x then y; found {places.shape}."
        raise ValueError(msg)
    return places


def _one_of(file: HDF5, names: tuple[str, ...]) -> str | None:
    """Return which of several names a file uses; refuse one that uses both."""
    found = [name for name in names if name in file]
    if len(found) > 1:
        msg = f"{file.path.name!r} holds {' and '.join(f'`{name}`' for name in found)}: keep one of them in the file."
        raise ValueError(msg)
    return found[0] if found else None


def _slide_name(name: Any, path: Path) -> str:
    """Return the name that a file gives its slide, if `uns` can hold it, else the name of the file."""
    try:
        check_section_names("name", [name])
    except ValueError:
        return path.stem
    return name if isinstance(name, str) else path.stem


def _side(patch_size: float | None, geometry: Geometry, file: HDF5) -> float:
    """Width of a patch in level-0 pixels: the user's word, else the file's."""
    if patch_size is None and geometry.side is None:
        msg = (
            f"{file.path.name!r} does not say how wide a patch is. Pass `patch_size=`, its width in pixels of the "
            "slide at full resolution: 512 for 256 pixels at 20x of a slide that was scanned at 40x."
        )
        raise ValueError(msg)
    if patch_size is None:
        assert geometry.side is not None  # noqa: S101 - said above
        return geometry.side
    if geometry.side is not None and abs(patch_size / geometry.side - 1) > _APART:
        warn(
            f"`patch_size={patch_size:g}`, but {file.path.name!r} says that a patch is {geometry.side:g} "
            "full-resolution pixels wide. The argument is used. If the file is right, leave `patch_size` out."
        )
    return float(patch_size)


def _scale(mpp: float | None, geometry: Geometry, opened: Any, *, library_id: str) -> float:
    """µm per level-0 pixel."""
    magnification = geometry.magnification
    witnesses = [
        None if mpp is None else Witness("the argument `mpp`", float(mpp)),
        None if geometry.um_per_px is None else Witness("the patch file", geometry.um_per_px),
        None if opened is None else opened.tag,
    ]
    about = "" if magnification is None else f"The file says {magnification:g}x: about {_UM_AT_1X / magnification:.2g}."
    believed = believed_scale(witnesses, library_id=library_id, remedy=about)
    if magnification is not None:
        off = believed * magnification / _UM_AT_1X
        if not 1 / _ODD_MAGNIFICATION < off < _ODD_MAGNIFICATION:
            warn(
                f"{believed:.4g} µm per pixel do not go with the magnification of {library_id!r}: by its file, level 0 "
                f"is {magnification:g}x, about {_UM_AT_1X / magnification:.2g} µm. Pass `mpp=` of level 0, not that of "
                "the patches."
            )
    return believed


def _encoder_name(encoder: str | None, attributes: Any, holds: str | None, file: HDF5) -> str | None:
    """Name of the encoder: the user's word, else the file's; None where the file holds no features."""
    if holds is None:
        if encoder is not None:
            msg = (
                f"`encoder={encoder!r}` made features, and {file.path.name!r} holds none: {' or '.join(_FEATURES)} is "
                "expected. Leave `encoder` out to take the places alone."
            )
            raise ValueError(msg)
        return None
    stated, path = attributes.get(_ENCODER), file.named(holds)
    known = isinstance(stated, str) and stated.strip() not in ("", "None")  # TRIDENT spells out that it has no name
    if encoder is None and not known:
        msg = f"{path} does not say which encoder made it. Pass its name, such as `encoder='uni'`."
        raise ValueError(msg)
    if encoder is None:
        return check_encoder(stated, path=f"the encoder of {path}")
    if known and not (stated.lower().startswith(encoder.lower()) or encoder.lower().startswith(stated.lower())):
        warn(
            f"`encoder={encoder!r}`, but {path} says that {stated!r} made it. The argument is used: be sure that it is "
            "another name of the same encoder."
        )
    return encoder


def _features_array(file: HDF5, name: str, n_patches: int) -> Numbers:
    made = file.numbers(name, ndim=2, expected="(n_patches, n_features)")
    if made.shape[0] != n_patches:
        msg = (
            f"{file.named(name)} has {made.shape[0]} rows, and {file.named(_COORDS)} has {n_patches}: the file was "
            "cut short, or two runs were mixed in it. Make the features again."
        )
        raise ValueError(msg)
    return made


def _pictures_array(file: HDF5, n_patches: int) -> Numbers:
    drawn = file.numbers(_IMAGES, ndim=4, expected="(n_patches, size, size, 3)")
    shape = drawn.shape
    if drawn.dtype != np.uint8 or shape[3] != 3 or not 1 <= shape[1] == shape[2] <= MAX_SIDE:
        msg = f"{file.named(_IMAGES)} must be uint8 (n_patches, size, size, 3), RGB; found {drawn.dtype} {shape}."
        raise ValueError(msg)
    if shape[0] != n_patches:
        msg = f"{file.named(_IMAGES)} has {shape[0]} pictures, and {file.named(_COORDS)} has {n_patches} places."
        raise ValueError(msg)
    return drawn


def _names(file: HDF5, n_patches: int, library_id: str) -> list[str]:
    stands = _one_of(file, _BARCODES)
    if stands is None:
        return [f"{library_id}_{number}" for number in range(n_patches)]
    names = file.names(stands)
    if len(names) != n_patches or len(set(names)) != len(names):
        found = f"{len(names)} names" if len(names) != n_patches else f"{len(set(names))} different ones"
        msg = f"{file.named(stands)} must name each of the {n_patches} patches once; found {found}."
        raise ValueError(msg)
    for name in names:
        if not name or odd_characters(name):
            msg = f"{file.named(stands)} holds {name!r}, which no file keeps as the name of a spot."
            raise ValueError(msg)
    return names


def _corners(places: np.ndarray, layout: Layout, side: float) -> np.ndarray:
    """Compute corners, x then y, from the places of a file."""
    xy = places[:, ::-1] if layout.y_first else places
    return xy - side / 2 if layout.centred else xy


def _pixels_of_images(file: HDF5) -> int | None:
    """Number of pixels of the patches' own pictures, where the file holds them."""
    if _IMAGES not in file:
        return None
    shape = file.array(_IMAGES).shape
    return int(shape[1]) if len(shape) == 4 and 1 <= shape[1] == shape[2] <= MAX_SIDE else None
