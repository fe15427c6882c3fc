from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch


def in_threads(work: Callable[[slice], None], n: int) -> None:
    """Do work on n rows in as many parts as torch has threads: for compiled code that lets go of Python's lock."""
    n_parts = min(torch.get_num_threads(), n)
    parts = [slice(n * i // n_parts, n * (i + 1) // n_parts) for i in range(n_parts)]
    if n_parts < 2:
        for part in parts:
            work(part)
        return
    with ThreadPoolExecutor(n_parts) as pool:
        for done in [pool.submit(work, part) for part in parts]:
            done.result()
