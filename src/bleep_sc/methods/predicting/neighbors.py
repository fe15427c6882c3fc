"""Predicts by retrieval: finds the nearest reference spots, averages their profiles, and mixes in regressions."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from bleep_sc._blocks import LazyRows, rows_at
from bleep_sc._logging import logger
from bleep_sc._progress import progress
from bleep_sc.methods.hybrid.components import Decoder
from bleep_sc.methods.inputs import Spots
from bleep_sc.methods.prediction import Imputation, Imputed, Neighbors, Reference, Request
from bleep_sc.methods.task import Trained
from bleep_sc.models.scheduled import embed_images
from bleep_sc.models.search.averaging import average_profiles
from bleep_sc.models.search.nearest import nearest, nearest_approximately, quicker_search
from bleep_sc.models.search.weighting import neighbor_weights

_LONG = 5e8
"""The number of comparisons that take about a second; longer searches show a bar."""
_MOSTLY_OWN = 0.5
"""The cosine above which two embeddings are taken for those of one spot, seen in two parts of its section."""
_ROUNDING = 0.05
"""The squared distance, in total variances of the reference, within which embeddings may be those of one image in two
number formats. Those of two images lie about 2 apart; bfloat16 moved those of a ResNet-18 by 0.001."""
_ROWS_OF_SPREAD = 1000


@dataclass(frozen=True)
class Mix:
    """The regressions that retrieved scores are mixed with, and the decoder that turns the mix into expression."""

    decoder: Decoder
    weights: dict[str, float]
    """The weight of each predictor; that of the neighbours is named ``"retrieval"``."""
    regressed: np.ndarray
    """The weighed sum of the regressions' scores (n_obs, n_components)."""


