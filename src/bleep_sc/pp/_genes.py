import warnings
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._adata import check_adata, section_of_spots
from bleep_sc._all_or_nothing import all_or_nothing
from bleep_sc._checks import check_int, check_name, check_number
from bleep_sc._expression import expression_values, path_of, warn_if_counts
from bleep_sc._logging import logger
from bleep_sc._side_effects import parallel_numba
from bleep_sc._stats import detected_fraction, section_rows
from bleep_sc.pp._near_empty import warn_of_near_empty


def select_genes(
    adata: AnnData,
    *,
    batch_key: str | None = None,
    n_top_genes: int = 1000,
    min_fraction: float = 0.1,
    layer: str | None = None,
    key_added: str = _keys.HIGHLY_VARIABLE,
    copy: bool = False,
) -> AnnData | None:
    """Choose the genes to learn from: the union of each section's highly variable genes.

    BLEEP's own preprocessing takes the 1,000 most variable genes of each section (by scanpy) and joins them. At the
    depth of first-generation arrays, these are mostly sparse noise. So this function first leaves out genes that are
    detected in too few spots. ``min_fraction=0`` is the paper's recipe.

    Scanpy ranks genes among those of similar mean, so well-known markers can still be missing. On HER2ST 3 of 20 breast
    markers are chosen with a `min_fraction` of 0, 4 with 0.1, 11 with 0.3. Add markers with ``adata.var.loc[markers,
    "highly_variable"] = True``. Imputation covers all genes, whatever is chosen here.

    Parameters
    ----------
    adata
        Spots with log-normalised expression.
    batch_key
        Column of `obs` with each spot's section; ``None`` takes all spots as one section.
    n_top_genes
        Number of genes to choose in each section.
    min_fraction
        Smallest share of all spots in which a gene must be detected.
    layer
        Layer with the expression; ``None`` is `adata.X`.
    key_added
        Column of `var` to write.
    copy
        Return a changed copy instead of changing `adata`.

    Returns
    -------
    ``None``, or the changed copy if ``copy=True``. Sets the following fields:

    `adata.var['highly_variable' | key_added]` : :class:`pandas.Series` (dtype `bool`)
        The chosen genes.
    `adata.var['highly_variable_nbatches' | '{key_added}_nbatches']` : :class:`pandas.Series` (dtype `int`)
        Number of sections in which each gene was among the most variable.

    Raises
    ------
    KeyError
        No such column or layer.
    ValueError
        NaN or negative expression, no gene passes the filter, a section of a single spot, a view.

    Warns
    -----
    UserWarning
        There are near-empty spots: they have less than a tenth of their section's median of counts. Without
        ``layers['counts']``, detected genes are taken instead. A handful of such spots dominates every per-gene
        correlation.
    """
    check_adata(adata, copy=copy)
    check_name("key_added", key_added)
    check_int("n_top_genes", n_top_genes)
    if check_number("min_fraction", min_fraction, minimum=0) > 1:
        msg = f"`min_fraction` is a share of the spots, from 0 to 1; found {min_fraction!r}."
        raise ValueError(msg)
    values, path = expression_values(adata, layer, name="adata"), path_of("adata", layer)
    if values.size and values.min() < 0:
        msg = (
            f"`{path}` has negative values, found {values.min():.3g}: log-normalised expression is "
            "expected (`sc.pp.normalize_total`, then `sc.pp.log1p`, no scaling)."
        )
        raise ValueError(msg)
    sections = section_rows(section_of_spots(adata, batch_key), adata.n_obs)
    for section, rows in sections:
        if len(rows) < 2:
            msg = f"`adata.obs[{batch_key!r}]`: {section!r} has a single spot, so no gene varies in it. Leave it out."
            if batch_key is None:
                msg = "`adata` has a single spot, so no gene varies. Pass a whole section."
            raise ValueError(msg)
    # scanpy takes exponentials in place, which whole numbers and booleans cannot hold
    values = values if values.dtype.kind == "f" else values.astype(np.float32)
    if values.max() > np.log(np.finfo(values.dtype).max):
        msg = (
            f"`{path}` holds values as large as {values.max():.3g}, which no logarithm has: keep the raw counts by "
            "`adata.layers['counts'] = adata.X.copy()`, then `sc.pp.normalize_total(adata, target_sum=1e4)` and "
            "`sc.pp.log1p(adata)`."
        )
        raise ValueError(msg)
    warn_if_counts(values, path)
    detected = detected_fraction(values) >= min_fraction
    if not detected.any():
        msg = f"no gene is detected in {min_fraction:.0%} of the spots: lower `min_fraction`."
        raise ValueError(msg)
    kept = np.flatnonzero(detected)
    warn_of_near_empty(adata, sections)
    votes = np.zeros(adata.n_vars, dtype=np.int64)
    for section, rows in sections:
        where = "all spots" if batch_key is None else f"the spots of {section!r} in `adata.obs[{batch_key!r}]`"
        votes[kept[_highly_variable(values[rows][:, kept], n_top_genes, where=f"`{path}` of {where}")]] += 1
    logger.info(
        "%d of %d genes are detected in at least %.0f %% of the spots; %d are among the %d most variable of a section.",
        len(kept),
        adata.n_vars,
        100 * min_fraction,
        (votes > 0).sum(),
        n_top_genes,
    )
    adata = adata.copy() if copy else adata
    with all_or_nothing(adata):
        adata.var[key_added] = votes > 0
        adata.var[f"{key_added}_nbatches"] = votes
    return adata if copy else None


def _highly_variable(values: Any, n_top_genes: int, *, where: str) -> np.ndarray:
    """Positions of scanpy's highly variable genes."""
    import scanpy as sc

    n_genes = values.shape[1]
    if n_genes <= n_top_genes:
        return np.arange(n_genes)
    bare = AnnData(values, var=pd.DataFrame(index=[str(i) for i in range(n_genes)]))
    with warnings.catch_warnings(), parallel_numba():
        # pandas on scanpy's grouping, and bins that hold one gene: nothing that a user could mend
        warnings.simplefilter("ignore")
        try:
            variability = sc.pp.highly_variable_genes(bare, n_top_genes=n_top_genes, inplace=False)
        except IndexError as err:  # of the genes whose dispersion it knows, the most variable
            msg = (
                f"{where}: no gene varies more than others do, as where all values are 0 or alike, so none can be "
                "chosen. Leave these spots out, or normalise their raw counts again."
            )
            raise ValueError(msg) from err
    return np.flatnonzero(variability["highly_variable"].to_numpy())
