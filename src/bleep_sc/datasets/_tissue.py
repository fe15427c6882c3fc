"""Painted H&E tissue: regions that differ in nuclei and fibres more than in colour."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Region:
    """How one kind of tissue looks; lengths in pixels."""

    name: str
    nucleus_radius: float
    nucleus_spacing: float
    elongation: float = 1.0
    clustering: float = 0.0
    """Share of the way by which nuclei are moved towards the centre of their cluster."""
    fibres: bool = False
    grain: float = 0.06
    haematoxylin: float = 0.15
    eosin: float = 0.3


# In pairs of equal mean colour: within a pair only size, order or direction of structures differs
REGIONS = (
    Region("small-cell tumour", 2.2, 8.0, haematoxylin=0.34, eosin=0.30),
    Region("large-cell tumour", 4.4, 16.0, haematoxylin=0.34, eosin=0.30),
    Region("fibrous stroma", 2.0, 20.0, elongation=2.2, fibres=True, grain=0.12, haematoxylin=0.10, eosin=0.42),
    Region("loose stroma", 2.9, 20.0, grain=0.12, haematoxylin=0.10, eosin=0.42),
    Region("follicle", 2.8, 12.0, clustering=0.65, haematoxylin=0.22, eosin=0.34),
    Region("infiltrate", 2.8, 12.0, haematoxylin=0.22, eosin=0.34),
)

_STAINS = np.array([[0.65, 0.70, 0.29], [0.12, 0.95, 0.30]])
_NUCLEUS_REACH = 12
_GRAIN_REACH = 8
"""Pixels at most over which noise is smoothed where it has no direction: four standard deviations."""
_CLUSTER = 36.0


@dataclass(frozen=True)
class Stain:
    """How strongly one patient's slides took the stains, and the shade they came out in."""

    strength: np.ndarray
    """Strength of haematoxylin and of eosin (2,)."""
    vectors: np.ndarray
    """Absorption of each stain in red, green and blue (2, 3)."""
    background: np.ndarray
    """Colour of the empty slide (3,), 0..1."""


def draw_stain(rng: np.random.Generator) -> Stain:
    """Draw a stain that is near the common one."""
    return Stain(
        strength=rng.uniform(0.85, 1.15, size=2),
        vectors=_STAINS * rng.uniform(0.92, 1.08, size=_STAINS.shape),
        background=rng.uniform(0.94, 0.98, size=3),
    )


@dataclass(frozen=True)
class Tissue:
    """A painted section."""

    image: np.ndarray
    """The H&E image, uint8 (side, side, 3)."""
    region: np.ndarray
    """Number of the region of each pixel (side, side)."""
    inside: np.ndarray
    """Whether there is tissue at each pixel, bool (side, side)."""


