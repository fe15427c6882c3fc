"""How well the reliability of a spot, and the verdict of a slide, tell what is unlike the reference.

    python benchmarks/trust_reliability.py --json trust-reliability.json
    python benchmarks/trust_reliability.py --preset best --seeds 0 --json trust-reliability-best.json

Crops are three spot diameters wide. With the default recipe they have 112 px, and the features are those made by hand;
with `--preset best` they have 224 px, and EfficientNet-Lite0 reads their centres beside. HER2ST: the model knows C2 to
C5 and artefacts are planted in 60 spots of C6. Mouse olfactory bulb: the model knows MOB1, MOB2 and MOB4, and they are
planted in MOB3. The AUROC says how well p tells the planted spots from the clean ones of the section. Beside it stands
the verdict on the slide where all of it is spoilt so. Then the verdicts on clean slides: sections held out in turn, of
other animals, patients, arrays and tissue, and painted ones; and the time for 1,000 spots beyond their features. It
works on the features, by the functions that `fit` and `impute` call. Some six minutes on one core, and for `best` a
quarter of an hour.
"""

import argparse
import io
import json
import shlex
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from _sections import HER2ST, commit, data_folder
from anndata import AnnData
from compare import load
from PIL import Image
from scipy.ndimage import gaussian_filter
from trust_intervals import ENCODERS, PIXELS

import bleep_sc as bl
from bleep_sc.models.encoders.color import feature_names
from bleep_sc.models.search.novelty import Novelty
from bleep_sc.tl._trust.reliability import LIKE, OTHER, UNLIKE, judge

Image.MAX_IMAGE_PIXELS = None
MOB = ("MOB1", "MOB2", "MOB3", "MOB4")
LAYERS = ("Rep11", "Rep12")
N_PLANTED = 60
Known = list[Novelty]
"""What is known of the reference's looks, to each encoder."""
Features = list[np.ndarray]
"""The features of spots by each encoder (n, n_features)."""
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


def background(data: str, section: str, xy: np.ndarray, diameter: float, *, side: int) -> np.ndarray:
    """Crops of the section's own image that lie off the tissue, the brightest and evenest of many."""
    image = Image.open(data_folder() / data / f"{section}.jpg").convert("RGB")
    wide = round(3 * diameter)
    rng = np.random.default_rng(0)
    corners = rng.integers(0, [image.width - wide, image.height - wide], size=(4000, 2))
    apart = np.linalg.norm((corners + wide / 2)[:, None] - xy[None], axis=2).min(axis=1)
    found = []
    for x, y in corners[apart > 2.5 * diameter][:400]:
        crop = image.crop((x, y, x + wide, y + wide)).resize((side, side), Image.Resampling.BOX)
        found.append(np.asarray(crop))
    crops = np.stack(found)
    darkness = 255 - crops.mean(axis=(1, 2, 3)) + crops.std(axis=(1, 2, 3))
    return crops[np.argsort(darkness)[:N_PLANTED]]


def changes(adata: AnnData, data: str, section: str, other: np.ndarray) -> dict[str, Change]:
    """The artefacts to plant in a section; `other` are crops of other tissue."""
    diameter = adata.uns["spatial"][section]["scalefactors"]["spot_diameter_fullres"]
    empty = background(data, section, adata.obsm["spatial"], diameter, side=adata.obsm["crops"].shape[1])
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


def described(adata: AnnData, preset: str) -> Features:
    """Features of the crops of a section."""
    encoders = ENCODERS[preset] if isinstance(ENCODERS[preset], list) else [ENCODERS[preset]]
    found = []
    for encoder in encoders:
        bl.tl.encode(adata, encoder=encoder, key_added="X_seen")
        found.append(np.asarray(adata.obsm.pop("X_seen")))
        del adata.uns["X_seen"]
    return found


def learned(features: Features, groups: np.ndarray, sections: np.ndarray) -> Known:
    """What `fit` keeps of the looks of a reference: features made by hand have names, those of networks are many."""
    return [
        Novelty.of_reference(
            own,
            groups=groups,
            sections=sections,
            names=() if number else feature_names(),
            on_components=number > 0,
        )
        for number, own in enumerate(features)
    ]


