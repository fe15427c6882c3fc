from collections.abc import Mapping
from typing import Any

import numpy as np
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._expression import expression_values, looks_like_counts, path_of
from bleep_sc._logging import logger, warn
from bleep_sc._stats import pearson, section_rows
from bleep_sc._validate import check_adata, check_in, check_readable, recorded_library_key, section_of_spots

_MIN_SPOTS = 3


def evaluate(
    query: AnnData,
    *,
    layer: str = _keys.MODEL,
    truth: str | None = None,
    ref: AnnData | None = None,
    library_key: str | None = None,
    copy: bool = False,
) -> AnnData | None:
    """Compare an imputed layer with measured expression.

    Pearson correlation of each gene over the spots of each section, then the mean over sections: how well the
    *pattern within the tissue* is predicted. Correlation over the genes of a spot is not given: gene means alone reach
    0.7 there.

    Parameters
    ----------
    query
        Spots with an imputed layer and measured expression.
    layer
        The imputed layer.
    truth
        Layer with the measured expression, in the layer's units; ``None`` is `query.X`.
    ref
        Reference whose gene panels are used; ``None``: those that :func:`~bleep_sc.tl.impute` left in
        ``query.uns[layer]``. Panels are never chosen on the query: genes that vary most in the very section that is
        scored flatter any method.
    library_key
        Column of `obs` with each spot's section; ``None``: what :func:`~bleep_sc.pp.crops` was told, else all spots
        are one section.
    copy
        Return a changed copy instead of changing `query`.

    Returns
    -------
    ``None``, or the changed copy if ``copy=True``. Sets the following fields:

    `query.var['{layer}_pearson']` : :class:`pandas.Series` (dtype `float`)
        Per gene, mean over sections. 0 where the imputed value is constant: it predicts nothing. NaN where the gene
        was not imputed, or is constant as measured in every section: there is nothing to predict.
    `query.uns['{layer}_scores']` : `dict`
        For each panel (``all``, ``HEG-50``, ``HVG-50``, ``HVG-200``) ``pearson``, the mean over its genes, and the
        counts ``n_genes``, ``n_missing`` (not in the query, or not imputed), ``n_constant_truth``,
        ``n_constant_prediction``. Missing and constant genes count as 0 in the mean; none is dropped. Also
        ``n_sections``, ``in_sample`` and ``params``.

    Raises
    ------
    KeyError
        No such layer or column.
    ValueError
        No measured expression; a section of fewer than 3 spots; NaN in the truth; a view.
    """
    check_adata(query, name="query")
    if ref is not None:
        check_readable(ref, name="ref")
    check_in(
        "query.layers", layer, query.layers.keys(), remedy="`bleep_sc.tl.impute(query, ref)` makes an imputed layer."
    )
    measured = _measured(query, truth)
    imputed = np.asarray(
        query.layers[layer].toarray() if hasattr(query.layers[layer], "toarray") else query.layers[layer]
    )
    sections = section_rows(
        section_of_spots(query, library_key or recorded_library_key(query), name="query"), query.n_obs
    )
    for name, rows in sections:
        if len(rows) < _MIN_SPOTS:
            msg = f"section {name!r} has {len(rows)} spots; a correlation needs at least {_MIN_SPOTS}. Leave it out."
            raise ValueError(msg)
    if looks_like_counts(measured) and not looks_like_counts(imputed[:, ~np.isnan(imputed).any(axis=0)]):
        warn(
            f"`{path_of('query', truth)}` looks like raw counts, `query.layers[{layer!r}]` does not: sequencing depth "
            "would blur the comparison. Normalise the measured expression as the reference's, or name it by `truth`."
        )
    missing = np.isnan(imputed).any(axis=0)
    by_section = [pearson(measured[rows], imputed[rows]) for _, rows in sections]
    scores = np.array([score for score, _, _ in by_section])
    constant_truth = np.all([constant for _, constant, _ in by_section], axis=0)
    constant_prediction = np.all([constant for _, _, constant in by_section], axis=0)
    scored = ~np.isnan(scores)
    per_gene = np.where(scored, scores, 0).sum(axis=0) / np.maximum(scored.sum(axis=0), 1)
    per_gene[missing | ~scored.any(axis=0)] = np.nan

    summary: dict[str, Any] = {}
    for panel, genes in _panels(query, layer, ref).items():
        position = query.var_names.get_indexer(genes)
        there = position[position >= 0]
        absent = (position < 0).sum() + missing[there].sum()
        summary[panel] = {
            "pearson": float(np.nan_to_num(per_gene[there]).sum() / max(len(genes), 1)),
            "n_genes": len(genes),
            "n_missing": int(absent),
            "n_constant_truth": int((constant_truth & ~missing)[there].sum()),
            "n_constant_prediction": int((constant_prediction & ~missing)[there].sum()),
        }
    in_sample = bool(_entry(query, layer).get("in_sample", False))
    _report(layer, summary, n_sections=len(sections), in_sample=in_sample)
    summary |= {
        "n_sections": len(sections),
        "in_sample": in_sample,
        "params": {"truth": "X" if truth is None else truth, "library_key": library_key or ""},
    }
    query = query.copy() if copy else query
    query.var[_keys.pearson(layer)] = per_gene
    query.uns[_keys.scores(layer)] = summary
    return query if copy else None


def _measured(query: AnnData, truth: str | None) -> Any:
    if truth is None and query.X is None:
        msg = (
            "`query` has no measured expression (`X` is empty), so there is nothing to compare with: this slide was "
            "never sequenced. Evaluate on a section that was, held out from the reference."
        )
        raise ValueError(msg)
    return expression_values(query, truth, name="query")


def _entry(query: AnnData, layer: str) -> Mapping[str, Any]:
    entry = query.uns.get(layer)
    return entry if isinstance(entry, Mapping) else {}


def _panels(query: AnnData, layer: str, ref: AnnData | None) -> dict[str, np.ndarray]:
    found = {"all": query.var_names.to_numpy()}
    source = query if ref is None else ref
    stored = _entry(source, layer).get("panels")
    if stored is None:
        logger.info(
            "Only the mean over all genes is scored: `%s.uns[%r]` brings no gene panels of a reference%s.",
            "query" if ref is None else "ref",
            layer,
            " (pass `ref=`)" if ref is None else "",
        )
    return found | {name: np.asarray(genes).astype(str) for name, genes in dict(stored or {}).items()}


def _report(layer: str, summary: dict[str, Any], *, n_sections: int, in_sample: bool) -> None:
    lines = [
        f"Pearson of layer {layer!r} by gene within {n_sections} section{'s' if n_sections > 1 else ''}"
        + (", IN-SAMPLE: the model was trained on these spots" if in_sample else "")
        + ":",
        f"{'panel':<10}{'pearson':>8}{'genes':>7}{'missing':>9}{'constant':>10}",
    ]
    for panel, score in summary.items():
        constant = score["n_constant_truth"] + score["n_constant_prediction"]
        lines.append(f"{panel:<10}{score['pearson']:>8.3f}{score['n_genes']:>7}{score['n_missing']:>9}{constant:>10}")
    logger.info("\n".join(lines))
