"""Reads and checks what a reference offers to a query, before any image is embedded."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._adata import as_numbers, as_text, known_places, section_of_spots
from bleep_sc._blocks import LazyRows, is_lazy, row_blocks, rows_at, rows_of
from bleep_sc._checks import MissingKeyError
from bleep_sc._expression import expression_input, expression_values, lacks_expression, path_of, reference_values
from bleep_sc._logging import warn
from bleep_sc._stats import all_finite, are_whole_counts, describe_units, log_depth, section_rows
from bleep_sc.io._components import PLACE_ALL, read_components
from bleep_sc.io._reference_record import ReferenceRecord
from bleep_sc.io._stored import StoredModel
from bleep_sc.methods.predicting.neighbors import cosine
from bleep_sc.methods.prediction import Neighbors, Reference
from bleep_sc.methods.record import Space
from bleep_sc.methods.task import Trained
from bleep_sc.tl._inputs.measured import warn_of_other_values
from bleep_sc.tl._inputs.placed import warn_of_strange_rows
from bleep_sc.tl._load import sections_like

_ROWS_TO_CHECK = 16
_SAME = 0.99
_PAPER_K = 50


def neighbors_to_average(k: int | None, ref: AnnData, stored: StoredModel) -> int:
    """Choose how many neighbours to average: the user's number, else that which `fit` chose, else the paper's.

    A number that the user did not pass is cut to the spots that there are.
    """
    if k is not None:
        return k
    return min(int(stored.config.method_config.get("chosen", {}).get("k", _PAPER_K)), max(1, ref.n_obs - 1))


def read_reference(
    query: AnnData, ref: AnnData, key: str, *, trained: Trained, stored: StoredModel, how: Neighbors | None
) -> Reference:
    """Read what a method needs of a reference to predict a query; no values where it does not retrieve."""
    query_places, ref_places = known_places(query), known_places(ref)
    same_name = as_text(ref.obs_names).get_indexer(as_text(query.obs_names)).astype(np.int64)
    same_place = _rows_at_the_same_place(query_places, ref_places, query.n_obs)
    shares_spots = False
    if query_places is not None and ref_places is not None:
        shares_spots = bool(((same_name >= 0) & (query_places == ref_places[same_name]).all(axis=1)).any())
    bare = Reference(ref.n_obs, same_name, same_place, shares_spots)
    if how is None or trained.method.space is None:
        return bare
    return _with_values(bare, ref, key, trained=trained, space=trained.method.space, stored=stored, how=how)


def read_expression_rows(
    adata: AnnData, trained: Trained, sections: np.ndarray | None, stored: StoredModel, *, of_reference: bool, name: str
) -> np.ndarray:
    """Read the input of the model's expression heads; spots of the reference are centred as they were in training."""
    source = stored.config.expression
    expression = expression_input(
        adata,
        layer=source.layer,
        use_rep=source.use_rep,
        mask_var=None,
        genes=stored.genes,
        keep_sparse=trained.method.reads_sparse,
        name=name,
    )
    space = trained.method.space
    assert space is not None  # noqa: S101 - asked of methods with a space alone
    depth = None
    if space.reads_depth(trained.method_config):
        depth = log_depth(expression_values(adata, _keys.COUNTS, name=name))
        of_reference = of_reference and not _lost_genes(adata, trained, space)  # the depth that is left is another
    return space.read_expression(trained, expression.matrix, sections, depth=depth, of_reference=of_reference)


def _lost_genes(adata: AnnData, trained: Trained, space: Space) -> bool:
    """Tell whether the depth of spots is less than it was in training, since the counts of some genes are gone."""
    config = trained.method_config
    return space.reads_depth(config) and adata.n_vars < space.depth_genes(config)


