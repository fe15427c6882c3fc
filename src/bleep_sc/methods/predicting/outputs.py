"""Predicts by regression: takes the values that the model puts out, without neighbours."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bleep_sc._logging import logger
from bleep_sc._progress import progress
from bleep_sc.methods.inputs import Spots
from bleep_sc.methods.prediction import Imputation, Imputed, Reference, Request
from bleep_sc.methods.task import Trained
from bleep_sc.models.device import Compute
from bleep_sc.models.inference import embed_in_batches, finite
from bleep_sc.models.train.batches import Rows, take


@dataclass(frozen=True)
class ModelOutput:
    """A function that imputes spots by the values that a model puts out."""

    model: Any
    columns: np.ndarray
    """The gene of the model that stands in each column of the result, -1 for none (n_vars,)."""
    compute: Compute

    def __call__(self, rows: Rows) -> Imputed:
        """Impute any spots."""
        self.model.to(self.compute.device)
        values = embed_in_batches(self.model.predict, rows, compute=self.compute, desc="Predicting expression")
        return self._as_asked(values)

    def _as_asked(self, values: np.ndarray) -> Imputed:
        expression = values[:, self.columns]
        expression[:, self.columns < 0] = np.nan
        return Imputed(expression)


@dataclass(frozen=True)
class WindowOutput(ModelOutput):
    """A function that imputes all spots of a query, by a model that reads neighbouring spots together."""

    windows: list[tuple[np.ndarray, np.ndarray]]
    """The spots of each window, and their rows and columns in it (n, 2)."""
    n_genes: int

    def __call__(self, rows: Rows) -> Imputed:
        """Impute all spots."""
        self.model.to(self.compute.device)
        values = np.empty((rows.shape[0], self.n_genes), dtype=np.float32)
        show = self.compute.progress_bar and len(self.windows) > 1
        with torch.inference_mode(), self.compute.autocast():
            for members, positions in progress(self.windows, desc="Predicting expression", show=show):
                images, places = (
                    tensor.to(self.compute.device) for tensor in (take(rows, members), torch.from_numpy(positions))
                )
                values[members] = self.model.predict(images, places).float().cpu().numpy()
        return self._as_asked(finite(values, what="Predicting expression"))


def put_out(trained: Trained, spots: Spots, reference: Reference, request: Request) -> Imputation:
    """Let the model put out the expression of each spot by itself."""
    return imputation(trained, spots, reference, ModelOutput(trained.model, request.columns, request.compute))


def imputation(trained: Trained, spots: Spots, reference: Reference, output: ModelOutput) -> Imputation:
    """Gather what predicts the query's genes, and its provenance."""
    if reference.shares_spots:
        logger.info(
            "In-sample: the query holds spots of the reference, which the model was trained on, so scores on them do "
            "not say how well new tissue is predicted."
        )
    reads_counts = trained.method.needs(trained.method_config).source.reads_query_counts
    provenance = {
        "params": {"method": trained.method.name, "uses_query_counts": reads_counts},
        "units": trained.units,
        "in_sample": reference.shares_spots,
    }
    return Imputation(output, {"rows": spots.rows}, len(trained.genes), provenance)
