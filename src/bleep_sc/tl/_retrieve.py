"""Prediction by retrieval: the nearest reference spots, and the average of their measured profiles."""

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from anndata import AnnData
from torch import nn

from bleep_sc import _keys
from bleep_sc._adata import as_numbers, as_text, known_places, section_of_spots
from bleep_sc._blocks import LazyRows, is_lazy, row_blocks, rows_at, rows_of
from bleep_sc._errors import MissingKeyError
from bleep_sc._expression import describe_units, lacks_expression, reference_values
from bleep_sc._logging import logger, warn
from bleep_sc._stats import all_finite, section_rows
from bleep_sc.io._stored import StoredModel
from bleep_sc.methods.hybrid.components import Decoder
from bleep_sc.methods.hybrid.stored import (
    blend_weights,
    expression_rows,
    known_centers,
    reference_components,
    regressed_scores,
)
from bleep_sc.methods.predict.neighbors import Prediction, Predictor, Retrieval
from bleep_sc.models.device import Compute
from bleep_sc.models.nets.hybrid import Hybrid
from bleep_sc.models.search.nearest import quicker_search
from bleep_sc.tl._inputs.images import SpotInput, sections_like
from bleep_sc.tl._inputs.per_spot import embed_images

_ROWS_TO_CHECK = 16
_SAME = 0.99
_PAPER_K = 50
_PLACE_ALL = "Run `bleep_sc.tl.embed(ref, key={key!r})`, which places all spots of `ref`."
_MOSTLY_OWN = 0.5


@dataclass(frozen=True)
class Keys:
    """What of the reference is compared with, and what is averaged."""

    embedding: Any
    """In memory or lazy, as the values."""
    values: Any
    components: np.ndarray | None
    """Scores of the reference on components of expression, where these are predicted."""


def prepare_retrieval(ref: AnnData, key: str, model: nn.Module, how: Retrieval, stored: StoredModel) -> Keys:
    """Check the reference, before any image is embedded."""
    if how.k > ref.n_obs:
        msg = f"`k={how.k}` is more than the {ref.n_obs} spots of `ref`: the largest possible `k` is {ref.n_obs}."
        raise ValueError(msg)
    if stored.config["method"] == "knn" and how.match != "image":
        msg = "`match='expression'` needs an embedding of expression, and `method='knn'` has none: leave `match` out."
        raise ValueError(msg)
    width: Any = model.width
    embedding = _reference_embedding(ref, key, how.match, width=width)
    if _keys.image_embedding(key) in ref.obsm:  # by which the reference's own spots are recognised
        _in_space(ref, key, _keys.image_embedding(key), width=width)
    if how.match == "expression":
        _warn_of_another_models_embedding(ref, key, model, embedding, stored)
    components = reference_components(ref, key, model) if isinstance(model, Hybrid) and how.mixes else None
    return Keys(embedding, reference_values(ref, how.layer), components)


def neighbors_to_average(k: int | None, ref: AnnData, stored: StoredModel) -> int:
    """The user's number, else what `fit` chose, else the paper's; the latter two no more than there are."""
    if k is not None:
        return k
    return min(int(stored.config.get("chosen", {}).get("k", _PAPER_K)), max(1, ref.n_obs - 1))


