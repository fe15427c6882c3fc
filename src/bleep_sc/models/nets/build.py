"""Build a model from its description, the plain values in a stored config. No class is imported by a name in a file."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from bleep_sc.models.nets.arguments import Arguments, Weights
from bleep_sc.models.nets.bleep import BleepArguments
from bleep_sc.models.nets.feature_space import FeatureArguments
from bleep_sc.models.nets.histogene import HisToGeneArguments
from bleep_sc.models.nets.hybrid import HybridArguments
from bleep_sc.models.nets.regressor import RegressorArguments

KINDS: Mapping[str, type[Arguments]] = {
    BleepArguments.kind: BleepArguments,
    HybridArguments.kind: HybridArguments,
    RegressorArguments.kind: RegressorArguments,
    HisToGeneArguments.kind: HisToGeneArguments,
    FeatureArguments.kind: FeatureArguments,
}
"""The arguments of each kind of model, by its name in a config."""


def arguments_of(spec: Mapping[str, Any]) -> Arguments:
    """Return the arguments in a description: ``spec["kind"]`` is one of `KINDS`, the others are its arguments."""
    kind = spec["kind"]
    if not isinstance(kind, str) or kind not in KINDS:
        msg = f"unknown kind of model {kind!r}"
        raise ValueError(msg)
    return KINDS[kind].from_spec(spec)


def build_model(spec: Mapping[str, Any], *, weights: Weights = None) -> nn.Module:
    """Build the model that `spec` describes, with random weights. Its image network begins with `weights`."""
    return arguments_of(spec).build(weights)
