"""Compute what depends on each spot by itself; lazy spots are computed where the user's scheduler runs."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from torch import nn

from bleep_sc._blocks import LazyRows, has_scheduler, is_lazy, over_parts
from bleep_sc.models.device import Compute
from bleep_sc.models.inference import embed_in_batches
from bleep_sc.models.train.batches import Rows


def compute_rows(function: Callable[..., np.ndarray], rows: Rows, *, compute: Compute) -> np.ndarray:
    """Call a function on all rows; lazy rows are read where the user's scheduler runs, part by part.

    Parameters
    ----------
    function
        Function of rows and `compute` that returns one row for each. A row must not depend on the others.
    rows
        Crops or features, NumPy or dask.
    compute
        Device, portions and whether a progress bar is shown; on a scheduler there is none.
    """
    if not (is_lazy(rows) and has_scheduler()):
        return function(rows, compute=compute)
    lazy = LazyRows(rows)
    job = partial(_on_part, function, lazy, replace(compute, progress_bar=False))
    return np.concatenate(over_parts(job, lazy.parts(most=compute.batch_size)))


def _on_part(function: Callable[..., np.ndarray], rows: LazyRows, compute: Compute, part: slice) -> Any:
    return function(rows[part], compute=compute)


def encode_images(model: nn.Module, rows: Rows, *, compute: Compute) -> np.ndarray:
    """Let a model's image encoder describe crops: float32 (n, n_features)."""
    return compute_rows(partial(_encoded, model), rows, compute=compute)


def _encoded(model: Any, rows: Rows, *, compute: Compute) -> np.ndarray:
    model.to(compute.device)
    return embed_in_batches(model.encode_image, rows, compute=compute, desc="Image features")


def embed_images(model: nn.Module, rows: Rows, *, compute: Compute) -> np.ndarray:
    """Embed crops, or features of them, in the joint space of a model: float32 (n, dim)."""
    return compute_rows(partial(_embedded, model), rows, compute=compute)


def _embedded(model: Any, rows: Rows, *, compute: Compute) -> np.ndarray:
    model.to(compute.device)
    return embed_in_batches(model.embed_image, rows, compute=compute, desc="Embedding images")
