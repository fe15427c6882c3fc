from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import pandas as pd
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._adata import check_adata, check_readable, check_reference
from bleep_sc._all_or_nothing import all_or_nothing
from bleep_sc._checks import check_choice, check_in, check_int, check_key, check_key_added, check_levels, check_names
from bleep_sc.models.threads import on_allowed_cores

Target = Literal["measured", "rate"]


@on_allowed_cores()
def intervals(
    query: AnnData,
    ref: AnnData,
    *,
    genes: str | Sequence[str] | None = None,
    level: float = 0.9,
    depth: int | Literal["query"] | None = None,
    target: Target = "measured",
    groupby: str | None = None,
    key: str = _keys.MODEL,
    layer: str | None = None,
    key_added: str | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """Give each imputed value a lower and an upper bound, from the errors of held-out predictions.

    At a level of 0.9, nine of ten measured values should lie between the bounds. The bounds are for the value that
    sequencing *would measure* in a spot of a stated depth, count noise included. The level holds over all spots and
    genes together. The highest values of a gene lie outside more often (Notes).

    Parameters
    ----------
    query
        Spots with a layer that :func:`~bleep_sc.tl.impute` made. Their expression is not read; only ``depth="query"``
        reads their total counts.
    ref
        The reference, after :func:`~bleep_sc.tl.calibrate`.
    genes
        Names of genes; ``None`` takes all that are calibrated.
    level
        Share of the measured values that should lie within the bounds.
    depth
        Total counts of the spots that would be measured. With fewer counts, values scatter more.

        ``None`` uses the reference's spots at their own depths. A number uses the reference's spots with at least that
        many counts, thinned to that number. ``"query"`` takes the total counts of the query's spots from
        ``layers["counts"]``, and thins each section of the reference to similar depths. The total is over the
        reference's genes, so pass the query with all of its genes.
    target
        ``"measured"`` bounds the value that would be measured. ``"rate"`` bounds the true expression, without count
        noise. It is approximate: it assumes normal errors, and is estimated from two random halves of the counts. It
        has no depth.
    groupby
        Column of `obs`, in `query` and `ref`, with regions or clusters. The bounds are then for the mean of each
        region, with one row for each. They come from the errors of region means in the reference.
    key
        Name of the model in `ref.uns`.
    layer
        The imputed layer of `query`; ``None`` is `key`.
    key_added
        Write the bounds of all genes into layers of `query` instead of returning them. This takes twice the memory of
        the imputed layer.

    Returns
    -------
    The lower and the upper bounds, two tables of spots (or regions) × genes, float32. Lower bounds are never below 0.
    Where nothing can be promised, a spot has the bounds 0 and infinity. Genes without a prediction have NaN.

    With `key_added`, returns ``None``. Sets the following fields:

    `query.layers['{key_added}_lower'], query.layers['{key_added}_upper']` : :class:`numpy.ndarray` (float32)
        The bounds (n_obs, n_vars); NaN for genes that are not asked for or not calibrated.
    `query.uns['{key_added}_intervals']` : `dict`
        ``level``, ``guaranteed_level`` (certain for a new patient; NaN with a single patient), ``empirical`` (found on
        held-out groups; NaN if not counted), ``scope``, ``depth``, ``target``, ``genes``.

    Raises
    ------
    KeyError
        No such model, layer, gene or column, or no counts although the depth needs them.
    ValueError
        - The model is not calibrated.
        - The layer was made by another model, or by another predictor than the calibrated one.
        - Measured spots corrected the layer, which the calibration does not cover.
        - A level outside (0, 1).
        - A level or a depth that needs the reference's counts and out-of-fold predictions, but these do not exist.
        - Too few regions.

    Notes
    -----
    The bounds are max(0, m - h) and m + h for an imputed value m. The half-width h is the gene's own, from
    :func:`~bleep_sc.tl.calibrate`. At each call, the log says which level is guaranteed and which was found.

    In the highest tenth of a gene's values, far fewer lie within the bounds, since predictions are flatter than
    measurements. Bounds also miss more values than the level says in three other cases. Reference and query may differ
    in stain or scanner. The query may be sequenced deeper than the reference. Or the reference may have a single
    patient.

    Examples
    --------
    >>> lower, upper = bl.tl.intervals(query, ref, genes=["ERBB2", "CD74"])  # doctest: +SKIP
    >>> bl.tl.intervals(query, ref, key_added="bleep")  # doctest: +SKIP
    >>> bl.pl.imputed(query, "ERBB2", interval=True)  # doctest: +SKIP
    """
    check_reference(ref)
    check_key("key", key)
    name = key if layer is None else layer
    if key_added is None:
        check_readable(query, name="query")
    else:
        check_adata(query, name="query")
        check_key_added("key_added", key_added)
    (level,) = check_levels("level", [level])
    check_choice("target", target, get_args(Target))
    if depth is not None and depth != "query":
        depth = check_int("depth", depth)
    if target == "rate" and depth is not None:
        msg = (
            "`target='rate'` is the true expression without count noise, which has no depth: leave "
            f"`depth={depth!r}` out."
        )
        raise ValueError(msg)
    if groupby is not None and key_added is not None:
        msg = "`groupby` bounds the means of regions, which are no layer of spots: leave `key_added` out."
        raise ValueError(msg)
    if groupby is not None and target == "rate":
        msg = "`groupby` bounds means of measured values: leave `target='rate'` out."
        raise ValueError(msg)
    check_in("query.layers", name, query.layers.keys(), remedy="`bleep_sc.tl.impute(query, ref)` makes it.")
    asked = None if genes is None else list(check_names("genes", genes))
    if asked == []:
        msg = "`genes` names none: pass a gene or several, or leave it out for all that are calibrated."
        raise ValueError(msg)

    from bleep_sc.tl._trust.bounds import asked_genes, bounds_of_regions, bounds_of_spots, half_widths_of
    from bleep_sc.tl._trust.calibrated import read_calibrated
    from bleep_sc.tl._trust.calibration import announce

    calibrated = read_calibrated(query, ref, key, name)
    columns = asked_genes(query, calibrated.calibration, asked)
    if groupby is not None:
        return bounds_of_regions(query, calibrated, columns, level=level, depth=depth, groupby=groupby)
    widths = half_widths_of(query, calibrated, columns, level=level, depth=depth, target=target)
    lower, upper = bounds_of_spots(query, name, columns, widths)
    record = announce(calibrated.calibration.promise, level=level, depth=depth, target=target, widths=widths)
    names = query.var_names[columns.of_query]
    if key_added is None:
        return (
            pd.DataFrame(lower, index=query.obs_names, columns=names),
            pd.DataFrame(upper, index=query.obs_names, columns=names),
        )
    with all_or_nothing(query):
        for end, values in (("lower", lower), ("upper", upper)):
            out = np.full(query.shape, np.nan, dtype=np.float32)
            out[:, columns.of_query] = values
            query.layers[_keys.bound(key_added, end)] = out
        query.uns[_keys.intervals(key_added)] = {**record, "genes": names.to_numpy().astype(object)}
    return None
