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
from bleep_sc.models.threads import on_allowed_cores


@on_allowed_cores()
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
    """Measure the errors of held-out predictions, gene by gene, so that new predictions get intervals.

    The default recipe of :func:`~bleep_sc.tl.fit` predicts each patient of the reference, or each section of a single
    patient, with models that never saw it. This function compares these predictions with the measured values. The
    result is stored with the model. :func:`~bleep_sc.tl.intervals` computes bounds from it, and `ref.var` says which
    genes can be predicted from an image at all.

    Parameters
    ----------
    ref
        Spots that :func:`~bleep_sc.tl.fit` was run on, with the raw counts in ``layers["counts"]``. The expression that
        was learned from must be log1p(T · counts / total) with one T for all spots.
    key
        Name of the model in `ref.uns`.
    cross_fit
        Train the folds again, and predict each with a model that never saw it. Use this for models without held-out
        predictions: methods other than BLEEP's default recipe, models of earlier versions, or another `patient_key`.
    levels
        Shares of the spots that the intervals should cover, each between 0 and 1.
    n_turns
        Number of randomly turned maps to compare each gene with (Notes), 20 or more. 0 makes no list of predictable
        genes.
    fdr
        Share of false entries to allow in the list of predictable genes.
    patient_key
        Column of `obs` with each spot's patient or animal. ``None`` takes the one that the model was fitted with.
        Another one needs ``cross_fit=True``.
    predict, k, match, weighting, temperature
        Arguments of :func:`~bleep_sc.tl.impute` that define the predictor to calibrate. Values other than its defaults
        need ``cross_fit=True``. The exception is ``predict="regression"``: `fit` keeps these predictions too, for slim
        models (:func:`~bleep_sc.io.write_model`).
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
        ``calibration``: half-widths of all genes at five depths and all levels, as bytes. ``coverage``: a table by
        ``group``, ``panel`` and ``level``. It says how many measured values lay within intervals that were made from
        the other groups alone. Its ``genes_above`` is the share of genes with a coverage of 0.8 or more.
        :func:`bleep_sc.pl.calibration` draws this table. ``scope``: what the calibration holds for, in words.
    `ref.var['bleep_predictable' | '{key}_predictable']` : bool
        Whether the prediction correlates with the gene better than turned maps do, at the false discovery rate `fdr`.
    `ref.var['bleep_expected_pearson' | '{key}_expected_pearson']` : float
        Pearson correlation, averaged over held-out sections and then over patients.
    `ref.var['bleep_expected_pearson_lower' | ...], ref.var['bleep_expected_pearson_upper' | ...]` : float
        Bounds of the correlation in one more section, in nine cases of ten. Where patients were held out, this is a
        section of a new patient.

    Raises
    ------
    KeyError
        No model, no counts, or no column of patients or sections.
    ValueError
        - One section only.
        - Expression that is not log1p(T · counts / total) with one T.
        - A model without out-of-fold predictions, or of another patient column, without `cross_fit`.
        - A level outside (0, 1).

    Notes
    -----
    **Intervals.** The half-width of a gene is a quantile of its absolute errors on held-out spots: the ceil(level (n +
    1))-th smallest of n (split conformal prediction; Lei et al., JASA 2018). With two or more patients, it is the
    largest half-width of any patient. With one patient, it is the half-width of all sections together. The result is
    then labelled "of one patient", and promises nothing for another patient. The promise is about the *measured* value
    at a stated depth. So counts are thinned binomially to four depths, for which every group has spots.

    K patients can guarantee level × K / (K + 1) for a new patient: 0.675 for K = 3 and level 0.9. This assumes that
    patients are exchangeable, and that the full model has no larger errors than the models of the folds. No rule can
    guarantee more than K / (K + 1). Coverage that was found beyond the guarantee is called "empirical".

    Thinning draws at random. With few spots of a patient, another `random_state` gives other half-widths at depths
    below the reference's.

    High values are missed more often than others: an average over spots is flatter than a single spot. The panel "own
    top tenth" of ``coverage`` shows how much more often.

    **Genes.** The prediction and the measurement of a gene are both regressed on log depth, and then correlated. The
    same predicted map is also turned, mirrored and shifted at random within its section, and correlated again. The two
    correlations are compared. Smooth maps correlate with each other by chance, and the turned maps show how much.
    Sections of a patient count as dependent. Patients are combined by Stouffer's method for dependent scores. The list
    keeps to the false discovery rate of Benjamini and Hochberg. Genes without counts in more than nine of ten spots are
    not tested. The list holds for the patients at hand.

    The folds that chose the mix are also used for calibration. This makes the result slightly too good (docs, "How far
    to trust a value", says by how much).

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
    from bleep_sc.tl._trust.calibration import calibration_of, replaced, report
    from bleep_sc.tl._trust.genes import judge_genes, report_genes
    from bleep_sc.tl._trust.held_out import held_out_spots
    from bleep_sc.tl._trust.spots import read_labels, read_measured

    stored, trained = load_model(ref, key)
    labels = read_labels(ref, stored, key, patient_key=patient_key, again=cross_fit)
    measured = read_measured(ref, stored, key)
    spots, predictor = held_out_spots(
        ref,
        key,
        measured,
        labels,
        stored=stored,
        trained=trained,
        again=cross_fit,
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
    replaces = replaced(ref.uns[key], predictor, where=f"`ref.uns[{key!r}]`")
    ref = ref.copy() if copy else ref
    with all_or_nothing(ref):
        ref.uns[key] = {**ref.uns[key], **calibration.to_uns()}
        set_or_delete(ref.var, dict.fromkeys(_keys.of_calibrated_genes(key)) if columns is None else columns)
    report(calibration.promise, replaces=replaces)
    if columns is not None:
        report_genes(columns, calibration.promise, key=key, fdr=fdr)
    return ref if copy else None
