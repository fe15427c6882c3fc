"""Prediction by regression: the model's own values, no neighbours."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from anndata import AnnData
from torch import nn

from bleep_sc._adata import as_text, known_places
from bleep_sc._logging import logger
from bleep_sc._progress import progress
from bleep_sc.io._stored import StoredModel
from bleep_sc.methods.predict.neighbors import Predicted, Prediction
from bleep_sc.models.device import Compute
from bleep_sc.models.inference import embed_in_batches, finite
from bleep_sc.models.train.batches import Rows, take
from bleep_sc.tl._inputs.images import SpotInput
from bleep_sc.tl._inputs.places import Windows, spot_windows


@dataclass(frozen=True)
class Regression:
    """From what a model reads of spots to expression."""

    model: nn.Module
    columns: np.ndarray
    """Gene of the model that stands in each column of the result, -1 for none (n_vars,)."""
    compute: Compute

    def __call__(self, rows: Rows) -> Predicted:
        """Predict any spots."""
        self.model.to(self.compute.device)
        predict = self.model.predict
        values = embed_in_batches(predict, rows, compute=self.compute, desc="Predicting expression")  # type: ignore[arg-type]
        return self._as_asked(values)

    def _as_asked(self, values: np.ndarray) -> Predicted:
        expression = values[:, self.columns]
        expression[:, self.columns < 0] = np.nan
        return Predicted(expression)


@dataclass(frozen=True)
class WindowRegression(Regression):
    """The same of a model that reads neighbouring spots together, so that it predicts whole queries only."""

    windows: Windows
    n_genes: int

    def __call__(self, rows: Rows) -> Predicted:
        """Predict all spots."""
        self.model.to(self.compute.device)
        values = np.empty((rows.shape[0], self.n_genes), dtype=np.float32)
        show = self.compute.progress_bar and len(self.windows) > 1
        with torch.inference_mode(), self.compute.autocast():
            for members, positions in progress(self.windows, desc="Predicting expression", show=show):
                images, places = (
                    part.to(self.compute.device) for part in (take(rows, members), torch.from_numpy(positions))
                )
                values[members] = self.model.predict(images, places).float().cpu().numpy()  # type: ignore[operator]
        return self._as_asked(finite(values, what="Predicting expression"))


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
) -> Prediction:
    """Gather what predicts the query's genes, and its provenance."""
    predictor: Callable[..., Predicted] = Regression(model, columns, compute)
    if stored.config["method"] == "histogene":
        rows = np.arange(query.n_obs)
        windows = spot_windows(query, sections, rows, largest=int(stored.config["window"]), name="query")
        predictor = WindowRegression(model, columns, compute, windows, len(stored.genes))
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
    return Prediction(predictor, {"rows": spots.rows}, len(stored.genes), provenance)


def _shares_spots(query: AnnData, ref: AnnData) -> bool:
    """Whether a spot of the query is one of the reference: the same name at the same place."""
    own = as_text(ref.obs_names).get_indexer(as_text(query.obs_names))
    here, there = known_places(query), known_places(ref)
    if here is None or there is None:
        return False
    return bool(((own >= 0) & (here == there[own]).all(axis=1)).any())
