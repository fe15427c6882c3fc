from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import pandas as pd
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._adata import check_adata, check_readable, check_reference
from bleep_sc._all_or_nothing import all_or_nothing
from bleep_sc._checks import check_choice, check_in, check_int, check_key, check_key_added, check_levels, check_names

Target = Literal["measured", "rate"]


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
    """Give imputed values a lower and an upper bound, by how far predictions of held-out tissue were off.

    At a level of 0.9, nine of ten measured values should lie between the two. The promise is about the value that
    sequencing *would measure* in a spot of a stated depth, its count noise included. It holds over spots and genes
    together: a gene's highest values are missed more often (Notes).

    Parameters
    ----------
    query
        Spots with a layer that :func:`~bleep_sc.tl.impute` made. Their expression is not read, but for the total counts
        of ``depth="query"``.
    ref
        The reference, after :func:`~bleep_sc.tl.calibrate`.
    genes
        Names of genes; ``None`` takes all that are calibrated.
    level
        Share of the measured values that should lie within the bounds.
    depth
        Total counts of the spots that would be measured. With fewer counts, values scatter more.

        ``None`` takes the depths of the reference's spots as they are. A number takes the reference's spots with at
        least so many counts, thinned to it. ``"query"`` takes the total counts of `query`'s own spots from
        ``layers["counts"]``, and thins each section of the reference to depths like these. Counts of the reference's
        genes are added up, so pass the query with all of its genes.
    target
        ``"measured"`` bounds the value that would be measured. ``"rate"`` bounds the expression below the count noise.
        It is approximate: it takes errors to be normal, and comes from two random halves of the counts. It has no
        depth.
    groupby
        Column of `obs`, in `query` and `ref`, with regions or clusters. The bounds are then of the mean of each region,
        a row each, from the errors of region means in the reference.
    key
        Name of the model in `ref.uns`.
    layer
        The imputed layer of `query`; ``None`` is `key`.
    key_added
        Write the bounds of all genes into layers of `query` instead of returning them: twice the memory of the imputed
        layer.

    Returns
    -------
    The lower and the upper bounds, two tables of spots (or regions) × genes, float32. Lower bounds are never below 0.
    Where nothing can be promised, a spot has the bounds 0 and infinity. Genes without a prediction have NaN.

    With `key_added`, ``None``, and sets the following fields:

    `query.layers['{key_added}_lower'], query.layers['{key_added}_upper']` : :class:`numpy.ndarray` (float32)
        The bounds (n_obs, n_vars); NaN for genes that are not asked for or not calibrated.
    `query.uns['{key_added}_intervals']` : `dict`
        ``level``, ``guaranteed_level`` (sure for a new patient; NaN where one patient alone is known), ``empirical``
        (found on held-out groups; NaN where it was not counted), ``scope``, ``depth``, ``target``, ``genes``.

    Raises
    ------
    KeyError
        No model, layer, gene or column; no counts where a depth needs them.
    ValueError
        The model is not calibrated; the layer was made by another model, or another predictor than the calibrated one;
        measured spots corrected it, which the calibration knows nothing of;
        a level outside (0, 1); a level or a depth that needs the reference's counts and out-of-fold predictions, which
        are not there; too few regions.

    Notes
    -----
    The bounds are max(0, m - h) and m + h for an imputed value m. The half-width h is the gene's own, from
    :func:`~bleep_sc.tl.calibrate`. The log says at each call what is guaranteed and what was found.

    In a gene's own top tenth far fewer values lie within the bounds, since predictions are flatter than measurements.
    Where reference and query differ in stain or scanner, where a query is sequenced deeper than the reference, or with
    one patient in the reference, more values are missed than the level says.

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
            f"`target='rate'` is the expression below the count noise, which has no depth: leave `depth={depth!r}` out."
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
