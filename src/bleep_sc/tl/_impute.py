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
from bleep_sc.models.threads import on_allowed_cores

if TYPE_CHECKING:
    from pathlib import Path

    from bleep_sc.methods.prediction import Imputation
    from bleep_sc.methods.record import Method


@on_allowed_cores()
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
    """Predict expression for spots that have only an image.

    The *reference* `ref` holds a model of :func:`~bleep_sc.tl.fit` and the spots that the model learned from. The
    *query* holds the spots to predict. The model determines how values are predicted:

    - Published BLEEP (``preset="paper"`` of :func:`~bleep_sc.tl.fit`) places the crop of each query spot in the joint
      space. It finds the `k` reference spots whose *expression* is nearest by cosine, and averages their measured
      profiles (Xie et al., NeurIPS 2023, Algorithm 1 as released). This is *retrieval*.
    - knn does the same with reference spots whose *image features* are nearest.
    - BLEEP's default recipe mixes retrieval with two regressions, unless `predict` says otherwise.
    - All other methods compute values of their own. They do not use `k`, `match`, `weighting`, `search` and `layer`.

    BLEEP and knn predict all genes of the reference, not only those that the model was trained on. For the other
    methods, see the table of :func:`~bleep_sc.tl.fit`.

    The query's `X` and other layers are not changed. They are not read either, with two exceptions. The spots that
    `measured` marks are read, and ``method="counts"`` reads the query's total counts.

    Parameters
    ----------
    query
        Spots with crops, cut at the reference's scale. Its `var_names` decide which genes the layer holds.
        :func:`~bleep_sc.pp.blank` makes a query with all genes of the reference.
    ref
        Spots that :func:`~bleep_sc.tl.fit` was run on, or a part of them (``ref[mask]``), with the fields that `fit`
        set. For BLEEP and knn it must also hold the expression to average. A slim model
        (:func:`~bleep_sc.io.read_slim_model`) needs no spots and no expression.
    key
        Name of the model in `ref.uns`.
    key_added
        Name of the layer and of the other fields; ``None`` is `key`.
    predict
        How a model of BLEEP's default recipe predicts. ``None`` is ``"hybrid"`` for these models. All other models have
        one way only, which ``None`` takes. ``"hybrid"`` mixes retrieval and the regressions in the proportions that
        `fit` chose, and correlates best with the truth. ``"retrieval"`` averages measured profiles, as in the paper. It
        keeps more of the variance, and more of the correlations between genes. ``"regression"`` uses the regressions
        alone, and is smoothest. The docs ("Which parts pay") compare the three.
    k
        Number of reference spots to average. ``None`` takes the number that `fit` chose for BLEEP's default recipe. For
        published BLEEP and knn, ``None`` is 50 as in the paper. With few spots maps are sharp but noisy, with many they
        are smooth.
    match
        Which embeddings of the reference to compare the query's image embedding with: ``"expression"`` or ``"image"``.
        ``None`` is ``"expression"`` for BLEEP, as in the paper's code, and ``"image"`` for knn, which has no other.
    weighting
        How profiles are weighted in the average. ``"mean"`` gives all the same weight, as in the paper. ``"distance"``
        weights by the inverse of 1 - cosine. ``"softmax"`` weights by exp(cosine / `temperature`).
    temperature
        Temperature of the weights of ``weighting="softmax"``.
    search
        How to find the nearest spots. ``"exact"`` compares all pairs. ``"pynndescent"`` is approximate, and takes long
        to build its index. ``"auto"`` uses pynndescent where it should need less than half the time of the exact
        search. That is the case on a CPU, with hundreds of thousands of spots in both objects (docs, "Speed and
        memory").
    layer
        Layer of `ref` with the expression to predict; ``None`` is `ref.X`. The imputed values are in its units.
    image_key
        Key of the crops or features in `query.obsm`; ``None`` is the key that the model was trained on.
    encoder
        Your own image encoder, if the model was trained with one. Pass several as a list, in the same order. Every
        other encoder comes with the model: leave ``None``.
    measured
        Boolean column of `query.obs` that is True for measured spots of the query. Their expression corrects the
        prediction of their section (Notes). It is read from `query.X`, or from the layer whose values the model uses.
        The expression of all other spots is never read. ``None`` corrects nothing.
    batch_size
        Number of crops that are embedded at a time; ``None`` is 256.
    device, precision, progress_bar
        Override the values of the same names in :attr:`bleep_sc.settings` for this call.
    store
        Path of a zarr store to create, such as ``"imputed.zarr"``. The layer is then computed and written chunk by
        chunk. So a query, a reference or a result may be larger than memory (Notes). ``None`` makes the layer in
        memory.
    copy
        Return a changed copy instead of changing `query`.

    Returns
    -------
    ``None``, or the changed copy if ``copy=True``. Sets the following fields:

    `query.layers['bleep' | key_added]` : :class:`numpy.ndarray` (float32, (n_obs, n_vars))
        Imputed expression in the units of `ref`, and NaN for genes that the reference does not have. If the reference
        holds no negative values, mixed predictions below 0 are set to 0. With `store`, the layer is a
        :class:`dask.array.Array` that reads from the store.
    `query.obsm['X_bleep_image' | 'X_{key_added}_image']` : :class:`numpy.ndarray` (float32, (n_obs, width))
        Image embeddings. Only BLEEP and knn set this field and the next two, and not from a slim model.
    `query.obsm['bleep_neighbors' | '{key_added}_neighbors']` : :class:`numpy.ndarray` (int32, (n_obs, k))
        Rows of `ref` that were averaged, best first.
    `query.obsm['bleep_distances' | '{key_added}_distances']` : :class:`numpy.ndarray` (float32, (n_obs, k))
        Distances of these rows, 1 - cosine, ascending.
    `query.obs['bleep_reliability' | '{key_added}_reliability']` : :class:`pandas.Series` (dtype `float64`)
        How much each spot looks like the spots of the reference, as a p-value. It is low for a spot that looks unlike
        all of them. Only methods that read images set it (Notes).
    `query.uns['bleep' | key_added]` : `dict`
        ``params``, ``units``, ``panels``, ``model_sha256`` and ``in_sample``. `measured` adds the table
        ``measured_spots`` with the choices made in each section. Retrieval adds ``reference_names`` and
        ``reference_library``: the names and sections of the reference spots, in the order of the rows above. Methods
        that read images set ``reliability``, a table with the verdict on each section.

    If :func:`~bleep_sc.tl.intervals` has written bounds for an earlier layer of this name, these bounds are removed.

    Raises
    ------
    KeyError
        `query` has no crops or features, or `ref` has no model, embedding or expression.
    ValueError
        - A `k` above the number of reference spots.
        - No shared genes.
        - Crops of another scale.
        - Rows of `ref` without an embedding.
        - A damaged or foreign model.
        - A way to `predict` that the model does not have.
        - `query` is a view of an AnnData (pass a copy).
        - A column `measured` that is not boolean.
        - Measured values in other units than the reference's.
        - `store` together with `measured`, ``method="histogene"`` or ``search="pynndescent"``.
        - A dask array that was persisted on a cluster.
    FileExistsError, FileNotFoundError
        A file or folder already exists at `store`, or the folder above it does not exist.

    Notes
    -----
    A spot of the query may also be in the reference (same name, and same image embedding or place). Such a spot does
    not retrieve itself. The result is then marked as in-sample. The model has seen these spots, so scores on them say
    little.

    `impute` warns if fewer than half of the genes are shared, and shows the code that renames the query's genes as in
    the model. It also warns if another model placed some rows of `ref`, as after a concat of references that were
    fitted separately. A third warning says that expression was changed after the fit.

    **Reliability.** The distance between a spot and the reference is measured in raw image features, so that another
    stain shows. The same distance is known for spots of the reference that were held out by patient, or else by
    section. The rank of the spot among these is the p-value. On a slide like the reference, about one spot in twenty
    has a p-value of 0.05 or below. With several encoders, the p-value is the smallest of theirs times their number.

    If more than a fifth of the spots of a section are at 0.05 or below, the log calls the section "another patient,
    stain or scanner". This holds for most new patients and is no alarm. A warning names sections so far off that
    another tissue is likely, or a fault of image or scale. The reliability does not rank errors: in a new patient, a
    prediction is no better where reliability is high. Models of format version 1 have no reliability.

    **Measured spots.** The residual (measured minus predicted) is split into a level and a pattern. The level of a gene
    is its mean residual over the section's measured spots, shrunk towards 0. The pattern is estimated by kriging on
    components of the reference's expression. It varies smoothly over the section and over the predicted values. To
    choose how much of the pattern to add, from nothing to all, blocks of measured spots are left out in turn. A
    measured spot gets the prediction made from the other blocks, so the layer never repeats its own measurement. A
    section with fewer than 4 measured spots is not corrected. `query` and `ref` need the places of their spots
    (``obsm["spatial"]``). The docs ("A few measured spots") show how much this improves predictions.

    **Larger than memory.** Dask arrays in `query` (``bl.pp.crops(..., lazy=True)``) and in both objects
    (:func:`anndata.experimental.read_lazy`) are read part by part, with `store` or without. With `store`, dask runs the
    work: on the cluster of a `distributed.Client` that you have started, or on the scheduler that dask is configured
    with. Otherwise it runs chunk after chunk in this process. Each task predicts one chunk of spots. It reads what it
    needs of the reference once, and writes its part of the layer. A reference in memory is sent to each worker once.
    All workers must see the folder of `store`, and the files behind the dask arrays, under the same path.

    A task needs at most twice :attr:`bleep_sc.settings`' ``memory`` (if that is 32 MB or more), beyond the part of the
    reference that is in memory. It also needs one stored chunk of what it reads. CSC matrices have no chunks of spots
    and are read whole. Each chunk of the layer fills half of ``memory``. With plain retrieval each chunk reads the
    reference again, so more memory means fewer passes. This process holds names, places and `obs`, image features and
    embeddings of the query. Like each worker, it also holds the reference's scores on its components. Together these
    are some kilobytes a spot.

    The store is an AnnData with the query's `obs`, `var` and places, ``uns["spatial"]`` and all fields named above.
    :func:`anndata.read_zarr` and :func:`anndata.experimental.read_lazy` open it. The store is written under a temporary
    name beside `store`, and renamed when it is complete. So after an error, or Ctrl-C, there is no store, and the query
    is unchanged.
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
        msg = "`store`: `search='pynndescent'` would build its index again for each chunk. Take `search='exact'`."
        raise ValueError(msg)
