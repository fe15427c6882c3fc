"""Tell where a value comes from: the crop of a spot beside those of the reference spots that were averaged."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._report.asked import Asked
from bleep_sc._report.pictures import of_crop
from bleep_sc._report.records import MEASURED, PREDICTED, Crop, Missing, Origin
from bleep_sc.pl._figure import errors_naming, values_of
from bleep_sc.pl._neighbors import crops_of, made_of_words, provenance, retrieved
from bleep_sc.pl._reliability import p_values_of
from bleep_sc.pl._summary import number_text

_N_NEIGHBORS = 6
_SIDE = 160
_WHAT = "The tissue that a value came from"


def origins_of(asked: Asked) -> tuple[tuple[Origin, ...], Missing | None]:
    """Show where the values of a few spots come from; or what is missing for that."""
    missing = _missing(asked)
    if missing is not None or asked.ref is None:
        return (), missing
    query, ref, layer = asked.query, asked.ref, asked.layer
    of_reference, params = provenance(query, ref, layer)
    rows, distances = retrieved(query, layer, n_reference=ref.n_obs)
    with errors_naming(f"query.uns[{layer!r}]['params']", writer="impute"):
        made_of = " and ".join(made_of_words(params, rows.shape[1]))
    made_of = made_of.replace(f"mean of {rows.shape[1]}", f"mean of {rows.shape[1]} neighbours")
    chosen = choose_spots(asked)
    spots = np.array([row for row, _ in chosen], dtype=np.int64)
    nearest = rows[spots, :_N_NEIGHBORS]
    own_crops = crops_of(query, asked.image_key, spots, name="query")
    crops = crops_of(ref, asked.image_key, nearest.ravel(), name="ref")
    crops = crops.reshape(*nearest.shape, *crops.shape[1:])
    profiles = _profiles(asked, ref, nearest, params)
    origins = []
    for number, (row, why) in enumerate(chosen):
        spot = str(query.obs_names[row])
        own = Crop(
            of_crop(own_crops[number], f"H&E crop of the spot {spot}", side=2 * _SIDE),
            "This spot",
            "",
            _own_values(asked, row),
        )
        neighbors = []
        for place, at in enumerate(nearest[number]):
            name, section = str(ref.obs_names[at]), str(of_reference[at])
            detail = f"{section}, " * bool(section) + f"distance {number_text(float(distances[row, place]))}"
            alt = f"H&E crop of the reference spot {name}, neighbour {place + 1} of the spot {spot}"
            values = (number_text(float(value), decimals=2) for value in profiles[number, place])
            neighbors.append(
                Crop(
                    of_crop(crops[number, place], alt, side=_SIDE),
                    f"Neighbour {place + 1}",
                    detail,
                    tuple((gene, value, "") for gene, value in zip(asked.genes, values, strict=True)),
                )
            )
        origins.append(Origin(spot, why, made_of, own, tuple(neighbors)))
    return tuple(origins), None


def choose_spots(asked: Asked) -> list[tuple[int, str]]:
    """Choose the rows of a few spots whose origin is shown, each with the reason."""
    if asked.spots is not None:
        return [(int(row), "This spot was asked for.") for row in asked.query.obs_names.get_indexer(asked.spots)]
    chosen: dict[int, str] = {}
    predicted, rows = asked.values[PREDICTED.name], asked.rows
    for number, gene in enumerate(asked.genes[:3]):
        highest = int(rows[np.nanargmax(predicted[rows, number])])
        chosen.setdefault(highest, f"The prediction of {gene} is highest here.")
    column = _keys.reliability(asked.layer)
    if column in asked.query.obs:
        p_values = p_values_of(asked.query, column)[rows]
        if np.isfinite(p_values).any():
            strangest = int(rows[np.nanargmin(p_values)])
            chosen.setdefault(strangest, "This spot looks least like the reference.")
    return list(chosen.items())


def _own_values(asked: Asked, row: int) -> tuple[tuple[str, str, str], ...]:
    """The predicted values of a spot, each with its gene and the measured value where there is one."""
    measured = asked.values.get(MEASURED.name, np.full_like(asked.values[PREDICTED.name], np.nan))[row]
    return tuple(
        (gene, number_text(float(value), decimals=2), number_text(float(truth), decimals=2) * bool(np.isfinite(truth)))
        for gene, value, truth in zip(asked.genes, asked.values[PREDICTED.name][row], measured, strict=True)
    )


def _profiles(asked: Asked, ref: AnnData, nearest: np.ndarray, params: Mapping[str, Any]) -> np.ndarray:
    """The measured expression of the neighbours (n_spots, n_neighbors, n_genes); NaN of genes that are not there."""
    layer = _averaged(params)
    genes = [gene for gene in asked.genes if gene in ref.var_names]
    out = np.full((nearest.size, len(asked.genes)), np.nan)
    if genes:
        different, where = np.unique(nearest.ravel(), return_inverse=True)
        values = values_of(ref, genes, layer=layer, rows=different, name="ref")[where]
        out[:, [asked.genes.index(gene) for gene in genes]] = values
    return out.reshape(*nearest.shape, len(asked.genes))


def _averaged(params: Mapping[str, Any]) -> str | None:
    layer = str(params.get("layer", "X"))
    return None if layer == "X" else layer


def _missing(asked: Asked) -> Missing | None:
    """Say what keeps the origin of values from being shown; None where nothing does."""
    ref, layer = asked.ref, asked.layer
    why = "It shows which spots of the reference look alike, and what was measured there. A pathologist can judge that."
    if ref is None:
        return Missing(_WHAT, why, "bl.report(query, ref)")
    if asked.is_slim:
        return Missing(
            _WHAT,
            f"{why} This model is slim: its spots stay with their owner, so it predicts by regression alone.",
            "bl.tl.impute(query, the_whole_reference)\nbl.report(query, the_whole_reference)",
        )
    entry = asked.provenance
    if not {_keys.neighbors(layer), _keys.distances(layer)} <= {*asked.query.obsm} or "reference_names" not in entry:
        return Missing(
            _WHAT,
            f"{why} This method looks up no reference spots, so there are none to show.",
            "bl.tl.fit(ref)\nbl.tl.impute(query, ref)",
        )
    names = np.asarray(list(entry["reference_names"]), dtype=object).astype(str)
    if not np.array_equal(names, ref.obs_names.to_numpy().astype(str)):
        return Missing(
            _WHAT,
            f"{why} The reference that was handed over has other spots, or another order, than when it was used.",
            f"bl.report(query, ref[query.uns[{layer!r}]['reference_names']].copy())",
        )
    for name, adata, image in (("query", asked.query, '"query.tif"'), ("ref", ref, '{"A1": "A1.tif"}')):
        if asked.image_key not in adata.obsm or np.ndim(adata.obsm[asked.image_key]) != 4:
            return Missing(_WHAT, f"{why} `{name}` holds no crops any more.", f"bl.pp.crops({name}, {image}, um=100)")
    source = _averaged(entry.get("params", {}))
    if ref.X is None if source is None else source not in ref.layers:
        return Missing(
            _WHAT, f"{why} `ref` does not hold the measured values any more.", "bl.report(query, the_whole_reference)"
        )
    return None
