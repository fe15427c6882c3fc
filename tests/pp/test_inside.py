"""Spots outside the image are counted, and what would bring them inside is named: never a made-up scale."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from anndata import AnnData
from squidpy.im import ImageContainer

import bleep_sc as bl

pytestmark = pytest.mark.filterwarnings("ignore:the scale of the image is unknown:UserWarning")
PIXELS = np.random.default_rng(0).integers(0, 256, size=(120, 150, 3), dtype=np.uint8)


def spots(*xy: tuple[float, float], **uns: Any) -> AnnData:
    adata = AnnData(np.ones((len(xy), 1), dtype=np.float32), obsm={"spatial": np.array(xy, dtype=np.float64)})
    adata.uns = uns
    return adata


FACTORS = {"tissue_hires_scalef": 0.1, "tissue_lowres_scalef": 0.01}
FAR = ((1400, 1100), (300, 200), (30, 20))
MADE_UP = r"If the image was shrunk, pass the factor by which it was: .*scale=\.\.\.\)`; none that is recorded fits"
CASES: dict[str, tuple[tuple[tuple[float, float], ...], dict[str, float], str]] = {
    "a recorded factor": (FAR, FACTORS, r"2 of 3 spots of 'lib'.*150 x 120.*scale 0\.1 \(`tissue_hires_scalef`\)"),
    "none is recorded": (FAR, {}, MADE_UP),
    "one that fits any image": (FAR, {"tissue_hires_scalef": 0.005}, MADE_UP),
    "micrometres of a coarse image": (
        ((300, 270), (20, 30), (80, 100)),
        {"tissue_hires_scalef": 0.4, "microns_per_pixel": 2.5},
        r"All spots fit as micrometres \(2\.5 µm per pixel by .*`adata\.obsm\['spatial'\] = .* / 2\.5`",
    ),
    "below zero": (((1400, 1100), (300, 200), (-5, 3)), {}, r"3 of 3 spots.*No scale would fit"),
    "x and y swapped": (
        ((10, 140), (20, 130), (90, 20)),
        FACTORS,
        r"All spots fit with x and y swapped: `adata\.obsm\['spatial'\] = .*\[:, ::-1\]\.copy\(\)`",
    ),
    "the image of a CytAssist": (
        ((500, 400), (590, 10), (10, 470)),
        {"tissue_hires_scalef": 0.5, "tissue_lowres_scalef": 0.15, "regist_target_img_scalef": 0.25},
        r"scale 0\.25 \(`regist_target_img_scalef`\) would fit: pass `.*ImageContainer\(\.\.\., scale=0\.25\)`",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_would_fit_is_named(case: str, unchanged: Callable[..., None]) -> None:
    xy, factors, message = CASES[case]
    adata = spots(*xy, spatial={"lib": {"scalefactors": factors}})
    unchanged(adata)
    with pytest.raises(ValueError, match=message):
        bl.pp.crops(adata, ImageContainer(PIXELS))


def test_the_picture_tells_which_factor_it_is() -> None:
    """Two factors bring all spots inside; the image has the size of one."""
    factors = {"tissue_hires_scalef": 0.5, "regist_target_img_scalef": 0.25}
    hires = np.zeros((240, 300, 3), dtype=np.uint8)
    adata = spots((160, 10), (10, 10), spatial={"lib": {"scalefactors": factors, "images": {"hires": hires}}})
    with pytest.raises(ValueError, match=r"The scale 0\.25 \(`regist_target_img_scalef`\) would fit"):
        bl.pp.crops(adata, ImageContainer(PIXELS))


@pytest.mark.parametrize("several", [False, True])
def test_a_few_beyond_the_rim_are_left_out_by_the_line_that_is_named(several: bool) -> None:  # noqa: FBT001
    xy = np.random.default_rng(0).uniform(0, [149, 119], size=(60, 2))
    xy[7] = (155, 20)
    adata = spots(*xy)
    how: dict[str, Any] = {"image": ImageContainer(PIXELS)}
    if several:
        adata.obs["section"] = np.where(np.arange(60) < 40, "a", "b")
        how = {"image": dict.fromkeys("ab", how["image"]), "library_key": "section"}
    with pytest.raises(ValueError, match=r"1 of .*beyond the rim of the scan, leave them out") as caught:
        bl.pp.crops(adata, size=8, **how)
    (line,) = re.findall(r"leave them out: `(.*?)`\.", str(caught.value))
    names: dict[str, Any] = {"adata": adata}
    exec(line, names)  # noqa: S102 - as a user would
    assert names["adata"].n_obs == 59
    bl.pp.crops(names["adata"], size=8, **how)


def test_a_picture_as_large_as_its_image_explains_nothing() -> None:
    """Small images have a small picture of their own size: the scale 1 changes nothing."""
    library = {"images": {"hires": PIXELS}, "scalefactors": {"tissue_hires_scalef": 1.0}}
    adata = spots((1400, 1100), (300, 200), (30, 20), spatial={"lib": library})
    with pytest.raises(ValueError, match=MADE_UP):
        bl.pp.crops(adata, ImageContainer(PIXELS))


@pytest.mark.parametrize("diameter", [20.0, 9.0])
def test_pooled_places_beyond_the_border_are_left_out_by_the_line_that_is_named(diameter: float) -> None:
    """A place at the border of its bins may have its centre beyond them, at most half a pitch."""
    factors = {"spot_diameter_fullres": diameter, "microns_per_pixel": 1.0}
    xy = ((10, -9), (30, -9), (10, 50), (40, 60), (160, 70))
    adata = spots(*xy, (90, 90), spatial={"lib": {"scalefactors": factors}})
    message = "None is further out than a spot is wide" if diameter > 9 else "No scale would fit"
    with pytest.raises(ValueError, match=message) as caught:
        bl.pp.crops(adata, ImageContainer(PIXELS))
    if diameter > 9:
        line = re.findall(r"`(adata = [^`]*)`", str(caught.value))[-1]
        names = {"adata": adata}
        exec(line, names)  # noqa: S102
        assert names["adata"].obs_names.tolist() == ["2", "3", "5"]
        bl.pp.crops(names["adata"], ImageContainer(PIXELS), size=16, check="off")
