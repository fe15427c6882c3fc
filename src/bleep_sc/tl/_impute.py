from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from typing import TYPE_CHECKING, Any, get_args

import pandas as pd
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._adata import check_adata, check_reference, with_frames
from bleep_sc._all_or_nothing import AllOrNothing, set_or_delete
from bleep_sc._checks import check_choice, check_int, check_key_added, check_number
from bleep_sc._logging import logger
from bleep_sc._settings import Precision
from bleep_sc.methods.names import Match, Mode, Search
from bleep_sc.models.search.weighting import Weighting

if TYPE_CHECKING:
    from pathlib import Path

    from bleep_sc.methods.prediction import Imputation
    from bleep_sc.methods.record import Method


def impute(
    query: AnnData,
    ref: AnnData,
    *,
    key: str = _keys.MODEL,
    key_added: str | None = None,
    predict: Mode | None = None,
    k: int | None = None,
    match: Match | None = None,
    weighting: Weighting = "mean",
    temperature: float = 0.1,
    search: Search = "exact",
    layer: str | None = None,
    image_key: str | None = None,
    encoder: Callable[..., Any] | Sequence[Callable[..., Any]] | None = None,
    measured: str | None = None,
    batch_size: int | None = None,
    device: str | None = None,
    precision: Precision | None = None,
    progress_bar: bool | None = None,
    store: str | PathLike[str] | None = None,
    copy: bool = False,
) -> AnnData | None:
    """Fill in expression for spots of which only the image is known.

    BLEEP places each query spot's crop into the joint space. It finds the `k` reference spots whose *expression* lies
    nearest by cosine, and averages their measured profiles (Xie et al., NeurIPS 2023, Algorithm 1 as released). A model
    of BLEEP's default recipe mixes that with a regression, unless `predict` says otherwise. All genes of the reference
    are imputed, not only those that the model was trained on.

    The model in `ref` says how it predicts. A regression method puts out its own values, so `k`, `match`, `weighting`,
    `search` and `layer` do not apply. The query's `X` and other layers are neither read nor changed. There are two
    exceptions: the spots that `measured` names, and ``method="counts"``, a yardstick that reads the query's own total
    counts.

    Parameters
    ----------
    query
        Spots with crops cut at the reference's scale. Its `var_names` decide which genes the layer holds;
        :func:`~bleep_sc.pp.blank` makes a query with all of the reference's genes.
    ref
        Spots that :func:`~bleep_sc.tl.fit` was run on, or a part of them (``ref[mask]``). It must hold the values to
        average, `obsm['X_bleep_expression']` and `uns['bleep']`.
    key
        Name of the model in `ref.uns`.
    key_added
        Name of the layer and of the other fields; ``None`` is `key`.
    predict
        How a model of BLEEP's default recipe predicts; other models leave no choice. ``"hybrid"``, which ``None`` means
        for them, mixes retrieval and regression of components of expression as `fit` chose. It correlates best with the
        truth. ``"retrieval"`` gives plain averages of measured profiles, as in the paper. It keeps more of the variance
        and of how genes go together. ``"regression"`` takes the regressions alone, and is smoothest. The docs ("Which
        parts pay") show what each costs.
    k
        Number of reference spots to average. ``None`` takes the number that `fit` chose, else 50 as in the paper. Few
        spots give sharp but noisy maps, many give smooth ones.
    match
        Which embeddings of the reference the query's image embedding is compared with. ``"expression"`` is the paper's
        code, and what ``None`` means for BLEEP. ``"image"`` is what ``None`` means for knn, which has no others.
    weighting
        How the profiles are weighted in the average: ``"mean"`` weighs all alike (the paper), ``"distance"`` by the
        inverse of 1 - cosine, ``"softmax"`` by exp(cosine / `temperature`).
    temperature
        Temperature of the weights of ``weighting="softmax"``.
    search
        How the nearest spots are found. ``"exact"`` compares all. ``"pynndescent"`` is approximate, and its index takes
        long to build. ``"auto"`` takes pynndescent where it should need less than half the time, else exact. It does so
        on a CPU, for hundreds of thousands of spots in both objects (docs, "Speed and memory").
    layer
        Layer of `ref` to average; ``None`` is `ref.X`. The imputed values have its units.
    image_key
        Key of the crops or features in `query.obsm`; ``None`` is the key that the model was trained on.
    encoder
        Your own image encoder, where the model was trained with one; several as a list, in the same order.
    measured
        Boolean column of `query.obs`, True for spots of the query that were measured. Their expression, in `query.X` or
        the layer that the model's values come from, corrects the prediction of their section (Notes). That of all other
        spots is never read. ``None`` corrects nothing.
    batch_size
        Number of crops that are embedded at a time; 256 by default.
    device, precision, progress_bar
        Override the values of the same names in :attr:`bleep_sc.settings` for this call.
    store
        Path of a zarr store to make, such as ``"imputed.zarr"``. The layer is then computed and written chunk by chunk,
        for a query, a reference or a result larger than memory (see the notes). ``None`` makes the layer in memory.
    copy
        Return a changed copy instead of changing `query`.

    Returns
    -------
    ``None``, or the changed copy if ``copy=True``. Sets the following fields:

    `query.layers['bleep' | key_added]` : :class:`numpy.ndarray` (float32, (n_obs, n_vars))
        Imputed expression in the units of `ref`; NaN for genes that the reference lacks. Mixed predictions below 0 are
        set to 0 where the reference holds no negative values. With `store`, the layer is a :class:`dask.array.Array`
        that reads it from there.
    `query.obsm['X_bleep_image' | 'X_{key_added}_image']` : :class:`numpy.ndarray` (float32, (n_obs, dim))
        Image embeddings. Only retrieval sets this field and the next two.
    `query.obsm['bleep_neighbors' | '{key_added}_neighbors']` : :class:`numpy.ndarray` (int32, (n_obs, k))
        Rows of `ref` that were averaged, best first.
    `query.obsm['bleep_distances' | '{key_added}_distances']` : :class:`numpy.ndarray` (float32, (n_obs, k))
        Distances of these rows, 1 - cosine, ascending.
    `query.obs['bleep_reliability' | '{key_added}_reliability']` : :class:`pandas.Series` (dtype `float64`)
        How far each spot looks like the reference's: a p-value, low for a spot unlike anything in the reference. Only
        methods that read images set it (Notes).
    `query.uns['bleep' | key_added]` : `dict`
        ``params``, ``units``, ``panels``, ``model_sha256`` and ``in_sample``. `measured` adds the table
        ``measured_spots``, what was chosen in each section. Retrieval also sets ``reference_names``
        and ``reference_library``, the names and sections of the reference spots that the rows above point to. Methods
        that read images set ``reliability``, a table with the verdict on each section.

    Bounds that :func:`~bleep_sc.tl.intervals` has written of an earlier layer of this name are removed.

    Raises
    ------
    KeyError
        No crops in `query`; no model, embedding or values in `ref`.
    ValueError
        `k` above the reference's size; no shared genes; crops of another scale; rows of `ref` without an embedding; a
        damaged or foreign model; a way to `predict` that the model does not have; `query` a view; a column `measured`
        that is not boolean; measured values in other units than the reference's; `store` with `measured`,
        ``method="histogene"`` or ``search="pynndescent"``; a dask array that was persisted on a cluster.
    FileExistsError, FileNotFoundError
        A file or folder is at `store` already, or the folder that it goes into does not exist.

    Notes
    -----
    A spot of the query can be one of the reference's own (same name, and same image embedding or place). Such spots do
    not retrieve themselves. The result is then marked as in-sample: the model has seen these spots, so scores on them
    say little.

    A warning says where fewer than half of the genes are shared, and gives the code that spells the query's names as
    the model does. Another says where rows of `ref` were placed by another model, as after a concat of references that
    were fitted apart, or where expression was changed since the fit.

    **Reliability.** The distance of a spot from the reference is taken in image features as they are, so that a
    slide of another stain is not hidden. Its rank among spots of the reference, held out by patient or else by
    section, is the p-value. About one in twenty spots of a slide like the reference is at 0.05 or below. Where
    several encoders are fused, it is the smallest of their p-values times their number. A section with more than a
    fifth of such spots is called "another patient, stain or scanner" in the log. Most new patients are, and that is
    no alarm. A warning names sections that are so far off that other tissue or a fault of image or scale is likely.
    The reliability does not rank errors: in a new patient, the prediction is no better where it is high. A model of
    format version 1 has none.

    **Measured spots.** A residual, measured minus predicted, has a level and a pattern. The level of each gene is the
    mean residual of the section's measured spots, shrunk towards 0. The pattern is found on components of the
    reference's expression by kriging: it varies smoothly over the section and over what was predicted. How much of it
    is added, from nothing to all, is chosen by leaving measured spots out in blocks. A measured spot itself gets the
    prediction that the other blocks make of it, so the layer never repeats what was measured there. A section with
    fewer than 4 measured spots is left as it is. Places are needed in `query` and `ref` (``obsm["spatial"]``). The docs
    ("A few measured spots") show what it gains.

    **Larger than memory.** Dask arrays in `query` (``bl.pp.crops(..., lazy=True)``) and in both objects
    (:func:`anndata.experimental.read_lazy`) are read part by part, with `store` or without. With `store` the work runs
    where dask runs: on the cluster whose `distributed.Client` was started, or on the scheduler that dask is configured
    with. Otherwise it runs chunk after chunk in this process. One task predicts each chunk of spots. It reads what it
    needs of the reference, once, and writes its part of the layer. A reference in memory is sent to each worker once.
    All workers must see the folder of `store`, and the files behind the dask arrays, under the same path.

    A task takes at most twice :attr:`bleep_sc.settings`' ``memory`` (of 32 MB or more) beyond the part of the reference
    that is in memory. It also takes one chunk of what it reads, as that is stored; CSC matrices have no chunks of spots
    and are read whole. Each chunk of the layer fills half of ``memory``. With plain retrieval each chunk reads the
    reference anew, so more memory means fewer passes. This process holds names, places and `obs`, image features and
    embeddings of the query. Like each worker, it also holds the reference's scores on its components. Together these
    are some kilobytes a spot.

    The store is an AnnData with the query's `obs`, `var` and places, ``uns["spatial"]`` and all fields named above.
    :func:`anndata.read_zarr` and :func:`anndata.experimental.read_lazy` open it. It is written beside its path and
    renamed when whole. So after an error, or Ctrl-C, there is no store, and the query is as before.
    """
    check_adata(query, name="query", copy=copy)
    check_reference(ref)
    if k is not None:
        check_int("k", k)
    if predict is not None:
        check_choice("predict", predict, get_args(Mode))
    if match is not None:
        check_choice("match", match, get_args(Match))
    check_choice("weighting", weighting, get_args(Weighting))
    check_choice("search", search, get_args(Search))
    check_number("temperature", temperature, above=0)

    from bleep_sc.io._novelty import novelties_from_uns
    from bleep_sc.io._trained import load_model
    from bleep_sc.methods.look import by_encoder, see
    from bleep_sc.methods.prediction import Neighbors, Request
    from bleep_sc.models.device import resolve_compute
    from bleep_sc.tl._inputs import AsStored, read
    from bleep_sc.tl._inputs.genes import Available, shared_genes
    from bleep_sc.tl._inputs.reference import neighbors_to_average, read_reference
    from bleep_sc.tl._load import check_no_other_model, sections_like
    from bleep_sc.tl._measured.correct import corrected
    from bleep_sc.tl._measured.read import read_measured
    from bleep_sc.tl._store import check_store
    from bleep_sc.tl._trust.reliability import RELIABILITY, judge, report

    path = None if store is None else check_store(store, measured=measured)
    compute = resolve_compute(device=device, precision=precision, batch_size=batch_size, progress_bar=progress_bar)
    name = key if key_added is None else key_added
    check_key_added("key_added", name)
    seen, ref = with_frames(query), with_frames(ref)
    if ref.isbacked and ref.is_view:  # of which anndata takes no rows again
        ref = ref.to_memory()
    stored, trained = load_model(ref, key)
    method = trained.method
    check_no_other_model(query, name, stored)
    if path is not None:
        _check_goes_in_chunks(method, search)
        search = "exact"
    mode, how = method.mode(predict), None
    if stored.config.slim:
        _announce_slim(measured)
    if method.space is not None:
        k = neighbors_to_average(k, ref, stored)
        how = Neighbors(mode, k, match or method.space.match, weighting, temperature, search, layer)
    reference = read_reference(seen, ref, key, trained=trained, stored=stored, how=how)
    sections = sections_like(seen, stored, image_key, name="query")
    by_spots = read_measured(seen, ref, measured, sections=sections, layer=layer, stored=stored, method=method)
    if method.retrieves:
        available = Available(ref.var_names, "the reference", "ref.var_names", ref.var)
    else:
        available = Available(pd.Index(stored.genes), "the model", f"ref.uns[{key!r}]['genes']", ref.var)
    columns = shared_genes(seen, available)
    images = AsStored(stored.config.image, image_key, encoder, trained.networks)
    spots = read(seen, method.needs(trained.method_config), images, sections=sections, compute=compute, name="query")
    novelties = novelties_from_uns(ref.uns[key], where=f"ref.uns[{key!r}]")
    reliability = None
    if novelties:
        features, trained, spots = see(trained, spots, compute)
        of_encoders = by_encoder(features, spots.widths) if len(spots.encoders) > 1 else [features]
        reliability = judge(novelties, of_encoders, sections, where=f"ref.uns[{key!r}]")
        report(reliability, image_key=image_key or stored.config.image.key, from_crops=spots.kind.from_crops)
    spots = method.see_in_section(trained, spots)
    imputation = method.predict(trained, spots, reference, Request(columns, compute, how))
    imputation.provenance.update(
        panels={panel: genes.astype(object) for panel, genes in stored.panels.items()}, model_sha256=stored.sha256
    )
    if reliability is not None:
        imputation.provenance[RELIABILITY] = reliability.sections
        imputation = replace(imputation, reliability=reliability.p_values)
    imputation = corrected(imputation, by_spots)
    return _write(query, seen, imputation, name, path=path, progress_bar=compute.progress_bar, copy=copy)


