import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._adata import check_adata, check_free
from bleep_sc._all_or_nothing import all_or_nothing
from bleep_sc._checks import MAX_SEED, check_int, check_key_added, check_names, check_number
from bleep_sc.metrics.panels import check_metrics
from bleep_sc.models.threads import on_allowed_cores

DEFAULT_METHODS = ("mean", "coordinates", "ridge", "knn", "bleep")
DEFAULT_METRICS = ("pearson", "pearson_depth_free")


@on_allowed_cores()
def cross_validate(
    adata: AnnData,
    *,
    group_key: str = "patient",
    methods: Sequence[str] = DEFAULT_METHODS,
    method_kwargs: Mapping[str, Mapping[str, Any]] | None = None,
    counts_layer: str | None = _keys.COUNTS,
    markers: Sequence[str] = (),
    n_top_genes: int = 1000,
    min_fraction: float = 0.1,
    k: int | None = None,
    refit: bool = True,
    library_key: str | None = None,
    patient_key: str | None = None,
    metrics: Sequence[str] | None = DEFAULT_METRICS,
    n_bootstrap: int = 1000,
    random_state: int = 0,
    progress_bar: bool | None = None,
    key_added: str = "cv",
) -> pd.DataFrame:
    """Compare methods on your own tissue. Each group of sections is predicted by models that never saw it.

    Each group (patient, or section) is held out once: this is a *fold*. All other groups are the fold's training spots.
    The training spots are normalised. They alone serve to choose genes, panels, penalties, numbers of neighbours and
    best epochs, and to train a model of each method. Each model then predicts the held-out spots from their images
    alone. The object that the model gets holds no expression of the held-out group, so none can leak. Only ``"counts"``
    gets something of it, the total counts, and the result says so.

    Parameters
    ----------
    adata
        Measured sections of several groups, with crops (:func:`~bleep_sc.pp.crops`) or image features.
    group_key
        Column of `obs` with the groups. Each is held out once, as a whole. Hold out patients, so that the result holds
        for new patients. Sections of one patient say less; see ``scope`` below.
    methods
        What to compare: methods of :func:`~bleep_sc.tl.fit`, or labels of your own that are defined in `method_kwargs`.
    method_kwargs
        Arguments of :func:`~bleep_sc.tl.fit`, and `predict` of :func:`~bleep_sc.tl.impute`, for some of the methods,
        such as ``{"bleep": {"preset": "paper"}}``. A label of your own names its method: ``{"ST-Net, Adam": {"method":
        "stnet", "optimizer": "adam"}}``. ``use_rep="X_harmony"`` runs Harmony again on the training sections of each
        fold.
    counts_layer
        Layer of raw counts. Each fold normalises them itself, to the median total of its training spots, and takes
        log1p. With ``None``, or a layer that does not exist, `X` is used as it is. The result then says "outside the
        folds".
    markers
        Genes to learn in addition to the highly variable ones. They are scored as the panel "markers".
    n_top_genes, min_fraction
        Arguments of :func:`~bleep_sc.pp.select_genes`, which each fold runs on its training sections.
    k
        Number of reference spots that BLEEP and knn average. ``None`` chooses it in each fold, on parts of the training
        spots that are held out for this (Notes).
    refit
        Train the networks of published BLEEP, ST-Net, HisToGene and the regressor twice, which takes twice as long. The
        first training holds a part out to find the best epoch and `k`. The second uses all training spots for that
        number of epochs, as ST-Net's authors do. With ``False``, these networks learn from fewer groups than all other
        methods: from one if there are two training groups.
    library_key
        Column of `obs` with each spot's section. ``None`` takes the column that :func:`~bleep_sc.pp.crops` was given,
        else `group_key`.
    patient_key
        Column of `obs` with each spot's patient or animal. ``None`` takes ``"patient"`` if that column exists. Else the
        patients are unknown, and the result says so.
    metrics
        Scores to compute, as in :func:`~bleep_sc.tl.evaluate`; ``None`` computes all of them.
    n_bootstrap
        Number of bootstrap draws. 0 gives no intervals.
    random_state
        Seed of the whole comparison: :func:`~bleep_sc.tl.fit` gets it in each fold, and so does the bootstrap.
    progress_bar
        Overrides the value of the same name in :attr:`bleep_sc.settings` for this call.
    key_added
        Name of the result: its key in `uns`, and the beginning of the layers' names.

    Returns
    -------
    The tidy scores, with a row for each method, section, panel and metric. Columns: ``method``, ``section``,
    ``patient``, ``panel``, ``metric``, ``value``, ``fold`` (the held-out group), ``scope``, ``normalisation``,
    ``uses_query_counts``, ``n_genes``, ``n_missing``, ``n_constant_truth``, ``n_constant_prediction``.

    Sets the following fields:

    `adata.layers['cv_<method>' | '{key_added}_<method>']` : :class:`numpy.ndarray` (float32, (n_obs, n_vars))
        Out-of-fold predictions: each spot is predicted by a model that never saw its group. Values are in the units of
        the fold's training spots. They are NaN where a method does not predict the gene.
    `adata.uns['cv' | key_added]` : `dict`
        ``scores``: the table that is returned. ``summary``: means over sections, then patients, with bootstrap
        intervals and the share of the noise ceiling; :func:`bleep_sc.pl.scores` draws it. ``chosen``: penalty, number
        of neighbours and best epoch of each method and fold. ``config``: JSON of the arguments.

    Raises
    ------
    KeyError
        No such column, layer, gene or image.
    ValueError
        - Fewer than two groups.
        - A section in two groups, or the same profile in two (the fold would leak).
        - An argument in `method_kwargs` that a fold must set itself.
        - An unknown method.
        - A view of an AnnData (pass a copy).

    Notes
    -----
    ``scope`` is "across patients" if no patient is in both the training and the held-out part of any fold. It is
    "within-patient" if one is, and "patients unknown" if no patients are known. Neighbouring sections of a patient are
    very similar, so within-patient scores say nothing about new patients.

    Panels are chosen among the genes that the fold learns, on its training spots. All methods are scored on the same
    genes; a gene that a method does not predict counts as 0.

    Penalty, mix, `k` and best epoch are chosen on held-out parts of the training spots. These parts are whole groups if
    there are two or more, else whole sections. Of a single section, networks hold out random spots, and other methods
    hold out five parts in turn. Retrieval draws on all training spots.

    No method gets expression of the held-out group, except ``"counts"``. But a file of `weights`, or features in
    `image_key`, can bring it in from outside. They must come from images alone. Obvious cases are refused.

    Each method's layer is dense and takes 4 bytes a value: 720 MB for 10,000 spots × 18,000 genes.

    Intervals are those of :func:`~bleep_sc.tl.evaluate`. They are over patients, sections or spots, as
    ``interval_over`` says. They are too narrow where these are few.

    ``method="counts"`` reads the total counts of the spots that it predicts, and ``uses_query_counts`` marks it. It
    shows what score sequencing depth alone would reach.

    Examples
    --------
    >>> import bleep_sc as bl
    >>> tissue = bl.datasets.toy()
    >>> scores = bl.tl.cross_validate(tissue, methods=["mean", "ridge"], progress_bar=False)  # doctest: +SKIP
    """
    check_adata(adata)
    check_key_added("key_added", key_added)
    check_free(adata, key_added, field="summary", what="a comparison")
    markers = check_names("markers", markers)
    n_top_genes = check_int("n_top_genes", n_top_genes)
    min_fraction = check_number("min_fraction", min_fraction, minimum=0)
    n_bootstrap = check_int("n_bootstrap", n_bootstrap, minimum=0)
    seed = check_int("random_state", random_state, minimum=0, maximum=MAX_SEED)
    if k is not None:
        k = check_int("k", k)

    from bleep_sc.tl._cv.plan import asked_methods, readable
    from bleep_sc.tl._cv.ready import make_ready

    asked = asked_methods(methods, method_kwargs or {})
    names = check_metrics(metrics)
    ready = make_ready(
        adata,
        asked,
        group_key=group_key,
        library_key=library_key,
        patient_key=patient_key,
        counts_layer=counts_layer,
        markers=markers,
        n_top_genes=n_top_genes,
        min_fraction=min_fraction,
        k=k,
        refit=refit,
        random_state=seed,
    )
    plan = ready.plan

    from bleep_sc.tl._cv.compare import compare
    from bleep_sc.tl._cv.scores import FoldScores, leading, report

    scorer = FoldScores(adata, ready.sections, ready.patients, names, n_bootstrap=n_bootstrap, random_state=seed)
    comparison = compare(plan, asked, ready.folds, scorer, labels=ready.labels, progress_bar=progress_bar)
    config = {
        "group_key": group_key,
        "library_key": plan.library_key,
        "counts_layer": counts_layer if plan.is_counts else None,
        "markers": list(markers),
        "n_top_genes": n_top_genes,
        "min_fraction": min_fraction,
        "k": k,
        "refit": refit,
        "n_bootstrap": n_bootstrap,
        "random_state": seed,
        "methods": {
            label: {n: readable(v) for n, v in asked_method.arguments.items()} for label, asked_method in asked.items()
        },
    }
    with all_or_nothing(adata):
        adata.layers.update({f"{key_added}_{label}": layer for label, layer in comparison.layers.items()})
        adata.uns[key_added] = {
            "scores": comparison.scores,
            "summary": comparison.summary,
            "chosen": comparison.chosen,
            "config": json.dumps(config, indent=1),
        }
    report(comparison.summary, metric=leading(names), n_folds=len(ready.folds), group_key=group_key)
    return comparison.scores.copy()
