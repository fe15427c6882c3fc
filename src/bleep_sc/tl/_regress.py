"""Prediction by regression: the model's own values, no neighbours."""

from typing import Any

import numpy as np
import torch
from anndata import AnnData
from torch import nn

from bleep_sc import _keys
from bleep_sc._logging import logger
from bleep_sc._progress import progress
from bleep_sc.io._stored import StoredModel
from bleep_sc.models.batches import take
from bleep_sc.models.device import Compute
from bleep_sc.models.embedding import embed_in_batches
from bleep_sc.tl._inputs import SpotInput
from bleep_sc.tl._places import spot_windows


def regress(
    query: AnnData,
    ref: AnnData,
    model: nn.Module,
    spots: SpotInput,
    *,
    columns: np.ndarray,
    sections: np.ndarray | None,
    stored: StoredModel,
    compute: Compute,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Predict the query's genes, NaN for those that the model lacks; values (n_obs, n_vars) and their provenance."""
    model.to(compute.device)
    if stored.config["method"] == "histogene":
        values = _predict_windows(query, model, spots, sections, stored, compute=compute)
    else:
        values = embed_in_batches(
            model.predict,  # type: ignore[arg-type]
            spots.rows,
            compute=compute,
            desc="Predicting expression",
        )
    in_sample = _shares_spots(query, ref)
    if in_sample:
        logger.info(
            "In-sample: the query holds spots of the reference, which the model was trained on, so scores on them do "
            "not say how well new tissue is predicted."
        )
    provenance = {
        "params": {"method": stored.config["method"], "uses_query_counts": spots.kind == "counts"},
        "units": stored.config["units"],
        "in_sample": in_sample,
    }
    imputed = values[:, columns]
    imputed[:, columns < 0] = np.nan
    return imputed, provenance


def _predict_windows(
    query: AnnData,
    model: nn.Module,
    spots: SpotInput,
    sections: np.ndarray | None,
    stored: StoredModel,
    *,
    compute: Compute,
) -> np.ndarray:
    rows = np.arange(query.n_obs)
    windows = spot_windows(query, sections, rows, largest=int(stored.config["window"]), name="query")
    out = np.empty((query.n_obs, len(stored.genes)), dtype=np.float32)
    show = compute.progress_bar and len(windows) > 1
    with torch.inference_mode(), compute.autocast():
        for members, positions in progress(windows, desc="Predicting expression", show=show):
            images, places = take(spots.rows, members), torch.from_numpy(positions)
            predicted = model.predict(images.to(compute.device), places.to(compute.device))  # type: ignore[operator]
            out[members] = predicted.float().cpu().numpy()
    return out


def _shares_spots(query: AnnData, ref: AnnData) -> bool:
    """Whether a spot of the query is one of the reference: the same name at the same place."""
    own = ref.obs_names.get_indexer(query.obs_names)
    if (own < 0).all() or _keys.SPATIAL not in query.obsm or _keys.SPATIAL not in ref.obsm:
        return False
    here, there = np.asarray(query.obsm[_keys.SPATIAL]), np.asarray(ref.obsm[_keys.SPATIAL])[own]
    return bool(((own >= 0) & (here == there).all(axis=1)).any())
