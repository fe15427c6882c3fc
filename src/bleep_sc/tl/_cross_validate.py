import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pandas as pd
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._expression import expression_values, log_depth, path_of, warn_if_counts
from bleep_sc._logging import logger
from bleep_sc._near_empty import warn_of_near_empty
from bleep_sc._progress import progress
from bleep_sc._settings import settings
from bleep_sc._stats import section_rows
from bleep_sc._validate import (
    check_adata,
    check_in,
    check_int,
    check_number,
    recorded_library_key,
    section_of_spots,
)
from bleep_sc.tl._presets import Method
from bleep_sc.tl._sections import check_section_sizes, patient_of_sections

if TYPE_CHECKING:
    from bleep_sc.tl._fold_run import Plan, Prepared
    from bleep_sc.tl._folds import Fold

_DECIDED_HERE = {
    *("layer", "mask_var", "library_key", "validation_key"),
    *("random_state", "key_added", "copy", "progress_bar"),
}
"""Arguments of `fit` that a fold sets itself: given from outside, they could carry what the test spots know."""

DEFAULT_METHODS = ("mean", "coordinates", "ridge", "knn", "bleep")
DEFAULT_METRICS = ("pearson", "pearson_depth_free")


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
    library_key: str | None = None,
    patient_key: str | None = None,
    metrics: Sequence[str] | None = DEFAULT_METRICS,
    n_bootstrap: int = 1000,
    random_state: int = 0,
    progress_bar: bool | None = None,
    key_added: str = "cv",
) -> pd.DataFrame:
    """Compare methods on your own tissue, each group of sections predicted by models that never saw it.

    For each group (patient, or section) in turn: all other groups are normalised, their genes, panels, penalties,
    numbers of neighbours and best epochs chosen, a model of every method trained, and the group's spots predicted from
    their images alone. The object that a method predicts holds no expression of the held-out group in any form, so none
    can leak.

    Parameters
    ----------
    adata
        Measured sections of several groups, with crops (:func:`~bleep_sc.pp.crops`) or image features.
    group_key
        Column of `obs` with the groups that are held out, whole, one after the other: patients, so that the result
        holds for new patients. Sections of one patient say less: see ``scope`` below.
    methods
        What to compare: methods of :func:`~bleep_sc.tl.fit`, or labels of your own that `method_kwargs` explains.
    method_kwargs
        Arguments of :func:`~bleep_sc.tl.fit` for some of the methods, such as ``{"bleep": {"encoder": "color"}}``. A
        label of your own names its method: ``{"ST-Net, Adam": {"method": "stnet", "optimizer": "adam"}}``.
        ``use_rep="X_harmony"`` runs Harmony anew on the training sections of each fold.
    counts_layer
        Layer of raw counts, which each fold normalises by itself: to the median total of its training spots, then
        log1p. ``None``, or a layer that does not exist: `X` is taken as it is, and the result says "outside the folds".
    markers
        Genes to learn and to score besides the highly variable ones, as the panel "markers".
    n_top_genes, min_fraction
        As in :func:`~bleep_sc.pp.select_genes`, which each fold runs on its training sections.
    k
        Number of neighbours of the methods that retrieve; ``None`` chooses it in each fold, on the spots that the fold
        holds out for validation.
    library_key
        Column of `obs` with each spot's section; ``None``: what :func:`~bleep_sc.pp.crops` was told, else `group_key`.
    patient_key
        Column of `obs` with each spot's patient or animal. ``None``: ``"patient"`` if there is one; else the groups,
        unless these are the sections, whose patients then are unknown.
    metrics
        Scores to compute, as in :func:`~bleep_sc.tl.evaluate`; ``None``: all of them.
    n_bootstrap
        Draws of the bootstrap intervals; 0: none.
    random_state
        Seed of everything: what :func:`~bleep_sc.tl.fit` gets in each fold, and the bootstrap.
    progress_bar
        In place of :attr:`bleep_sc.settings`'s.
    key_added
        Name of the result.

    Returns
    -------
    The tidy scores, a row for each method, section, panel and metric: ``method``, ``section``, ``patient``, ``panel``,
    ``metric``, ``value``, ``fold`` (the held-out group), ``scope``, ``normalisation``, ``uses_query_counts``, and the
    counts ``n_genes``, ``n_missing``, ``n_constant_truth``, ``n_constant_prediction``.

    Sets the following fields:

    `adata.layers['cv_<method>' | '{key_added}_<method>']` : :class:`numpy.ndarray` (float32, (n_obs, n_vars))
        Out-of-fold predictions: every spot by the model that never saw its group. NaN where a method does not predict
        the gene. In the units of the fold's training spots.
    `adata.uns['cv' | key_added]` : `dict`
        ``scores`` (what is returned), ``summary`` (means over sections, then patients, with bootstrap intervals and
        the share of the noise ceiling; :func:`bleep_sc.pl.scores` draws it), ``chosen`` (penalty, number of neighbours
        and best epoch of each method and fold) and ``config`` (JSON of the arguments).

    Raises
    ------
    KeyError
        No such column, layer, gene or image.
    ValueError
        Fewer than two groups; a section in two groups, or the same profile in two (the fold would leak); an argument
        in `method_kwargs` that a fold must set itself; an unknown method; a view.

    Notes
    -----
    ``scope`` is "across patients" if no patient is on both sides of any fold, "within-patient" if one is: neighbouring
    sections of a patient are so alike that such scores say nothing of new patients.

    Panels are chosen among the genes that the fold learns, on its training spots. All methods are scored on the same
    genes; a gene that a method does not predict counts as 0.

    Validation spots, on which the best epoch, the penalty and `k` are chosen, are whole groups of the training spots
    where there are two or more, else whole sections, else random spots. They stay in the reference that is retrieved
    from, and networks are not trained again with them.

    ``method="counts"`` reads the total counts of the very spots that it predicts, and is marked so: it shows how far
    sequencing depth alone would get.

    Examples
    --------
    >>> import bleep_sc as bl
    >>> tissue = bl.datasets.toy()
    >>> scores = bl.tl.cross_validate(tissue, methods=["mean", "ridge"], progress_bar=False)  # doctest: +SKIP
    """
    check_adata(adata)
    arguments = _arguments(methods, method_kwargs or {})
    check_int("n_top_genes", n_top_genes)
    check_number("min_fraction", min_fraction, minimum=0)
    check_int("n_bootstrap", n_bootstrap, minimum=0)
    seed = check_int("random_state", random_state, minimum=0)
    if k is not None:
        check_int("k", k)

    from bleep_sc.tl._folds import check_no_copies, check_sections_in_groups, make_folds, scope_of
    from bleep_sc.tl._methods import METHODS
    from bleep_sc.tl._scoring import check_metrics, for_uns, summarize, tabulate

    names = check_metrics(metrics)
    facts = {label: METHODS[each["method"]] for label, each in arguments.items()}
    groups = np.asarray(section_of_spots(adata, group_key), dtype=str)
    if len(np.unique(groups)) < 2:
        msg = f"`adata.obs[{group_key!r}]` holds one group only, {str(groups[0])!r}: nothing is left to train on."
        raise ValueError(msg)
    library_key = library_key or recorded_library_key(adata) or group_key
    sections = np.asarray(section_of_spots(adata, library_key), dtype=str)
    by_section = section_rows(sections, adata.n_obs)
    check_section_sizes(by_section)
    check_sections_in_groups(sections, groups, library_key=library_key, group_key=group_key)
    patient_key = _patient_key(adata, patient_key, group_key, library_key)
    patients = dict(
        zip(
            (name for name, _ in by_section),
            patient_of_sections(adata, by_section, patient_key, name="adata"),
            strict=True,
        )
    )
    plan = _plan(
        adata,
        arguments,
        counts_layer=counts_layer,
        library_key=library_key,
        group_key=group_key,
        markers=markers,
        n_top_genes=n_top_genes,
        min_fraction=min_fraction,
        k=k,
        random_state=seed,
        needs_counts=[label for label, each in facts.items() if each.reads == "counts"],
    )
    path = f"adata.layers[{counts_layer!r}]" if plan.is_counts else "adata.X"
    check_no_copies(plan.values, groups, list(adata.obs_names), path=path)
    folds = make_folds(groups)
    with_images = [label for label, each in facts.items() if each.reads in ("images", "crops")]
    _check_images(adata, arguments, with_images)
    warn_of_near_empty(adata, by_section, counts_layer=counts_layer or "")

    from bleep_sc.tl._fold_run import predict, prepare

    labels = {
        "scope": scope_of(folds, np.array([patients[section] for section in sections])),
        "normalisation": "inside the folds" if plan.is_counts else "outside the folds",
    }
    layers = {label: np.full(adata.shape, np.nan, dtype=np.float32) for label in arguments}
    scorer = _Scorer(adata, sections, patients, names, n_bootstrap=n_bootstrap, random_state=seed)
    chosen: list[dict[str, Any]] = []
    steps = [(fold, label) for fold in folds for label in arguments]
    prepared: Prepared | None = None
    with settings.override(verbosity="warning"):
        for fold, label in progress(steps, desc="Cross-validating", total=len(steps), show=progress_bar):
            if label == next(iter(arguments)):
                prepared = prepare(plan, fold)
            assert prepared is not None  # noqa: S101 - the first label comes first
            reads_counts = facts[label].reads == "counts"
            layer, found = predict(plan, fold, prepared, label, arguments[label], reads_counts=reads_counts)
            layers[label][fold.test] = layer
            chosen += [
                {"method": label, "fold": fold.name, "parameter": name, "value": float(value)}
                for name, value in found.items()
            ]
            scorer.score(plan, fold, prepared, label, layer, extra={**labels, "uses_query_counts": reads_counts})
    summary = summarize(scorer.rows, draws=scorer.draws, n_bootstrap=n_bootstrap, random_state=seed)
    for name, value in labels.items():
        summary[name] = value
    summary["uses_query_counts"] = [facts[label].reads == "counts" for label in summary["method"]]
    scores = tabulate(scorer.rows)
    config = {
        "group_key": group_key,
        "library_key": library_key,
        "counts_layer": counts_layer if plan.is_counts else None,
        "markers": list(markers),
        "n_top_genes": n_top_genes,
        "min_fraction": min_fraction,
        "k": k,
        "n_bootstrap": n_bootstrap,
        "random_state": seed,
        "methods": {label: {n: _readable(v) for n, v in each.items()} for label, each in arguments.items()},
    }
    for label, layer in layers.items():
        adata.layers[f"{key_added}_{label}"] = layer
    adata.uns[key_added] = {
        "scores": scores,
        "summary": summary,
        "chosen": for_uns(pd.DataFrame(chosen, columns=["method", "fold", "parameter", "value"])),
        "config": json.dumps(config, indent=1),
    }
    _report(summary, metric="pearson" if "pearson" in names else names[0], n_folds=len(folds), group_key=group_key)
    return scores.copy()


