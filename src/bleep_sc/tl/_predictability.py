from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from bleep_sc import _keys
from bleep_sc._adata import check_adata, recorded_library_key, section_of_spots, spatial_coordinates
from bleep_sc._all_or_nothing import all_or_nothing
from bleep_sc._blocks import budget, threads
from bleep_sc._checks import check_in, check_int, check_share
from bleep_sc._expression import count_values, expression_values, path_of, warn_if_counts
from bleep_sc._logging import logger
from bleep_sc._progress import progress
from bleep_sc._stats import log_depth, section_rows
from bleep_sc.io._calibration import Scope, scope_in_words
from bleep_sc.metrics.predictable import combine_sections
from bleep_sc.metrics.turns import FEWEST_TURNS, cross_geary
from bleep_sc.models.threads import on_allowed_cores
from bleep_sc.tl._sections import (
    Sections,
    check_section_sizes,
    known_patient_key,
    ordered_by_name,
    patient_of_sections,
)
from bleep_sc.tl._trust.turned import turned_sections

_FLAT = 1e-6
"""Spread of a feature within a section below which it says nothing."""
_COLUMNS = ("geary", "pvalue", "qvalue", "predictable")


@on_allowed_cores()
def predictability(
    adata: AnnData,
    *,
    use_rep: str = "X_color",
    layer: str | None = None,
    library_key: str | None = None,
    patient_key: str | None = None,
    n_neighbors: int = 20,
    n_turns: int = 150,
    fdr: float = 0.1,
    random_state: int = 0,
    progress_bar: bool | None = None,
) -> pd.DataFrame:
    """Find the genes that can be predicted from an image, before you train any model.

    Each spot is paired with the spots of *other* sections that look most like it, by image features. If the image
    predicts a gene, such spots have similar values of it. As a control, the image features of each section are turned,
    mirrored and shifted at random. They stay as smooth as they were, but no longer belong to the right spots.

    Parameters
    ----------
    adata
        Spots of two or more sections, with log-normalised expression and an image.
    use_rep
        Key of `obsm` with image features, one row for each spot. If ``"X_color"`` does not exist but ``"crops"`` do,
        features of colour and texture are computed from the crops. They are not stored.
    layer
        Layer with expression. ``None`` takes `X`.
    library_key
        Column of `obs` with each spot's section. ``None`` takes the column that :func:`~bleep_sc.pp.crops` was given.
    patient_key
        Column of `obs` with each spot's patient. ``None`` takes ``obs["patient"]`` if that column exists. With two or
        more patients, spots are paired only with spots of other patients.
    n_neighbors
        Number of spots to pair each spot with.
    n_turns
        Number of random turns of each section.
    fdr
        Share of false discoveries to allow among the genes called predictable.
    random_state
        Seed of the turns. The order of spots and genes does not matter.
    progress_bar
        Overrides the value of the same name in :attr:`bleep_sc.settings` for this call.

    Returns
    -------
    A table with a row for each gene, in the order of `var`. Columns: ``geary``, ``pvalue``, ``qvalue``,
    ``predictable``. Sets the following fields:

    `adata.var['predictability_geary']` : :class:`pandas.Series` (dtype `float`)
        Geary's C between spots that look alike. It is 1 if the look says nothing about the gene, and 0 if it says
        everything. It is NaN if the gene does not vary in any section.
    `adata.var['predictability_pvalue']`, `adata.var['predictability_qvalue']` : :class:`pandas.Series` (dtype `float`)
        One-sided p-value for a C below that of the turned features, and its q-value by Benjamini and Hochberg. Both are
        1 if the gene does not vary.
    `adata.var['predictability_predictable']` : :class:`pandas.Series` (dtype `bool`)
        Whether the q-value is at most `fdr`.
    `adata.uns['predictability']` : `dict`
        ``params``. ``n_predictable``. ``scope``: ``"across patients"``, ``"within-patient"``, or ``"patients unknown"``
        if there is no column of patients. ``beyond_depth``: whether sequencing depth was regressed out.

    Raises
    ------
    KeyError
        No such features, layer or column.
    ValueError
        - One section only.
        - A section of fewer than 3 spots.
        - Expression or features that are not finite.
        - A view of an AnnData (pass a copy).

    Notes
    -----
    - Genes are centred within each section. If ``layers['counts']`` exists, each gene is also regressed on the log
      total counts of the spots, since both the image and the genes may follow depth. Features are standardised within
      each section, which removes differences in stain.
    - The list holds for the patients at hand. ``"within-patient"`` says nothing about another patient. Lists made from
      two patients have failed to hold in a third.
    - A gene called predictable is better than chance, but may be so by little. A trained model may still predict a gene
      that is not on the list. The model learns which features matter, whereas here all features count alike.

    Examples
    --------
    >>> table = bl.tl.predictability(adata, library_key="section")  # doctest: +SKIP
    >>> table.query("predictable").sort_values("geary")  # doctest: +SKIP
    """
    check_adata(adata)
    check_int("n_neighbors", n_neighbors)
    check_int("n_turns", n_turns, minimum=FEWEST_TURNS)
    check_share("fdr", fdr)
    seed = check_int("random_state", random_state, minimum=0)
    library_key = library_key or recorded_library_key(adata)
    sections = ordered_by_name(adata, section_rows(section_of_spots(adata, library_key), adata.n_obs))
    _check_several(sections, library_key)
    check_section_sizes(sections)
    patient_key = known_patient_key(adata, patient_key)
    patients = np.array(patient_of_sections(adata, sections, patient_key, name="adata"))
    xy = spatial_coordinates(adata)
    values = expression_values(adata, layer, name="adata")
    warn_if_counts(values, path_of("adata", layer))
    depth = log_depth(count_values(adata, _keys.COUNTS)) if _keys.COUNTS in adata.layers else None
    looks = image_looks(adata, use_rep, progress_bar=progress_bar)

    turned = turned_sections(xy, sections, n_turns=n_turns, seed=seed, name="adata")
    joined = _join(looks, sections, patients, n_neighbors)
    geary, z = _score(values, depth, joined, turned, progress_bar=progress_bar)
    table = _table(geary, z, patients, fdr, adata.var_names)
    scope = _scope(patients, patient_key)
    n_groups = len(set(patients)) if scope == "across patients" else len(sections)
    logger.info(
        "%d of %d genes are predictable from the image, before any model (false discovery rate %.3g%s). The list was "
        "made %s.",
        int(table["predictable"].sum()),
        len(table),
        fdr,
        "" if depth is None else ", beyond depth",
        scope_in_words(scope, n_groups),
    )
    with all_or_nothing(adata):
        for column in _COLUMNS:
            adata.var[f"{_keys.PREDICTABILITY}_{column}"] = table[column]
        adata.uns[_keys.PREDICTABILITY] = {
            "scope": scope,
            "beyond_depth": depth is not None,
            "n_predictable": int(table["predictable"].sum()),
            "params": {
                "use_rep": use_rep,
                "layer": layer or "",
                "library_key": library_key or "",
                "patient_key": patient_key or "",
                "n_neighbors": n_neighbors,
                "n_turns": n_turns,
                "fdr": fdr,
                "random_state": seed,
            },
        }
    return table