def check_depth(adata: AnnData, trained: Trained) -> None:
    """Refuse what stands in place of raw counts, where the model reads the depth of each spot."""
    space = trained.method.space
    if space is None or not space.reads_depth(trained.method_config) or _keys.COUNTS not in adata.layers:
        return
    if not adata.n_vars:  # the expression is not read either
        return
    if not are_whole_counts(expression_values(adata, _keys.COUNTS, name="adata")):
        path = path_of("adata", _keys.COUNTS)
        msg = (
            f"`{path}` does not hold raw counts, and the model reads the depth of each spot from them. Put the counts "
            f"there, or `del {path}` to place the images alone."
        )
        raise ValueError(msg)


def lacks_input(adata: AnnData, trained: Trained, stored: StoredModel) -> str:
    """Say why the expression heads cannot read these spots; empty where they can."""
    source, space = stored.config.expression, trained.method.space
    lacking = lacks_expression(adata, source.layer, source.use_rep, stored.genes)
    if lacking or space is None or not space.reads_depth(trained.method_config) or _keys.COUNTS in adata.layers:
        return lacking
    return f"`{path_of('adata', _keys.COUNTS)}` does not exist, and the model reads the depth of each spot"


def _with_values(
    bare: Reference, ref: AnnData, key: str, *, trained: Trained, space: Space, stored: StoredModel, how: Neighbors
) -> Reference:
    if how.k > ref.n_obs:
        msg = f"`k={how.k}` is more than the {ref.n_obs} spots of `ref`: the largest possible `k` is {ref.n_obs}."
        raise ValueError(msg)
    if how.match == "expression" and not space.has_expression:
        msg = (
            "`match='expression'` needs an embedding of expression, and "
            f"`method={trained.method.name!r}` has none: leave `match` out."
        )
        raise ValueError(msg)
    width = int(trained.model.width)
    keys = _embedding(ref, key, how.match, width=width)
    images_key = _keys.image_embedding(key)
    if images_key in ref.obsm:  # by which the reference's own spots are recognised
        _in_space(ref, key, images_key, width=width)
    mixes = space.centred and how.predict != "retrieval"
    components = read_components(ref, key, trained) if mixes else None
    values = reference_values(ref, how.layer)
    placed = {_embedding_key(key, how.match): keys, _keys.components(key): components}
    _warn_of_another_reference(ref, key, placed, values, trained=trained, space=space, stored=stored, how=how)
    return replace(
        bare,
        images=rows_of(ref.obsm[images_key]) if images_key in ref.obsm else None,
        keys=keys,
        values=values,
        components=components,
        units=describe_units(values, log1p_recorded="log1p" in ref.uns),
        names=ref.obs_names.to_numpy().astype(str).astype(object),
        library=_library(ref, stored),
    )


def _warn_of_another_reference(
    ref: AnnData,
    key: str,
    placed: Mapping[str, Any],
    values: Any,
    *,
    trained: Trained,
    space: Space,
    stored: StoredModel,
    how: Neighbors,
) -> None:
    """Warn once where rows are of another model, or expression is not that which the model was fitted on.

    `placed` holds the rows that are read, by field of `obsm`. Models of earlier versions have no record of either.
    """
    record, layer = ReferenceRecord.from_uns(ref.uns[key], where=f"ref.uns[{key!r}]"), stored.config.expression.layer
    said = bool(record.placed) and warn_of_strange_rows(placed, record.fingerprints, key=key, model=stored.sha256)
    if record.measured is not None and how.layer == layer and not said:
        said = warn_of_other_values(ref, values, record.measured, layer=layer, key=key)
    # where another layer is averaged, what the model has read may have changed since
    if how.match == "expression" and (how.layer == layer or not record.placed):
        rows = placed[_keys.expression_embedding(key)]
        _warn_of_other_expression(ref, key, rows, trained=trained, space=space, stored=stored, said=said)


