"""Numba's parallel loops leave torch its number of threads, which decides its last bits, and the process alive."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pynndescent
import pytest
import scanpy as sc
import torch
from anndata import AnnData

import bleep_sc as bl

CALLS: dict[str, tuple[Any, str, Callable[[AnnData], Any]]] = {
    "approximate search": (
        pynndescent,
        "NNDescent",
        lambda ref: bl.tl.impute(ref, ref, search="pynndescent", key_added="again"),
    ),
    "UMAP": (sc.tl, "umap", lambda ref: bl.tl.alignment(ref, layout="umap")),
    "normalisation": (
        sc.pp,
        "normalize_total",
        lambda ref: bl.tl.cross_validate(ref, methods=["mean"], group_key="section"),
    ),
    "genes": (sc.pp, "highly_variable_genes", lambda ref: bl.pp.select_genes(ref, n_top_genes=10)),
}


@pytest.mark.parametrize("name", CALLS)
def test_what_numba_may_run_in_parallel_leaves_them(
    name: str, fitted: AnnData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """numba tells OpenMP a number only once a process, at its first parallel loop: here it does so now, and fails."""
    package, function, call = CALLS[name]

    def as_the_first(*_: Any, **__: Any) -> Any:
        torch.set_num_threads(before + 1)
        raise RuntimeError("numba was here")

    if name == "UMAP":  # what comes before it compiles for seconds
        monkeypatch.setattr(sc.pp, "neighbors", lambda *_, **__: None)
    monkeypatch.setattr(package, function, as_the_first)
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError, match="numba was here"):
        call(fitted)
    assert torch.get_num_threads() == before


IN_A_PROCESS = """
import threading
import numba, numpy as np, torch
from bleep_sc._side_effects import parallel_numba

@numba.njit(parallel=True, nogil=True)
def total(values):
    found = 0.0
    for i in numba.prange(len(values)):
        found += values[i] ** 0.5
    return found

def job():
    for _ in range(30):
        with parallel_numba():
            total(np.ones(300_000))

torch.set_num_threads(1)
with parallel_numba():
    total(np.ones(10))
assert torch.get_num_threads() == 1
threads = [threading.Thread(target=job) for _ in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert torch.get_num_threads() == 1
"""


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["default", "workqueue"])
def test_the_loops_of_a_process(layer: str, tmp_path: Path) -> None:
    """The layer that numba falls back on ends the process where two threads meet in it."""
    environment = os.environ | {"NUMBA_THREADING_LAYER": layer}
    command = [sys.executable, "-c", IN_A_PROCESS]
    done = subprocess.run(command, cwd=tmp_path, env=environment, timeout=120, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_genes_are_selected_without_torch(tmp_path: Path) -> None:
    code = """
import sys
import numpy as np, pandas as pd
from anndata import AnnData
import bleep_sc as bl
values = np.random.default_rng(0).poisson(3, size=(30, 40)).astype(np.float32)
bl.pp.select_genes(AnnData(np.log1p(values)), n_top_genes=10)
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, cwd=tmp_path, timeout=120)
