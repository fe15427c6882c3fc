"""How well the reliability of a spot, and the verdict of a slide, tell what is unlike the reference.

    python benchmarks/trust_reliability.py --json trust-reliability.json

Crops are three spot diameters wide, at 112 px, and the features are those made by hand. HER2ST: the model knows C2 to
C5 and artefacts are planted in 60 spots of C6. Mouse olfactory bulb: the model knows MOB1, MOB2 and MOB4, and they are
planted in MOB3. The AUROC says how well p tells the planted spots from the clean ones of the section. Then the share of
spots at p <= .05 in each clean section, left out in turn; the verdicts of whole slides, clean, corrupted and of others;
and the time that a model needs for 1,000 spots beyond their features. About five minutes on one core.
"""

import argparse
import io
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _sections import commit, data_folder
from anndata import AnnData
from compare import load
from PIL import Image
from scipy.ndimage import gaussian_filter

import bleep_sc as bl
from bleep_sc.io._novelty import novelty_from_uns
from bleep_sc.models.encoders.color import color_features

Image.MAX_IMAGE_PIXELS = None
N_PLANTED = 60
SIDE = 112
COLOUR = "X_color_raw"
Change = Callable[[np.ndarray], np.ndarray]
"""Function that spoils crops, uint8 (n, y, x, 3)."""


def painted(value: int) -> Change:
    return lambda crops: np.full_like(crops, value)


def pen(crops: np.ndarray) -> np.ndarray:
    """Blue ink over a third of the width."""
    out = crops.astype(float)
    third = crops.shape[2] // 3
    out[:, :, third : 2 * third] = 0.15 * out[:, :, third : 2 * third] + 0.85 * np.array([30, 60, 150])
    return _as_bytes(out)


def denser(factor: float) -> Change:
    """Optical density times a factor, as where tissue lies double."""
    return lambda crops: _as_bytes(255 * (np.maximum(crops, 1) / 255) ** factor)


def blurred(sigma: float) -> Change:
    return lambda crops: _as_bytes(gaussian_filter(crops.astype(float), (0, sigma, sigma, 0)))


def jpeg(quality: int) -> Change:
    def change(crop: np.ndarray) -> np.ndarray:
        file = io.BytesIO()
        Image.fromarray(crop).save(file, "JPEG", quality=quality)
        return np.asarray(Image.open(file))

    return lambda crops: np.stack([change(crop) for crop in crops])


def hue(degrees: float) -> Change:
    from skimage.color import hsv2rgb, rgb2hsv

    def change(crops: np.ndarray) -> np.ndarray:
        hsv = rgb2hsv(crops)
        hsv[..., 0] = (hsv[..., 0] + degrees / 360) % 1
        return _as_bytes(255 * hsv2rgb(hsv))

    return change


def stained(haematoxylin: float, eosin: float) -> Change:
    from skimage.color import hed2rgb, rgb2hed

    return lambda crops: _as_bytes(255 * hed2rgb(rgb2hed(crops) * [haematoxylin, eosin, 1]))


def zoomed(crops: np.ndarray) -> np.ndarray:
    """The centre half, twice as large."""
    n, quarter = crops.shape[1], crops.shape[1] // 4
    centre = crops[:, quarter : n - quarter, quarter : n - quarter]
    return np.stack([np.asarray(Image.fromarray(crop).resize((n, n), Image.Resampling.BICUBIC)) for crop in centre])


def _as_bytes(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def background(data: str, section: str, xy: np.ndarray, diameter: float) -> np.ndarray:
    """Crops of the section's own image that lie off the tissue, the brightest and evenest of many."""
    image = Image.open(data_folder() / data / f"{section}.jpg").convert("RGB")
    wide = round(3 * diameter)
    rng = np.random.default_rng(0)
    corners = rng.integers(0, [image.width - wide, image.height - wide], size=(4000, 2))
    apart = np.linalg.norm((corners + wide / 2)[:, None] - xy[None], axis=2).min(axis=1)
    found = []
    for x, y in corners[apart > 2.5 * diameter][:400]:
        crop = image.crop((x, y, x + wide, y + wide)).resize((SIDE, SIDE), Image.Resampling.BOX)
        found.append(np.asarray(crop))
    crops = np.stack(found)
    darkness = 255 - crops.mean(axis=(1, 2, 3)) + crops.std(axis=(1, 2, 3))
    return crops[np.argsort(darkness)[:N_PLANTED]]


def changes(adata: AnnData, data: str, section: str, other: np.ndarray) -> dict[str, Change]:
    """The artefacts to plant in a section; `other` are crops of other tissue."""
    diameter = adata.uns["spatial"][section]["scalefactors"]["spot_diameter_fullres"]
    empty = background(data, section, adata.obsm["spatial"], diameter)
    return {
        "white": painted(250),
        "black": painted(8),
        "background": lambda crops: np.resize(empty, crops.shape),
        "pen": pen,
        "fold": denser(2.2),
        "blur 2": blurred(2),
        "blur 5": blurred(5),
        "JPEG 10": jpeg(10),
        "hue 30°": hue(30),
        "dark stain": stained(1.5, 0.7),
        "pale stain": stained(0.6, 0.6),
        "zoom": zoomed,
        "other tissue": lambda crops: np.resize(other, crops.shape),
    }


def auroc(p: np.ndarray, planted: np.ndarray) -> float:
    """Chance that a planted spot has a lower p than a clean one; ties count half."""
    from scipy.stats import rankdata

    ranks, n = rankdata(-p), int(planted.sum())
    return float((ranks[planted].sum() - n * (n + 1) / 2) / (n * (len(p) - n)))


class Tissue:
    """Sections with crops, and models of some of them."""

    def __init__(self, *packs: str) -> None:
        self.parts: dict[str, tuple[str, AnnData]] = {}
        for pack in packs:
            whole = load(pack, size=16, keep_crops=True)
            for section in dict.fromkeys(whole.obs["section"]):
                self.parts[section] = (pack, whole[(whole.obs["section"] == section).to_numpy()].copy())

    def __getitem__(self, section: str) -> AnnData:
        return self.parts[section][1]

    def fitted(self, sections: list[str]) -> AnnData:
        """A reference: the model that is quickest to train, since all of one encoder keep the same."""
        import anndata as ad
        import scanpy as sc

        ref = ad.concat({name: self[name] for name in sections}, uns_merge="unique", index_unique="_")
        sc.pp.normalize_total(ref, target_sum=1e4)
        sc.pp.log1p(ref)
        bl.tl.fit(ref, method="mean") if False else bl.tl.fit(ref, method="ridge", alpha=100.0)
        return ref


def spots_and_slide(ref: AnnData, query: AnnData, crops: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    """The p of each spot, and the verdict of the slide, as `impute` gives them."""
    seen = AnnData(obs=query.obs[[]], var=ref.var[[]], obsm={"crops": crops, "spatial": query.obsm["spatial"]})
    seen.uns["crops"] = query.uns["crops"]
    with warnings.catch_warnings(action="ignore"):
        bl.tl.impute(seen, ref)
    return seen.obs["bleep_reliability"].to_numpy(), seen.uns["bleep"]["reliability"].iloc[0].to_dict()
