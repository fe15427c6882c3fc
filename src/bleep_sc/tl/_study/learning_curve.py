import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pandas as pd
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._adata import check_adata, check_free
from bleep_sc._all_or_nothing import all_or_nothing
from bleep_sc._checks import MAX_SEED, check_choice, check_int, check_key_added, check_names, check_number
from bleep_sc.methods.names import MethodName
from bleep_sc.metrics.panels import check_metrics
from bleep_sc.metrics.summary import for_uns, tabulate
from bleep_sc.models.threads import on_allowed_cores
from bleep_sc.tl._cross_validate import DEFAULT_METRICS
from bleep_sc.tl._study._curve.by import By

if TYPE_CHECKING:
    from pathlib import Path


@on_allowed_cores()
def learning_curve(
    adata: AnnData,
    *,
    method: MethodName = "ridge",
    group_key: str = _keys.PATIENT,
    by: By = "spots",
    sizes: Sequence[int] | None = None,
    draws: int = 5,
    method_kwargs: Mapping[str, Any] | None = None,
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
    checkpoint_dir: "str | Path | None" = None,
    key_added: str = "learning_curve",
) -> pd.DataFrame:
    """Find how large a reference must be: score a method trained on smaller and larger parts of your tissue.

    Each group (patient, or section) is held out in turn, as by :func:`~bleep_sc.tl.cross_validate`. For each size in
    `sizes`, the method is trained on a part of the other groups. It then predicts the held-out spots from their images
    alone. A power law is fitted to the scores. It says how much a larger reference would gain, with an interval. If the
    data cannot tell, the result and a warning say so.

    Parameters
    ----------
    adata
        Measured sections of several groups, with crops (:func:`~bleep_sc.pp.crops`) or image features.
    method
        Method of :func:`~bleep_sc.tl.fit`.
    group_key
        Column of `obs` with the groups. Each is held out once, as a whole.
    by
        What to count. ``"spots"`` draws spots evenly from all training sections. ``"sections"`` draws whole sections,
        and ``"patients"`` whole patients. Only the last two show what new tissue would gain.
    sizes
        Numbers of spots, sections or patients to train on. ``None`` takes six sizes, evenly spaced on a log scale. The
        largest is what every fold has. The smallest number of spots is about 30 for each section, or 32 in all if
        sections are small.
    draws
        Number of random draws. The parts of one draw are nested: each smaller part lies within the larger.
    method_kwargs
        Arguments of :func:`~bleep_sc.tl.fit`, and `predict` of :func:`~bleep_sc.tl.impute`, such as ``{"image_key":
        "X_color"}``. Features computed once by :func:`~bleep_sc.tl.encode` save most of the time.
    counts_layer, markers, n_top_genes, min_fraction, k, refit, library_key, patient_key, metrics
        As in :func:`~bleep_sc.tl.cross_validate`.
    n_bootstrap
        Number of bootstrap draws. 0 gives no intervals, and then no forecast is possible.
    random_state
        Seed of the drawn parts, the trainings and the bootstrap.
    progress_bar
        Overrides the value of the same name in :attr:`bleep_sc.settings` for this call.
    checkpoint_dir
        Folder that keeps each finished training; it is made if it does not exist. If the call is interrupted, make the
        same call again, and it goes on from there. The folder of another call is refused. ``None`` writes nothing.
    key_added
        Name of the result in `uns`.

    Returns
    -------
    The tidy scores, with a row for each fold, part, section, panel and metric. Columns: ``size``, ``draw``, ``n_spots``
    (trained on), and those of :func:`~bleep_sc.tl.cross_validate`.

    Sets the following fields:

    `adata.uns['learning_curve' | key_added]` : `dict`
        ``scores``: the table that is returned. ``summary``: the mean at each size, with its interval, the noise
        ceiling, and the spread over draws (``sd_draws``). ``forecast``: what a larger reference would gain, in numbers
        (``gain``, ``low``, ``high``), as a ``verdict`` and in words (``answer``). ``law``: the fitted curves. ``cost``,
        for each training: seconds of fitting, predicting and searching, and the MB that predicting reads. ``config``:
        JSON of the arguments. :func:`bleep_sc.pl.learning_curve` draws it.

    Raises
    ------
    KeyError
        No such column, layer, gene or image.
    ValueError
        - One group only.
        - Fewer spots than the smallest size.
        - Sizes that some fold does not have.
        - Sections or patients as the unit, but a fold has only one.
        - Patients as the unit, but patients are not known.
        - An argument that a fold must set itself.
        - The `checkpoint_dir` of another call.

    Notes
    -----
    Each fold chooses genes, panels and the total of the normalisation once, on all of its training spots. So all sizes
    are scored on the same genes in the same units. Everything else (penalty, number of neighbours, mix, epoch) is
    chosen again in each part.

    **Intervals** are over patients if there are three or more, else over sections if each patient has three or more.
    Otherwise there are none. There are no intervals over draws, since the parts of a draw are nested and come from the
    same tissue. Folds share most of their training tissue, so intervals are somewhat too narrow. Sections of one
    patient say nothing about new patients.

    **Forecast.** The law is ``limit - scale * size ** -exponent``, fitted by least squares. The exponent lies between 0
    (each doubling gains the same) and 3. The forecast starts from all of `adata`, which is one group more than any fold
    trains on. It has a 95 % interval, from the bootstrap draws of the curve, widened by Student's factor for the small
    number of units. The verdict is "gain" if the interval begins at .001 or more, and "little or nothing" if it ends
    below .01. Otherwise it is "cannot be told". This is also the verdict with fewer than four sizes, and without an
    interval. It is the verdict, too, if the law fitted without the largest size clearly misses that size (``off_by``).
    The law is a rule of thumb; do not extrapolate far with it.

    **Spots.** With ``by="spots"``, a smaller reference has its spots farther apart. Methods that read the neighbours of
    a spot (BLEEP's default recipe) then find them farther away than in the slide to predict, and lose more. If a part
    has fewer than 30 spots of a section, its features are standardised by the whole part, as :func:`~bleep_sc.tl.fit`
    does. This makes a step in the curve. So use no smaller `sizes` if the forecast matters.

    **Cost.** ``seconds_predict`` is the time to predict ``n_query`` spots, and ``seconds_search`` the part of it that
    the search takes. ``references_used`` is the number of reference spots that were retrieved at least once.
    ``seconds_search`` and ``references_used`` are NaN for methods that retrieve nothing.

    Examples
    --------
    >>> import bleep_sc as bl
    >>> tissue = bl.datasets.toy()
    >>> bl.tl.learning_curve(tissue, by="spots", draws=3)  # doctest: +SKIP
    >>> tissue.uns["learning_curve"]["forecast"][["panel", "question", "answer"]]  # doctest: +SKIP
    """
    check_adata(adata)
    check_choice("by", by, get_args(By))
    check_key_added("key_added", key_added)
    check_free(adata, key_added, field="forecast", what="a learning curve")
    markers = check_names("markers", markers)
    check_int("draws", draws)
    check_int("n_top_genes", n_top_genes)
    check_number("min_fraction", min_fraction, minimum=0)
    check_int("n_bootstrap", n_bootstrap, minimum=0)
    seed = check_int("random_state", random_state, minimum=0, maximum=MAX_SEED)
    if k is not None:
        check_int("k", k)
    names = check_metrics(metrics)

    from bleep_sc.tl._cv.plan import readable
    from bleep_sc.tl._cv.scores import leading
    from bleep_sc.tl._study._curve.forecast import forecast, warn_of_what_cannot_be_told
    from bleep_sc.tl._study._curve.inputs import read_tissue
    from bleep_sc.tl._study._curve.run import Trainings
    from bleep_sc.tl._study._curve.subsets import draw_subsets, possible_sizes
    from bleep_sc.tl._study._curve.tables import averaged, report, summary_of
    from bleep_sc.tl._study.parts import Parts, data_of

    tissue = read_tissue(
        adata,
        method,
        method_kwargs,
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
    labels = tissue.labels(by)
    chosen = possible_sizes(sizes, tissue.folds, labels, tissue.sections, by)
    subsets = draw_subsets(tissue.folds, labels, tissue.sections, by=by, sizes=chosen, draws=draws, random_state=seed)
    config = {
        **{"method": method, "by": by, "sizes": chosen, "draws": draws, "group_key": group_key},
        **{"library_key": tissue.plan.library_key, "patient_key": tissue.plan.patient_key or ""},
        **{"counts_layer": counts_layer if tissue.plan.is_counts else None, "markers": list(markers)},
        **{"n_top_genes": n_top_genes, "min_fraction": min_fraction, "k": k, "refit": refit, "metrics": list(names)},
        "method_kwargs": {name: readable(value) for name, value in (method_kwargs or {}).items()},
        "random_state": seed,
    }
    data = data_of(tissue.plan) if checkpoint_dir is not None else {}
    done = Parts.of(checkpoint_dir, "learning_curve", config, data)
    rows, costs = Trainings(tissue.plan, tissue.asked, method, tissue.folds, tissue.scorer(names), tissue.words).run(
        subsets, done, progress_bar=progress_bar
    )
    over_draws = averaged(rows)
    summary = summary_of(over_draws, rows, words=tissue.words, n_bootstrap=n_bootstrap, random_state=seed)
    answers, law = forecast(
        over_draws, by=by, n_units=len(np.unique(labels)), n_bootstrap=n_bootstrap, random_state=seed
    )
    scores = tabulate(rows)
    with all_or_nothing(adata):
        adata.uns[key_added] = {
            "scores": scores,
            "summary": summary,
            "forecast": answers,
            "law": law,
            "cost": for_uns(pd.DataFrame(costs)),
            "config": json.dumps({**config, "n_bootstrap": n_bootstrap}, indent=1),
        }
    lead = leading(names)
    report(summary, answers, metric=lead, by=by, n_folds=len(tissue.folds), group_key=group_key)
    warn_of_what_cannot_be_told(answers, metric=lead, by=by)
    return scores.copy()