def _warn_of_other_expression(
    ref: AnnData, key: str, embedding: Any, *, trained: Trained, space: Space, stored: StoredModel, said: bool
) -> None:
    """Warn where a few rows, embedded again, differ from those stored, unless that was said; refuse negative values."""
    sections = sections_like(ref, stored, None, name="ref")
    rows = np.arange(ref.n_obs)
    if space.centred:  # sections that were added later are centred by all of their spots: not by a few
        known = trained.method_config["centers"]
        in_known = [of_section for name, of_section in section_rows(sections, ref.n_obs) if name in known]
        rows = np.concatenate(in_known or [rows[:0]])
    if len(rows):
        rows = np.sort(rows)[np.unique(np.linspace(0, len(rows) - 1, _ROWS_TO_CHECK).astype(int))]
    spots = ref[rows]
    if not len(rows) or lacks_input(spots, trained, stored) or _lost_genes(spots, trained, space):
        return
    sections = None if sections is None else sections[rows]
    expression = read_expression_rows(spots, trained, sections, stored, of_reference=True, name="ref")
    with torch.inference_mode():
        again = trained.model.embed_expression(torch.from_numpy(expression)).numpy()
    similarity = cosine(again, rows_at(embedding, rows))
    if (similarity < _SAME).any() and not said:
        warn(
            f"`ref.obsm[{_keys.expression_embedding(key)!r}]` is not what the model {key!r} makes of `ref`'s "
            f"expression ({(similarity < _SAME).sum()} of {len(rows)} rows looked at): it is of another model, or the "
            f"expression was changed since. Place all spots again with `bleep_sc.tl.embed(ref, key={key!r})`."
        )


def _embedding_key(key: str, match: str) -> str:
    return _keys.expression_embedding(key) if match == "expression" else _keys.image_embedding(key)


def _embedding(ref: AnnData, key: str, match: str, *, width: int) -> Any:
    """Read the embedding of every spot that queries are compared with."""
    obsm_key = _embedding_key(key, match)
    path = f"ref.obsm[{obsm_key!r}]"
    if obsm_key not in ref.obsm:
        msg = f"`{path}` does not exist. {PLACE_ALL.format(key=key)}"
        raise MissingKeyError(msg)
    keys = _in_space(ref, key, obsm_key, width=width)
    if not all_finite(keys):
        without = sum(int((~np.isfinite(keys[block]).all(axis=1)).sum()) for block in row_blocks(keys))
        msg = (
            f"{without} of {ref.n_obs} spots of `ref` have no embedding in `{path}`, as after "
            f"`anndata.concat`: run `bleep_sc.tl.embed(ref, key={key!r})`, which places all of them."
        )
        raise ValueError(msg)
    return keys


def _in_space(ref: AnnData, key: str, obsm_key: str, *, width: int) -> Any:
    """Read an embedding, in memory or lazy; refuse one whose shape is not that of the model's space."""
    embedding, path, remedy = ref.obsm[obsm_key], f"ref.obsm[{obsm_key!r}]", PLACE_ALL.format(key=key)
    rows = LazyRows(embedding) if is_lazy(embedding) else as_numbers(embedding, path=path, remedy=remedy)
    if rows.shape != (ref.n_obs, width):
        msg = (
            f"`{path}` must have the shape ({ref.n_obs}, {width}), as the model's space; found {rows.shape}: it is of "
            f"another model. {remedy}"
        )
        raise ValueError(msg)
    return rows


def _rows_at_the_same_place(query_places: np.ndarray | None, ref_places: np.ndarray | None, n_query: int) -> np.ndarray:
    """Find the row of the reference's spot at the place of each query spot (n_query,); -1 for none."""
    if query_places is None or ref_places is None:
        return np.full(n_query, -1)
    # pairs as one number each, which sorts by x, then y
    query_points, ref_points = (xy[:, 0] + 1j * xy[:, 1] for xy in (query_places, ref_places))
    order = np.argsort(ref_points, kind="stable")
    # of several spots at one place the last one
    position = np.searchsorted(ref_points, query_points, side="right", sorter=order) - 1
    candidates = order[position]
    return np.where((position >= 0) & (ref_points[candidates] == query_points), candidates, -1)


def _library(ref: AnnData, stored: StoredModel) -> np.ndarray:
    """Read the section of each reference spot, empty where it is not known."""
    library_key = stored.config.library_key or None
    sections = section_of_spots(ref, library_key, name="ref") if library_key in ref.obs else None
    return np.full(ref.n_obs, "", dtype=object) if sections is None else sections
