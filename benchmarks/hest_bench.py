"""HEST-Bench on your copy of its data: how well an encoder's features predict 50 genes, by its authors' own protocol.

    python benchmarks/hest_bench.py PATH                                   # ResNet-50, every task in PATH
    python benchmarks/hest_bench.py PATH --task IDC SKCM --encoder color
    python benchmarks/hest_bench.py PATH --task IDC --encoder timm:vit_small_patch16_224.dino
    python benchmarks/hest_bench.py PATH --task IDC --method bleep         # the same features, by the default recipe

PATH is the folder that `MahmoodLab/hest-bench` on Hugging Face downloads to (gated, CC BY-NC-SA 4.0): a folder a task,
with `patches/*.h5` (`img`, `coords`, `barcode`), `adata/*.h5ad`, `splits/train_0.csv`, `splits/test_0.csv`, ... and
`var_50genes.json`.

The protocol is that of `src/hest/bench` (github.com/mahmoodlab/HEST, commit afd42c3; Jaume et al., NeurIPS 2024).
Patches of 224 px at 0.5 µm are embedded by a frozen network. Targets are log1p of the raw counts of the 50 genes: no
size factor. Features are standardised and reduced to 256 components on the training samples of a split. A ridge without
intercept (`solver="lsqr"`, penalty 100 / (components × genes)) is fitted; each gene's Pearson correlation is taken over
the spots of all test samples together, then its mean over genes. A task's figure is the mean over its splits, and ±
their standard deviation; the last row is the mean over tasks. As there, a gene that is constant makes a NaN. `resnet50`
is read as theirs: the means of its third stage, 1,024 values, not the 2,048 of its last. `efficientnet_lite0`, which
they do not have, gives the means of three stages, as in `bl.tl.fit`; all others give their own output. What has fewer
features than 256, as `color` has, keeps all its components.

Samples pooled, a gene that differs between samples raises the score though no pattern within one is predicted. So two
columns stand beside: the mean over test samples of the correlation within each, and the same with the samples' true log
depth regressed out of both sides. Constant genes count as 0 there. These two are ours and compare with nobody's.

To embed by a network of your own: `run(path, tasks, encode)`, where `encode` takes uint8 (n, 224, 224, 3) and returns
features (n, width).
"""

import argparse
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse
from scipy.stats import pearsonr
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import bleep_sc as bl
from bleep_sc import metrics
from bleep_sc._stats import log_depth

Encode = Callable[[np.ndarray], np.ndarray]

SEED = 1
"""Theirs."""
SIDE = 224
"""Pixels of a patch."""
_AT_A_TIME = 64


@dataclass(frozen=True)
class Samples:
    """Some samples of a task, one after the other: (n_spots, ...) each."""

    features: np.ndarray
    targets: np.ndarray
    """Log1p of raw counts (n_spots, n_genes)."""
    depth: np.ndarray
    """Log total counts over all genes."""
    places: np.ndarray
    """Pixels (n_spots, 2)."""
    sample: np.ndarray
    """Name of each spot's sample."""

    def parts(self) -> Iterator[np.ndarray]:
        """Rows of each sample."""
        for name in np.unique(self.sample):
            yield np.flatnonzero(self.sample == name)


def main() -> None:
    arguments = _parse()
    warnings.filterwarnings("ignore", module="anndata")
    encode = named_encoder(arguments.encoder, weights=None if arguments.weights == "none" else arguments.weights)
    scores = run(arguments.path, arguments.task, encode, method=arguments.method, reduced_to=_reduced_to(arguments))
    print(table(scores))
    if arguments.json:
        arguments.json.write_text(scores.to_json(orient="records", indent=1))


def run(
    path: Path, tasks: Sequence[str] | None, encode: Encode, *, method: str = "ridge", reduced_to: int | None = 256
) -> pd.DataFrame:
    """Scores of each task and split: `pearson` as published, `within` samples, and that without `depth`."""
    rows = []
    for task in tasks or sorted(folder.parent.name for folder in path.glob("*/splits")):
        folder = path / task
        genes = json.loads(_existing(folder / "var_50genes.json").read_text())["genes"]
        samples: dict[str, Samples] = {}  # each is embedded once for all splits
        for number, (training, test) in enumerate(_splits(folder)):
            train, held_out = (_joined(folder, names, genes, encode, samples) for names in (training, test))
            predict = _PREDICT[method]
            prediction = predict(train, held_out, genes, reduced_to)
            rows.append({"task": task, "split": number, **score(held_out, prediction)})
    return pd.DataFrame(rows)


