"""Options that several commands have."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anndata import AnnData

from bleep_sc import _keys, pp
from bleep_sc._cli.option import Option, Step, number, number_or_name, whole_number
from bleep_sc._cli.refused import Refused, spelt
from bleep_sc._cli.tissue import by_section, check_there, sections_of

IMAGE = "--image"
LIBRARY = Option("--library-key", "library_key", "column of obs with the section of each spot", {"metavar": "COLUMN"})

CROPS = Step(
    "crops: the tissue that is cut around each spot",
    pp.crops,
    (
        Option("--um", "um", "width of tissue of a crop in µm; without it a pixel of the image is one of the crop",
               {"type": number, "metavar": "WIDTH"}),
        Option("--size", "size", "side of a crop in pixels", {"type": whole_number, "metavar": "PIXELS"}),
        Option("--mpp", "mpp", "µm per full-resolution pixel of the image, where it does not say so itself; for "
               "several sections SECTION=NUMBER ...", {"nargs": "+", "metavar": "NUMBER"}),
        Option("--series", "series", "which image of a TIFF shows the section: its number, from 0, or its name",
               {"type": number_or_name, "metavar": "IMAGE"}),
        Option("--lazy", "lazy", "cut on demand, for more crops than memory holds", {"action": "store_true"}),
        Option("--check-images", "check", "what to do where image, scale and spots seem not to belong together",
               {"choices": ("warn", "raise", "off")}),
    ),
)  # fmt: skip


def add_image(group: argparse._ArgumentGroup, help: str) -> None:
    """Add the option that names images."""
    group.add_argument(IMAGE, nargs="+", action="extend", default=[], metavar="[SECTION=]FILE", help=help)


def without_effect(step: Step, arguments: argparse.Namespace, why: str) -> None:
    """Refuse options that would be silently without effect."""
    if flags := step.flags_given(arguments):
        msg = f"{flags[0]}: has no effect, since {why}. Leave it out."
        raise Refused(msg)


def check_held(adata: AnnData, image_key: str | None, arguments: argparse.Namespace, *, file: str) -> None:
    """Refuse a file without crops or features, for which no image is named."""
    key = image_key or _keys.CROPS
    if key in adata.obsm:
        return
    said = next((f"{flag} is of crops that are cut from an image, and " for flag in CROPS.flags_given(arguments)), "")
    msg = (
        f"{IMAGE} is missing: {said}{file} has no obsm[{key!r}]. Name the section's image by {IMAGE} FILE, of several "
        f"sections by {LIBRARY.flag} COLUMN {IMAGE} SECTION=FILE. Crops or features that are there are named by "
        "--image-key."
    )
    raise Refused(msg)


def check_sections_told(adata: AnnData, arguments: argparse.Namespace, *, file: str) -> None:
    """Refuse images of sections if a column of `obs` tells these apart that no option names."""
    if hasattr(arguments, LIBRARY.dest) or all(Path(text).exists() for text in arguments.image):
        return
    # names may hold `=` themselves
    begins = [{text[:at] for at, letter in enumerate(text) if letter == "="} for text in arguments.image]
    for column in adata.obs:
        names = set(map(str, adata.obs[column].unique()))
        if len(names) > 1 and all(begin & names for begin in begins):
            msg = (
                f"{IMAGE} {arguments.image[0]}: names a section, as obs[{column!r}] of {file} does. Pass "
                f"{LIBRARY.flag} {column}."
            )
            raise Refused(msg)


def check_device(device: str | None) -> None:
    """Refuse a device that is not there."""
    from bleep_sc.models.device import resolve_compute

    with spelt({"device": "--device"}):
        resolve_compute(device=device)


def images_of(adata: AnnData, arguments: argparse.Namespace, *, what: str) -> dict[str, Any]:
    """Read which image and scale each section has, as arguments of `pp.crops`; nothing is cut yet."""
    check_sections_told(adata, arguments, file=what)
    library_key = getattr(arguments, LIBRARY.dest, None)
    with spelt({LIBRARY.argument: LIBRARY.flag}, adata=what):
        sections = sections_of(adata, library_key)
    cut = CROPS.given(arguments)
    cut["image"] = by_section(arguments.image, sections, str, option=IMAGE)
    if "mpp" in cut:
        cut["mpp"] = by_section(cut["mpp"], sections, _mpp, option="--mpp")
    named: Mapping[str, str] = cut["image"] if isinstance(cut["image"], dict) else {"": cut["image"]}
    if library_key is not None and len(sections) > 1 and not isinstance(cut["image"], dict):
        msg = (
            f"{IMAGE} {cut['image']}: {what} has {len(sections)} sections, and each needs its image. Pass {IMAGE} "
            f"{sections[0]}=FILE {sections[1]}=FILE" + (" ..." if len(sections) > 2 else ".")
        )
        raise Refused(msg)
    if missing := [name for name in sections if isinstance(cut["image"], dict) and name not in named]:
        msg = f"{IMAGE}: section {missing[0]!r} of {what} has no image. Add {IMAGE} {missing[0]}=FILE."
        raise Refused(msg)
    for file in named.values():
        check_there(file, what=IMAGE)
    if library_key is not None:
        cut["library_key"] = library_key
    return cut


def cut_crops(adata: AnnData, cut: Mapping[str, Any], *, what: str) -> None:
    """Cut the crops."""
    with spelt({**CROPS.spelling, "image": IMAGE, LIBRARY.argument: LIBRARY.flag}, adata=what):
        pp.crops(adata, cut.get("image"), **{name: value for name, value in cut.items() if name != "image"})


def _mpp(text: str) -> float:
    try:
        return number(text)
    except argparse.ArgumentTypeError as err:
        msg = f"--mpp: {err}."
        raise Refused(msg) from None
