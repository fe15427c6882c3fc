"""The default recipe without the reference's spots: its regressions, and the decoder that was learned on them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bleep_sc._logging import logger
from bleep_sc.methods.hybrid.components import Decoder
from bleep_sc.methods.hybrid.in_section import see_in_section
from bleep_sc.methods.hybrid.kernel_ridge import KernelRidge
from bleep_sc.methods.hybrid.stand_in import without_spots
from bleep_sc.methods.hybrid.stored import blend_weights
from bleep_sc.methods.inputs import FROZEN_IMAGES, Needs, Spots
from bleep_sc.methods.prediction import Imputation, Imputed, Reference, Request
from bleep_sc.methods.record import Method
from bleep_sc.methods.task import Fitted, Trained
from bleep_sc.models.inference import embed_in_batches
from bleep_sc.models.nets.fused import Fused, columns_of_encoders
from bleep_sc.models.nets.kernel import KernelRegression
from bleep_sc.models.nets.rules import MAX_CONTEXT, whole
from bleep_sc.models.nets.slim import Slim, SlimArguments
from bleep_sc.models.train.randomness import borrowed_random_state

_MODE = "regression"
_SEED = 0


def slimmed(trained: Trained, spec: Mapping[str, Any], scores: np.ndarray, values: Any) -> Fitted:
    """Make the slim form of a hybrid, from the reference's scores (n_obs, n_components) and values (n_obs, n_genes).

    `spec` is the description of the hybrid in its config. Weights and encoders' shares go into the regressions, and the
    landmarks of kernel regressions are replaced.
    """
    model, decoder = trained.model, Decoder.learn(scores, values)
    weights, parts = blend_weights(trained, _MODE), model.parts
    shares = model.shares.tolist() if isinstance(model, Fused) else [1.0]
    kernels = [_stand_in(part.kernel, share * weights["kernel"]) for part, share in zip(parts, shares, strict=True)]
    widths = [len(part.feature_mean) for part in parts]
    views = parts[0].linear.in_features // widths[0]
    arguments = SlimArguments(
        n_image_features=sum(widths),
        n_features=views * sum(widths),
        n_genes=len(decoder.mean),
        n_components=len(decoder.loadings),
        n_landmarks=len(kernels[0].landmarks),
        nonnegative=decoder.minimum == 0,
        encoders=spec.get("encoders", [{"n_features": width, "network": None} for width in widths]),
    )
    with borrowed_random_state():  # building draws first weights, which are all overwritten
        slim = Slim(arguments, trained.networks)
    linear = np.zeros((arguments.n_components, arguments.n_features))
    bias = np.zeros(arguments.n_components)
    for part, share, columns in zip(parts, shares, columns_of_encoders(widths, views), strict=True):
        linear[:, columns] = share * weights["linear"] * part.linear.weight.detach().numpy()
        bias += share * weights["linear"] * part.linear.bias.detach().numpy()
    tensors: list[tuple[torch.Tensor, Any]] = [
        (slim.linear.weight, linear),
        (slim.linear.bias, bias),
        (slim.mean, decoder.mean),
        (slim.loadings, decoder.loadings),
        *((getattr(slim, name), getattr(model, name)) for name in ("feature_mean", "feature_scale", "context_scale")),
    ]
    for kernel, own in zip(slim.kernels, kernels, strict=True):
        tensors += [(getattr(kernel, name), getattr(own, name)) for name in ("landmarks", "coefficients", "mean")]
        tensors.append((kernel.get_buffer("width"), own.width))
    with torch.no_grad():
        for tensor, learned in tensors:
            tensor.copy_(torch.as_tensor(learned))
    return Fitted(slim.eval(), arguments, trained.genes, record={"context": trained.method_config["context"]})


def _stand_in(kernel: KernelRegression, weight: float) -> KernelRidge:
    """Write a kernel regression, times its weight in the mix, without spots; a single flat bump where it has none."""
    landmarks, coefficients, mean = (
        tensor.numpy().astype(np.float64) for tensor in (kernel.landmarks, kernel.coefficients, kernel.mean)
    )
    if not weight:
        return KernelRidge(np.zeros((1, landmarks.shape[1])), np.zeros((1, len(mean))), np.zeros_like(mean), 1.0)
    own = KernelRidge(landmarks, weight * coefficients, weight * mean, float(kernel.width))
    made = without_spots(own, seed=_SEED)
    logger.info(
        "The kernel regression, %.0f %% of the prediction, is written without the reference's spots: it comes within "
        "%.0f %% of what it was.",
        100 * weight,
        np.ceil(100 * made.error),
    )
    return made.ridge


@dataclass(frozen=True)
class _Decoded:
    """A function that turns scores of spots into expression."""

    decoder: Decoder
    columns: np.ndarray
    """The gene of the model that stands in each column of the result, -1 for none (n_vars,)."""

    def __call__(self, scores: np.ndarray) -> Imputed:
        """Impute any spots."""
        return Imputed(self.decoder.decode(scores, self.columns))


def _predict(trained: Trained, spots: Spots, reference: Reference, request: Request) -> Imputation:
    """Let the regressions predict scores on components, and decode these."""
    model, compute = trained.model, request.compute
    decoder = Decoder(model.mean.numpy(), model.loadings.numpy(), 0.0 if model.nonnegative else -np.inf)
    regress = model.to(compute.device).regress
    scores = embed_in_batches(regress, spots.rows, compute=compute, desc="Predicting components")
    provenance = {
        "params": {"method": trained.method.name, "predict": _MODE, "uses_query_counts": False},
        "units": trained.units,
        "in_sample": False,
    }
    return Imputation(_Decoded(decoder, request.columns), {"scores": scores}, scores.shape[1], provenance)


def _no_fit(task: Any) -> Fitted:
    msg = "a slim model is made of a fitted one, by `bleep_sc.io.write_model(..., slim=True)`"
    raise ValueError(msg)


def _check_stored(trained: Trained, where: str) -> None:
    """Refuse a config, which comes from a file, that does not fit the model's parts."""
    model: Slim = trained.model
    views = 2 if trained.method_config["context"] else 1
    if not model.fits_together or model.linear.in_features != views * len(model.feature_mean):
        msg = f"{where}: `context` of the config and the widths of the model do not go together, so it is damaged."
        raise ValueError(msg)


METHOD: Method[Any] = Method(
    name="bleep",
    kinds=(SlimArguments.kind,),
    presets={},  # it is never fitted
    needs=lambda values: Needs(FROZEN_IMAGES, values.get("encoder"), n_neighbors=values.get("context", 0)),
    fit=_no_fit,
    predict=_predict,
    names_all_genes=True,
    see_in_section=see_in_section,
    networks=lambda model: model.networks,
    own_config={"context": whole(0, MAX_CONTEXT)},
    required=("context",),
    check_stored=_check_stored,
    other_modes="It is a slim model, which holds no spots to retrieve. For these you need the reference itself, as its "
    "owner stores it with `ref.write_h5ad`.",
)
