"""The picture of real tissue on the first page: H&E, measured, predicted, reliability.

    python benchmarks/front_picture.py

A model is trained on both sections of animal 1 and predicts a section of animal 2. `_sections.py` says where the data
are looked for. The sections are test data of the R package STUtility, under the MIT licence.
"""

from typing import Any

import matplotlib as mpl
import numpy as np
from _bulb import QUERY, STATIC, predicted, save
from anndata import AnnData

mpl.use("agg")
FRONT = STATIC / "front.webp"
GENE = "Penk"


def main() -> None:
    _, query = predicted()
    save(draw(query), FRONT)
    scores = query.var["bleep_pearson"]
    rank = int((scores > scores[GENE]).sum()) + 1
    hvg = query.uns["bleep_scores"]["summary"].query("panel == 'HVG-50' and metric == 'pearson'")["value"].item()
    print(
        f"{QUERY}, {query.n_obs} spots: {GENE} r {scores[GENE]:.2f}, number {rank} of {len(scores)}; HVG-50 {hvg:.2f}"
    )


def draw(query: AnnData) -> Any:
    """Four panels of one section."""
    import matplotlib.pyplot as plt
    import squidpy as sq

    values = np.concatenate([_values(query, None), _values(query, "bleep")])
    low, high = np.quantile(values, [0.01, 0.99])
    shared = {"color": GENE, "cmap": "viridis", "vmin": low, "vmax": high}
    r = query.var.loc[GENE, "bleep_pearson"]
    panels: dict[str, dict[str, Any]] = {
        "H&E": {"color": None},
        f"{GENE}, measured": shared,
        f"{GENE}, predicted (r = {r:.2f})": {**shared, "layer": "bleep"},
        "reliability (1: like the reference)": {"color": "bleep_reliability", "cmap": "magma", "vmin": 0, "vmax": 1},
    }
    fig, axes = plt.subplots(1, len(panels), figsize=(12, 3.5), layout="constrained")
    for ax, (title, how) in zip(axes, panels.items(), strict=True):
        drawn = how["color"] is not None
        sq.pl.spatial_scatter(
            query, library_id=QUERY, ax=ax, crop_coord=_frame(query), frameon=False, colorbar=False,
            img_alpha=0.35 if drawn else 1, size=1.35, title="", **how,
        )  # fmt: skip
        ax.set_title(title, fontsize=13)
        shown = ax.collections[0] if drawn else mpl.cm.ScalarMappable()
        bar = fig.colorbar(shown, ax=ax, orientation="horizontal", shrink=0.7, aspect=28, pad=0.02)
        bar.outline.set_visible(False)
        bar.locator = mpl.ticker.MaxNLocator(3)
        bar.ax.set_visible(drawn)  # the empty one keeps its room, so that the four panels stand in line
    return fig


def _values(query: AnnData, layer: str | None) -> np.ndarray:
    return np.asarray(query.obs_vector(GENE, layer=layer), dtype=float)


def _frame(query: AnnData, margin: float = 70) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of the tissue in pixels of the image."""
    left, top = query.obsm["spatial"].min(axis=0) - margin
    right, bottom = query.obsm["spatial"].max(axis=0) + margin
    return left, top, right, bottom


if __name__ == "__main__":
    main()
