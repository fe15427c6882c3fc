import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._adata import check_adata, check_free
from bleep_sc._all_or_nothing import all_or_nothing
from bleep_sc._checks import MAX_SEED, check_choice, check_int, check_key_added, check_names, check_number
from bleep_sc.methods.names import MethodName
from bleep_sc.metrics.panels import check_metrics
from bleep_sc.models.threads import on_allowed_cores
from bleep_sc.tl._cross_validate import DEFAULT_METRICS


@on_allowed_cores()
def sweep(
    adata: AnnData,
    parameters: Mapping[str, Sequence[Any]],
    *,
    method: MethodName = "bleep",
    group_key: str = "patient",
    method_kwargs: Mapping[str, Any] | None = None,
    metric: str = "pearson",
    panel: str = "all",
    counts_layer: str | None = _keys.COUNTS,
    markers: Sequence[str] = (),
    n_top_genes: int = 1000,
    min_fraction: float = 0.1,
    refit: bool = True,
    library_key: str | None = None,
    patient_key: str | None = None,
    metrics: Sequence[str] | None = DEFAULT_METRICS,
    n_bootstrap: int = 1000,
    random_state: int = 0,
    progress_bar: bool | None = None,
    checkpoint_dir: str | Path | None = None,
    key_added: str = "sweep",
) -> pd.DataFrame:
    """Measure how much a parameter matters on your own tissue, and what choosing it gains.

    Each group (patient, or section) is held out in turn, as in :func:`~bleep_sc.tl.cross_validate`. It is predicted
    with every combination of values, which gives the whole curve. But whoever picks the best value from this curve
    picks it on the test tissue. So each fold also chooses values on its own. It leaves out its training groups in turn,
    takes the values that predict them best, and uses these values for the held-out group. The score of these values is
    the honest score.

    Parameters
    ----------
    adata
        Measured sections of several groups, with crops (:func:`~bleep_sc.pp.crops`) or image features.
    parameters
        Names of arguments and the values to try, numbers or names: ``{"k": [5, 20, 50], "temperature": [0.1, 1]}``. All
        combinations are tried. Use arguments of :func:`~bleep_sc.tl.fit`, or `k` (the number of neighbours) and
        `predict` of :func:`~bleep_sc.tl.impute`. `k` and `predict` need no further training.
    method
        The method, as in :func:`~bleep_sc.tl.fit`.
    group_key
        Column of `obs` with the groups. Each is held out once, as a whole. Hold out patients, so that the result holds
        for new patients.
    method_kwargs
        Further arguments of :func:`~bleep_sc.tl.fit`, and `predict`, for all combinations, such as ``{"preset":
        "paper", "image_key": "X_features"}``.
    metric, panel
        Score and gene panel by which each fold chooses.
    counts_layer, markers, n_top_genes, min_fraction, refit, library_key, patient_key
        As in :func:`~bleep_sc.tl.cross_validate`.
    metrics
        Scores to compute, as in :func:`~bleep_sc.tl.evaluate`; ``None`` computes all of them.
    n_bootstrap
        Number of bootstrap draws for the intervals of the means. 0 gives no intervals.
    random_state
        Seed of the whole sweep: :func:`~bleep_sc.tl.fit` gets it in each fold, and so do all draws.
    progress_bar
        Overrides the value of the same name in :attr:`bleep_sc.settings` for this call.
    checkpoint_dir
        Folder that keeps the scores of each training; it is made if it does not exist. If the sweep is interrupted,
        make the same call again, and it goes on from there. ``None`` writes nothing.
    key_added
        Key of the result in `uns`.

    Returns
    -------
    The tidy scores of the held-out groups, with a row for each combination, section, panel and metric. There is a
    column for each parameter. ``fold`` is the held-out group. ``inner_value`` is the score on the inner folds, for the
    metric by which they choose. ``chosen`` says whether the fold chose this combination. The other columns are
    ``section``, ``patient``, ``panel``, ``metric``, ``value``, ``n_genes``, ``n_missing``, ``n_constant_truth``,
    ``n_constant_prediction``, ``scope`` and ``normalisation``. Sets the following fields:

    `adata.uns['sweep' | key_added]` : `dict`
        ``scores``: the table that is returned. ``summary``: means over sections, then patients, with intervals. It has
        a row for each combination, panel and metric. It also has the honest score, whose ``method`` is "chosen by the
        folds". ``difference`` is the honest score minus that of the combination. If ``difference_low`` and
        ``difference_high`` are on the same side of 0, the two scores differ. ``chosen``: the values of each fold.
        ``verdict``: whether the combinations can be told apart, in words. ``config``: JSON of the arguments.

    Raises
    ------
    KeyError
        No such column, layer, gene or image.
    ValueError
        - One group only.
        - An argument that the method does not have.
        - An argument that no fold can choose, such as `random_state` or `library_key`.
        - A single value for each parameter.
        - A `k` above the spots of the smallest training set.
        - A fold that trains on one section, so it cannot choose anything.
        - A `checkpoint_dir` with another sweep.
        - Anything that :func:`~bleep_sc.tl.cross_validate` refuses.

    Notes
    -----
    **Folds.** With three or more groups, each pair of groups is left out once. A model trained without A and B predicts
    B for the fold of A, and A for the fold of B. So inner folds cost only half. With more than seven groups, each fold
    chooses on six of the others. With two groups, the sections of the training group are the inner folds. Each inner
    fold finds genes, normalisation, panels and best epochs again, on its own training spots.

    **Cost.** There is one training for each combination of arguments of `fit`, in each outer and inner fold. G groups
    make G + G (G - 1) / 2 folds. With `refit`, each trains twice. Features of frozen encoders are computed once for
    all. `temperature` is that of the loss, not that of `impute`.

    **Told apart.** The intervals of ``difference`` are over patients if there are three, else over sections if each
    patient has three. They hold for all combinations at once (a bootstrap of the largest difference, widened as
    Student's t is for few units). With fewer patients and sections there are no intervals, and ``verdict`` says that it
    cannot be told.

    Examples
    --------
    >>> import bleep_sc as bl
    >>> tissue = bl.datasets.toy(n_spots=40, n_genes=60, progress_bar=False)
    >>> scores = bl.tl.sweep(
    ...     tissue, {"k": [2, 10, 30]}, method="knn", metrics=["pearson"], n_bootstrap=0, progress_bar=False
    ... )
    >>> scores["k"].unique().tolist()
    [2, 10, 30]
    >>> bl.pl.sweep(tissue)  # doctest: +SKIP
    """
    check_adata(adata)
    check_key_added("key_added", key_added)
    check_free(adata, key_added, field="verdict", what="a sweep")
    markers = check_names("markers", markers)
    n_top_genes = check_int("n_top_genes", n_top_genes)
    min_fraction = check_number("min_fraction", min_fraction, minimum=0)
    n_bootstrap = check_int("n_bootstrap", n_bootstrap, minimum=0)
    seed = check_int("random_state", random_state, minimum=0, maximum=MAX_SEED)
    names = check_metrics(metrics)
    check_choice("metric", metric, names)

    from bleep_sc.tl._cv.ready import make_ready
    from bleep_sc.tl._cv.run import PANELS
    from bleep_sc.tl._study._sweep.features import with_features
    from bleep_sc.tl._study._sweep.folds import make_splits
    from bleep_sc.tl._study._sweep.grid import make_grid
    from bleep_sc.tl._study._sweep.run import check_k, describe, inner_rows, outer_rows, run_splits
    from bleep_sc.tl._study._sweep.table import report, tables
    from bleep_sc.tl._study.parts import Parts, data_of

    check_choice("panel", panel, [*PANELS, *(["markers"] if markers else [])])
    grid = make_grid(parameters, method, method_kwargs)
    told: dict[str, Any] = {
        "group_key": group_key,
        "counts_layer": counts_layer,
        "n_top_genes": n_top_genes,
        "min_fraction": min_fraction,
        "refit": refit,
    }
    ready = make_ready(
        adata,
        {training.label: training.asked for training in grid.trainings},
        **told,
        library_key=library_key,
        patient_key=patient_key,
        markers=markers,
        k=None,
        random_state=seed,
    )
    splits = make_splits(ready.folds, ready.folds[0].groups, ready.sections, group_key=group_key)
    check_k(grid, splits)
    given: dict[str, Any] = {"method": method, "method_kwargs": dict(method_kwargs or {}), "random_state": seed}
    given |= {"metrics": list(names), "metric": metric}
    config = describe(ready, grid, {**told, "markers": list(markers), **given})
    done = Parts.of(checkpoint_dir, "sweep", config, data_of(ready.plan) if checkpoint_dir is not None else {})
    ready, grid = with_features(ready, grid, progress_bar=progress_bar)
    outer: list[dict[str, Any]] = []
    inner: list[dict[str, Any]] = []
    for split, rows in run_splits(
        ready, grid, splits, done, metrics=names, choose_by=metric, progress_bar=progress_bar
    ):
        outer += outer_rows(split, rows)
        inner += inner_rows(split, rows)
    swept = tables(
        outer,
        inner,
        grid,
        metric=metric,
        panel=panel,
        labels=ready.labels,
        n_bootstrap=n_bootstrap,
        random_state=seed,
    )
    config |= {"panel": panel, "n_bootstrap": n_bootstrap}
    with all_or_nothing(adata):
        adata.uns[key_added] = {
            "scores": swept.scores,
            "summary": swept.summary,
            "chosen": swept.chosen,
            "verdict": swept.verdict,
            "config": json.dumps(config, indent=1),
        }
    report(swept, metric=metric, panel=panel)
    return swept.scores.copy()