@dataclass(frozen=True)
class NeighborAverage:
    """A function that imputes spots from their embeddings, with all that it needs of a reference."""

    how: Neighbors
    keys: Any
    """The embeddings that queries are compared with (n_reference, dim), in memory or lazy."""
    profiles: Any
    """The averaged rows: expression (n_reference, n_genes), perhaps lazy, or scores (n_reference, n_components)."""
    columns: np.ndarray
    """The gene of the reference that stands in each column of the result, -1 for none (n_vars,)."""
    decoder: Decoder | None
    """The decoder that turns scores into expression; None where profiles are averaged."""
    share: float
    """The weight of the neighbours' scores in the mix."""
    device: torch.device
    progress_bar: bool = False

    def __call__(
        self, embedding: np.ndarray, *, regressed: np.ndarray | None = None, leave_out: np.ndarray | None = None
    ) -> Imputed:
        """Impute spots.

        Parameters
        ----------
        embedding
            The embeddings of their images (n, dim).
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
        return Imputed(expression, rows, distances)

    def _search(self, embedding: np.ndarray, leave_out: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        if self.how.search == "exact":
            long = len(embedding) * self.keys.shape[0] > _LONG
            watch = partial(progress, desc="Searching neighbours", show=self.progress_bar and long)
            return nearest(embedding, self.keys, self.how.k, leave_out=leave_out, device=self.device, watch=watch)
        return nearest_approximately(embedding, self.keys[:], self.how.k, leave_out=leave_out)


def retrieve(trained: Trained, spots: Spots, reference: Reference, request: Request) -> Imputation:
    """Average measured profiles of the nearest reference spots."""
    return imputation(trained, spots, reference, request)


def imputation(
    trained: Trained,
    spots: Spots,
    reference: Reference,
    request: Request,
    *,
    make_mix: Callable[[], Mix] | None = None,
) -> Imputation:
    """Embed the query, and gather what is needed to average the profiles, or mix the scores, of its neighbours."""
    compute, how = request.compute, request.neighbors
    assert how is not None  # noqa: S101 - `impute` makes one for every method with a space
    embedding = embed_images(trained.model, spots.rows, compute=compute)
    how = replace(how, search=_search_to_take(how, reference.keys, len(embedding), compute.device))
    own_row = own_rows(reference, embedding, depends_on_section=_centred(trained))
    in_sample = _report_in_sample(own_row, how.k, reference.n_obs)
    provenance: dict[str, Any] = {
        "params": {"method": trained.method.name, **asdict(how), "layer": "X" if how.layer is None else how.layer},
        "units": reference.units,
        "reference_names": reference.names,
        "reference_library": reference.library,
        "in_sample": in_sample,
    }
    inputs = {"embedding": embedding} | ({"leave_out": own_row} if in_sample else {})
    mix = None if make_mix is None else make_mix()
    if mix is not None:
        inputs["regressed"] = mix.regressed
        provenance["params"]["weights"] = mix.weights
    average = NeighborAverage(
        how,
        keys=reference.keys,
        profiles=reference.values if mix is None else reference.components,
        columns=request.columns,
        decoder=None if mix is None else mix.decoder,
        share=1.0 if mix is None else mix.weights["retrieval"],
        device=compute.device,
        progress_bar=compute.progress_bar,
    )
    quiet = replace(average, progress_bar=False)
    return Imputation(average, inputs, reference.values.shape[1], provenance, embedding, how.k, quiet)


def own_rows(reference: Reference, embedding: np.ndarray, *, depends_on_section: bool) -> np.ndarray:
    """Find the row of the reference that each query spot itself is (n_query,); -1 for none.

    Candidates are spots of the same name, else at the same place (names change in a concatenation). Neither tells by
    itself: array positions serve as names, and slides have spots at one place. So the image must be the same too.

    The reference may have been embedded in another number format: in bfloat16 on a GPU, say, and the query on a CPU.
    Then spots are the reference's own if they, and most of the spots that have candidates, lie within rounding of them.

    Where an embedding depends on the other spots of its section, a part of a section is embedded a little otherwise
    than the whole. Then spots at the same place are the reference's own if most of them lie near their candidates.
    """
    own_row = np.full(len(embedding), -1)
    images = reference.images
    if images is None:
        return own_row
    for candidates in (reference.same_place, reference.same_name):
        with_candidate = np.flatnonzero(candidates >= 0)
        same = np.isclose(
            rows_at(images, candidates[with_candidate]), embedding[with_candidate], rtol=1e-3, atol=1e-3
        ).all(axis=1)
        own_row[with_candidate[same]] = candidates[with_candidate[same]]
        if not same.all():
            apart = ((rows_at(images, candidates[with_candidate]) - embedding[with_candidate]) ** 2).sum(axis=1)
            near = apart <= _ROUNDING * _total_variance(images)
            if near.mean() > 0.5:
                own_row[with_candidate[near]] = candidates[with_candidate[near]]
    if depends_on_section:
        candidates = reference.same_place
        with_candidate = np.flatnonzero((candidates >= 0) & (own_row < 0))
        if (
            len(with_candidate)
            and np.median(cosine(embedding[with_candidate], rows_at(images, candidates[with_candidate]))) > _MOSTLY_OWN
        ):
            own_row[with_candidate] = candidates[with_candidate]
    return own_row


def _total_variance(embeddings: Any) -> float:
    """Estimate the variance of rows (n, dim), summed over columns, from a thousand of them."""
    n = embeddings.shape[0]
    rows = rows_at(embeddings, np.unique(np.linspace(0, n - 1, _ROWS_OF_SPREAD).astype(int)))
    rows = rows[np.isfinite(rows).all(axis=1)]
    return float(rows.var(axis=0, dtype=np.float64).sum()) if len(rows) else 0.0


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compute the cosine between each row of one matrix and the same row of another (n,)."""
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray((a * b).sum(axis=1) / np.maximum(norms, 1e-12))


def _centred(trained: Trained) -> bool:
    space = trained.method.space
    return space is not None and space.centred


def _search_to_take(how: Neighbors, keys: Any, n_queries: int, device: torch.device) -> Any:
    if how.search != "auto":
        return how.search
    n_keys, dim = keys.shape
    # an index needs all keys in memory
    search = "exact" if isinstance(keys, LazyRows) else quicker_search(n_queries, n_keys, dim, device)
    logger.info("Neighbours are searched by search=%r.", search)
    return search


def _report_in_sample(own_row: np.ndarray, k: int, n_reference: int) -> bool:
    """Tell whether query spots are the reference's own, and log it: they must not retrieve themselves."""
    if not (own_row >= 0).any():
        return False
    if k > n_reference - 1:
        msg = f"`k={k}`: each spot's own profile is left out, so the largest possible `k` is {n_reference - 1}."
        raise ValueError(msg)
    logger.info(
        "In-sample: %d of %d query spots belong to the reference. Each one's own profile is left out, but the "
        "model was trained on them, so scores on them do not say how well new tissue is predicted.",
        (own_row >= 0).sum(),
        len(own_row),
    )
    return True
