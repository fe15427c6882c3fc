"""Designs of other packages beside ours: time and memory on the same work.

    pip install lazyslide expression-copilot "bleep-sc[openslide]"
    python benchmarks/speed_peers.py --json speed-peers.json

- Tiles of a slide through a network: `pp.crops` and `tl.encode`; LazySlide; and TRIDENT's design, which PyPI does not
  have: a data loader that opens the slide with OpenSlide, reads a tile for each item and transforms it. The features
  must be the same.
- Ready features to the 50 genes of a HEST-Bench task: `tl.fit` and `tl.impute`; and HEST-Bench's own probe.
- Ready features to the mean of their nearest spots' profiles: `method="knn"`; expression-copilot's exact neighbours;
  and scikit-learn's regressor. The predictions must be the same.

A package that is not installed is left out. Memory is what the process grew by at most during one run, results
included: all crops of the first part, unless they are lazy.
"""

import tempfile
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import hest_bench
import numpy as np
import speed_crops
import torch
from _timing import Row, arguments_of, peak_growth, ratio, report, take_turns
from anndata import AnnData
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import bleep_sc as bl
from bleep_sc.models.encoders.networks import build_network

SIDE, BATCH, K = 224, 32, 50
Designs = dict[str, Callable[[], np.ndarray]]
"""Functions that do the same work, by what the tables call them."""


class Network(nn.Module):
    """Reads float images (n, 3, y, x) with RGB in 0..1."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.inner = build_network(name, image_size=SIDE).eval()

    def forward(self, images: Tensor) -> Tensor:  # noqa: D102
        return self.inner(255 * images.permute(0, 2, 3, 1))


def mean_color(images: Tensor) -> Tensor:
    """Take no time: what is left is reading."""
    return images.mean((2, 3))


class Tiles(Dataset):
    """A tile for each item, as TRIDENT reads them; each worker opens the slide by itself."""

    def __init__(self, path: Path, corners: np.ndarray) -> None:
        self._path, self._corners, self._slide = path, corners.tolist(), None

    def __len__(self) -> int:
        return len(self._corners)

    def __getitem__(self, number: int) -> Tensor:
        from openslide import OpenSlide

        self._slide = self._slide or OpenSlide(self._path)
        return to_tensor(np.asarray(self._slide.read_region(self._corners[number], 0, (SIDE, SIDE)).convert("RGB")))


def to_tensor(tile: np.ndarray) -> Tensor:
    """Turn a tile into a float image with RGB in 0..1."""
    return torch.from_numpy(np.ascontiguousarray(tile)).permute(2, 0, 1).float() / 255


def main() -> None:
    arguments = arguments_of(
        __doc__, tiles=256, side=8192, spots=1200, features=1024, references=20_000, queries=5000, rounds=3
    )
    bl.settings.progress_bar, bl.settings.verbosity = False, "error"
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "slide.tif"
        speed_crops.write_slide(path, arguments.side, "jpeg")
        adata = speed_crops.spots(arguments.tiles, arguments.side, SIDE)
        for name, network in {"no network": mean_color, "resnet18": Network("resnet18")}.items():
            what = f"`pp.crops` and `tl.encode` of {adata.n_obs} tiles of {SIDE} px, {name}"
            rows += compared(what, tile_designs(path, adata, network), arguments.rounds, same=1e-3)
    samples = painted_samples(arguments.spots, arguments.features)
    for method, rounds in (("ridge", arguments.rounds), ("bleep", 1)):
        what = f'`tl.fit(method="{method}")` and `tl.impute`, {arguments.spots} spots of {arguments.features} features'
        rows += compared(what, probe_designs(*samples, method), rounds)
    sizes = f"{arguments.queries} spots from {arguments.references} of {arguments.features} features"
    designs = neighbour_designs(arguments.references, arguments.queries, arguments.features)
    rows += compared(f'`tl.fit(method="knn")` and `tl.impute(k={K})`, {sizes}', designs, arguments.rounds, same=1e-2)
    report(rows, arguments.json)


def compared(what: str, designs: Designs, rounds: int, *, same: float | None = None) -> Iterator[Row]:
    """Time designs side by side, the first of which is ours; their results may be required to agree so closely."""
    first, *others = designs
    if same is not None:
        ours = designs[first]()
        for name in others:
            np.testing.assert_allclose(designs[name](), ours, rtol=same, atol=same, err_msg=name)
    seconds = take_turns(rounds, **designs)
    memory = {name: peak_growth(function) for name, function in designs.items()}
    cost = {name: f"{np.median(seconds[name]):.2f} s and {memory[name]:.0f} MB" for name in designs}
    for name in others:
        detail = f"{cost[first]}, beside {cost[name]}"
        yield Row(what, name, ratio(seconds, first, name), "for comparison", detail)


def tile_designs(path: Path, adata: AnnData, network: Callable[[Tensor], Tensor]) -> Designs:
    """Tiles of a slide to features (n, d)."""
    corners = np.rint(adata.obsm["spatial"]).astype(int) - SIDE // 2

    def ours(*, lazy: bool = False) -> np.ndarray:
        spots = adata.copy()
        bl.pp.crops(spots, path, size=SIDE, mpp=0.5, lazy=lazy)
        bl.tl.encode(spots, encoder=network, batch_size=BATCH, key_added="X_features")
        return spots.obsm["X_features"]

    def trident() -> np.ndarray:
        loader = DataLoader(Tiles(path, corners), batch_size=BATCH)
        with torch.inference_mode():
            return np.concatenate([network(images).numpy() for images in loader])

    designs: Designs = {"ours": ours, "the same with lazy crops": lambda: ours(lazy=True)}
    if find_spec("lazyslide"):
        designs[f"LazySlide {version('lazyslide')}"] = lazyslide_design(path, corners, network)
    return designs | {"TRIDENT's loop, restated": trident}


def lazyslide_design(path: Path, corners: np.ndarray, network: Callable[[Tensor], Tensor]) -> Callable[[], np.ndarray]:
    """Tiles at given places, by LazySlide's own loop."""
    import lazyslide
    from wsidata import TileSpec, open_wsi
    from wsidata.io import add_tiles

    def lazy_slide() -> np.ndarray:
        wsi = open_wsi(path, store=None)
        add_tiles(wsi, "tiles", corners, TileSpec.from_wsidata(wsi, tile_px=SIDE), 0)
        given: dict[str, Any] = {"model_name": "features", "transform": to_tensor, "batch_size": BATCH, "pbar": False}
        return np.asarray(
            lazyslide.tl.feature_extraction(wsi, model=network, device="cpu", return_features=True, **given)
        )

    return lazy_slide


