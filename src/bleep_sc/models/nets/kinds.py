"""The kinds of model, and the arguments that a stored config describes. No class is imported by a name in a file."""

from collections.abc import Mapping
from typing import Any

from bleep_sc.models.nets.arguments import Arguments
from bleep_sc.models.nets.bleep import BleepArguments
from bleep_sc.models.nets.feature_space import FeatureArguments
from bleep_sc.models.nets.fused import FusedArguments
from bleep_sc.models.nets.histogene import HisToGeneArguments
from bleep_sc.models.nets.hybrid import HybridArguments
from bleep_sc.models.nets.regressor import RegressorArguments
from bleep_sc.models.nets.slim import SlimArguments

KINDS: Mapping[str, type[Arguments]] = {
    BleepArguments.kind: BleepArguments,
    HybridArguments.kind: HybridArguments,
    FusedArguments.kind: FusedArguments,
    SlimArguments.kind: SlimArguments,
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
