"""The records that pass between `fit` and the methods: the task, and what was learned."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
from torch import nn

from bleep_sc._stats import Expression
from bleep_sc.methods.hybrid.components import Decoder
from bleep_sc.methods.inputs import Spots
from bleep_sc.models.device import Compute
from bleep_sc.models.nets.arguments import Arguments
from bleep_sc.models.train.checkpoints import CheckpointFolder, Checkpoints
from bleep_sc.models.train.history import History

if TYPE_CHECKING:
    from bleep_sc.methods.record import Method

R = TypeVar("R", covariant=True)

InnerFolds = list[tuple[np.ndarray, list[np.ndarray]]]
"""The rows to train on, and the held-out rows, part by part; scores are taken within each part, and averaged."""


@dataclass(frozen=True)
class HowHeldOut:
    """How folds were made, in words that logs take over."""

    by: str = "as given"
    """What was held out, such as ``"by patient"``."""
    hint: str = ""
    """A sentence, after a blank, on what would tell the patients; empty where they are known, or nothing would."""


@dataclass(frozen=True)
class Task(Generic[R]):
    """The data that a method learns from, as arrays, and the values of its recipe."""

    spots: Spots
    expression: Expression
    """The expression that is learned: the chosen genes, or a representation."""
    everything: Expression
    """The expression to predict, of all genes, dense or CSR; a representation is predicted itself."""
    all_genes: Expression
    """The expression of all genes, dense or CSR, whatever is learned."""
    recipe: R
    compute: Compute
    seed: int
    held_out: np.ndarray
    """Whether a spot is held out for validation (n_obs,); no spot for methods that do not find a best epoch."""
    folds: InnerFolds
    """The folds on which a penalty or a mix is chosen; none for methods that choose neither."""
    how_held_out: HowHeldOut = field(default_factory=HowHeldOut)
    patients: np.ndarray | None = None
    """The patient of each spot (n_obs,); None where they are unknown."""
    depth: np.ndarray | None = None
    """The logarithm of each spot's total counts (n_obs,), for methods that learn it; None where they are unknown."""
    weights: str | Path | None = None
    """First weights of a network: a name or a file; None: random ones."""
    checkpoint_folder: CheckpointFolder | None = None

    @property
    def n_patients(self) -> int:
        """The number of patients; 0 where they are unknown."""
        return 0 if self.patients is None else len(set(self.patients))

    @property
    def leaves_out_sections(self) -> bool:
        """Whether no fold is trained on other spots of the sections that it predicts, nor of their patients."""
        patients = self.patients if self.n_patients > 1 else None  # sections of the only patient are on both sides
        known = [labels for labels in (self.spots.sections, patients) if labels is not None]
        return bool(known and self.folds) and all(_separate(self.folds, labels) for labels in known)

    def checkpoints(self, training: str) -> Checkpoints | None:
        """Return the checkpoints of one of the method's trainings; None where the user wants none."""
        return None if self.checkpoint_folder is None else self.checkpoint_folder.of(training)


def _separate(folds: InnerFolds, labels: np.ndarray) -> bool:
    """Tell whether no label stands both among the training spots and among the held-out spots of a fold."""
    return not any(set(labels[training]) & set(labels[np.concatenate(parts)]) for training, parts in folds)


@dataclass(frozen=True)
class OutOfFold:
    """The predictions of the reference's spots by models that never saw their section, nor their patient."""

    scores: np.ndarray
    """The predicted scores on the fold's own components, float32 (n_obs, n_components); NaN where none left it out."""
    fold: np.ndarray
    """The number of the fold that left a spot out, int32 (n_obs,); -1 for none."""
    decoders: list[Decoder]
    """The decoder of each fold, learned on its training spots alone."""
    trained_on: int | None
    """The number of spots that a fold was trained on where it had more; None where all were."""
    regressed: np.ndarray | None = None
    """The scores that the regressions alone predict, without retrieval, float32 (n_obs, n_components)."""


@dataclass(frozen=True)
class Fitted:
    """A trained model and what is stored with it."""

    model: nn.Module
    arguments: Arguments
    """The arguments that the model is built from."""
    genes: np.ndarray
    """Names of the expression input of a joint space, or of the genes that a regression predicts."""
    image_embedding: np.ndarray | None = None
    expression_embedding: np.ndarray | None = None
    components: np.ndarray | None = None
    """The scores of the reference on components of expression (n_obs, n_components)."""
    seen: np.ndarray | None = None
    """What a network that reads crops made of each spot (n_obs, n_features), where the method has that at hand."""
    history: History = field(default_factory=History)
    record: dict[str, Any] = field(default_factory=dict)
    """The method's own part of the config: what was chosen, how far the space is from collapse."""
    out_of_fold: OutOfFold | None = None
    """The predictions of held-out parts, of methods that make them as they choose something."""


@dataclass(frozen=True)
class Trained:
    """A model as it was stored, ready to predict."""

    method: "Method[Any]"
    model: Any
    """The network, a `torch.nn.Module` with the functions that its method calls."""
    genes: np.ndarray
    """Names of the genes that it reads or predicts (n_genes,)."""
    method_config: Mapping[str, Any]
    """The method's own part of the config."""
    units: str
    """The units of what it learned from."""
    networks: tuple[nn.Module | None, ...] = ()
    """The frozen network of each encoder that it reads; None for an encoder without one."""
