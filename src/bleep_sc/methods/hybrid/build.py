"""Builds the model that is stored, and fills it with what was learned."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from bleep_sc.methods.hybrid.blend import Blend, Setting
from bleep_sc.methods.hybrid.component_models import ComponentModels, EncoderModels
from bleep_sc.methods.hybrid.in_section import SectionView
from bleep_sc.methods.hybrid.kernel_ridge import KernelRidge
from bleep_sc.methods.inputs import Spots
from bleep_sc.methods.learning.network import seeded
from bleep_sc.methods.learning.ridge_regression import Ridge
from bleep_sc.methods.task import Task
from bleep_sc.models.nets.fused import Fused, FusedArguments
from bleep_sc.models.nets.hybrid import HybridArguments
from bleep_sc.models.nets.joint import JointSpace


def built(
    task: Task[Any], view: SectionView, models: ComponentModels, blend: Blend
) -> tuple[nn.Module, HybridArguments]:
    """Build a hybrid, or several fused ones, with all that was learned, so that one file holds it."""
    spots = task.spots
    solved = [_Solved.by(encoder, settings) for encoder, settings in zip(models.encoders, blend.settings, strict=True)]
    arguments = HybridArguments.filled(
        task.recipe,
        n_image_features=sum(spots.widths),
        n_features=sum(encoder.features.shape[1] for encoder in models.encoders),
        n_genes=models.components.loadings.shape[1],
        n_components=models.scores.shape[1],
        n_landmarks=len(solved[0].kernel.landmarks),
    )
    fused = len(spots.widths) > 1 or any(network is not None for network in spots.networks)
    if fused:
        values = {name: getattr(arguments, name) for name in HybridArguments.rules()}
        arguments = FusedArguments(**values, encoders=_specs(spots))
    with seeded(task.compute, task.seed):  # building draws first weights, which are all overwritten
        model = arguments.build()
    parts: tuple[Any, ...] = model.parts if isinstance(model, Fused) else (model,)
    start = 0
    for hybrid, own, width in zip(parts, solved, spots.widths, strict=True):
        own.fill(hybrid, view.at_features(slice(start, start + width)), models)
        start += width
    if isinstance(model, Fused):
        model.shares.copy_(torch.tensor(blend.shares))
        for network, own_network in zip(model.networks, spots.networks or (None,) * len(parts), strict=True):
            if network is not None and own_network is not None:
                network.load_state_dict(own_network.state_dict())
    return model, arguments


def _specs(spots: Spots) -> list[dict[str, Any]]:
    """Describe each encoder, and its network where the model is to bring that."""
    networks = spots.networks or (None,) * len(spots.encoders)
    specs = []
    for encoder, network in zip(spots.encoders, networks, strict=True):
        record = encoder.to_json()
        spec = None if network is None else {"name": encoder.name, **record["reading"]}
        specs.append({"n_features": encoder.n_features, "network": spec})
    return specs


@dataclass(frozen=True)
class _Solved:
    """The space and the regressions of one encoder."""

    space: JointSpace
    linear: Ridge
    kernel: KernelRidge

    @classmethod
    def by(cls, encoder: EncoderModels, settings: Mapping[str, Setting]) -> "_Solved":
        """Solve the regressions of an encoder with the chosen settings."""
        (kernel,) = encoder.kernel([settings["kernel"]]).values()
        return cls(encoder.space.to("cpu"), encoder.linear(settings["linear"]), kernel)

    def fill(self, hybrid: Any, view: SectionView, models: ComponentModels) -> None:
        """Copy what was solved into the encoder's hybrid."""
        hybrid.space.load_state_dict(self.space.state_dict())
        with torch.no_grad():
            for tensor, values in (
                (hybrid.feature_mean, view.mean),
                (hybrid.feature_scale, view.scale),
                (hybrid.context_scale, view.context_scale),
                (hybrid.loadings, models.components.loadings),
                (hybrid.spread, models.spread),
                (hybrid.linear.weight, self.linear.coefficients),
                (hybrid.linear.bias, self.linear.mean - self.linear.coefficients @ self.linear.feature_mean),
                (hybrid.kernel.landmarks, self.kernel.landmarks),
                (hybrid.kernel.coefficients, self.kernel.coefficients),
                (hybrid.kernel.mean, self.kernel.mean),
                (hybrid.kernel.width, np.float64(self.kernel.width)),
            ):
                tensor.copy_(torch.as_tensor(values))
