"""Find where the spots of each section lie, on a picture or without one, and draw them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from anndata import AnnData

from bleep_sc._adata import section_of_spots, spatial_coordinates
from bleep_sc._checks import MissingKeyError, check_in, check_names, check_number
from bleep_sc._grid import spacing
from bleep_sc._library import checked_libraries, needed_scale_factor
from bleep_sc._logging import logger
from bleep_sc.pl._figure import picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import EllipseCollection

_SHARE_OF_PITCH = 0.8


@dataclass(frozen=True)
class Section:
    """One section, ready to be drawn."""

    name: str
    rows: np.ndarray
    xy: np.ndarray
    """Centres in pixels of the picture, or of the full-resolution image where there is no picture."""
    diameter: float
    image: Any | None
    extent: tuple[float, float, float, float] | None = None
    """Left, right, lower and upper edge of the picture, where it is a part of the stored one, or a smaller copy."""

    @property
    def window(self) -> np.ndarray:
        """Bounds of the part of the section that is drawn: lowest x and y, then highest."""
        margin = max(self.diameter, 0.02 * float(np.ptp(self.xy, axis=0).max()))
        return np.stack([self.xy.min(axis=0) - margin, self.xy.max(axis=0) + margin])


def sections_to_draw(
    adata: AnnData,
    *,
    library_key: str | None,
    library_id: str | Sequence[str] | None,
    img_key: str | None,
    size: float,
    of_all: str | None = None,
) -> list[Section]:
    """Make each chosen section ready to be drawn, with its spots, picture and scale.

    `of_all` is the one that all spots belong to, where that is known.
    """
    size = check_number("size", size, above=0)
    libraries = checked_libraries(adata.uns)
    of_spots = section_of_spots(adata, library_key) if of_all is None else None
    if of_all is not None:
        libraries = {of_all: libraries.get(of_all, {})}
    if of_spots is None and len(libraries) > 1:
        msg = (
            f"`adata.uns['spatial']` holds the sections {list(libraries)}, but no column says which spot is of which: "
            "name that column of `obs` by `library_key`."
        )
        raise ValueError(msg)
    section_names = (list(libraries) or [""]) if of_spots is None else sorted(set(of_spots))
    drawn_names = section_names if library_id is None else list(check_names("library_id", library_id))
    if not drawn_names:
        msg = f"`library_id` names none of the sections {section_names}."
        raise ValueError(msg)
    for name in drawn_names:
        check_in("adata.uns['spatial']", name, section_names, remedy="`library_id` names sections.")
    xy = spatial_coordinates(adata)
    sections = []
    for name in dict.fromkeys(drawn_names):
        rows = np.arange(adata.n_obs) if of_spots is None else np.flatnonzero(of_spots == name)
        library = libraries.get(name, {})
        image = _picture(library, name, img_key)
        if image is None:
            stored = "spot_diameter_fullres" in library.get("scalefactors", {})
            diameter = (
                needed_scale_factor(library, name, "spot_diameter_fullres") if stored else _usual_diameter(xy[rows])
            )
            scale = 1.0
        else:
            scale = needed_scale_factor(library, name, f"tissue_{img_key}_scalef")
            diameter = needed_scale_factor(library, name, "spot_diameter_fullres")
        sections.append(Section(name, rows, xy[rows] * scale, diameter * scale * size, image))
    if without := [section.name for section in sections if section.image is None and img_key is not None]:
        logger.info(
            "Drawn without a picture: `adata.uns['spatial']` has none%s.",
            " of " + ", ".join(map(repr, without)) if any(without) else "",
        )
    return sections


def _picture(library: Mapping[str, Any], name: str, img_key: str | None) -> Any | None:
    """Return the picture of a section; None where it has no pictures, an error where `img_key` is misspelt."""
    images = library.get("images", {})
    if img_key is None or not images:
        return None
    if img_key not in images:
        msg = (
            f"`adata.uns['spatial'][{name!r}]['images'][{img_key!r}]` does not exist; there is "
            f"{', '.join(map(repr, images))}. `img_key=None` draws without a picture."
        )
        raise MissingKeyError(msg)
    return picture(images[img_key], f"adata.uns['spatial'][{name!r}]['images'][{img_key!r}]")


def _usual_diameter(xy: np.ndarray) -> float:
    """Choose a diameter for spots whose size is not known, such that neighbours stand close but apart."""
    step = spacing(xy)
    return 1.0 if np.isnan(step) else _SHARE_OF_PITCH * step


def with_thumbnail(section: Section, *, pixels: int) -> Section:
    """Return the section with its picture cut to what is drawn, and shrunk to about this many pixels of width.

    A picture that is drawn in many axes is read and resampled in each of them: a small one costs little. It keeps from
    one to two times the pixels that are asked for, as blocks of whole pixels are averaged.
    """
    if section.image is None:
        return section
    image = np.asarray(section.image)
    (left, top), (right, bottom) = section.window
    rows, columns = (
        slice(min(max(int(low), 0), n - 1), min(max(int(np.ceil(high)) + 1, 1), n))
        for low, high, n in ((top, bottom, image.shape[0]), (left, right, image.shape[1]))
    )
    part = image[rows, columns]
    block = max(min(int((right - left) / pixels), *part.shape[:2]), 1)
    height, width = (size // block for size in part.shape[:2])
    if block > 1:
        blocks = part[: height * block, : width * block].reshape(height, block, width, block, *part.shape[2:])
        part = blocks.mean(axis=(1, 3), dtype=np.float32)
        part = np.round(part).astype(image.dtype) if image.dtype.kind in "iu" else part
    x, y = columns.start - 0.5, rows.start - 0.5
    return replace(section, image=part, extent=(x, x + width * block, y + height * block, y))


def draw_ground(ax: "Axes", section: Section, *, alpha: float = 1.0) -> None:
    """Draw the picture, where there is one, cut to the spots. The y axis points down in either case."""
    if section.image is not None:
        ax.set_facecolor("white")  # a pale picture is pale in the dark too
        brightest = 255 if section.image.dtype.kind in "iu" else 1
        ax.imshow(section.image, alpha=alpha, extent=section.extent, cmap="gray", vmin=0, vmax=brightest)
    low, high = section.window
    ax.set(xlim=(low[0], high[0]), ylim=(high[1], low[1]), xticks=[], yticks=[], aspect="equal")


def draw_spots(
    ax: "Axes", section: Section, values: np.ndarray, *, cmap: Any, limits: tuple[float, float] | None
) -> "EllipseCollection":
    """Draw a disc of true size for each spot, in grey where the spot has no value."""
    from matplotlib.collections import EllipseCollection

    spots = EllipseCollection(
        section.diameter,
        section.diameter,
        0,
        units="xy",
        offsets=section.xy,
        offset_transform=ax.transData,
        cmap=cmap,
        array=values,
    )
    spots.set_clim(*(limits or (0, 1)))
    ax.add_collection(spots)
    return spots
