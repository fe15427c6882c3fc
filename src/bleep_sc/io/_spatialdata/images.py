"""Which image of a SpatialData object shows the section."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bleep_sc.io._spatialdata.store import Source
from bleep_sc.io._spatialdata.transforms import Element, Onto, lay
from bleep_sc.pp._images.colors import check_rgb
from bleep_sc.pp._images.open import open_image
from bleep_sc.pp._images.patches import check_parts
from bleep_sc.pp._images.section import SectionImage

_NO_SECTION = (
    (re.compile(r"morphology_(focus|mip)"), "it is Xenium's fluorescence image (DAPI and other stains), no H&E"),
    (re.compile(r"(^|_)if_image"), "it is an immunofluorescence image, no H&E"),
    (
        re.compile(r"cytassist", re.IGNORECASE),
        "it is the small picture that a CytAssist takes, not the H&E of the microscope",
    ),
)
"""Names that readers give to images that crops are never cut from, each with the reason."""
_SMALL = (re.compile(r"(^|_)hires_image"), re.compile(r"(^|_)lowres_image"))
"""Names of the small pictures of Space Ranger, the larger one first; to join objects adds to the end of names."""


@dataclass(frozen=True)
class Chosen:
    """An image, and how the places of a region lie on it."""

    name: str
    image: SectionImage
    way: Onto

    @property
    def is_small(self) -> bool:
        """Whether it is one of Space Ranger's small pictures."""
        return any(small.search(self.name) for small in _SMALL)


def check_image(source: Source, name: str) -> None:
    """Refuse the name of an image that is not there, or is no H&E image.

    Raises
    ------
    ValueError
        Either; the message lists the images.
    """
    if name not in source.names["images"]:
        msg = f"`image={name!r}`: there is no such image. {_listed(source)}"
        raise ValueError(msg)
    reason = _no_section(name)
    if reason:
        msg = f"`image={name!r}` is refused: {reason}. {_listed(source)}"
        raise ValueError(msg)


def choose(
    source: Source, element: Element, image: str | None, coordinate_system: str | None, *, regions: Sequence[str]
) -> Chosen:
    """Take the image that is named, else the only one of full resolution on which the element lies.

    `regions` are all that the table annotates; a name that is not in a mapping would be taken for each of them.

    Raises
    ------
    ValueError
        There is none; several fit; it is no H&E image; the element does not lie on it in one way.
    """
    if image is not None:
        return _laid(source, element, image, coordinate_system)
    fitting, unfit = _fitting(source, element, coordinate_system)
    full = [name for name in fitting if not any(small.search(name) for small in _SMALL)]
    if len(full) > 1:
        entries = ", ".join(f"{region!r}: ..." for region in regions)
        such_as = f"{full[0]!r}" if len(regions) == 1 else f"{{{entries}}}"
        msg = (
            f"the images {full} all share a coordinate system with `{element.path}`. Say which one is the H&E image"
            f"{'' if len(regions) == 1 else ' of each region'}, such as `image={such_as}`."
        )
        raise ValueError(msg)
    small = [name for kind in _SMALL for name in fitting if kind.search(name)]
    if not full and not small:
        reasons = "".join(f" {name!r} does, but: {reason}" for name, reason in unfit.items())
        msg = (
            f"no H&E image shares a coordinate system with `{element.path}`. {_listed(source)}{reasons} Read it "
            "together with the counts (`fullres_image_file=` of `spatialdata_io.visium`, `he_image` of "
            "`spatialdata_io.xenium`), or add it: `sdata.images['he'] = Image2DModel.parse(...)`."
        )
        raise ValueError(msg)
    return _laid(source, element, (full or small)[0], coordinate_system)


def _fitting(
    source: Source, element: Element, coordinate_system: str | None
) -> tuple[list[str], dict[str, ValueError]]:
    """Find the images that may show the section and share a coordinate system, `coordinate_system` or any.

    Those that are no H&E image come apart, with what is wrong with them.
    """
    systems = {coordinate_system} if coordinate_system in element.matrices else set(element.matrices)
    found, unfit = [], {}
    for name in source.names["images"]:
        if _no_section(name) or not systems & set(source.matrices("images", name)):
            continue
        try:
            _opened(source, name)
        except ValueError as err:  # it is of other channels, or of another type
            unfit[name] = err
            continue
        found.append(name)
    return found, unfit


def _laid(source: Source, element: Element, name: str, coordinate_system: str | None) -> Chosen:
    image = _opened(source, name)
    on = Element("images", name, source.matrices("images", name))
    return Chosen(name, image, lay(element, on, image.width_height, coordinate_system))


def _opened(source: Source, name: str) -> SectionImage:
    path = f"sdata.images[{name!r}]"
    opened = open_image(source.image(name), library_id=name, name=path)
    check_rgb(opened.array, name=path)
    check_parts(opened.array, name=path)
    return opened


def _no_section(name: str) -> str:
    return next((reason for pattern, reason in _NO_SECTION if pattern.search(name)), "")


def _listed(source: Source) -> str:
    names = source.names["images"]
    if not names:
        return "There are no images."
    return (
        "The images are "
        + ", ".join(f"{name!r}{' (no H&E image)' if _no_section(name) else ''}" for name in names)
        + "."
    )


def by_region(value: str | Mapping[str, str] | None, regions: Sequence[str], *, name: str) -> dict[str, str | None]:
    """Read an argument that is one value for all regions, or a mapping from region.

    Raises
    ------
    TypeError
        It is neither.
    ValueError
        The mapping names other regions, or not all.
    """
    if value is None or isinstance(value, str):
        return dict.fromkeys(regions, value)
    if not isinstance(value, Mapping) or not all(isinstance(each, str) for each in value.values()):
        msg = f"`{name}` must be a name, or a mapping from region to name, found {value!r}."
        raise TypeError(msg)
    if set(value) != set(regions):
        msg = f"`{name}` names the regions {list(value)}, and the table annotates {list(regions)}."
        raise ValueError(msg)
    return {region: value[region] for region in regions}
