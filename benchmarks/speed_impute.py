"""`tl.impute` against the one product of matrices that it cannot do without.

    python benchmarks/speed_impute.py
    python benchmarks/speed_impute.py --references 1000000 --genes 2000 --queries 2000 --rounds 1   # an atlas, a part

The published BLEEP's heads on ready-made features, random data, 256 dimensions, k = 50. "The product": queries by
references in float32, in blocks of 512 by 8,192 on the threads of torch, nothing else. "The reference design": the
whole product, topk and a Python loop of means, as the code of the paper has it; the matrix of similarities must fit in
memory for it. The memory is what the process grew by at most during the call, less what it wrote.
"""

import statistics
from typing import Any

import numpy as np
import pandas as pd
import torch
from _timing import Row, arguments_of, peak_growth, ratio, report, take_turns
from anndata import AnnData
from scipy import sparse

import bleep_sc as bl
from bleep_sc.models.search.nearest import block_of

DIM, FEATURES, TRAINED_ON, INPUT_GENES, DENSITY = 256, 64, 2000, 200, 0.1
BLOCK = 512, 8192
"""Queries and references of one part of the product."""
LARGEST_WHOLE = 2.5e8
"""Similarities that the reference design is let compute: 1 GB."""


def main() -> None:
    arguments = arguments_of(__doc__, queries=5000, references=50_000, genes=3000, rounds=5)
    bl.settings.progress_bar = False
    bl.settings.verbosity = "error"
    rows = []
    for kind in ("dense", "sparse"):
        if kind == "dense" and arguments.references * arguments.genes > 1e9:
            continue
        rows += measure(kind, arguments)
    report(rows, arguments.json)


def measure(kind: str, arguments: Any) -> list[Row]:
    """One kind of reference."""
    rng = np.random.default_rng(0)
    ref = reference(arguments.references, arguments.genes, kind, rng)
    query = query_of(ref, arguments.queries, rng)

    def impute() -> None:
        bl.tl.impute(query, ref, k=50)

    impute()
    keys = unit(ref.obsm["X_bleep_expression"])
    images = unit(query.obsm["X_bleep_image"])

    compared = {"impute": impute, "product": lambda: product(images, keys)}
    if arguments.queries * arguments.references <= LARGEST_WHOLE:
        compared["design"] = lambda: reference_design(images, keys, ref.X)
    seconds = take_turns(arguments.rounds, **compared)
    written = sum(array.nbytes for array in (query.layers["bleep"], *query.obsm.values())) / 2**20
    del query.layers["bleep"], query.uns["bleep"]
    beyond = peak_growth(impute) - written
    size = f"{arguments.queries:,} × {arguments.references:,} × {arguments.genes:,} genes, {kind}"
    times = {name: statistics.median(values) for name, values in seconds.items()}
    rows = [
        Row(
            f"`tl.impute`, {size}",
            "the product",
            ratio(seconds, "impute", "product"),
            "≤ 1.5" if arguments.references < 1e6 else "≤ 2",
            f"{times['impute']:.2f} s; {beyond:.0f} MB beyond inputs and results",
        )
    ]
    if "design" in compared:
        rows.append(
            Row(
                f"the reference design, {size}",
                "`tl.impute`",
                ratio(seconds, "design", "impute"),
                "",
                f"{times['design']:.2f} s",
            )
        )
    return rows


def reference(n: int, n_genes: int, kind: str, rng: np.random.Generator) -> AnnData:
    """Spots with a fitted model, of which a few were trained on; large ones repeat their expression."""
    some = min(n, 50_000)
    values = sparse.random(some, n_genes, density=DENSITY, format="csr", dtype=np.float32, random_state=rng)
    values = sparse.vstack([values] * -(-n // some), format="csr")[:n] if n > some else values
    genes = pd.DataFrame({"highly_variable": np.arange(n_genes) < INPUT_GENES}, index=[f"g{i}" for i in range(n_genes)])
    ref = AnnData(
        values.toarray() if kind == "dense" else values,
        obs=pd.DataFrame(index=np.arange(n).astype(str)),
        var=genes,
        obsm={"features": rng.standard_normal((n, FEATURES), dtype=np.float32)},
    )
    small = ref[:TRAINED_ON].copy()
    bl.tl.fit(small, image_key="features", preset="paper", max_epochs=1)
    ref.uns["bleep"] = small.uns["bleep"]
    bl.tl.embed(ref)
    return ref


def query_of(ref: AnnData, n: int, rng: np.random.Generator) -> AnnData:
    """Spots without expression."""
    return AnnData(
        var=ref.var[[]],
        obs=pd.DataFrame(index=[f"q{i}" for i in range(n)]),
        obsm={"features": rng.standard_normal((n, FEATURES), dtype=np.float32)},
    )


def product(images: torch.Tensor, keys: torch.Tensor) -> None:
    """Similarities of all queries and references, on the device that holds both; on a GPU in the search's blocks."""
    on_cpu = images.device.type == "cpu"
    n_queries, n_keys = BLOCK if on_cpu else block_of(images.device, len(images))
    for start in range(0, len(keys), n_keys):
        for first in range(0, len(images), n_queries):
            images[first : first + n_queries] @ keys[start : start + n_keys].T


def reference_design(images: torch.Tensor, keys: torch.Tensor, values: Any) -> np.ndarray:
    """The whole product, the best of it, and a loop."""
    rows = (images @ keys.T).topk(50, dim=1).indices.numpy()
    out = np.empty((len(images), values.shape[1]), dtype=np.float32)
    for i, neighbors in enumerate(rows):
        out[i] = np.asarray(values[neighbors].mean(axis=0)).ravel()
    return out


def unit(embedding: np.ndarray) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.from_numpy(embedding))


if __name__ == "__main__":
    main()
