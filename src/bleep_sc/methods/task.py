"""What passes between `fit` and the methods: all that may be learned from, and all that was learned."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from torch import nn

from bleep_sc._expression import ExpressionInput
from bleep_sc.methods.recipes import Recipe
from bleep_sc.models.device import Compute
from bleep_sc.models.train.checkpoints import CheckpointFolder, Checkpoints
from bleep_sc.models.train.history import History
from bleep_sc.tl._inputs.held_out import InnerFolds
from bleep_sc.tl._inputs.images import SpotInput
from bleep_sc.tl._inputs.places import Windows

R = TypeVar("R", bound=Recipe, covariant=True)


@dataclass(frozen=True)
class Task(Generic[R]):
    """What a method learns from, as arrays, and the values that were set of it."""

    spots: SpotInput
    expression: ExpressionInput
    """The chosen genes, or a representation."""
    everything: ExpressionInput
    """All genes, dense or CSR; the same as `expression` where that is a representation."""
    recipe: R
    compute: Compute
    seed: int
    held_out: np.ndarray
    """Validation spots (n_obs,); none of methods that do not train by gradient descent."""
    folds: InnerFolds
    """Rows on which a penalty is chosen; none of methods that have no penalty."""
    weights: str | Path | None = None
    sections: np.ndarray | None = None
    """Name of each spot's section (n_obs,)."""
    xy: np.ndarray | None = None
    """Place of each spot (n_obs, 2), for methods that look at neighbours."""
    windows: tuple[Windows, Windows] | None = None
    """Training and validation spots as sequences, for methods that read such."""
    checkpoint_folder: CheckpointFolder | None = None

    def checkpoints(self, training: str) -> Checkpoints | None:
        """Of one of the method's trainings; None where the user wants none."""
        return None if self.checkpoint_folder is None else self.checkpoint_folder.of(training)


@dataclass(frozen=True)
class Fitted:
    """A trained model and what is stored with it."""

    model: nn.Module
    spec: dict[str, Any]
    """What `build_model` needs to build it again."""
    genes: np.ndarray
    """Names of the expression input of a joint space, or of the genes that a regression predicts."""
    image_embedding: np.ndarray | None = None
    expression_embedding: np.ndarray | None = None
    components: np.ndarray | None = None
    """Scores of the reference on components of expression."""
    history: History = field(default_factory=History)
    record: dict[str, Any] = field(default_factory=dict)
    """What else the config should tell: what was chosen, how far the space is from collapse."""
