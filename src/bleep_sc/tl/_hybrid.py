"""How a fitted hybrid reads spots, and how it predicts: retrieval and regression mixed as components of expression."""

from dataclasses import replace
from typing import Any, cast

import numpy as np
from anndata import AnnData
from torch import nn

from bleep_sc import _keys
from bleep_sc._errors import MissingKeyError
from bleep_sc._expression import expression_input
from bleep_sc.io._stored import StoredModel
from bleep_sc.models.device import Compute
from bleep_sc.models.embedding import embed_in_batches
from bleep_sc.models.hybrid import Hybrid
from bleep_sc.tl._blend import WAYS
from bleep_sc.tl._components import Components, Decoder
from bleep_sc.tl._in_section import SectionView, neighbor_places
from bleep_sc.tl._inputs import SpotInput


def seen_in_section(
    adata: AnnData,
    model: nn.Module,
    spots: SpotInput,
    sections: np.ndarray | None,
    *,
    stored: StoredModel,
    name: str,
) -> SpotInput:
    """Features as the model's heads read them; those of other models are left as they are."""
    if not isinstance(model, Hybrid):
        return spots
    n_neighbors = _n_neighbors(stored)
    view = SectionView.of(model, n_neighbors)
    xy = neighbor_places(adata, n_neighbors, name=name)
    return replace(spots, rows=view.apply(np.asarray(spots.rows), sections=sections, xy=xy))


def expression_rows(
    adata: AnnData, model: nn.Module, sections: np.ndarray | None, *, stored: StoredModel, own: bool, name: str
) -> np.ndarray:
    """What the model's expression heads read of spots; `own` says that they are the reference's, or part of it."""
    expression = expression_input(adata, **stored.config["expression"], mask_var=None, genes=stored.genes, name=name)
    if not isinstance(model, Hybrid):
        return expression.matrix
    components = Components(model.loadings.cpu().numpy())
    return components.scores(expression.matrix, sections, centers=known_centers(stored) if own else None)[0]


def known_centers(stored: StoredModel) -> dict[str, np.ndarray]:
    """Centres of the sections that the model was trained on; none of models that do not centre."""
    return {name: np.asarray(center, dtype=np.float64) for name, center in stored.config.get("centers", {}).items()}


def reference_components(ref: AnnData, key: str, model: Hybrid) -> np.ndarray:
    """Scores of the reference's spots on the model's components (n_obs, n_components)."""
    obsm_key, width = _keys.components(key), len(model.loadings)
    remedy = f"run `bleep_sc.tl.embed(ref, key={key!r})`, which places all spots of `ref`."
    if obsm_key not in ref.obsm:
        msg = f"`ref.obsm[{obsm_key!r}]` does not exist: {remedy}"
        raise MissingKeyError(msg)
    scores = np.asarray(ref.obsm[obsm_key], dtype=np.float32)
    if scores.shape != (ref.n_obs, width) or not np.isfinite(scores).all():
        msg = f"`ref.obsm[{obsm_key!r}]` must be finite, of the shape ({ref.n_obs}, {width}): {remedy}"
        raise ValueError(msg)
    return scores


def blend_weights(stored: StoredModel, mode: str) -> dict[str, float]:
    """Weight of each way: as chosen by `fit`, or of the regressions alone."""
    chosen = stored.config.get("chosen", {})
    weights = {way: float(chosen.get(f"weight_{way}", 0.0)) for way in WAYS}
    if mode == "regression":
        weights["retrieval"] = 0.0
        if not sum(weights.values()):
            weights["kernel"] = 1.0
    total = sum(weights.values())
    return {way: weight / total for way, weight in weights.items()}


def predict_hybrid(
    model: nn.Module,
    features: Any,
    retrieved: np.ndarray,
    *,
    components: np.ndarray,
    values: Any,
    weights: dict[str, float],
    compute: Compute,
) -> np.ndarray:
    """Expression of all genes of `values` (n, n_genes), from the mix of all ways' scores.

    Parameters
    ----------
    features
        Of the query spots, as the model's heads read them.
    retrieved
        Mean scores of each spot's neighbours (n, n_components).
    components, values
        Scores and expression of the reference, from which expression is decoded.
    weights
        Of each way.
    """
    hybrid = cast(Hybrid, model)
    regressed = embed_in_batches(
        lambda rows: hybrid.regress(rows).transpose(0, 1), features, compute=compute, desc="Predicting components"
    )
    linear, kernel = regressed[:, 0], regressed[:, 1]
    scores = weights["retrieval"] * retrieved + weights["linear"] * linear + weights["kernel"] * kernel
    imputed = Decoder.learn(components, values).decode(scores)
    return imputed if values.min() < 0 else np.maximum(imputed, 0)


def _n_neighbors(stored: StoredModel) -> int:
    value = stored.config.get("context")
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        msg = f"the config of the model has `context` {value!r}, where a number of neighbours belongs: it is damaged."
        raise ValueError(msg)
    return value