def painted_samples(n: int, n_features: int, n_genes: int = 50) -> tuple[hest_bench.Samples, hest_bench.Samples]:
    """Make four samples to learn from and a fifth to predict, whose features tell a part of their expression."""
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(n + n // 4, 32))
    features = latent @ rng.normal(size=(32, n_features)) + 4 * rng.normal(size=(len(latent), n_features))
    rates = np.exp(0.5 * (latent @ rng.normal(size=(32, n_genes)) / np.sqrt(32)) + 1)
    targets = np.log1p(rng.poisson(rates))
    sample = np.repeat(["a", "b", "c", "d", "e"], n // 4)
    places = rng.uniform(0, 10_000, size=(len(latent), 2))

    def part(rows: np.ndarray) -> hest_bench.Samples:
        depth = np.log(np.expm1(targets[rows]).sum(1) + 1)
        return hest_bench.Samples(features[rows].astype(np.float32), targets[rows], depth, places[rows], sample[rows])

    return part(sample != "e"), part(sample == "e")


def probe_designs(train: hest_bench.Samples, test: hest_bench.Samples, method: str) -> Designs:
    """Features to expression (n_test, n_genes)."""
    genes = [f"gene{i}" for i in range(train.targets.shape[1])]
    return {
        "ours": lambda: hest_bench.bleep(train, test, genes, None, method=method),
        "HEST-Bench's PCA-256 and ridge": lambda: hest_bench.ridge(train, test, genes, 256),
    }


def neighbour_designs(n: int, n_queries: int, n_features: int, n_genes: int = 500) -> Designs:
    """Features to the mean profile of the nearest spots (n_queries, n_genes), by cosine."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(n + n_queries, n_features)).astype(np.float32)
    features -= features[:n].mean(0)  # as "knn" does by itself
    features /= features[:n].std(0)
    keys, queries, expression = features[:n], features[n:], rng.exponential(size=(n, n_genes)).astype(np.float32)

    def ours() -> np.ndarray:
        ref = AnnData(expression, obsm={"X_features": keys})
        query = AnnData(var=ref.var, obsm={"X_features": queries})
        bl.tl.fit(ref, method="knn", image_key="X_features")
        bl.tl.impute(query, ref, k=K)
        return np.asarray(query.layers["bleep"])

    def scikit_learn() -> np.ndarray:
        from sklearn.neighbors import KNeighborsRegressor

        return KNeighborsRegressor(K, metric="cosine", algorithm="brute").fit(keys, expression).predict(queries)

    designs: Designs = {"ours": ours}
    if find_spec("expression_copilot"):
        from expression_copilot.utils import knn

        name = f"expression-copilot {version('expression-copilot')}, exact neighbours"
        designs[name] = lambda: expression[knn(queries, keys, k=K)[0]].mean(axis=1)
    return designs | {"scikit-learn's KNeighborsRegressor": scikit_learn}


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # random tissue: no scale, nothing to learn
    main()
