import json
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._adata import as_text, check_adata, check_free
from bleep_sc._all_or_nothing import all_or_nothing
from bleep_sc._checks import MAX_SEED, check_choice, check_int, check_key_added, check_names, check_number
from bleep_sc.models.threads import on_allowed_cores

if TYPE_CHECKING:
    from pathlib import Path

    from bleep_sc.tl._study._tissues.strata import Found

BY = ("expression", "autocorrelation", "morphology")
_TIE = 1e-6
"""Difference of two correlations that is rounding: a set of all genes is each of its random sets."""
_COLUMNS = (
    *("by", "stratum", "from", "to", "value", "low", "high", "interval_over", "depth_free", "ceiling"),
    *("share_of_ceiling", "n_genes", "n_in_set", "programme", "programme_chance", "pvalue", "qvalue", "scope", "note"),
)


@on_allowed_cores()
def gene_strata(
    adata: AnnData,
    *,
    by: str | Sequence[str] = BY,
    gene_sets: "str | PathLike[str] | pd.DataFrame | Mapping[str, Sequence[str]] | None" = None,
    n_strata: int = 5,
    min_genes: int = 5,
    n_draws: int = 200,
    method: str = "ridge",
    method_kwargs: Mapping[str, Any] | None = None,
    group_key: str = _keys.PATIENT,
    use_rep: str = "X_color",
    counts_layer: str | None = _keys.COUNTS,
    n_top_genes: int = 5000,
    min_fraction: float = 0.1,
    library_key: str | None = None,
    patient_key: str | None = None,
    n_bootstrap: int = 1000,
    random_state: int = 0,
    progress_bar: bool | None = None,
    checkpoint_dir: "str | Path | None" = None,
    key_added: str = _keys.GENE_STRATA,
) -> pd.DataFrame:
    """Find which genes can be predicted from the image, and why: scores by expression, pattern, look and gene set.

    Each group of sections is held out in turn. Genes are divided into strata on the training sections, and a model
    learns them there. Each stratum is then scored on the held-out sections, beside the noise ceiling of its genes.

    Parameters
    ----------
    adata
        Measured sections of several groups, with crops or image features.
    by
        How genes are divided. ``"expression"`` takes their mean, ``"autocorrelation"`` Moran's I within sections.
        ``"morphology"`` takes how similar the values of spots are that look alike (1 - Geary's C of
        :func:`~bleep_sc.tl.predictability`).
    gene_sets
        Gene sets to score as well: the path of a GMT file (as of MSigDB), decoupler's table with the columns ``source``
        and ``target``, or genes by set. Names must be those of `var_names`.
    n_strata
        Number of strata of equal size.
    min_genes
        A gene set is scored only if at least this many of its genes are learned.
    n_draws
        Number of random sets to compare each gene set with.
    method, method_kwargs
        Method of :func:`~bleep_sc.tl.fit` and its arguments, as in :func:`~bleep_sc.tl.cross_validate`.
    group_key
        Column of `obs` with the groups. Each is held out once.
    use_rep
        Key of `obsm` with the image features of ``"morphology"``, as in :func:`~bleep_sc.tl.predictability`.
    counts_layer
        Layer of raw counts, which each fold normalises. With ``None``, `X` is used as it is, and there is no ceiling.
    n_top_genes, min_fraction
        Arguments of :func:`~bleep_sc.pp.select_genes`, which chooses the genes to learn and to divide. By default these
        are nearly all genes that are detected in a tenth of the spots.
    library_key
        Column of `obs` with each spot's section. ``None`` takes the column that :func:`~bleep_sc.pp.crops` was given,
        else `group_key`, with a warning.
    patient_key
        Column of `obs` with each spot's patient; ``None`` takes ``"patient"`` if that column exists.
    n_bootstrap
        Number of bootstrap draws. 0 gives no intervals.
    random_state
        Seed of all random steps.
    progress_bar
        Overrides the value of the same name in :attr:`bleep_sc.settings` for this call.
    checkpoint_dir
        Folder that keeps each finished fold; it is made if it does not exist. If the call is interrupted, make the same
        call again, and it goes on from there. The folder of another call is refused. ``None`` writes nothing.
    key_added
        Key of the result in `uns`.

    Returns
    -------
    The table that is also stored in `uns`, with a row for each stratum and gene set:

    - ``value`` is the mean Pearson correlation of the genes within held-out sections. ``low``, ``high``,
      ``interval_over``, ``depth_free``, ``ceiling`` and ``share_of_ceiling`` are as in :func:`~bleep_sc.tl.evaluate`.
    - ``from`` and ``to`` are the ends of a stratum, means over folds.
    - ``programme`` is for gene sets. It correlates the measured with the predicted mean of the set (beyond sequencing
      depth if there are counts). ``programme_chance`` is the mean for random sets of as many genes with similar
      expression. ``pvalue`` and ``qvalue`` compare the two.
    - ``n_genes`` is the number of scored genes, ``n_in_set`` the number of genes in the set.
    - ``note`` says why a value is NaN.

    Sets the following fields:

    `adata.uns['gene_strata' | key_added]` : `dict`
        ``table``, as above, and ``config``, JSON of the arguments. :func:`~bleep_sc.pl.predictable_genes` draws it.

    Raises
    ------
    FileNotFoundError
        No such GMT file.
    KeyError
        No such column, layer or image.
    ValueError
        - Fewer than two groups.
        - A file that is no GMT file.
        - No gene set with `min_genes` genes of `adata`.
        - An argument that the method does not have.
        - The `checkpoint_dir` of another call.
        - A view of an AnnData (pass a copy).

    Notes
    -----
    The three statistics are related. Genes with high expression have less noise, so they vary more smoothly and are
    predicted better. ``share_of_ceiling`` corrects for counting noise.

    A gene set is compared with other genes of similar expression. A low p-value says that this programme is predicted
    better than those genes. A ``programme`` that is only a little above ``programme_chance`` may still be useful. A set
    that is not above chance may be predicted as well as most genes. Genes of a set that are not detected are left out,
    which favours the set.

    Examples
    --------
    >>> bl.tl.gene_strata(adata, gene_sets="h.all.v2024.1.Hs.symbols.gmt")  # doctest: +SKIP
    >>> bl.pl.predictable_genes(adata, by="expression")  # doctest: +SKIP
    >>> bl.pl.predictable_genes(adata, by="gene set")  # doctest: +SKIP
    """
    check_adata(adata)
    check_key_added("key_added", key_added)
    check_free(adata, key_added, field="table", what="strata of genes")
    names = tuple(dict.fromkeys(check_names("by", by)))
    for name in names:
        check_choice("by", name, BY)
    check_int("n_strata", n_strata, minimum=2)
    check_int("min_genes", min_genes)
    check_int("n_draws", n_draws, minimum=20)
    check_int("n_top_genes", n_top_genes)
    check_number("min_fraction", min_fraction, minimum=0)
    check_int("n_bootstrap", n_bootstrap, minimum=0)
    seed = check_int("random_state", random_state, minimum=0, maximum=MAX_SEED)
    sets = _gene_sets(adata, gene_sets, min_genes)

    from bleep_sc._progress import progress
    from bleep_sc._settings import settings
    from bleep_sc.tl._cv.plan import asked_method, readable
    from bleep_sc.tl._cv.ready import make_ready
    from bleep_sc.tl._predictability import image_looks
    from bleep_sc.tl._study._tissues.strata import Asking, report, score_folds
    from bleep_sc.tl._study.parts import Parts, data_of

    asked = asked_method(method, method_kwargs)
    ready = make_ready(
        adata,
        {method: asked},
        group_key=group_key,
        library_key=library_key,
        patient_key=patient_key,
        counts_layer=counts_layer,
        markers=(),
        n_top_genes=n_top_genes,
        min_fraction=min_fraction,
        k=None,
        refit=True,
        random_state=seed,
    )
    looks = image_looks(adata, use_rep, progress_bar=progress_bar) if "morphology" in names else None
    told = {"by": list(names), "n_strata": n_strata, "min_genes": min_genes, "n_draws": n_draws, "method": method}
    told |= {"method_kwargs": {name: readable(value) for name, value in (method_kwargs or {}).items()}}
    told |= {"group_key": group_key, "library_key": ready.plan.library_key, "use_rep": use_rep, "random_state": seed}
    told |= {"n_top_genes": n_top_genes, "min_fraction": min_fraction, "n_gene_sets": len(sets)}
    data = {}
    if checkpoint_dir is not None:
        of_sets = [np.array([name, *sorted(sets[name])]) for name in sets]  # a Python set has no order that lasts
        data = data_of(ready.plan, the_looks=[looks], the_gene_sets=of_sets)
    done = Parts.of(checkpoint_dir, "gene_strata", told, data)
    with settings.override(verbosity="warning"):
        found = score_folds(
            ready,
            asked,
            Asking(names, n_strata, sets, min_genes, n_draws, looks),
            done,
            steps=lambda items: progress(items, desc="Scoring strata", show=progress_bar),
        )
    scope = ready.labels["scope"]
    table = _table(
        found, names, sets, ready.patients, n_strata=n_strata, n_bootstrap=n_bootstrap, seed=seed, scope=scope
    )
    report(table, scope)
    with all_or_nothing(adata):
        adata.uns[key_added] = {"table": table, "config": json.dumps(told, indent=1)}
    return table.copy()


