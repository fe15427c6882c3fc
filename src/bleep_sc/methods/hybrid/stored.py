"""How a fitted hybrid reads spots, and how it predicts: retrieval and regression mixed as components of expression."""

from dataclasses import replace
from typing import Any, cast

import numpy as np
from anndata import AnnData
from torch import nn

from bleep_sc import _keys
from bleep_sc._adata import as_numbers
from bleep_sc._errors import MissingKeyError
from bleep_sc._expression import expression_input
from bleep_sc.io._stored import StoredModel
from bleep_sc.methods.hybrid.blend import WAYS
from bleep_sc.methods.hybrid.components import Components
from bleep_sc.methods.hybrid.in_section import SectionView, neighbor_places
from bleep_sc.models.device import Compute
from bleep_sc.models.inference import embed_in_batches
from bleep_sc.models.nets.hybrid import Hybrid
from bleep_sc.tl._inputs.images import SpotInput


def places_like(adata: AnnData, model: nn.Module, *, stored: StoredModel, name: str) -> np.ndarray | None:
    """Places of the spots, where the stored model looks at neighbours."""
    return neighbor_places(adata, stored.config["context"], name=name) if isinstance(model, Hybrid) else None


def seen_in_section(
    spots: SpotInput, model: nn.Module, sections: np.ndarray | None, xy: np.ndarray | None, *, stored: StoredModel
) -> SpotInput:
    """Features as the model's heads read them; those of other models are left as they are."""
    if not isinstance(model, Hybrid):
        return spots
    view = SectionView.of(model, stored.config["context"])
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
    remedy = f"Run `bleep_sc.tl.embed(ref, key={key!r})`, which places all spots of `ref`."
    if obsm_key not in ref.obsm:
        msg = f"`ref.obsm[{obsm_key!r}]` does not exist. {remedy}"
        raise MissingKeyError(msg)
    scores = as_numbers(ref.obsm[obsm_key], path=f"ref.obsm[{obsm_key!r}]", remedy=remedy)
    if scores.shape != (ref.n_obs, width) or not np.isfinite(scores).all():
        msg = f"`ref.obsm[{obsm_key!r}]` must be finite, of the shape ({ref.n_obs}, {width}). {remedy}"
        raise ValueError(msg)
    return scores


def blend_weights(stored: StoredModel, mode: str) -> dict[str, float]:
    """Weight of each way: as chosen by `fit`, or of the regressions alone."""
    weights = {way: float(stored.config["chosen"][f"weight_{way}"]) for way in WAYS}
    if mode == "regression":
        weights["retrieval"] = 0.0
        if not sum(weights.values()):
            weights["kernel"] = 1.0
    total = sum(weights.values())
    return {way: weight / total for way, weight in weights.items()}


def regressed_scores(model: nn.Module, features: Any, weights: dict[str, float], *, compute: Compute) -> np.ndarray:
    """The regressions' share of the scores of spots (n, n_components), from features as the model's heads read them."""
    regress = cast(Hybrid, model).regress
    found = embed_in_batches(regress, features, compute=compute, desc="Predicting components")
    return weights["linear"] * found[:, 0] + weights["kernel"] * found[:, 1]


def check_record(stored: StoredModel, model: nn.Module, *, where: str) -> None:
    """Refuse a config, which comes from a file, that does not fit the model's parts."""
    if not isinstance(model, Hybrid):
        return
    context, centers, chosen = (stored.config.get(part) for part in ("context", "centers", "chosen"))
    n_components, width = model.loadings.shape[0], len(model.feature_mean)
    weights: list[Any] = [chosen.get(f"weight_{way}") for way in WAYS] if isinstance(chosen, dict) else []
    fine = {
        "context": _is_count(context) and model.linear.in_features == width * (2 if context else 1),
        "centers": isinstance(centers, dict)
        and bool(centers)
        and all(_are_numbers(center, n_components) for center in centers.values()),
        "chosen": isinstance(chosen, dict)
        and _is_count(chosen.get("k"))
        and chosen["k"] > 0
        and _are_numbers(weights, len(WAYS))
        and min(weights) >= 0 < sum(weights),
    }
    if wrong := [part for part, is_fine in fine.items() if not is_fine]:
        msg = f"{where}: `{wrong[0]}` of the config is missing or damaged, or of another model. Train it anew."
        raise ValueError(msg)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _are_numbers(values: Any, n: int) -> bool:
    return (
        isinstance(values, list)
        and len(values) == n
        and all(isinstance(value, int | float) and np.isfinite(value) for value in values)
    )
