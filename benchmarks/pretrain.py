"""Whether self-supervised features of the user's own tiles add to those made by hand.

    python benchmarks/pretrain.py her2st

A small network learns from the tiles of all sections, without any expression, that two views of a tile (turned,
cropped, stained a little stronger or weaker) are one and that tiles differ (VICReg; Bardes et al., ICLR 2022). Its
features are put beside the hand-made ones, and the default recipe is cross-validated on both, and on its features
alone. Folds, genes and scores are those of `compare.py`. That the network sees the tiles of the held-out section
favours it.
"""

import argparse
import sys
import time
import warnings

import numpy as np
import torch
from compare import METRICS, PATIENT_KEYS, WIDE, load, table
from torch import Tensor, nn
from torch.nn import functional

import bleep_sc as bl

_VIEW = 56
_MEAN, _SPREAD = 0.7, 0.2


class SmallNetwork(nn.Module):
    """Four convolutions on both scales of a tile, and an expander that only the training uses."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        n_in = 6
        for number in range(4):
            n_out = width * 2**number
            stride = 2 if number else 1
            layers += [
                nn.Conv2d(n_in, n_out, 3, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(n_out),
                nn.ReLU(),
            ]
            layers += [] if number else [nn.MaxPool2d(2)]
            n_in = n_out
        self.trunk = nn.Sequential(*layers)
        self.expander = nn.Sequential(nn.Linear(n_in, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, 512))

    def features(self, tiles: Tensor) -> Tensor:
        """What is kept of a tile (n, 256)."""
        return self.trunk((tiles - _MEAN) / _SPREAD).mean((2, 3))

    def forward(self, tiles: Tensor) -> Tensor:
        """What the loss compares (n, 512)."""
        return self.expander(self.features(tiles))


def two_scales(crops: np.ndarray) -> Tensor:
    """The whole crop and its centre half, each at 56 pixels (n, 6, 56, 56)."""
    images = torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255
    size = images.shape[-1]
    centre = images[:, :, size // 4 : size - size // 4, size // 4 : size - size // 4]
    return torch.cat([functional.interpolate(part, (_VIEW, _VIEW), mode="area") for part in (images, centre)], 1)


def view(tiles: Tensor, generator: torch.Generator) -> Tensor:
    """Turn, crop and stain again, each tile by itself but for the turn."""
    n = len(tiles)
    tiles = torch.rot90(tiles, int(torch.randint(4, (1,), generator=generator)), (2, 3))
    scale = 0.7 + 0.3 * torch.rand(n, generator=generator)
    affine = torch.zeros(n, 2, 3)
    affine[:, 0, 0] = affine[:, 1, 1] = scale
    affine[:, :, 2] = (2 * torch.rand(n, 2, generator=generator) - 1) * (1 - scale)[:, None]
    affine[torch.rand(n, generator=generator) < 0.5, 0, 0] *= -1
    grid = functional.affine_grid(affine, list(tiles.shape), align_corners=False)
    tiles = functional.grid_sample(tiles, grid, padding_mode="reflection", align_corners=False)
    strength = 1 + 0.25 * (2 * torch.rand(n, 1, 1, 1, generator=generator) - 1)
    strength = strength * (1 + 0.1 * (2 * torch.rand(n, 3, 1, 1, generator=generator) - 1)).repeat(1, 2, 1, 1)
    return torch.exp(torch.log(tiles.clamp(min=1 / 255)) * strength)


def vicreg(a: Tensor, b: Tensor) -> Tensor:
    """Invariance, variance and covariance, weighed 25, 25 and 1 as published."""
    loss = 25 * functional.mse_loss(a, b)
    for each in (a, b):
        loss = loss + 25 * functional.relu(1 - torch.sqrt(each.var(0) + 1e-4)).mean() / 2
        centred = each - each.mean(0)
        covariance = centred.T @ centred / (len(each) - 1)
        loss = loss + (covariance.square().sum() - covariance.diagonal().square().sum()) / each.shape[1] / 2
    return loss


def learn(tiles: Tensor, *, epochs: int, seed: int) -> np.ndarray:
    """Train, and return each tile's features, averaged over its eight symmetries."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    network = SmallNetwork().to(memory_format=torch.channels_last)
    n_batches = max(1, len(tiles) // 256)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=epochs * n_batches)
    for _ in range(epochs):
        for rows in torch.randperm(len(tiles), generator=generator).tensor_split(n_batches):
            loss = vicreg(*(network(view(tiles[rows], generator)) for _ in range(2)))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    network.eval()
    with torch.no_grad():
        turned = (torch.rot90(flipped, k, (2, 3)) for flipped in (tiles, tiles.flip(3)) for k in range(4))
        return torch.stack([network.features(each) for each in turned]).mean(0).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=PATIENT_KEYS)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", module="squidpy|docrep|anndata|scanpy")
    warnings.filterwarnings("ignore", message="near-empty|.*DecompressionBomb|Image size")
    bl.settings.verbosity = "warning"
    bl.settings.progress_bar = sys.stderr.isatty()
    adata = load(arguments.data, size=64, keep_crops=True)
    start = time.perf_counter()
    learned = learn(two_scales(np.asarray(adata.obsm["crops"])), epochs=arguments.epochs, seed=arguments.seed)
    print(f"VICReg: {arguments.epochs} epochs on {adata.n_obs} tiles in {time.perf_counter() - start:.0f} s")
    adata.obsm["X_learned"] = learned
    adata.obsm["X_both"] = np.hstack([adata.obsm[WIDE], learned])
    group_key, patient_key = PATIENT_KEYS[arguments.data]
    keys = {"made by hand": WIDE, "learned": "X_learned", "both": "X_both"}
    bl.tl.cross_validate(
        adata,
        group_key=group_key,
        patient_key=patient_key,
        library_key="section",
        methods=list(keys),
        method_kwargs={label: {"method": "bleep", "image_key": key} for label, key in keys.items()},
        metrics=METRICS,
        random_state=arguments.seed,
    )
    print(table(adata.uns["cv"]["summary"]))


if __name__ == "__main__":
    main()