def _gene_sets(adata: AnnData, gene_sets: Any, min_genes: int) -> dict[str, list[str]]:
    """Read the sets; refuse those of another kind of names, before anything is trained."""
    if gene_sets is None:
        return {}
    from bleep_sc.tl._study._tissues.gene_sets import read_gene_sets

    sets = read_gene_sets(gene_sets)
    genes = set(as_text(adata.var_names))
    if not any(len(genes & set(members)) >= min_genes for members in sets.values()):
        first = next(iter(sets))
        msg = (
            f"no set of `gene_sets` has {min_genes} genes of `adata.var_names`: {first!r} has such as "
            f"{sets[first][:3]}, `adata` {list(adata.var_names[:3])}. Take sets of the same organism and kind of names."
        )
        raise ValueError(msg)
    return sets


def _table(
    found: "Found",
    by: Sequence[str],
    sets: Mapping[str, Sequence[str]],
    patients: Mapping[str, str],
    *,
    n_strata: int,
    n_bootstrap: int,
    seed: int,
    scope: str,
) -> pd.DataFrame:
    from bleep_sc.metrics.summary import for_uns, summarize
    from bleep_sc.tl._study._tissues.strata import GENE_SET, METRICS, panel_name

    summary = summarize(found.rows, n_bootstrap=n_bootstrap, random_state=seed).set_index(["panel", "metric"])
    ranges = pd.DataFrame(found.ranges, columns=["by", "stratum", "from", "to"]).groupby(["by", "stratum"]).mean()
    strata = [(name, f"{number} of {n_strata}") for name in by for number in range(1, n_strata + 1)]
    rows = []
    for name, stratum in [("all", "all"), *strata, *((GENE_SET, each) for each in sets)]:
        row: dict[str, Any] = {"by": name, "stratum": stratum, "scope": scope, "note": ""}
        panel = panel_name(name, stratum)
        if (panel, METRICS[0]) in summary.index:
            row |= dict(summary.loc[(panel, METRICS[0])])
            row["depth_free"] = summary["value"].get((panel, METRICS[1]), np.nan)
        else:
            row["note"] = found.untold.get(name, "cannot be told: too few of its genes were learned in any fold")
        if (name, stratum) in ranges.index:
            row |= dict(ranges.loc[(name, stratum)])
        if name == GENE_SET:
            row["n_in_set"] = len(sets[stratum])
        rows.append(row)
    table = pd.DataFrame(rows)
    programmes = _programmes(found, patients)
    if len(programmes):
        table = table.merge(programmes.assign(by=GENE_SET), on=["by", "stratum"], how="left")
    table = table.reindex(columns=list(_COLUMNS))
    for name in ("n_genes", "n_in_set"):
        table[name] = table[name].fillna(0).astype(int)
    table["interval_over"] = table["interval_over"].fillna("")
    return for_uns(table)


def _programmes(found: "Found", patients: Mapping[str, str]) -> pd.DataFrame:
    """Average each set's correlation, and that of its random sets, over sections, then patients; compare the two."""
    from scipy.stats import false_discovery_control

    if not found.programmes:
        return pd.DataFrame()
    rows = []
    for name, own in pd.DataFrame(found.programmes).groupby("stratum", sort=False):
        of_patients = own["section"].map(patients).to_numpy()
        values = np.column_stack([own["programme"].to_numpy(), np.stack(own["draws"].to_list())])
        mean = np.mean([values[of_patients == each].mean(axis=0) for each in np.unique(of_patients)], axis=0)
        pvalue = (1 + (mean[1:] >= mean[0] - _TIE).sum()) / len(mean)
        rows.append({"stratum": name, "programme": mean[0], "programme_chance": mean[1:].mean(), "pvalue": pvalue})
    table = pd.DataFrame(rows)
    return table.assign(qvalue=false_discovery_control(table["pvalue"]))
