"""Where an approximate search pays: pynndescent's time to build and query against the exact search.

    python benchmarks/speed_search.py
    python benchmarks/speed_search.py --references 200000 --queries 5000

Clustered data, 256 dimensions, k = 50, one run of each after a small one that compiles. From these it works out for how
many queries both take the same time; `impute(search="auto")` goes by the costs that are written in
`bleep_sc.models.search.nearest`.
"""

import time
from collections.abc import Callable

import numpy as np
from _timing import Row, arguments_of, report
from pynndescent import NNDescent

from bleep_sc.models.search.nearest import nearest, nearest_approximately

DIM, K, CLUSTERS = 256, 50, 200


def main() -> None:
    arguments = arguments_of(__doc__, references=50_000, queries=2000)
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((CLUSTERS, DIM))
    query, keys = (
        (centres[rng.integers(CLUSTERS, size=n)] + rng.standard_normal((n, DIM))).astype(np.float32)
        for n in (arguments.queries, arguments.references)
    )
    nearest_approximately(query[:100], keys[:2000], K)  # compiles
    nearest(query[:100], keys[:2000], K)
    exact, (rows, _) = timed(lambda: nearest(query, keys, K))
    both, (found, _) = timed(lambda: nearest_approximately(query, keys, K))
    build, _ = timed(lambda: NNDescent(keys, metric="cosine", n_neighbors=K, random_state=0))
    recall = np.mean([len(set(a) & set(b)) / K for a, b in zip(rows, found, strict=True)])
    per_pair, per_key = exact / query.shape[0] / len(keys), build / len(keys)
    per_query = max(both - build, 0) / len(query)
    saved = per_pair * len(keys) - per_query
    crossover = f"from {build / saved:,.0f} queries on" if saved > 0 else "never: a query costs more than the exact one"
    report(
        [
            Row(
                f"pynndescent, {len(query):,} × {len(keys):,}",
                "exact",
                both / exact,
                "",
                f"pays {crossover}; recall {recall:.2f}; {per_pair / DIM:.2e} s a product, {per_key:.2e} s a reference "
                f"to build, {per_query:.2e} s a query",
            )
        ],
        arguments.json,
    )


def timed(function: Callable[[], object]) -> tuple[float, object]:
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


if __name__ == "__main__":
    main()
