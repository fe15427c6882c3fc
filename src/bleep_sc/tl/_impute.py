from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._errors import MissingKeyError
from bleep_sc._logging import logger
from bleep_sc._settings import Precision
from bleep_sc._validate import check_adata, check_choice, check_int, check_number, check_readable, section_of_spots
from bleep_sc.io._stored import StoredModel

Match = Literal["expression", "image"]
Weighting = Literal["mean", "distance", "softmax"]
Search = Literal["exact", "pynndescent"]


def impute(
    query: AnnData,
    ref: AnnData,
    *,
    key: str = _keys.MODEL,
    key_added: str | None = None,
    k: int = 50,
    match: Match = "expression",
    weighting: Weighting = "mean",
    temperature: float = 0.1,
    search: Search = "exact",
    layer: str | None = None,
    image_key: str | None = None,
    encoder: Callable[..., Any] | None = None,
    batch_size: int | None = None,
    device: str | None = None,
    precision: Precision | None = None,
    progress_bar: bool | None = None,
    copy: bool = False,
) -> AnnData | None:
    """Fill in expression for spots of which only the image is known, by retrieval from a reference.

    Each query spot's crop is placed into the joint space; the `k` reference spots whose *expression* lies nearest by
    cosine are found, and their measured profiles averaged (Xie et al., NeurIPS 2023, Algorithm 1 as released). All
    genes of the reference are imputed, not only those that the model was trained on. The query's `X`, `obs` and other
    layers are neither read nor changed.

    Parameters
    ----------
    query
        Spots with crops cut at the reference's scale. Its `var_names` decide which genes the layer holds;
        :func:`~bleep_sc.pp.blank` makes a query with all of the reference's genes.
    ref
        Spots that :func:`~bleep_sc.tl.fit` was run on, or a part of them (``ref[mask]``). Needed of it: the values to
        average, `obsm['X_bleep_expression']` and `uns['bleep']`.
    key
        Name of the model in `ref.uns`.
    key_added
        Name of the layer and of the other fields; ``None`` is `key`.
    k
        Number of reference spots to average; 50 in the paper. Few give sharp but noisy maps, many smooth ones.
    match
        Compare the query's image embedding with the reference's ``"expression"`` (the paper's code) or ``"image"``
        embeddings.
    weighting
        ``"mean"`` (the paper), ``"distance"`` (by the inverse of 1 - cosine) or ``"softmax"`` (exp(cosine /
        `temperature`)).
    temperature
        Of ``weighting="softmax"``.
    search
        ``"exact"``, or ``"pynndescent"``: approximate, for very large references on a CPU.
    layer
        Layer of `ref` to average; ``None`` is `ref.X`. The imputed values have its units.
    image_key
        Crops or features in `query.obsm`; ``None``: the key that the model was trained on.
    encoder
        Your own image encoder, where the model was trained with one.
    batch_size
        Crops embedded at a time; 256 by default.
    device, precision, progress_bar
        In place of :attr:`bleep_sc.settings`'s.
    copy
        Return a changed copy instead of changing `query`.

    Returns
    -------
    ``None``, or the changed copy if ``copy=True``. Sets the following fields:

    `query.layers['bleep' | key_added]` : :class:`numpy.ndarray` (float32, (n_obs, n_vars))
        Imputed expression in the units of `ref`; NaN for genes that the reference lacks.
    `query.obsm['X_bleep_image' | 'X_{key_added}_image']` : :class:`numpy.ndarray` (float32, (n_obs, dim))
        Image embeddings.
    `query.obsm['bleep_neighbors' | '{key_added}_neighbors']` : :class:`numpy.ndarray` (int32, (n_obs, k))
        Rows of `ref` that were averaged, best first.
    `query.obsm['bleep_distances' | '{key_added}_distances']` : :class:`numpy.ndarray` (float32, (n_obs, k))
        Their distances 1 - cosine, ascending.
    `query.uns['bleep' | key_added]` : `dict`
        ``params``, ``units``, ``panels``, ``reference_names`` and ``reference_library`` (what the rows above point
        to), ``model_sha256`` and ``in_sample``.

    Raises
    ------
    KeyError
        No crops in `query`; no model, embedding or values in `ref`.
    ValueError
        `k` above the reference's size; no shared genes; crops of another scale; rows of `ref` without an embedding; a
        damaged or foreign model; `query` a view.

    Notes
    -----
    Spots of the query that are the reference's own (same name and same image embedding) do not retrieve themselves,
    and the result is marked as in-sample: the model has seen them, so scores on them say little.
    """
    check_adata(query, name="query")
    check_readable(ref, name="ref")
    check_int("k", k)
    check_choice("match", match, get_args(Match))
    check_choice("weighting", weighting, get_args(Weighting))
    check_choice("search", search, get_args(Search))
    check_number("temperature", temperature, above=0)

    from bleep_sc._expression import describe_units, expression_values
    from bleep_sc.models.device import resolve_compute
    from bleep_sc.models.embedding import embed_in_batches
    from bleep_sc.models.retrieval import average_profiles, nearest, nearest_approximately, neighbor_weights
    from bleep_sc.tl._images import image_input_like
    from bleep_sc.tl._load import load_model

    compute = resolve_compute(device=device, precision=precision, batch_size=batch_size, progress_bar=progress_bar)
    name = key if key_added is None else key_added
    if k > ref.n_obs:
        msg = f"`k={k}` is more than the {ref.n_obs} spots of `ref`: the largest possible `k` is {ref.n_obs}."
        raise ValueError(msg)
    stored, model = load_model(ref, key)
    _check_no_other_model(query, name, stored)
    keys = _reference_embedding(ref, key, match, width=stored.config["model"]["dim"])
    columns = _shared_genes(query, ref)
    values = expression_values(ref, layer, name="ref")
    images = image_input_like(
        query,
        image_key,
        stored.config["image"],
        encoder,
        compute=compute,
        name="query",
    )
    embedding = embed_in_batches(
        model.to(compute.device).embed_image,
        images.rows,
        compute=compute,
        desc="Embedding images",
    )
    own = _own_rows(query, ref, key, embedding)
    in_sample = bool((own >= 0).any())
    if in_sample:
        if k > ref.n_obs - 1:
            msg = f"`k={k}`: each spot's own profile is left out, so the largest possible `k` is {ref.n_obs - 1}."
            raise ValueError(msg)
        logger.info(
            "In-sample: %d of %d query spots belong to the reference. Each one's own profile is left out, but the "
            "model was trained on them, so scores on them do not say how well new tissue is predicted.",
            (own >= 0).sum(),
            query.n_obs,
        )
    leave_out = own if in_sample else None
    if search == "exact":
        rows, distances = nearest(embedding, keys, k, leave_out=leave_out, device=compute.device)
    else:
        rows, distances = nearest_approximately(embedding, keys, k, leave_out=leave_out)
    weights = neighbor_weights(distances, weighting, temperature=temperature)
    imputed = _into_columns(average_profiles(values[:, columns[columns >= 0]], rows, weights), columns)

    provenance = {
        "params": {
            "method": stored.config["method"],
            "k": int(k),
            "match": match,
            "weighting": weighting,
            "temperature": float(temperature),
            "search": search,
            "layer": "X" if layer is None else layer,
        },
        "units": describe_units(values, log1p_recorded="log1p" in ref.uns),
        "panels": {panel: genes.astype(object) for panel, genes in stored.panels.items()},
        "reference_names": ref.obs_names.to_numpy().astype(str).astype(object),
        "reference_library": _reference_library(ref, stored),
        "model_sha256": stored.sha256,
        "in_sample": in_sample,
    }
    query = query.copy() if copy else query
    query.layers[name] = imputed
    query.obsm[_keys.image_embedding(name)] = embedding
    query.obsm[_keys.neighbors(name)] = rows
    query.obsm[_keys.distances(name)] = distances
    # a reference that is its own query keeps its model
    query.uns[name] = {**dict(query.uns.get(name, {})), **provenance} if _has_model(query, name) else provenance
    return query if copy else None


