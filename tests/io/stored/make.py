"""Write models as this version of bleep_sc writes them, for later ones to read: `python tests/io/stored/make.py v3`.

Run it once for a new format version, on a clean checkout, and commit what it writes. A folder that is there is never
made again: it says what was promised.
"""

import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

import bleep_sc as bl
from bleep_sc.models.encoders.registry import ENCODERS, encoder_named

MODELS: dict[str, dict[str, Any]] = {
    "published": {"preset": "paper", "accumulate": 1, "batch_size": 16, "dim": 8, "max_epochs": 3},
    "hybrid": {"members": 2, "dim": 4, "hidden": 8, "n_components": 3, "context": 4, "max_epochs": 3},
    "regressor": {"method": "regressor", "hidden": 4, "lr": 0.01, "batch_size": 16, "max_epochs": 5},
}
NETWORK = "timm:test_efficientnet"
ADDED: dict[str, dict[str, Any]] = {
    "ridge": {"method": "ridge"},
    "fused": {**MODELS["hybrid"], "encoder": ["color", NETWORK], "weights": None, "members": 1, "context": 0},
}
"""Those that are written from version 3 on; with an encoder they read crops."""
CALIBRATED = ("hybrid", "fused")


def load(folder: Path) -> tuple[AnnData, AnnData]:
    """The reference and the query that all models of a version are tried on, from plain arrays."""
    with np.load(folder / "data.npz") as arrays:
        data = dict(arrays)
    sides = []
    for side in ("ref", "query"):
        sections = data[f"{side}_section"]
        counts = data.get(f"{side}_counts")
        sides.append(
            AnnData(
                data.get(f"{side}_x"),
                obs=pd.DataFrame({"section": sections}, index=[f"{side}{i}" for i in range(len(sections))]),
                var=pd.DataFrame(index=data["genes"]),
                obsm={
                    "features": data[f"{side}_features"],
                    "spatial": data[f"{side}_spatial"],
                    "crops": _crops(data[f"{side}_features"]),
                },
                layers={} if counts is None else {"counts": counts},
                uns={"crops": dict.fromkeys(np.unique(sections), _SCALE)},
            )
        )
    return sides[0], sides[1]


_SCALE = {"size": 8, "size_um": 100.0, "spot_diameters": 1.0, "um_per_px": 12.5, "library_key": "section"}


def _crops(features: np.ndarray) -> np.ndarray:
    """Draw crops (n, 8, 8, 3) that tell the first features: colours, and a bright edge. No file need hold them."""
    crops = np.repeat(128 + 40 * features[:, None, :3], 64, axis=1).reshape(-1, 8, 8, 3)
    crops[:, :, :2] += 30 * features[:, None, None, 3:4]
    return crops.round().clip(0, 255).astype(np.uint8)


def predict(ref: AnnData, query: AnnData, key: str) -> np.ndarray:
    bl.tl.impute(query, ref, key=key, k=None if key in CALIBRATED else 5)
    return query.layers[key]


def upper_bounds(ref: AnnData, query: AnnData, key: str) -> np.ndarray:
    """Upper bounds of the query's values, by the calibration that came with the model."""
    bounds = bl.tl.intervals(query, ref, key=key)
    assert bounds is not None
    return bounds[1].to_numpy()


def write_data(folder: Path) -> None:
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(6, 8))
    data: dict[str, np.ndarray] = {"genes": np.array([f"g{i}" for i in range(8)])}
    for side, n, names in (("ref", 64, ("s1", "s2")), ("query", 32, ("q",))):
        features = rng.normal(size=(n, 6)).astype(np.float32)
        noise = 0.1 * rng.normal(size=(n, 8))
        counts = rng.poisson(20 * np.exp(0.3 * (features @ weights + noise))).astype(np.float32)
        data[f"{side}_features"], data[f"{side}_counts"] = features, counts
        data[f"{side}_x"] = np.log1p(1e4 * counts / counts.sum(axis=1, keepdims=True)).astype(np.float32)
        data[f"{side}_spatial"] = rng.uniform(0, 100, size=(n, 2))
        data[f"{side}_section"] = np.repeat(names, n // len(names))
    np.savez_compressed(folder / "data.npz", **data)


def main(folder: Path) -> None:
    folder.mkdir()
    write_data(folder)
    ref, query = load(folder)
    # files in the repository stay small: of this network only the first stage is kept, and it reads small pictures
    small = replace(encoder_named(NETWORK), stages=(0,), input_px=8, symmetries=1)
    ENCODERS[NETWORK] = small  # type: ignore[index]
    for name, arguments in (MODELS | ADDED).items():
        key = "crops" if "encoder" in arguments else "features"
        bl.tl.fit(ref, image_key=key, library_key="section", key_added=name, **arguments)
        if name in CALIBRATED:
            bl.tl.calibrate(ref, key=name)
        bl.io.write_model(ref, folder / name, key=name)
        np.save(folder / name / "expected.npy", predict(ref, query, name))
        if name in CALIBRATED:
            np.save(folder / name / "upper.npy", upper_bounds(ref, query, name))


if __name__ == "__main__":
    bl.settings.progress_bar, bl.settings.device = False, "cpu"
    warnings.simplefilter("ignore")
    main(Path(__file__).parent / sys.argv[1])
