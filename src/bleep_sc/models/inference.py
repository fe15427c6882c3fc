"""Embed many spots with a trained model, batch by batch."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bleep_sc._progress import progress
from bleep_sc._stats import all_finite
from bleep_sc.models.device import Compute
from bleep_sc.models.encoders.frozen import centre
from bleep_sc.models.train.batches import Rows, split_evenly, take
from bleep_sc.models.train.prefetch import feed


def embed_in_batches(function: Callable[[Tensor], Tensor], inputs: Rows, *, compute: Compute, desc: str) -> np.ndarray:
    """Apply a function of tensors to all rows, without gradients; float32 (n, width)."""
    n = inputs.shape[0]
    parts = split_evenly(np.arange(n), compute.batch_size)
    show = compute.progress_bar and len(parts) > 1
    out, done = np.empty((0, 0), dtype=np.float32), 0
    with torch.inference_mode(), compute.autocast():
        portions = feed((take(inputs, rows) for rows in parts), len(parts), compute.device)
        for portion in progress(portions, desc=desc, total=len(parts), show=show):
            values = function(portion.to(compute.device, non_blocking=True)).float().cpu().numpy()
            if not done:  # only now the width is known
                out = np.empty((n, *values.shape[1:]), dtype=np.float32)
            out[done : done + len(values)] = values
            done += len(values)
    return finite(out, what=desc)


def finite(values: np.ndarray, *, what: str) -> np.ndarray:
    """Return what a model computed; refuse it where it overflowed."""
    if not all_finite(values):
        msg = (
            f"{what}: the model's results hold NaN or infinite values. Its weights, or what it reads, are too large "
            "for its number format: pass `precision='32'`, lower `lr` where it is being trained, or take a model that "
            "you know to be sound."
        )
        raise ValueError(msg)
    return values


def custom_features(
    encoder: Callable[[Tensor], Any], crops: Rows, *, compute: Compute, view_px: int | None = None
) -> np.ndarray:
    """Compute features of crops by a user's own encoder, which gets float32 images (n, 3, y, x) with RGB in 0..1.

    With `view_px` these are the centres of the crops, so many pixels wide. A module is run in evaluation mode. It is
    left in the mode, and on the device, that it came in.
    """
    modes, home = [], None
    if isinstance(encoder, nn.Module):
        modes = [(module, module.training) for module in encoder.modules()]
        home = next((tensor.device for tensor in (*encoder.parameters(), *encoder.buffers())), None)
        encoder.to(compute.device).eval()

    def call(crops: Tensor) -> Tensor:
        read = crops if view_px is None else centre(crops, view_px)
        features = encoder(read.permute(0, 3, 1, 2).float() / 255)
        if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != len(crops):
            returned = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            msg = f"`encoder` must return a tensor (n, n_features), here ({len(crops)}, ...); it returned {returned}."
            raise ValueError(msg)
        widths.add(features.shape[1])
        if widths == {0} or len(widths) > 1:
            msg = (
                "`encoder` must return the same number of features, at least one, of whatever crops it gets; it "
                f"returned {' and '.join(map(str, sorted(widths)))}."
            )
            raise ValueError(msg)
        return features

    widths: set[int] = set()
    try:
        return embed_in_batches(call, crops, compute=compute, desc="Image features")
    finally:
        for module, training in modes:
            module.training = training
        if isinstance(encoder, nn.Module) and home is not None:
            encoder.to(home)