def _write(
    query: AnnData,
    seen: AnnData,
    imputation: "Imputation",
    name: str,
    *,
    path: "Path | None",
    progress_bar: bool,
    copy: bool,
) -> AnnData | None:
    """Impute, in memory or into a store, and set all fields of the result or none."""
    from bleep_sc.io._reference_record import PLACED
    from bleep_sc.tl._inputs.placed import record_placed
    from bleep_sc.tl._store import impute_to_store

    with AllOrNothing() as undo:
        if path is None:
            imputed = imputation.impute(**imputation.inputs)
        else:
            imputed = impute_to_store(path, seen, imputation, name=name, progress_bar=progress_bar, undo=undo)
        query = query.copy() if copy else query
        undo.keep(query)
        query.layers[name] = imputed.expression
        # bounds of an earlier layer of this name
        set_or_delete(query.layers, {_keys.bound(name, end): None for end in ("lower", "upper")})
        set_or_delete(query.uns, {_keys.intervals(name): None})
        retrieved = {
            _keys.image_embedding(name): imputation.embedding,
            _keys.neighbors(name): imputed.rows,
            _keys.distances(name): imputed.distances,
        }
        set_or_delete(query.obsm, retrieved)
        kept = _kept(query, name)
        query.uns[name] = {**kept, **imputation.provenance}
        if imputation.embedding is not None and PLACED in kept:
            record_placed(query, retrieved, name, imputation.provenance["model_sha256"])
        # last, since `obs` that `read_lazy` left on disk is not put back
        set_or_delete(query.obs, {_keys.reliability(name): imputation.reliability})
    return query if copy else None


