from collections.abc import Callable, Sequence
from typing import Any, get_args

from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._adata import check_adata
from bleep_sc._all_or_nothing import all_or_nothing, set_or_delete
from bleep_sc._checks import check_choice, check_int, check_key, check_levels, check_number, check_share
from bleep_sc._settings import Precision
from bleep_sc.methods.names import Match, Mode
from bleep_sc.metrics.turns import FEWEST_TURNS
from bleep_sc.models.search.weighting import Weighting


def calibrate(
    ref: AnnData,
    *,
    key: str = _keys.MODEL,
    cross_fit: bool = False,
    levels: Sequence[float] = (0.5, 0.8, 0.9, 0.95),
    n_turns: int = 150,
    fdr: float = 0.1,
    patient_key: str | None = None,
    predict: Mode | None = None,
    k: int | None = None,
    match: Match | None = None,
    weighting: Weighting = "mean",
    temperature: float = 0.1,
    encoder: Callable[..., Any] | None = None,
    device: str | None = None,
    precision: Precision | None = None,
    random_state: int = 0,
    progress_bar: bool | None = None,
    copy: bool = False,
) -> AnnData | None:
    """Measure how far predictions of held-out spots are off, gene by gene, so that new ones come with intervals.

    The default recipe of :func:`~bleep_sc.tl.fit` predicts each patient of the reference, or each section of a single
    patient, by models that never saw it. This function compares these predictions with what was measured. The result
    travels with the model. :func:`~bleep_sc.tl.intervals` makes bounds of it, and `ref.var` says which genes can be
    read off an image at all.

    Parameters
    ----------
    ref
        Spots that :func:`~bleep_sc.tl.fit` was run on, with the raw counts in ``layers["counts"]``. The expression that
        was learned from must be log1p(T · counts / total) with one T for all spots.
    key
        Name of the model in `ref.uns`.
    cross_fit
        Train the folds anew, and predict each by a model that never saw it. This is for models that keep no such
        predictions: other methods than BLEEP's default recipe, models of earlier versions, or another `patient_key`.
    levels
        Shares of the spots that intervals shall cover, each between 0 and 1.
    n_turns
        Number of random turns of a predicted map that a gene is compared with (Notes), 20 or more; 0 makes no list.
    fdr
        Share of false entries that the list of predictable genes may have.
    patient_key
        Column of `obs` with each spot's patient or animal. ``None`` takes the one that the model was fitted with.
        Another one needs ``cross_fit=True``.
    predict, k, match, weighting, temperature
        The predictor to calibrate, as arguments of :func:`~bleep_sc.tl.impute`. What differs from its defaults needs
        ``cross_fit=True``, but for ``predict="regression"``: `fit` keeps that too, for slim models
        (:func:`~bleep_sc.io.write_model`).
    encoder
        Your own image encoder, where the model was fitted with one; for ``cross_fit=True``.
    device, precision, progress_bar
        Override the values of the same names in :attr:`bleep_sc.settings` for this call.
    random_state
        Seed of the thinning of counts and of the turns.
    copy
        Return a changed copy instead of changing `ref`.

    Returns
    -------
    ``None``, or the changed copy if ``copy=True``. Sets the following fields:

    `ref.uns['bleep' | key]` : `dict`
        ``calibration``: half-widths of all genes at five depths and all levels, as bytes. ``coverage``: a table of how
        many measured values lay within intervals that were made from the other groups alone, by ``group``, ``panel``
        and ``level``; ``genes_above`` is the share of genes with a coverage of 0.8 or more.
        :func:`bleep_sc.pl.calibration` draws it. ``scope``: what the calibration speaks of, in words.
    `ref.var['bleep_predictable' | '{key}_predictable']` : bool
        Whether the prediction follows the gene further than turned maps do, at the false discovery rate `fdr`.
    `ref.var['bleep_expected_pearson' | '{key}_expected_pearson']` : float
        Mean Pearson correlation over held-out sections, then patients.
    `ref.var['bleep_expected_pearson_lower' | ...], ref.var['bleep_expected_pearson_upper' | ...]` : float
        Bounds of the correlation to expect in one more section (of one more patient where patients were held out), in
        nine cases of ten.

    Raises
    ------
    KeyError
        No model, no counts, or no column of patients or sections.
    ValueError
        One section only; expression that is not log1p(T · counts / total) with one T; a model without out-of-fold
        predictions, or of another patient column, without `cross_fit`; a level outside (0, 1).

    Notes
    -----
    **Intervals.** The half-width of a gene is a quantile of its absolute errors on held-out spots: the ceil(level
    (n + 1))-th smallest of n (split conformal prediction; Lei et al., JASA 2018). With two or more patients it is the
    largest half-width of any patient. With one it is that of all sections together, and the result is labelled
    "within-patient": it says nothing sure of another patient. The promise is about the *measured* value at a stated
    depth, so counts are thinned binomially to four depths that every group has spots for.

    What K patients can guarantee for a new one is level × K / (K + 1), if patients are exchangeable and the full model
    errs no more than those of the folds: 0.675 for K = 3 and level 0.9. No rule goes beyond K / (K + 1). What was found
    beyond that is "empirical".

    Thinning draws at random. With few spots of a patient, another `random_state` gives other half-widths at depths
    below the reference's.

    High values are missed more often than others: an average over spots is flatter than a single spot. The panel "own
    top tenth" of ``coverage`` shows how much more often.

    **Genes.** The correlation of a gene's prediction with what was measured, both regressed on log depth, is compared
    with that of the same predicted map turned, mirrored and shifted at random within its section. A map of smooth
    tissue correlates with many others by chance, which the turned maps show. Sections of a patient are taken as
    dependent, and patients are combined by Stouffer's method for scores that depend on each other. The list keeps to
    the false discovery rate of Benjamini and Hochberg. Genes without counts in more than nine of ten spots are not
    tested. The list speaks of the patients at hand.

    The folds that chose the blend are those that are calibrated on, which flatters a little (docs, "How far to trust a
    value", says how much).

    Examples
    --------
    >>> bl.tl.fit(ref)  # doctest: +SKIP
    >>> bl.tl.calibrate(ref)  # doctest: +SKIP
    >>> lower, upper = bl.tl.intervals(query, ref, genes=["ERBB2"])  # doctest: +SKIP
    """
    check_adata(ref, name="ref", copy=copy)
    check_key("key", key)
    levels = check_levels("levels", levels)
    if n_turns != 0:
        check_int("n_turns", n_turns, minimum=FEWEST_TURNS)
    check_share("fdr", fdr)
    seed = check_int("random_state", random_state, minimum=0)
    if k is not None:
        check_int("k", k)
    check_choice("weighting", weighting, get_args(Weighting))
    check_number("temperature", temperature, above=0)

    from bleep_sc.io._trained import load_model
    from bleep_sc.tl._trust.calibration import calibration_of, report
    from bleep_sc.tl._trust.genes import judge_genes, report_genes
    from bleep_sc.tl._trust.held_out import held_out_spots
    from bleep_sc.tl._trust.spots import read_labels, read_measured

    stored, trained = load_model(ref, key)
    labels = read_labels(ref, stored, key, patient_key=patient_key, anew=cross_fit)
    measured = read_measured(ref, stored, key)
    spots, predictor = held_out_spots(
        ref,
        key,
        measured,
        labels,
        stored=stored,
        trained=trained,
        anew=cross_fit,
        of_impute={"predict": predict, "k": k, "match": match, "weighting": weighting, "temperature": temperature},
        encoder=encoder,
        of_compute={"device": device, "precision": precision},
        progress_bar=progress_bar,
    )
    calibration = calibration_of(
        ref,
        spots,
        stored,
        predictor,
        levels=levels,
        cross_fit=cross_fit,
        seed=seed,
        progress_bar=progress_bar,
    )
    columns = None
    if n_turns:
        columns = judge_genes(ref, spots, key=key, n_turns=n_turns, fdr=fdr, seed=seed, progress_bar=progress_bar)
    ref = ref.copy() if copy else ref
    with all_or_nothing(ref):
        ref.uns[key] = {**ref.uns[key], **calibration.to_uns()}
        set_or_delete(ref.var, dict.fromkeys(_keys.of_calibrated_genes(key)) if columns is None else columns)
    report(calibration.promise)
    if columns is not None:
        report_genes(columns, calibration.promise, key=key, fdr=fdr)
    return ref if copy else None