def _warn_of_another_models_embedding(
    ref: AnnData, key: str, model: nn.Module, embedding: Any, stored: StoredModel
) -> None:
    """Embed a few rows again: after a concat of references the rows may be of two models, and all would seem well."""
    source = stored.config["expression"]
    sections = sections_like(ref, stored, None, name="ref")
    rows = np.arange(ref.n_obs)
    if isinstance(model, Hybrid):  # sections that were added later are centred by all of their spots: not by a few
        known = known_centers(stored)
        rows = np.concatenate([part for name, part in section_rows(sections, ref.n_obs) if name in known] or [rows[:0]])
    some = np.sort(rows)[np.unique(np.linspace(0, len(rows) - 1, _ROWS_TO_CHECK).astype(int))] if len(rows) else rows
    part = ref[some]
    if not len(some) or lacks_expression(part, source, stored.genes):
        return
    own = None if sections is None else sections[some]
    expression = expression_rows(part, model, own, stored=stored, own=True, name="ref")
    with torch.inference_mode():
        again = model.embed_expression(torch.from_numpy(expression)).numpy()  # type: ignore[operator]
    cosine = _cosine(again, rows_at(embedding, some))
    if (cosine < _SAME).any():
        warn(
            f"`ref.obsm[{_keys.expression_embedding(key)!r}]` is not what the model {key!r} makes of `ref`'s "
            f"expression ({(cosine < _SAME).sum()} of {len(some)} rows looked at): it is of another model, or the "
            f"expression was changed since. Place all spots anew with `bleep_sc.tl.embed(ref, key={key!r})`."
        )


def retrieve(
    query: AnnData,
    ref: AnnData,
    model: nn.Module,
    spots: SpotInput,
    *,
    key: str,
    keys: Keys,
    columns: np.ndarray,
    how: Retrieval,
    stored: StoredModel,
    compute: Compute,
) -> Prediction:
    """Embed the query, and gather what finds its neighbours and averages them."""
    embedding = embed_images(model, spots.rows, compute=compute)
    if how.search == "auto":  # an index needs all keys in memory
        n_keys, dim = keys.embedding.shape
        lazy = isinstance(keys.embedding, LazyRows)
        search = "exact" if lazy else quicker_search(len(embedding), n_keys, dim, compute.device)
        how = replace(how, search=search)
        logger.info("Neighbours are searched by search=%r.", search)
    own = _own_rows(query, ref, key, embedding, depends_on_section=isinstance(model, Hybrid))
    in_sample = bool((own >= 0).any())
    if in_sample:
        if how.k > ref.n_obs - 1:
            msg = f"`k={how.k}`: each spot's own profile is left out, so the largest possible `k` is {ref.n_obs - 1}."
            raise ValueError(msg)
        logger.info(
            "In-sample: %d of %d query spots belong to the reference. Each one's own profile is left out, but the "
            "model was trained on them, so scores on them do not say how well new tissue is predicted.",
            (own >= 0).sum(),
            query.n_obs,
        )
    provenance = {
        "params": {
            "method": stored.config["method"],
            **asdict(how),
            "layer": "X" if how.layer is None else how.layer,
        },
        "units": describe_units(keys.values, log1p_recorded="log1p" in ref.uns),
        "reference_names": ref.obs_names.to_numpy().astype(str).astype(object),
        "reference_library": _reference_library(ref, stored),
        "in_sample": in_sample,
    }
    inputs = {"embedding": embedding} | ({"leave_out": own} if in_sample else {})
    decoder, mix = None, {}
    if keys.components is not None:
        decoder, mix = Decoder.learn(keys.components, keys.values), blend_weights(stored, how.predict)
        inputs["regressed"] = regressed_scores(model.to(compute.device), spots.rows, mix, compute=compute)
        provenance["params"]["weights"] = mix
    predictor = Predictor(
        how,
        keys=keys.embedding,
        profiles=keys.values if keys.components is None else keys.components,
        columns=columns,
        decoder=decoder,
        share=mix.get("retrieval", 1.0),
        device=compute.device,
        progress_bar=compute.progress_bar,
    )
    return Prediction(predictor, inputs, ref.n_vars, provenance, embedding, how.k)


