"""Divide a batch among several processes: each holds some of its spots, and the loss is that of all of them.

Every loss keeps one rule. The mean of its values over the processes is the loss of the whole batch. The mean of its
gradients, which is what DDP makes of them, is the gradient of the whole batch.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Share:
    """The part of a batch that one process holds: the `rank`-th of as many parts as there are `sizes`."""

    rank: int
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, rows: np.ndarray, rank: int, n_processes: int) -> tuple["Share", np.ndarray]:
        """Divide the rows of a batch into parts equal to within one; also return the rows of this process's part."""
        parts = np.array_split(rows, n_processes)
        return cls(rank, tuple(map(len, parts))), parts[rank]

    @property
    def total(self) -> int:
        """Number of spots in the whole batch."""
        return sum(self.sizes)

    @property
    def weight(self) -> float:
        """Factor for a mean over the part's spots that keeps the rule above."""
        return self.sizes[self.rank] * len(self.sizes) / self.total

    def gather(self, own_rows: Tensor) -> Tensor:
        """Gather the rows (n_own, d) of all processes, in the order of the batch (n, d).

        A loss of the gathered rows is the same on every process. Its gradient flows into the process's own rows alone,
        multiplied by the number of processes. So the mean over processes is the sum of what flows into all rows.
        """
        whole: Tensor = _Gather.apply(own_rows, self)
        return whole


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own_rows: Tensor, share: Share) -> Tensor:
        ctx.share = share
        # collectives take equal shapes: the parts may differ by one row
        padded = own_rows.new_zeros(max(share.sizes), *own_rows.shape[1:])
        padded[: len(own_rows)] = own_rows
        parts = [torch.empty_like(padded) for _ in share.sizes]
        torch.distributed.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, share.sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        share, (gradient,) = ctx.share, gradients
        start = sum(share.sizes[: share.rank])
        return gradient[start : start + share.sizes[share.rank]] * len(share.sizes), None