def _check_several(sections: Sections, library_key: str | None) -> None:
    if len(sections) > 1:
        return
    found = (
        "no column of sections is known"
        if library_key is None
        else f"`adata.obs[{library_key!r}]` names one section only, {sections[0][0]!r}"
    )
    msg = (
        f"two sections or more are needed, but {found}. Within one section neighbours look alike and are alike in all "
        "genes, so that it cannot be known what the image tells. Join sections with `anndata.concat`, and name the "
        "column of `obs` that tells them apart by `library_key`."
    )
    raise ValueError(msg)


def image_looks(adata: AnnData, use_rep: str, *, progress_bar: bool | None) -> np.ndarray:
    """Read image features float32 (n_obs, n_features); colour features are made where only crops are there."""
    from bleep_sc.models.encoders.registry import COLOR
    from bleep_sc.tl._inputs.images import stored_images

    color = _keys.representation(COLOR)
    if use_rep not in adata.obsm and use_rep == color and _keys.CROPS in adata.obsm:
        from bleep_sc.models.encoders.color import color_features

        crops = stored_images(adata, _keys.CROPS, name="adata")
        if crops.ndim == 4:
            logger.info("`adata.obsm[%r]` is not there: features are made of `adata.obsm['crops']`, not stored.", color)
            return color_features(crops, progress_bar=progress_bar)
    check_in(
        "adata.obsm",
        use_rep,
        adata.obsm.keys(),
        remedy="It must hold image features, one row a spot. Features of colour and texture, 'X_color', are made of "
        "`adata.obsm['crops']` where `bleep_sc.pp.crops(adata, image)` has cut these.",
    )
    features = stored_images(adata, use_rep, name="adata")
    if features.ndim != 2:
        msg = (
            f"`adata.obsm[{use_rep!r}]` holds crops, but `use_rep` names features of them, one row a spot: leave it "
            "out for features of colour and texture."
        )
        raise ValueError(msg)
    return np.asarray(features)