def _reference_embedding(ref: AnnData, key: str, match: str, *, width: int) -> Any:
    obsm_key = _keys.expression_embedding(key) if match == "expression" else _keys.image_embedding(key)
    path = f"ref.obsm[{obsm_key!r}]"
    if obsm_key not in ref.obsm:
        msg = f"`{path}` does not exist. {_PLACE_ALL.format(key=key)}"
        raise MissingKeyError(msg)
    keys = _in_space(ref, key, obsm_key, width=width)
    if not all_finite(keys):
        without = sum(int((~np.isfinite(keys[part]).all(axis=1)).sum()) for part in row_blocks(keys))
        msg = (
            f"{without} of {ref.n_obs} spots of `ref` have no embedding in `{path}`, as after "
            f"`anndata.concat`: run `bleep_sc.tl.embed(ref, key={key!r})`, which places all of them."
        )
        raise ValueError(msg)
    return keys


def _in_space(ref: AnnData, key: str, obsm_key: str, *, width: int) -> Any:
    """What an embedding holds, in memory or lazy, if it can be of the model."""
    found, path, remedy = ref.obsm[obsm_key], f"ref.obsm[{obsm_key!r}]", _PLACE_ALL.format(key=key)
    rows = LazyRows(found) if is_lazy(found) else as_numbers(found, path=path, remedy=remedy)
    if rows.shape != (ref.n_obs, width):
        msg = (
            f"`{path}` must have the shape ({ref.n_obs}, {width}), as the model's space; found {rows.shape}: it is of "
            f"another model. {remedy}"
        )
        raise ValueError(msg)
    return rows


def _own_rows(query: AnnData, ref: AnnData, key: str, embedding: np.ndarray, *, depends_on_section: bool) -> np.ndarray:
    """Row of `ref` that each query spot itself is, -1 for none (n_obs,).

    Candidates are spots of the same name, else at the same place (names change in a concatenation). Neither tells by
    itself: array positions serve as names, and slides have spots at one place. So the image must be the same too.

    Where an embedding depends on the other spots of its section, a part of a section is embedded a little otherwise
    than the whole. Then spots at the same place are the reference's own if most of them lie near their candidates.
    """
    obsm_key = _keys.image_embedding(key)
    if obsm_key not in ref.obsm:
        return np.full(query.n_obs, -1)
    images = rows_of(ref.obsm[obsm_key])
    by_name = as_text(ref.obs_names).get_indexer(as_text(query.obs_names)).astype(np.int64)
    own = np.full(query.n_obs, -1)
    for candidates in (_rows_at_the_same_place(query, ref), by_name):
        there = np.flatnonzero(candidates >= 0)
        same = np.isclose(rows_at(images, candidates[there]), embedding[there], rtol=1e-3, atol=1e-3).all(axis=1)
        own[there[same]] = candidates[there[same]]
    if depends_on_section:
        candidates = _rows_at_the_same_place(query, ref)
        there = np.flatnonzero((candidates >= 0) & (own < 0))
        if len(there) and np.median(_cosine(embedding[there], rows_at(images, candidates[there]))) > _MOSTLY_OWN:
            own[there] = candidates[there]
    return own


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of rows with rows."""
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray((a * b).sum(axis=1) / np.maximum(norms, 1e-12))


def _rows_at_the_same_place(query: AnnData, ref: AnnData) -> np.ndarray:
    mine, theirs = known_places(query), known_places(ref)
    if mine is None or theirs is None:
        return np.full(query.n_obs, -1)
    # pairs as one number each, which sorts by x, then y
    here, there = (xy[:, 0] + 1j * xy[:, 1] for xy in (mine, theirs))
    order = np.argsort(there, kind="stable")
    # of several spots at one place the last one
    at = np.searchsorted(there, here, side="right", sorter=order) - 1
    candidates = order[at]
    return np.where((at >= 0) & (there[candidates] == here), candidates, -1)


def _reference_library(ref: AnnData, stored: StoredModel) -> np.ndarray:
    """The section of each reference spot, empty where unknown."""
    library_key = stored.config.get("library_key") or None
    sections = section_of_spots(ref, library_key, name="ref") if library_key in ref.obs else None
    return np.full(ref.n_obs, "", dtype=object) if sections is None else sections
