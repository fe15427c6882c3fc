"""What it costs to turn crops into features, one thread, side by side.

    python benchmarks/encoder_cost.py --json results/encoder-cost.json

CPU seconds per 1,000 spots: colour features of crops of 112 pixels, and EfficientNet-Lite0 that reads them frozen, by
default and with one thing changed. All take turns on the same crops of painted tissue, so that a machine that others
use too favours none; CPU seconds are those of this process alone. What a network computes does not depend on its
weights, so random ones do.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _sections import commit
from _timing import machine

import bleep_sc as bl
from bleep_sc.models.encoders import frozen
from bleep_sc.models.encoders.color import color_features
from bleep_sc.models.encoders.of_lite import LITE0
from bleep_sc.models.encoders.registry import encoder_named

SIDE = 112


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spots", type=int, default=64, help="of each turn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    crops = painted(arguments.spots)
    seconds = turns(runs(crops), arguments.rounds)
    print(f"{machine()}, commit {commit()}\n\n| | CPU s per 1,000 spots | of colour |\n|---|---|---|")
    rows = []
    for name, values in seconds.items():
        share = statistics.median(own / color for own, color in zip(values, seconds["color"], strict=True))
        per_thousand = statistics.median(values) / len(crops) * 1000
        rows.append({"what": name, "cpu_s_per_1000_spots": round(per_thousand, 2), "of_color": round(share, 3)})
        print(f"| {name} | {per_thousand:.1f} | {share:.2f} |")
    if arguments.json is not None:
        command = f"python benchmarks/encoder_cost.py --spots {arguments.spots} --rounds {arguments.rounds}"
        record = {"command": command, "commit": commit(), "machine": machine(), "rows": rows}
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")


def painted(n: int, size: int = SIDE) -> np.ndarray:
    """Crops of painted tissue."""
    tissue: Any = bl.datasets.toy(
        n_patients=1, n_sections=1, n_spots=n, n_genes=30, return_images=True, progress_bar=False
    )
    adata, images = tissue
    bl.pp.crops(adata, images, size=size, library_key="section", check="off", progress_bar=False)
    return np.asarray(adata.obsm["crops"])


def runs(crops: np.ndarray) -> dict[str, Callable[[], object]]:
    """What is timed, by name."""
    reading = frozen.reading_of(encoder_named(LITE0), view_px=SIDE)
    images = torch.from_numpy(crops)

    def read(changed: frozen.Reading, *, at_a_time: int) -> Callable[[], object]:
        network = frozen.build_frozen(LITE0, changed)

        def run() -> None:
            usual, frozen._AT_A_TIME = frozen._AT_A_TIME, at_a_time
            try:
                network(images)
            finally:
                frozen._AT_A_TIME = usual

        return run

    usual = frozen._AT_A_TIME
    return {
        "color": lambda: color_features(crops, progress_bar=False),
        LITE0: read(reading, at_a_time=usual),
        **{f"{LITE0}, symmetries={n}": read(replace(reading, symmetries=n), at_a_time=usual) for n in (1, 8)},
        **{f"{LITE0}, {px} px": read(replace(reading, input_px=px), at_a_time=usual) for px in (96, 128)},
        **{f"{LITE0}, stages {s}": read(replace(reading, stages=s), at_a_time=usual) for s in ((2, 3), (2, 3, 4, 5))},
        **{f"{LITE0}, {n} crops at a time": read(reading, at_a_time=n) for n in (8, 32, 64)},
    }


def turns(functions: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each function in each round, after one that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(rounds + 1):
        for name, function in functions.items():
            start = time.process_time()
            function()
            if number:
                seconds[name].append(time.process_time() - start)
    return seconds


if __name__ == "__main__":
    main()