def _has_model(adata: AnnData, key: str) -> bool:
    entry = adata.uns.get(key)
    return isinstance(entry, dict) and "model" in entry


def _check_no_other_model(query: AnnData, name: str, stored: StoredModel) -> None:
    """A query that holds a model of its own under the same name would lose its embeddings."""
    if _has_model(query, name) and np.asarray(query.uns[name]["model"]).tobytes() != stored.weights:
        msg = (
            f"`query.uns[{name!r}]` holds another model than `ref`'s; its embeddings would be overwritten. Choose "
            f"another name for the result, such as `key_added='{name}_2'`."
        )
        raise ValueError(msg)


def _reference_embedding(ref: AnnData, key: str, match: str, *, width: int) -> np.ndarray:
    obsm_key = _keys.expression_embedding(key) if match == "expression" else _keys.image_embedding(key)
    path = f"ref.obsm[{obsm_key!r}]"
    if obsm_key not in ref.obsm:
        msg = f"`{path}` does not exist: run `bleep_sc.tl.embed(ref, key={key!r})`, which places all spots of `ref`."
        raise MissingKeyError(msg)
    keys = np.asarray(ref.obsm[obsm_key], dtype=np.float32)
    if keys.shape != (ref.n_obs, width):
        msg = f"`{path}` must have the shape ({ref.n_obs}, {width}), as the model's space; found {keys.shape}."
        raise ValueError(msg)
    without = ~np.isfinite(keys).all(axis=1)
    if without.any():
        msg = (
            f"{without.sum()} of {ref.n_obs} spots of `ref` have no embedding in `{path}`, as after "
            f"`anndata.concat`: run `bleep_sc.tl.embed(ref, key={key!r})`, which places all of them."
        )
        raise ValueError(msg)
    return keys


