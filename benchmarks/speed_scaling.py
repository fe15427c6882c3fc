"""How the cost grows with the number of spots: crops, embed and impute, from a thousand to a hundred thousand.

    python benchmarks/speed_scaling.py

Crops of 32 px; ResNet-18 from random weights; a reference of 2,000 spots and 500 genes. The slope is that of a straight
line through the logarithms: 1 is a straight line through the times.
"""

import numpy as np
import pandas as pd
from _timing import Row, arguments_of, report, timed
from anndata import AnnData
from squidpy.im import ImageContainer

import bleep_sc as bl

SIZE, N_GENES, N_REFERENCE, SIDE = 32, 500, 2000, 8000


def main() -> None:
    arguments = arguments_of(__doc__, smallest=1000, largest=100_000, steps=3)
    bl.settings.progress_bar = False
    bl.settings.verbosity = "error"
    rng = np.random.default_rng(0)
    slide = ImageContainer(rng.integers(0, 256, size=(SIDE, SIDE, 3), dtype=np.uint8))
    ref = spots(N_REFERENCE, rng)
    ref.X = rng.poisson(1.0, size=ref.shape).astype(np.float32)
    bl.pp.crops(ref, slide, size=SIZE, mpp=0.5)
    bl.tl.fit(ref, encoder="resnet18", preset="paper", weights=None, max_epochs=1)
    sizes = np.unique(np.geomspace(arguments.smallest, arguments.largest, arguments.steps).astype(int))
    seconds: dict[str, list[float]] = {"crops": [], "embed": [], "impute": []}
    measure(spots(200, rng), ref, slide)  # warms up
    for n in sizes:
        for name, value in measure(spots(n, rng), ref, slide).items():
            seconds[name].append(value)
    report(
        (
            Row(
                f"{name}, {sizes[0]:,} to {sizes[-1]:,} spots",
                "slope of a straight line",
                float(np.polyfit(np.log(sizes), np.log(values), 1)[0]),
                "≤ 1.1",
                ", ".join(f"{value:.2f} s" for value in values),
            )
            for name, values in seconds.items()
        ),
        arguments.json,
    )


def measure(query: AnnData, ref: AnnData, slide: ImageContainer) -> dict[str, float]:
    """Seconds of each step."""
    return {
        "crops": timed(lambda: bl.pp.crops(query, slide, size=SIZE, mpp=0.5)),
        "embed": timed(lambda: bl.tl.embed(query, ref)),
        "impute": timed(lambda: bl.tl.impute(query, ref)),
    }


def spots(n: int, rng: np.random.Generator) -> AnnData:
    return AnnData(
        obs=pd.DataFrame(index=[f"{n}-{i}" for i in range(n)]),
        var=pd.DataFrame(index=[f"g{i}" for i in range(N_GENES)]),
        obsm={"spatial": rng.uniform(0, SIDE - 1, size=(n, 2))},
    )


if __name__ == "__main__":
    main()