class _Scorer:
    """Scores each prediction as soon as it is there."""

    def __init__(
        self,
        adata: AnnData,
        sections: np.ndarray,
        patients: Mapping[str, str],
        metrics: Sequence[str],
        *,
        n_bootstrap: int,
        random_state: int,
    ) -> None:
        from bleep_sc.tl._scoring import interval_unit, reads_places

        self._adata, self._sections, self._metrics = adata, sections, metrics
        self._patients = patients
        self._n_bootstrap, self._seed = n_bootstrap, random_state
        self._over_spots = n_bootstrap > 0 and interval_unit(list(patients.values())) == "spots"
        self._with_places = reads_places(metrics) and _keys.SPATIAL in adata.obsm
        self._ceilings: dict[str, np.ndarray] = {}
        self.rows: list[dict[str, Any]] = []
        self.draws: dict[tuple[str, str, str, str], np.ndarray] = {}

    def score(
        self, plan: "Plan", fold: "Fold", prepared: "Prepared", label: str, layer: np.ndarray, *, extra: dict[str, Any]
    ) -> None:
        from bleep_sc._grid import grid_positions
        from bleep_sc.tl._scoring import SectionPair, score_genes, score_panels, spot_draws

        genes = self._adata.var_names
        # only genes of a panel are scored: the others were neither chosen nor, by all methods, predicted
        scored = np.flatnonzero(genes.isin(np.concatenate(list(prepared.panels.values()))))
        for name, rows in section_rows(self._sections[fold.test], len(fold.test)):
            where = fold.test[rows]
            xy = np.asarray(self._adata.obsm[_keys.SPATIAL])[where] if self._with_places else None
            pair = SectionPair(
                name,
                self._patients[name],
                prepared.truth[rows][:, scored],
                layer[rows][:, scored],
                depth=log_depth(plan.values[where]) if plan.is_counts else None,
                xy=xy,
                grid=None
                if xy is None or "ssim" not in self._metrics
                else grid_positions(self._adata.obs.iloc[where], xy),
            )
            table = score_genes(pair, self._metrics)
            common: dict[str, Any] = {"gene_names": genes[scored], "panels": prepared.panels, "metrics": self._metrics}
            found = score_panels(
                label, pair, table, ceiling=self._ceiling(plan, name, where, prepared, scored), **common
            )
            self.rows += [{**row, "fold": fold.name, **extra} for row in found]
            if self._over_spots:
                self.draws |= spot_draws(label, pair, n_bootstrap=self._n_bootstrap, random_state=self._seed, **common)

    def _ceiling(
        self, plan: "Plan", section: str, rows: np.ndarray, prepared: "Prepared", scored: np.ndarray
    ) -> np.ndarray | None:
        from bleep_sc.tl._noise_ceiling import ceiling_of

        if not plan.is_counts:
            return None
        if section not in self._ceilings:
            counts = plan.values[rows]
            self._ceilings[section] = ceiling_of(
                counts, [np.arange(len(rows))], target_sum=prepared.target_sum, random_state=self._seed
            )
        return self._ceilings[section][scored]