def ridge(train: Samples, test: Samples, genes: Sequence[str], reduced_to: int | None) -> np.ndarray:
    """Predict as HEST-Bench does (n_test, n_genes)."""
    features, others = train.features, test.features
    if reduced_to is not None:
        components = min(reduced_to, *features.shape)
        reduce = make_pipeline(StandardScaler(), PCA(n_components=components, random_state=SEED)).fit(features)
        # as float32, which they hand on
        features, others = (reduce.transform(part).astype(np.float32) for part in (features, others))
    alpha = 100 / (features.shape[1] * len(genes))
    model = Ridge(solver="lsqr", alpha=alpha, random_state=SEED, fit_intercept=False, max_iter=1000)
    return np.asarray(model.fit(features, train.targets).predict(others))


def bleep(
    train: Samples, test: Samples, genes: Sequence[str], reduced_to: int | None, *, method: Any = "bleep"
) -> np.ndarray:
    """Predict by a method of the package from the same features (n_test, n_genes); it reduces them by itself."""
    ref, query = _adata(train, genes), _adata(test, genes)
    ref.X = train.targets.astype(np.float32)
    bl.tl.fit(ref, method=method, image_key="X_encoder", library_key="sample", random_state=SEED)
    bl.tl.impute(query, ref)
    return np.asarray(query.layers["bleep"])


_PREDICT = {"ridge": ridge, "bleep": bleep}


def score(test: Samples, prediction: np.ndarray) -> dict[str, float]:
    """Mean over genes of the correlation over all spots together, within samples, and that without depth."""
    # not ours: theirs is NaN where a gene is constant
    pooled = [pearsonr(test.targets[:, gene], prediction[:, gene])[0] for gene in range(prediction.shape[1])]
    within, depth_free = [], []
    for rows in test.parts():
        truth, predicted = test.targets[rows], prediction[rows]
        within.append(np.mean(np.nan_to_num(metrics.pearson(truth, predicted))))
        depth_free.append(np.mean(np.nan_to_num(metrics.partial_pearson(truth, predicted, test.depth[rows]))))
    return {
        "pearson": float(np.mean(pooled)),
        "within": float(np.mean(within)),
        "depth_free": float(np.mean(depth_free)),
    }


def table(scores: pd.DataFrame) -> str:
    """A row a task: mean and standard deviation over its splits, and the mean over tasks."""
    lines = [f"{'task':<12}{'splits':>7}{'Pearson':>18}{'within samples':>16}{'depth-free':>12}"]
    means = []
    for task, rows in scores.groupby("task", sort=False):
        values = rows[["pearson", "within", "depth_free"]].to_numpy()
        means.append(values.mean(axis=0))  # a NaN stays one
        pearson, within, depth_free = means[-1]
        figure = f"{pearson:.4f} ± {values[:, 0].std():.4f}"
        lines.append(f"{task:<12}{len(rows):>7}{figure:>18}{within:>16.4f}{depth_free:>12.4f}")
    pearson, within, depth_free = np.mean(means, axis=0)
    lines.append(f"{'mean':<19}{pearson:>9.4f}{'':>9}{within:>16.4f}{depth_free:>12.4f}")
    return "\n".join(lines)


