"""Draw the slides and the maps that lie over them: pictures of the same window, so that they fit each other."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bleep_sc import _keys
from bleep_sc._adata import crop_records
from bleep_sc._library import checked_libraries
from bleep_sc._report.asked import Asked
from bleep_sc._report.pictures import drawn
from bleep_sc._report.plain import mapping, number
from bleep_sc._report.records import KINDS, MEASURED, PREDICTED, RELIABILITY, Kind, Map, Picture, Scale
from bleep_sc.pl._figure import colour_map
from bleep_sc.pl._reliability import UNLIKE, draw_steps, p_values_of
from bleep_sc.pl._summary import number_text
from bleep_sc.pl._tissue import Section, draw_ground, draw_spots

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CMAP = "viridis"
_SHADES = 250
_WITH_EDGES = 9
"""Discs wider than so many pixels have a thin edge, which parts them from dark tissue."""
_SHARES = np.array([1.0, 2.0, 5.0])
_BAR = 0.25


def name_of(section: Section) -> str:
    """Name a section in words; some objects hold one section without a name."""
    return section.name or "the slide"


def kinds_of(asked: Asked) -> tuple[Kind, ...]:
    """List the kinds of maps that there are."""
    has_reliability = _keys.reliability(asked.layer) in asked.query.obs
    return tuple(kind for kind in KINDS if kind.name in asked.values or (kind is RELIABILITY and has_reliability))


def limits_of(asked: Asked) -> list[tuple[float, float]]:
    """Find the ends of each gene's colours: the lowest 1st percentile and the highest 99th, measured or predicted.

    Bounds lie far apart. If they counted too, the maps between them would be all of one colour.
    """
    ends = []
    for column in range(len(asked.genes)):
        shown = (asked.values[name] for name in (PREDICTED.name, MEASURED.name) if name in asked.values)
        each = [values[asked.rows, column] for values in shown]
        each = [values[np.isfinite(values)] for values in each]
        known = np.transpose([np.percentile(values, [1, 99]) for values in each if len(values)])
        low, high = float(known[0].min()), float(known[1].max())
        ends.append((low, high if high > low else low + 1.0))
    return ends


def scales_of(asked: Asked) -> tuple[Scale, ...]:
    """Put the ends of each gene's colours in words."""
    return tuple(Scale(number_text(low, decimals=2), number_text(high, decimals=2)) for low, high in limits_of(asked))


def ground_of(asked: Asked, section: Section, *, side: int) -> Picture | None:
    """Draw the slide with a scale bar where its scale is known; None where there is no picture of it."""
    if section.image is None:
        return None
    um = um_per_pixel(asked, section)

    def draw(ax: "Axes") -> None:
        draw_ground(ax, section)
        if np.isfinite(um):
            _draw_scale_bar(ax, section, um)

    width = np.ptp(section.window, axis=0)[0] * um
    known = f" The picture is {_length(width)} wide." if np.isfinite(um) else ""
    alt = f"H&E picture of {name_of(section)}, cut to its {len(section.rows):,} spots.{known}"
    return drawn(draw, alt, size=_size(section, side), kind="jpeg")


def maps_of(asked: Asked, *, side: int) -> Iterator[Map]:
    """Draw every map: of each section, kind and gene, transparent between the spots."""
    limits = limits_of(asked)
    for slide, section in enumerate(asked.sections):
        for kind in kinds_of(asked):
            if kind is RELIABILITY:
                yield Map(slide, kind.name, _reliability_map(asked, section, side))
                continue
            for column, gene in enumerate(asked.genes):
                values = asked.values[kind.name][section.rows, column]
                if np.isfinite(values).any():
                    picture = _gene_map(section, values, kind, gene, limits=limits[column], side=side)
                    yield Map(slide, kind.name, picture, column)


def number_of_maps(asked: Asked) -> int:
    """Count the maps at most, for a progress bar."""
    each = sum(len(asked.genes) if kind.of_gene else 1 for kind in kinds_of(asked))
    return each * len(asked.sections)