def _arguments(methods: Sequence[str], method_kwargs: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """What `fit` gets for each label; its method is always named."""
    import inspect

    from bleep_sc.tl._fit import fit

    if isinstance(methods, str) or not methods or len(set(methods)) < len(methods):
        msg = f"`methods` must be a list of one or more different names, found {methods!r}."
        raise ValueError(msg)
    if unused := [label for label in method_kwargs if label not in methods]:
        msg = f"`method_kwargs` has {unused[0]!r}, which is not among `methods` {list(methods)}."
        raise ValueError(msg)
    known = set(inspect.signature(fit).parameters) - {"adata"}
    out: dict[str, dict[str, Any]] = {}
    for label in methods:
        given = dict(method_kwargs.get(label, {}))
        method = given.setdefault("method", label)
        if method not in get_args(Method) or "/" in label:
            msg = (
                f"`methods` has {label!r}, which is no method: there are {', '.join(map(repr, get_args(Method)))}. A "
                "label of your own, without '/', names its method by `method_kwargs={label: {'method': ...}}`."
            )
            raise ValueError(msg)
        for name in given:
            path = f"`method_kwargs[{label!r}][{name!r}]`"
            if name in _DECIDED_HERE:
                msg = f"{path} cannot be given: each fold sets it itself, so that nothing of the test spots gets in."
                raise ValueError(msg)
            if name not in known:
                msg = f"{path} is no argument of `bleep_sc.tl.fit`."
                raise ValueError(msg)
        if given.get("use_rep") not in (None, "X_harmony"):
            msg = (
                f"`method_kwargs[{label!r}]['use_rep']` is {given['use_rep']!r}, a representation made outside the "
                "folds, which may have seen the test spots. 'X_harmony' is made anew in each fold."
            )
            raise ValueError(msg)
        out[label] = given
    return out


def _plan(
    adata: AnnData,
    arguments: Mapping[str, Mapping[str, Any]],
    *,
    counts_layer: str | None,
    needs_counts: list[str],
    markers: Sequence[str],
    **rest: Any,
) -> "Plan":
    from scipy import sparse

    from bleep_sc.tl._fold_run import Plan
    from bleep_sc.tl._noise_ceiling import count_values

    is_counts = counts_layer is not None and counts_layer in adata.layers
    if needs_counts and not is_counts:
        msg = (
            f"`methods` has {needs_counts[0]!r}, which reads total counts, but `adata.layers[{counts_layer!r}]` does "
            "not exist. Keep the counts there, or leave the method out."
        )
        raise ValueError(msg)
    if is_counts:
        values = count_values(adata, str(counts_layer))
    else:
        found = expression_values(adata, None, name="adata")
        if found.min() < 0:
            msg = f"`adata.X` has negative values, found {found.min():.3g}: log-normalised expression is expected."
            raise ValueError(msg)
        warn_if_counts(found, path_of("adata", None))
        values = sparse.csr_matrix(found)
        logger.info(
            "`adata.X` is taken as it is: there are no counts in `layers[%r]`, so it was normalised outside the folds.",
            counts_layer,
        )
    for gene in markers:
        check_in("adata.var_names", gene, adata.var_names, remedy="`markers` are names of genes.")
    return Plan(
        adata=adata,
        values=values,
        is_counts=is_counts,
        markers=tuple(markers),
        image_keys=tuple(dict.fromkeys(str(each.get("image_key", _keys.CROPS)) for each in arguments.values())),
        harmonize=any(each.get("use_rep") is not None for each in arguments.values()),
        **rest,
    )


def _check_images(adata: AnnData, arguments: Mapping[str, Mapping[str, Any]], labels: Sequence[str]) -> None:
    for label in labels:
        image_key = arguments[label].get("image_key", _keys.CROPS)
        check_in(
            "adata.obsm",
            image_key,
            adata.obsm.keys(),
            remedy=f"{label!r} reads images: cut them with `bleep_sc.pp.crops`, or name features by `image_key`.",
        )


def _patient_key(adata: AnnData, patient_key: str | None, group_key: str, library_key: str) -> str | None:
    if patient_key is not None:
        return patient_key
    if _keys.PATIENT in adata.obs:
        return _keys.PATIENT
    return None if group_key == library_key else group_key


def _readable(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float | str) else repr(value)


def _report(summary: pd.DataFrame, *, metric: str, n_folds: int, group_key: str) -> None:
    first = summary.iloc[0]
    own = summary[summary["metric"] == metric]
    panels = list(dict.fromkeys(own["panel"]))
    width = max(len(str(method)) for method in own["method"]) + 3
    over = first["interval_over"] or "nothing"
    lines = [
        f"{metric} by gene within sections; {n_folds} folds by {group_key!r}, {first['scope'].upper()}; normalised "
        f"{first['normalisation']}; 95 % intervals over {over}:",
        " " * width + "".join(f"{panel:>24}" for panel in panels),
    ]
    for method, rows in own.groupby("method", sort=False):
        mark = " *" if rows["uses_query_counts"].any() else ""
        cells = []
        for panel in panels:
            row = rows[rows["panel"] == panel].iloc[0]
            interval = "" if np.isnan(row["low"]) else f" [{row['low']:.3f}, {row['high']:.3f}]"
            cells.append(f"{row['value']:.3f}{interval}")
        lines.append(f"{method + mark:<{width}}" + "".join(f"{cell:>24}" for cell in cells))
    if own["ceiling"].notna().any():
        ceilings = own.groupby("panel", sort=False)["ceiling"].first()
        lines.append(f"{'ceiling':<{width}}" + "".join(f"{ceilings[panel]:>24.3f}" for panel in panels))
    if own["uses_query_counts"].any():
        lines.append("* reads the total counts of the spots that it predicts")
    logger.info("\n".join(lines))