@dataclass(frozen=True)
class _Joined:
    """Spots of one section, and those of other sections that look like them."""

    rows: np.ndarray
    """Rows of the section's spots (n_spots,)."""
    near: np.ndarray
    """Rows of the spots that look most like each, int32 (n_spots, n_neighbors)."""


def _join(looks: np.ndarray, sections: Sections, patients: np.ndarray, n_neighbors: int) -> list[_Joined]:
    """Join each spot with those of other patients, or else of other sections, that look most like it."""
    from bleep_sc.models.search.nearest import nearest

    standardised = np.zeros_like(looks)
    for _, rows in sections:
        part = looks[rows].astype(np.float64)
        spread = part.std(axis=0)
        standardised[rows] = (part - part.mean(axis=0)) / np.where(spread > _FLAT, spread, np.inf)
    groups = patients if len(set(patients)) > 1 else np.arange(len(sections))
    joined = []
    for number, (_, rows) in enumerate(sections):
        others = np.concatenate([r for (_, r), group in zip(sections, groups, strict=True) if group != groups[number]])
        found, _ = nearest(standardised[rows], standardised[others], min(n_neighbors, len(others)))
        joined.append(_Joined(rows, others[found]))
    return joined


def _score(
    values: Any,
    depth: np.ndarray | None,
    joined: list[_Joined],
    turned: list[np.ndarray],
    *,
    progress_bar: bool | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Score each gene in each section: Geary's C and z (n_sections, n_genes); C is NaN where the gene is constant."""
    from bleep_sc.models.search.averaging import average_profiles

    n_obs, n_genes = values.shape
    geary, z = np.full((len(joined), n_genes), np.nan), np.zeros((len(joined), n_genes))
    blocks = list(_gene_blocks(n_obs, n_genes))
    steps = progress(blocks, desc="Turned looks", total=len(blocks), show=progress_bar if len(blocks) > 1 else False)
    values = values.tocsc() if sparse.issparse(values) else values
    with threads() as in_threads:
        for block in steps:
            part = values[:, block]
            beyond = np.array(part.toarray() if sparse.issparse(part) else part, dtype=np.float32)
            varies = np.stack([_beyond_depth(beyond, depth, section.rows) for section in joined])
            square = beyond**2
            for number, (section, turns) in enumerate(zip(joined, turned, strict=True)):
                weights = np.full(section.near.shape, 1 / section.near.shape[1], dtype=np.float32)
                mean, mean_square = (average_profiles(each, section.near, weights) for each in (beyond, square))
                c, z[number, block] = cross_geary(beyond[section.rows], mean, mean_square, turns, in_threads=in_threads)
                geary[number, block] = np.where(varies[number], c, np.nan)
                z[number, block][~varies[number]] = 0
    return geary, z


def _gene_blocks(n_obs: int, n_genes: int) -> Iterator[slice]:
    step = budget(4 * 4 * n_obs)
    return (slice(start, min(start + step, n_genes)) for start in range(0, n_genes, step))


def _beyond_depth(values: np.ndarray, depth: np.ndarray | None, rows: np.ndarray) -> np.ndarray:
    """Centre genes over the spots of a section, take out depth, and tell which genes vary there (n_genes,)."""
    part = values[rows].astype(np.float64)
    varies = np.ptp(part, axis=0) > 0
    part -= part.mean(axis=0)
    if depth is not None:
        centred = depth[rows] - depth[rows].mean()
        square = float(centred @ centred)
        if square > _FLAT:
            part -= centred[:, None] * (centred @ part / square)
    values[rows] = np.where(varies, part, 0)
    return np.asarray(varies)


def _table(geary: np.ndarray, z: np.ndarray, patients: np.ndarray, fdr: float, genes: pd.Index) -> pd.DataFrame:
    known = np.isfinite(geary)
    mean = np.where(known, geary, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    evidence = combine_sections(z, patients)
    return pd.DataFrame(
        {
            "geary": np.where(known.any(axis=0), mean, np.nan),
            "pvalue": evidence.pvalue,
            "qvalue": evidence.qvalue,
            "predictable": evidence.qvalue <= fdr,
        },
        index=genes,
    )


def _scope(patients: np.ndarray, patient_key: str | None) -> Scope:
    if patient_key is None:
        return "patients unknown"
    return "across patients" if len(set(patients)) > 1 else "within-patient"