def _kept(query: AnnData, name: str) -> dict[str, Any]:
    """Return what stays: the model of a reference that is its own query, and the record of what `embed` placed."""
    from bleep_sc.io._reference_record import PLACED
    from bleep_sc.tl._load import has_model
    from bleep_sc.tl._measured.record import MEASURED_SPOTS
    from bleep_sc.tl._trust.reliability import RELIABILITY

    entry = query.uns.get(name)
    if not isinstance(entry, Mapping):
        return {}
    if has_model(query, name):
        return {part: values for part, values in entry.items() if part not in (RELIABILITY, MEASURED_SPOTS)}
    return {part: entry[part] for part in (PLACED,) if part in entry}


def _announce_slim(measured: str | None) -> None:
    """Say what a slim model does without, and refuse what needs the reference's spots."""
    if measured is not None:
        msg = (
            f"`measured={measured!r}`: how genes go together, by which measured spots correct others, is read from the "
            "reference's spots, and a slim model has none. Leave `measured` out, or ask for the reference itself."
        )
        raise ValueError(msg)
    logger.info("`ref` is a slim model: it predicts by regression, and no neighbours are stored.")


def _check_goes_in_chunks(method: "Method[Any]", search: Search) -> None:
    """Refuse what cannot be predicted chunk by chunk: with a store, any free worker predicts a chunk by itself."""
    if not method.in_chunks:
        msg = f"`store`: `method={method.name!r}` reads neighbouring spots together, not in chunks. Leave `store` out."
        raise ValueError(msg)
    if search == "pynndescent":
        msg = "`store`: `search='pynndescent'` would build its index anew for each chunk. Take `search='exact'`."
        raise ValueError(msg)
