from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._checks import MAX_SEED, check_int, check_number
from bleep_sc._logging import log_table, warn
from bleep_sc.models.threads import on_allowed_cores

if TYPE_CHECKING:
    from pathlib import Path

LARGEST_COST = 0.01
"""Loss of a joint reference that is no tie: scores of the same method differ by as much between seeds."""


@on_allowed_cores()
def transfer_matrix(
    tissues: Mapping[str, AnnData],
    *,
    method: str = "ridge",
    method_kwargs: Mapping[str, Any] | None = None,
    map_genes: str | Mapping[str, str] | None = None,
    group_key: str | None = None,
    counts_layer: str | None = _keys.COUNTS,
    n_top_genes: int = 1000,
    min_fraction: float = 0.1,
    library_key: str | None = None,
    patient_key: str | None = None,
    n_bootstrap: int = 1000,
    random_state: int = 0,
    progress_bar: bool | None = None,
    checkpoint_dir: "str | Path | None" = None,
) -> pd.DataFrame:
    """Test whether a model of one tissue works on another: train on each, test on each, and train on all.

    No model is tested on tissue that it was trained on. A tissue's own model and the joint model of all tissues are
    cross-validated: the patients or sections of the tissue are held out in turn.

    Parameters
    ----------
    tissues
        Two or more measured tissues, by name. All have crops (:func:`~bleep_sc.pp.crops`) of one width, or features of
        one encoder. They are not changed.
    method
        Method of :func:`~bleep_sc.tl.fit`.
    method_kwargs
        Its arguments, as in :func:`~bleep_sc.tl.cross_validate`, such as ``{"image_key": "X_color"}``.
    map_genes
        How genes get common names. ``None`` takes names as they are. ``"upper"`` writes them in capitals, which matches
        most symbols of human and mouse. A mapping renames each gene that it contains, for example to its ortholog.
    group_key
        Column of `obs` with the groups. Each is held out once. ``None`` holds out whole patients if a tissue has two or
        more, else sections.
    counts_layer
        Layer of raw counts, which each fold normalises. With ``None``, or if no tissue has the layer, `X` is used.
    n_top_genes, min_fraction
        Arguments of :func:`~bleep_sc.pp.select_genes`, which chooses the genes to learn.
    library_key
        Column of `obs` with each spot's section. ``None`` takes the column that :func:`~bleep_sc.pp.crops` was given,
        else a tissue is one section.
    patient_key
        Column of `obs` with each spot's patient; ``None`` takes ``"patient"`` if that column exists.
    n_bootstrap
        Number of bootstrap draws. 0 gives no intervals.
    random_state
        Seed of all random steps.
    progress_bar
        Overrides the value of the same name in :attr:`bleep_sc.settings` for this call.
    checkpoint_dir
        Folder that keeps each finished training; it is made if it does not exist. If the call is interrupted, make the
        same call again, and it goes on from there. The folder of another call is refused. ``None`` writes nothing.

    Returns
    -------
    A table with a row for each ``trained_on`` (``"all"`` is the joint reference), ``tested_on`` and ``panel``:

    - ``value`` is the mean Pearson correlation of the panel's genes over the spots of a section. ``low`` and ``high``
      are its interval over ``interval_over`` (NaN with fewer than 3 patients or sections). ``depth_free`` is the same
      with sequencing depth regressed out. ``ceiling`` is the noise ceiling.
    - ``how`` is ``"transfer"`` or ``"cross-validated"``. ``scope`` says whether the tested sections are of other
      patients.
    - ``verdict`` is what :func:`~bleep_sc.tl.impute` says about the look of the tested tissue, in its worst section.
      ``n_unlike`` is the number of sections that look unlike the reference, and ``share_unlike`` the share of such
      spots.
    - ``cost`` is how much lower the joint model scores than the model of the tissue's own sections.
    - ``note`` says why a value is NaN.
    - ``n_genes`` is the size of the panel, and ``n_shared_genes`` the number of genes that all tissues have.
      ``n_sections`` and ``n_patients`` were scored.

    Raises
    ------
    KeyError
        No such column, or no images in a tissue.
    ValueError
        - Fewer than two tissues.
        - No gene that all tissues have.
        - The same spots in two tissues.
        - Counts in some tissues only.
        - Crops of different widths.
        - An argument that the method does not have.
        - The `checkpoint_dir` of another call.

    Warns
    -----
    UserWarning
        The joint model lowers the score of a panel by more than 0.01 in a tissue, or few gene names are shared.

    Notes
    -----
    Only genes that all tissues have are used, also for total counts. The genes to learn and the panels are chosen on
    the groups of the tested tissue that are not scored. So all rows of one ``tested_on`` are scored on the same genes,
    and no gene was chosen on the scored spots. If a tissue has only one group, its genes are chosen on the other
    tissues. Its own score and that of the joint model are then NaN.

    Each tissue is normalised to the median total of its own training spots.

    The score is about the pattern within sections. The level of a gene in another tissue is not tested. With the
    verdict ``"unlike the reference's tissue, ..."`` the prediction is a guess, even if the score is above 0. Tissues
    share genes that follow cell density or depth.

    Examples
    --------
    >>> table = bl.tl.transfer_matrix({"breast": breast, "brain": brain}, map_genes="upper")  # doctest: +SKIP
    >>> bl.pl.transfer_matrix(table)  # doctest: +SKIP
    """
    check_int("n_top_genes", n_top_genes)
    check_number("min_fraction", min_fraction, minimum=0)
    check_int("n_bootstrap", n_bootstrap, minimum=0)
    seed = check_int("random_state", random_state, minimum=0, maximum=MAX_SEED)

    from bleep_sc._progress import progress
    from bleep_sc._settings import settings
    from bleep_sc._stats import section_rows
    from bleep_sc.pp._near_empty import warn_of_near_empty
    from bleep_sc.tl._cv.folds import check_no_copies
    from bleep_sc.tl._cv.plan import asked_method, check_inputs, make_plan, readable
    from bleep_sc.tl._study._tissues.cells import score_cells, tabulate_cells
    from bleep_sc.tl._study._tissues.joined import GROUP, SECTION, check_tissues, join
    from bleep_sc.tl._study.parts import Parts, data_of
    from bleep_sc.tl._trust.reliability import verdicts_unsaid

    named = check_tissues(tissues)
    asked = asked_method(method, method_kwargs)
    source = asked.needs.source
    image_keys = [str(asked.arguments.get("image_key", _keys.CROPS))] if source.is_image else []
    joined = join(
        named,
        map_genes=map_genes,
        image_keys=image_keys,
        counts_layer=counts_layer,
        group_key=group_key,
        library_key=library_key,
        patient_key=patient_key,
    )
    all_known = bool((joined.adata.obs[_keys.PATIENT] != "").all())
    plan = make_plan(
        joined.adata,
        {method: asked},
        counts_layer=counts_layer if counts_layer in joined.adata.layers else None,
        library_key=SECTION,
        group_key=GROUP,
        patient_key=_keys.PATIENT if all_known else None,
        markers=(),
        n_top_genes=n_top_genes,
        min_fraction=min_fraction,
        k=None,
        refit=True,
        random_state=seed,
    )
    obs: pd.DataFrame = joined.adata.obs
    groups = obs[GROUP].to_numpy(dtype=str)
    check_no_copies(plan.values, groups, list(joined.adata.obs_names), path="tissues")
    check_inputs(joined.adata, {method: asked})
    sections = section_rows(obs[SECTION].to_numpy(dtype=str), joined.adata.n_obs)
    warn_of_near_empty(joined.adata, sections, counts_layer=counts_layer or "")
    told = {"tissues": list(joined.names), "n_top_genes": n_top_genes, "min_fraction": min_fraction, "method": method}
    told |= {"method_kwargs": {name: readable(value) for name, value in (method_kwargs or {}).items()}}
    told |= {"random_state": seed, "counts": plan.is_counts}
    done = Parts.of(checkpoint_dir, "transfer_matrix", told, data_of(plan) if checkpoint_dir is not None else {})
    with settings.override(verbosity="warning"), verdicts_unsaid():
        rows, verdicts = score_cells(
            joined,
            plan,
            asked,
            done,
            steps=lambda cells: progress(cells, desc="Transferring", show=progress_bar),
        )
    table = tabulate_cells(joined, rows, verdicts, n_bootstrap=n_bootstrap, random_state=seed)
    _report(table)
    return table


def _report(table: pd.DataFrame) -> None:
    """Log the matrix of one panel, and warn where the joint reference costs more than a tie."""
    shown = table[table["panel"] == "HVG-50"].pivot(index="trained_on", columns="tested_on", values="value")
    order = list(dict.fromkeys(table["trained_on"])), list(dict.fromkeys(table["tested_on"]))
    shown = shown.reindex(index=order[0], columns=order[1])
    log_table(
        "Pearson over HVG-50 by gene within sections, trained on (rows) and tested on (columns), on "
        f"{int(table['n_shared_genes'].iloc[0])} genes that all share:",
        shown.map(lambda value: "-" if np.isnan(value) else f"{value:.3f}"),
    )
    costly = table[np.nan_to_num(table["cost"]) > LARGEST_COST]
    if len(costly):
        said = ", ".join(f"{row.tested_on} {row.cost:.3f} ({row.panel})" for row in costly.itertuples())
        warn(
            f"one reference of all tissues scores lower than the tissue's own sections by more than {LARGEST_COST}: "
            f"{said}. Fit each tissue by itself where it has sections of its own."
        )