def _shared_genes(query: AnnData, ref: AnnData) -> np.ndarray:
    """Column of `ref` for each gene of the query, -1 where it has none (n_vars,)."""
    columns: np.ndarray = ref.var_names.get_indexer(query.var_names)
    shared = int((columns >= 0).sum())
    if shared == 0:
        msg = (
            f"`query` and `ref` share no gene: `query.var_names` are such as {list(query.var_names[:3])}, "
            f"`ref.var_names` such as {list(ref.var_names[:3])}. Name genes alike in both (symbols or Ensembl ids), or "
            "make the query with `bleep_sc.pp.blank(ref, ...)`."
        )
        raise ValueError(msg)
    if shared < ref.n_vars:
        logger.info(
            "%d of the reference's %d genes are not in `query` and are left out; a query made with "
            "`bleep_sc.pp.blank(ref, ...)` has them all.",
            ref.n_vars - shared,
            ref.n_vars,
        )
    if shared < query.n_vars:
        logger.info("%d of the query's %d genes are not in `ref`: NaN.", query.n_vars - shared, query.n_vars)
    return columns


def _into_columns(imputed: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Spread the imputed shared genes over the query's genes."""
    if (columns >= 0).all():
        return imputed
    out = np.full((len(imputed), len(columns)), np.nan, dtype=np.float32)
    out[:, columns >= 0] = imputed
    return out


def _own_rows(query: AnnData, ref: AnnData, key: str, embedding: np.ndarray) -> np.ndarray:
    """Row of `ref` that each query spot itself is, -1 for none (n_obs,).

    Names alone do not tell: array positions serve as names in many sections. So the image must be the same too.
    """
    own: np.ndarray = ref.obs_names.get_indexer(query.obs_names).astype(np.int64)
    obsm_key = _keys.image_embedding(key)
    if obsm_key not in ref.obsm:
        return np.full(query.n_obs, -1)
    images = np.asarray(ref.obsm[obsm_key], dtype=np.float32)[own]
    same = np.isclose(images, embedding, rtol=1e-3, atol=1e-3).all(axis=1)
    return np.where(same, own, -1)


def _reference_library(ref: AnnData, stored: StoredModel) -> np.ndarray:
    """The section of each reference spot, empty where unknown."""
    library_key = stored.config.get("library_key") or None
    sections = section_of_spots(ref, library_key, name="ref") if library_key in ref.obs else None
    return np.full(ref.n_obs, "", dtype=object) if sections is None else sections