class Tissue:
    """Sections with their crops and image features."""

    def __init__(self, preset: str) -> None:
        self.preset = preset
        self.sections: dict[str, AnnData] = {}
        self.features: dict[str, Features] = {}
        self.packs: dict[str, str] = {}
        for pack in ("her2st", "her2st_b", "mob2k", "mob1k_layers"):
            whole = load(pack, size=16, pixels=PIXELS[preset], keep_crops=True)
            for name in dict.fromkeys(whole.obs["section"]):
                self.sections[name] = whole[(whole.obs["section"] == name).to_numpy()].copy()
                self.features[name] = described(self.sections[name], preset)
                self.packs[name] = pack

    def known(self, names: Sequence[str], groups: Mapping[str, str] | None = None) -> Known:
        """What `fit` keeps of these sections: each held out in turn, or each of the `groups` that they are of."""
        sections = np.concatenate([np.full(len(self.features[name][0]), name) for name in names])
        features = [np.concatenate(parts) for parts in zip(*(self.features[name] for name in names), strict=True)]
        return learned(
            features, sections if groups is None else np.array([groups[name] for name in sections]), sections
        )


def planted(tissue: Tissue, section: str, known: Known, other: str, label: str) -> list[dict[str, Any]]:
    """AUROC of each artefact, over three choices of the spots, and the verdict where the whole slide has it."""
    adata, clean, rows = tissue.sections[section], tissue.features[section], []
    print(
        f"{label}\n{'artefact':<16}{'AUROC':>7}{'p <= .05':>10}{'distance':>10}{'moved':>7}  verdict of a whole slide"
    )
    for name, change in changes(adata, tissue.packs[section], section, tissue.sections[other].obsm["crops"]).items():
        changed = adata.copy()
        changed.obsm["crops"] = change(adata.obsm["crops"])
        spoilt, found = described(changed, tissue.preset), []
        for seed in range(3):
            is_planted = np.zeros(adata.n_obs, dtype=bool)
            is_planted[np.random.default_rng(seed).permutation(adata.n_obs)[:N_PLANTED]] = True
            mixed = [np.where(is_planted[:, None], bad, own) for bad, own in zip(spoilt, clean, strict=True)]
            found.append(auroc(judge(known, mixed, None, where="").p_values, is_planted))
        rows.append({"artefact": name, "section": section, "auroc": float(np.mean(found)), **verdict(known, spoilt)})
        show(name, rows[-1])
    return rows


def verdict(known: Known, features: Features) -> dict[str, Any]:
    """The row of `uns["bleep"]["reliability"]` for a section."""
    return judge(known, features, None, where="").sections.iloc[0].drop("section").to_dict()


def show(name: str, row: Mapping[str, Any]) -> None:
    cells = f"{row['auroc']:>7.3f}" if "auroc" in row else ""
    cells += f"{row['share_unlike']:>10.3f}{row['distance']:>10.2f}{row['share_moved']:>7.3f}"
    print(f"{name:<16}{cells}  {row['verdict']}; {row['moved']}", flush=True)


def slides(tissue: Tissue) -> list[dict[str, Any]]:
    """The verdicts on clean slides: held out in turn, of other animals, patients and arrays, and of other tissue."""
    animals = {"MOB1": "1", "MOB2": "1", "MOB3": "2", "MOB4": "2"}
    asked: list[tuple[str, list[str], str, Mapping[str, str] | None]] = [
        *(("held out", [name for name in HER2ST if name != left], left, None) for left in HER2ST),
        *(("held out", [name for name in MOB if name != left], left, None) for left in MOB),
        *(("other animal", [n for n in MOB if animals[n] != animals[left]], left, None) for left in MOB),
        ("other patient", list(HER2ST), "B4", None),
        *(("other array", list(MOB), name, None) for name in LAYERS),
        *(("other array", list(MOB), name, animals) for name in LAYERS),
        *(("other array", list(LAYERS), name, None) for name in MOB),
        *(("other tissue", list(HER2ST), name, None) for name in (*MOB, *LAYERS)),
        *(("other tissue", list(MOB), name, None) for name in ("C6", "B4")),
        *(("other tissue", list(LAYERS), name, None) for name in ("C6", "B4")),
    ]
    rows = []
    print(f"\n{'slide':<44}{'p <= .05':>10}{'distance':>10}{'moved':>7}")
    for kind, names, name, groups in asked:
        row = {"kind": kind, "known": names, "section": name, "by_patient": groups is not None}
        rows.append({**row, **verdict(tissue.known(names, groups), tissue.features[name])})
        by = " by animal" if groups else ""
        show(f"{f'{names[0]}-{names[-1]}{by} -> {name}, {kind}':<44}", rows[-1])
    shares = [row["share_unlike"] for row in rows if row["kind"] == "held out"]
    print(f"held out: {min(shares):.3f} to {max(shares):.3f}, mean {np.mean(shares):.3f}")
    return rows


