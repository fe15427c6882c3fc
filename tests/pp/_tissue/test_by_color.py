"""Tissue found by colour, on painted slides with pens, black edges and dye on the glass, and on real sections."""

from pathlib import Path

import anndata as ad
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from bleep_sc.pp._images.open import open_image
from bleep_sc.pp._images.thumbnails import thumbnails
from bleep_sc.pp._tissue.by_color import tissue_by_color, tissue_mask

GLASS, TISSUE, PALE = (242, 240, 243), (168, 92, 150), (225, 175, 205)
SIZE = (600, 800)


def disc(x: float, y: float, radius: float) -> np.ndarray:
    rows, columns = np.indices(SIZE)
    return np.asarray((rows - y) ** 2 + (columns - x) ** 2 < radius**2)


@pytest.fixture
def slide() -> np.ndarray:
    """A round piece of tissue, of two shades, on glass, with noise."""
    pixels = np.empty((*SIZE, 3))
    pixels[:] = GLASS
    pixels[disc(400, 300, 150)] = TISSUE
    pixels[disc(340, 300, 60)] = PALE
    return np.clip(pixels + np.random.default_rng(0).normal(0, 6, pixels.shape), 0, 255).astype(np.uint8)


def overlap(found: np.ndarray | None, truth: np.ndarray) -> float:
    assert found is not None
    return float((found & truth).sum() / (found | truth).sum())


def test_tissue_is_found_with_its_pale_parts(slide: np.ndarray) -> None:
    assert overlap(tissue_mask(slide), disc(400, 300, 150)) > 0.96


INKS = {"blue": (20, 60, 190), "green": (10, 120, 60), "black": (15, 15, 20), "red": (230, 15, 25)}


@pytest.mark.parametrize("ink", INKS.values(), ids=INKS)
def test_pen_marks_are_left_out_and_set_no_threshold(slide: np.ndarray, ink: tuple[int, int, int]) -> None:
    slide[40:520, 60:110] = ink
    slide[520:560, 60:760] = ink
    found = tissue_mask(slide)
    assert overlap(found, disc(400, 300, 150)) > 0.95
    assert found is not None and not found[40:520, 55:115].any() and not found[520:560].any()


def test_black_where_nothing_was_scanned_is_left_out(slide: np.ndarray) -> None:
    slide[:, 620:] = 0
    slide[:60] = 3
    found = tissue_mask(slide)
    assert overlap(found, disc(400, 300, 150)) > 0.95
    assert found is not None and not found[:, 620:].any() and not found[:60].any()


def test_dye_that_ran_out_onto_the_glass_is_left_out(slide: np.ndarray) -> None:
    """As on the real sections: a pink halo that fades."""
    halo = gaussian_filter(disc(550, 400, 120).astype(float), 40)[..., None] * ~disc(400, 300, 150)[..., None]
    stained = np.clip(slide - halo * (0, 28, 10), 0, 255).astype(np.uint8)
    assert overlap(tissue_mask(stained), disc(400, 300, 150)) > 0.93


def test_specks_are_left_out_and_small_holes_filled(slide: np.ndarray) -> None:
    slide[disc(700, 80, 12)] = TISSUE
    slide[disc(420, 380, 10)] = GLASS
    slide[disc(450, 250, 45)] = GLASS  # a lumen, which is larger than 2 % of the tissue
    found = tissue_mask(slide)
    assert found is not None
    assert not found[80, 700]
    assert found[380, 420]
    assert not found[250, 450]


@pytest.mark.odd
@pytest.mark.parametrize(
    "pixels",
    [
        np.full((50, 70, 3), 240, dtype=np.uint8),
        np.zeros((50, 70, 3), dtype=np.uint8),
        np.full((50, 70, 3), 90, dtype=np.uint8) + np.arange(70, dtype=np.uint8)[:, None],
        np.full((1, 1, 3), 200, dtype=np.uint8),
        np.full((60, 60, 3), (20, 60, 190), dtype=np.uint8),
    ],
    ids=["glass", "black", "grey", "one pixel", "ink"],
)
def test_a_picture_without_tissue_has_none(pixels: np.ndarray) -> None:
    assert tissue_mask(pixels) is None


@pytest.mark.odd
def test_grey_pictures_tell_nothing() -> None:
    assert tissue_by_color(np.zeros((40, 40, 1), dtype=np.uint8)) is None


REAL = {
    **{f"her2st/C{n}": 0.98 for n in range(2, 7)},
    **{f"mob2k/MOB{n}": 0.9 for n in range(1, 5)},
    "mob1k_layers/Rep11": 0.96,
    "mob1k_layers/Rep12": 0.96,
    "her2st_b/B4": 0.92,
}
"""Real sections, and the share of the spots under tissue that must be found. A row of spots of some lies at the rim."""


@pytest.mark.slow
@pytest.mark.parametrize("section", REAL)
def test_spots_of_real_sections_lie_on_what_is_found(real_data: Path, section: str) -> None:
    path = real_data / f"{section}.jpg"
    pixels, factor = thumbnails(open_image(path, library_id="s").array, {"small": 800}, name="image")["small"]
    mask = tissue_mask(pixels)
    assert mask is not None
    x, y = (ad.read_h5ad(path.with_suffix(".h5ad")).obsm["spatial"] * factor).astype(int).T
    x, y = np.clip(x, 0, mask.shape[1] - 1), np.clip(y, 0, mask.shape[0] - 1)
    assert mask[y, x].mean() >= REAL[section]
    # nor is all the glass taken for tissue: the spots' own squares cover about as much
    assert mask.mean() < 0.3