def smooth_field(rng: np.random.Generator, side: int, scale: float) -> np.ndarray:
    """A random field (side, side) of mean 0 and variance 1, smooth over `scale` pixels."""
    from scipy.ndimage import gaussian_filter, zoom

    step = max(1, int(scale // 6))
    coarse = -(-side // step) + 1
    field = gaussian_filter(rng.normal(size=(coarse, coarse)), scale / step, mode="reflect")
    field = zoom(field, step, order=1)[:side, :side]
    return (field - field.mean()) / field.std()


def paint(rng: np.random.Generator, side: int, stain: Stain) -> Tissue:
    """Paint one section of `side` pixels."""
    region = _largest(smooth_field(rng, side, 95.0) for _ in REGIONS)
    inside = _outline(rng, side)
    haematoxylin = np.zeros((side, side), dtype=np.float32)
    eosin = np.zeros((side, side), dtype=np.float32)
    angle = rng.uniform(0, 180)
    for number, kind in enumerate(REGIONS):
        in_region = region == number
        if not in_region.any():
            continue
        nuclei = _stamp_nuclei(rng, side, in_region, kind)[in_region]
        fibres = kind.grain * _grain(rng, side, angle=angle if kind.fibres else None)[in_region]
        cytoplasm = np.clip(1 + fibres / kind.eosin, 0.2, None) * (1 - 0.5 * nuclei)
        nuclei += 0.03
        # the same mean for both of a pair, whatever the structures came to
        haematoxylin[in_region] = nuclei * kind.haematoxylin / nuclei.mean()
        eosin[in_region] = cytoplasm * kind.eosin / cytoplasm.mean()
    density = np.stack([haematoxylin, eosin], axis=2) * stain.strength
    transmitted = 10 ** -(density @ stain.vectors)
    transmitted[~inside] = 1
    image = 255 * stain.background * transmitted + rng.normal(0, 2.0, size=(side, side, 3))
    return Tissue(np.clip(image, 0, 255).astype(np.uint8), region, inside)


def _largest(fields: Iterable[np.ndarray]) -> np.ndarray:
    """Number of the field that is largest at each place, the first of equal ones; `np.argmax` of a stack is slower."""
    best, *others = fields
    largest = np.zeros(best.shape, dtype=np.intp)
    for number, field in enumerate(others, start=1):
        largest[field > best] = number
        best = np.maximum(best, field)
    return largest


def _outline(rng: np.random.Generator, side: int) -> np.ndarray:
    y, x = (np.indices((side, side)) - side / 2) / (side / 2)
    wavy = np.hypot(x, y) ** 4 + 0.12 * smooth_field(rng, side, side / 12)
    return wavy < 0.82


def _grain(rng: np.random.Generator, side: int, *, angle: float | None) -> np.ndarray:
    """Noise of variance 1: drawn out along `angle`, or the same in all directions where that is None."""
    from scipy.ndimage import gaussian_filter, rotate

    noise = rng.normal(size=(int(1.5 * side), int(1.5 * side))).astype(np.float32)
    margin = (len(noise) - side) // 2
    if angle is None:
        # what stays depends on no more than this
        reach = min(margin, _GRAIN_REACH)
        noise = noise[margin - reach : margin + side + reach, margin - reach : margin + side + reach]
        grain, margin = gaussian_filter(noise, 1.8), reach
    else:
        grain = rotate(gaussian_filter(noise, (1.2, 9.0)), angle, reshape=False, order=1)
    grain = grain[margin : margin + side, margin : margin + side]
    return (grain - grain.mean()) / grain.std()


def _stamp_nuclei(rng: np.random.Generator, side: int, in_region: np.ndarray, kind: Region) -> np.ndarray:
    """Nuclei of one region, 0..1 (side, side), at jittered grid points."""
    axis = np.arange(kind.nucleus_spacing / 2, side, kind.nucleus_spacing)
    centres = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    centres = centres + rng.uniform(-0.3, 0.3, size=centres.shape) * kind.nucleus_spacing
    if kind.clustering:
        cell = np.floor(centres / _CLUSTER).astype(np.int64) + 1
        n_cells = int(side / _CLUSTER) + 3
        jitter = rng.uniform(0.25, 0.75, size=(n_cells, n_cells, 2))
        cluster = (cell - 1 + jitter[cell[:, 0], cell[:, 1]]) * _CLUSTER
        centres = centres + kind.clustering * (cluster - centres)
    pixel = np.clip(centres.astype(np.int64), 0, side - 1)
    kept = in_region[pixel[:, 0], pixel[:, 1]]
    centres, pixel = centres[kept], pixel[kept]
    radius = kind.nucleus_radius * rng.uniform(0.85, 1.15, size=len(centres))
    angle = rng.uniform(0, np.pi, size=len(centres))

    reach = np.arange(-_NUCLEUS_REACH, _NUCLEUS_REACH + 1)
    off_y, off_x = ((pixel[:, axis, None] + reach - centres[:, axis, None]) for axis in (0, 1))
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    along = (cos * off_y)[:, :, None] + (sin * off_x)[:, None, :]
    across = (cos * off_x)[:, None, :] - (sin * off_y)[:, :, None]
    if kind.elongation != 1:
        along /= np.sqrt(kind.elongation)
        across *= np.sqrt(kind.elongation)
    distance = np.hypot(along, across, out=along)
    distance /= radius[:, None, None]
    nucleus = (1 / (1 + np.exp(5 * (distance - 1)))).astype(np.float32)
    # with a border that takes what lies beyond the image; NumPy is quick where it has a single number for a place
    wide = side + 2 * _NUCLEUS_REACH
    y, x = (pixel[:, axis, None] + reach + _NUCLEUS_REACH for axis in (0, 1))
    place = y[:, :, None] * wide + x[:, None, :]
    out = np.zeros(wide * wide, dtype=np.float32)
    np.maximum.at(out, place.ravel(), nucleus.ravel())
    return out.reshape(wide, wide)[_NUCLEUS_REACH:-_NUCLEUS_REACH, _NUCLEUS_REACH:-_NUCLEUS_REACH]