def painted_patients(seeds: Sequence[int], preset: str) -> list[dict[str, Any]]:
    """The verdicts on painted tissue of another patient, of a reference of one patient and of two."""
    rows = []
    for seed in seeds:
        toy: Any = bl.datasets.toy(random_state=seed, n_genes=6, progress_bar=False)
        features = described(toy, preset)
        patients, sections = (toy.obs[column].astype(str).to_numpy() for column in ("patient", "section"))
        for n_known in (1, 2):
            for known in combinations(sorted(set(patients)), n_known):
                is_known = np.isin(patients, known)
                groups = (sections if n_known == 1 else patients)[is_known]
                novelties = learned([own[is_known] for own in features], groups, sections[is_known])
                for section in np.unique(sections[~is_known]):
                    row = verdict(novelties, [own[sections == section] for own in features])
                    rows.append({"seed": seed, "n_patients": n_known, "section": str(section), **row})
    for n_known in (1, 2):
        of_kind = [row for row in rows if row["n_patients"] == n_known]
        verdicts = {each: sum(row["verdict"] == each for row in of_kind) for each in (LIKE, OTHER, UNLIKE)}
        largest = {what: max(row[what] for row in of_kind) for what in ("distance", "share_moved")}
        print(f"painted, {n_known} patient(s) known: {verdicts}, at most {largest}", flush=True)
    return rows


def seconds(tissue: Tissue) -> dict[str, float]:
    """The time for 1,000 spots beyond their features, and what `fit` takes for it."""
    features, known = tissue.features["C6"], tissue.known(HER2ST)
    query, times = [np.resize(own, (1000, own.shape[1])) for own in features], []
    for _ in range(20):
        start = time.perf_counter()
        judge(known, query, None, where="")
        times.append(time.perf_counter() - start)
    out = {"query_1000_spots": float(np.median(times))}
    many = [np.concatenate(parts * 60) for parts in zip(*(tissue.features[name] for name in MOB), strict=True)]
    n = len(many[0])
    for label, rows in (("fit_mob2k", n // 60), (f"fit_{n}_spots", n)):
        groups = np.arange(rows) * 10 // rows
        start = time.perf_counter()
        learned([own[:rows] for own in many], groups, groups)
        out[label] = time.perf_counter() - start
    print("seconds:", {name: round(value, 4) for name, value in out.items()})
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)), help="of the painted tissues")
    parser.add_argument("--preset", choices=ENCODERS, default="default")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", module="squidpy|docrep|anndata|scanpy")
    warnings.filterwarnings("ignore", message=".*DecompressionBomb|Image size")
    bl.settings.progress_bar, bl.settings.verbosity = False, "error"
    print(f"commit {commit()}")
    tissue = Tissue(arguments.preset)
    artefacts = planted(tissue, "C6", tissue.known(HER2ST[:4]), "MOB1", "\nC6, known C2 to C5")
    others = [name for name in MOB if name != "MOB3"]
    artefacts += planted(tissue, "MOB3", tissue.known(others), "C6", "\nMOB3, known MOB1, MOB2 and MOB4")
    found = {
        "command": shlex.join(["python", "benchmarks/trust_reliability.py", *sys.argv[1:]]),
        "commit": commit(),
        "artefacts": artefacts,
        "slides": slides(tissue),
        "painted": painted_patients(arguments.seeds, arguments.preset),
        "seconds": seconds(tissue),
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