def um_per_pixel(asked: Asked, section: Section) -> float:
    """Tell µm per pixel of the section's picture, by the record of its crops or by its scale factors; else NaN."""
    record = crop_records(asked.query, asked.image_key).get(section.name, {})
    of_crops = _ratio(number(record.get("size_um")), number(record.get("spot_diameters")) * section.diameter)
    if np.isfinite(of_crops):
        return of_crops
    factors = mapping(checked_libraries(asked.query.uns).get(section.name, {}).get("scalefactors"))
    spot_um = number(factors.get("microns_per_pixel")) * number(factors.get("spot_diameter_fullres"))
    return _ratio(spot_um, section.diameter)


def _ratio(length: float, pixels: float) -> float:
    return length / pixels if length > 0 and pixels > 0 else np.nan


def _gene_map(
    section: Section, values: np.ndarray, kind: Kind, gene: str, *, limits: tuple[float, float], side: int
) -> Picture:
    known = values[np.isfinite(values)]
    low, mean, high = (number_text(float(value), decimals=2) for value in (known.min(), known.mean(), known.max()))
    alt = (
        f"{kind.label} expression of {gene} on {name_of(section)}: from {low} to {high}, {mean} on average, "
        f"in {len(known):,} spots."
    )
    if len(known) < len(values):
        alt += f" {len(values) - len(known):,} spots have no value and are grey."
    # with grey and clear at most 256 colours
    cmap = colour_map("cmap", colour_map("cmap", CMAP).resampled(_SHADES))

    def draw(ax: "Axes") -> None:
        spots = draw_spots(ax, section, values, cmap=cmap, limits=limits)
        spots.set_antialiased(False)  # shades at the edges would take most of the file
        if _are_large(section, side):
            spots.set(edgecolor="white", linewidth=0.8)

    return _overlay(section, draw, alt, side)


def _reliability_map(asked: Asked, section: Section, side: int) -> Picture:
    p_values = p_values_of(asked.query, _keys.reliability(asked.layer))[section.rows]
    known = np.isfinite(p_values)
    n_unlike = int((p_values[known] <= UNLIKE).sum())
    alt = (
        f"Reliability of {name_of(section)}: {n_unlike:,} of {known.sum():,} spots look unlike the reference "
        f"(p at most {UNLIKE})."
    )

    def draw(ax: "Axes") -> None:
        spots = draw_steps(ax, section, p_values)
        if not _are_large(section, side):
            spots.set_linewidth(0)  # edges would be all that is seen

    return _overlay(section, draw, alt, side)


def _overlay(section: Section, draw: "Callable[[Axes], Any]", alt: str, side: int) -> Picture:
    bare = replace(section, image=None)

    def both(ax: "Axes") -> None:
        draw_ground(ax, bare)
        draw(ax)

    return drawn(both, alt, size=_size(section, side), kind="overlay")


def _are_large(section: Section, side: int) -> bool:
    """Whether discs are so wide in the picture that their edges do not hide them."""
    return bool(section.diameter / np.ptp(section.window, axis=0).max() * side > _WITH_EDGES)


def _size(section: Section, side: int) -> tuple[int, int]:
    """Size in pixels of a picture of the section's window, whose longer side is given."""
    wide, high = np.ptp(section.window, axis=0)
    longest = max(wide, high)
    return max(1, round(side * wide / longest)), max(1, round(side * high / longest))


def _draw_scale_bar(ax: "Axes", section: Section, um: float) -> None:
    """Draw a bar of a round length, with its length, on a white plate in the lower left corner."""
    low, high = section.window
    wide, tall = high - low
    length = _round_length(_BAR * wide * um)
    x, y = low[0] + 0.03 * wide, high[1] - 0.03 * tall
    ax.plot([x, x + length / um], [y, y], color="black", lw=6, solid_capstyle="butt", zorder=5)
    plate = {"facecolor": "white", "alpha": 0.85, "edgecolor": "none", "pad": 2}
    ax.text(x, y - 0.02 * tall, _length(length), fontsize=20, va="bottom", bbox=plate, zorder=4)


def _round_length(most: float) -> float:
    """The largest of 1, 2, 5, 10, 20, ... that is no more than a length."""
    power = 10.0 ** np.floor(np.log10(most))
    return float(power * _SHARES[most / power * (1 + 1e-9) >= _SHARES].max())


def _length(um: float) -> str:
    return f"{um / 1000:.3g} mm" if um >= 1000 else f"{um:.3g} µm"