def named_encoder(name: str, *, weights: str | Path | None) -> Encode:
    """What turns patches into features, by the network's own normalisation; random weights are drawn from one seed."""
    if name == "color":
        return _color
    import torch

    from bleep_sc.models.encoders.frozen import build_frozen, reading_of
    from bleep_sc.models.encoders.registry import encoder_named
    from bleep_sc.models.train.randomness import borrowed_random_state

    # the whole patch, as it is
    reading = replace(reading_of(encoder_named(name), view_px=SIDE), input_px=SIDE, symmetries=1)
    if name == "resnet50":  # read as theirs
        reading = replace(reading, stages=(2,))
    with borrowed_random_state():
        torch.manual_seed(SEED)
        network = build_frozen(name, reading, weights=weights)

    def encode(patches: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            parts = torch.from_numpy(patches).split(_AT_A_TIME)
            return np.concatenate([network(part).numpy() for part in parts])

    return encode


def _color(patches: np.ndarray) -> np.ndarray:
    from bleep_sc.models.encoders.color import color_features

    return color_features(patches, progress_bar=False)


def _splits(folder: Path) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """The tables of the training and the test samples of each split."""
    number = len(list(_existing(folder / "splits").iterdir())) // 2
    for split in range(number):
        yield tuple(pd.read_csv(_existing(folder / "splits" / f"{side}_{split}.csv")) for side in ("train", "test"))


def _joined(
    folder: Path, rows: pd.DataFrame, genes: Sequence[str], encode: Encode, samples: dict[str, Samples]
) -> Samples:
    for row in rows.itertuples():
        if row.sample_id not in samples:
            samples[row.sample_id] = _read(folder, row, genes, encode)
    parts = [samples[name] for name in rows["sample_id"]]
    return Samples(*(np.concatenate([getattr(part, name) for part in parts]) for name in Samples.__annotations__))


def _read(folder: Path, row: tuple, genes: Sequence[str], encode: Encode) -> Samples:
    path = _existing(folder / row.patches_path)
    with h5py.File(path) as file:
        barcodes = file["barcode" if "barcode" in file else "barcodes"].asstr()[:].ravel()
        patches, corners = file["img"][:], file["coords"][:]
    if patches.ndim != 4 or patches.shape[1:] != (SIDE, SIDE, 3) or patches.dtype != np.uint8:
        msg = f"{path}: `img` must be uint8 (n, 224, 224, 3), found {patches.dtype} {patches.shape}."
        raise ValueError(msg)
    adata = ad.read_h5ad(_existing(folder / row.expr_path))
    for what, names, known in (("barcodes", barcodes, adata.obs_names), ("genes", genes, adata.var_names)):
        if absent := sorted(set(names) - set(known)):
            msg = f"{folder / row.expr_path} lacks {len(absent)} {what} of {path.parent.parent}, such as {absent[0]!r}."
            raise ValueError(msg)
    adata = adata[barcodes]
    counts = sparse.csr_matrix(adata[:, list(genes)].X, dtype=np.float64).toarray()
    names = np.full(len(barcodes), row.sample_id, dtype=object)
    return Samples(encode(patches), np.log1p(counts), log_depth(adata.X), corners.astype(np.float64), names)


def _adata(samples: Samples, genes: Sequence[str]) -> AnnData:
    names = [f"{sample}-{number}" for number, sample in enumerate(samples.sample)]
    made = AnnData(obs=pd.DataFrame({"sample": samples.sample}, index=names), var=pd.DataFrame(index=list(genes)))
    made.obsm["X_encoder"], made.obsm["spatial"] = samples.features, samples.places
    return made


def _existing(path: Path) -> Path:
    if not path.exists():
        msg = f"{path} does not exist: PATH must be the folder of HEST-Bench's tasks, `--task` one or more of them."
        raise FileNotFoundError(msg)
    return path


def _reduced_to(arguments: argparse.Namespace) -> int | None:
    return None if arguments.dimreduce == "none" else arguments.latent


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--task", nargs="+", help="names of folders in PATH; all of them by default")
    parser.add_argument("--encoder", default="resnet50", help="'color', or a network as `bl.tl.fit` names it")
    parser.add_argument("--weights", default="imagenet", help="'imagenet', a file, or 'none' for random ones")
    parser.add_argument("--dimreduce", choices=("PCA", "none"), default="PCA")
    parser.add_argument("--latent", type=int, default=256, help="components that are kept")
    parser.add_argument("--method", choices=_PREDICT, default="ridge")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    return parser.parse_args()


if __name__ == "__main__":
    main()
