"""From embeddings of images to expression: neighbours, their average, and what is mixed with it. Arrays only."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from bleep_sc._progress import progress
from bleep_sc.methods.hybrid.components import Decoder
from bleep_sc.models.search.averaging import average_profiles
from bleep_sc.models.search.nearest import nearest, nearest_approximately
from bleep_sc.models.search.weighting import Weighting, neighbor_weights

_QUICK = 5e8
"""Comparisons that take about a second."""


@dataclass(frozen=True)
class Retrieval:
    """How neighbours are found and weighed: the arguments of `impute`."""

    predict: str
    """``"retrieval"``, or a mix with regression."""
    k: int
    match: str
    weighting: Weighting
    temperature: float
    search: str
    layer: str | None

    @property
    def mixes(self) -> bool:
        """Whether components of expression are predicted, rather than measured profiles averaged."""
        return self.predict != "retrieval"


class Predicted(NamedTuple):
    """Of some spots."""

    expression: Any
    """float32 (n, n_vars), NaN for genes that the reference lacks; NumPy, or dask where it is stored."""
    rows: np.ndarray | None = None
    """Neighbours in the reference int32 (n, k), best first, where such are averaged."""
    distances: np.ndarray | None = None


@dataclass(frozen=True)
class Prediction:
    """All that is needed to predict a query, and the record of it."""

    predict: Callable[..., Predicted]
    """Of any spots of the query, from their part of the inputs."""
    inputs: dict[str, Any]
    """Its arguments: arrays with one row a spot."""
    n_genes: int
    """Most that it has in hand of a spot."""
    provenance: dict[str, Any]
    embedding: np.ndarray | None = None
    """Of the query's images (n_obs, dim), where neighbours are looked for."""
    k: int = 0
    """Number of neighbours."""


@dataclass(frozen=True)
class Predictor:
    """All that is needed of a reference to predict spots from their embeddings."""

    how: Retrieval
    keys: Any
    """What is compared with (n_reference, dim), in memory or lazy."""
    profiles: Any
    """What is averaged: expression (n_reference, n_genes), perhaps lazy, or scores (n_reference, n_components)."""
    columns: np.ndarray
    """Gene of the reference that stands in each column of the result, -1 for none (n_vars,)."""
    decoder: Decoder | None
    """What makes expression of scores."""
    share: float
    """Weight of the neighbours' scores in the mix."""
    device: torch.device
    progress_bar: bool = False

    def __call__(
        self, embedding: np.ndarray, *, regressed: np.ndarray | None = None, leave_out: np.ndarray | None = None
    ) -> Predicted:
        """Predict spots.

        Parameters
        ----------
        embedding
            Of their images (n, dim).
        regressed
            The regressions' share of their scores (n, n_components), where there is a decoder.
        leave_out
            For each spot the reference row that it must not retrieve, -1 for none.
        """
        rows, distances = self._search(embedding, leave_out)
        weights = neighbor_weights(distances, self.how.weighting, temperature=self.how.temperature)
        if self.decoder is None:
            expression = average_profiles(self.profiles, rows, weights, columns=self.columns)
        else:
            scores = self.share * average_profiles(self.profiles, rows, weights)
            scores += 0 if regressed is None else regressed
            expression = self.decoder.decode(scores, self.columns)
        return Predicted(expression, rows, distances)

    def _search(self, embedding: np.ndarray, leave_out: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        if self.how.search == "exact":
            long = len(embedding) * self.keys.shape[0] > _QUICK
            watch = partial(progress, desc="Searching neighbours", show=self.progress_bar and long)
            return nearest(embedding, self.keys, self.how.k, leave_out=leave_out, device=self.device, watch=watch)
        return nearest_approximately(embedding, self.keys[:], self.how.k, leave_out=leave_out)
