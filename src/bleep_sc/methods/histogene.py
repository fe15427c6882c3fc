"""HisToGene (Pang et al., bioRxiv 2021): a transformer over the spots of a section."""

from dataclasses import dataclass

import numpy as np

from bleep_sc._checks import check_int
from bleep_sc._stats import section_rows
from bleep_sc.methods.inputs import CROPS, Needs, Spots
from bleep_sc.methods.learning.network import train_network
from bleep_sc.methods.learning.windows import split_windows
from bleep_sc.methods.names import Optimizer
from bleep_sc.methods.predicting.outputs import WindowOutput, imputation
from bleep_sc.methods.prediction import Imputation, Reference, Request
from bleep_sc.methods.recipe import Training, check_limit
from bleep_sc.methods.record import HeldOut, Method
from bleep_sc.methods.task import Fitted, Task, Trained
from bleep_sc.models.nets.histogene import POSITIONS, HisToGeneArguments
from bleep_sc.models.nets.rules import MAX_REPEATS, whole
from bleep_sc.models.train.batches import Sequences

Windows = list[tuple[np.ndarray, np.ndarray]]
"""The spots of each window, and their rows and columns in it (n, 2)."""


@dataclass(frozen=True)
class HisToGeneRecipe(Training):
    """HisToGene (Pang et al., bioRxiv 2021; its repository's tutorial)."""

    dim: int = 1024
    depth: int = 8
    window: int = 768
    lr: float = 1e-5
    weight_decay: float = 0.0
    max_epochs: int = 100
    optimizer: Optimizer = "adam"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_int("depth", self.depth)
        check_limit("depth", self.depth, MAX_REPEATS)
        check_int("window", self.window)
        if check_int("dim", self.dim) % 64:
            msg = f"`dim` must be a multiple of 64 for 'histogene' (64 for each attention head), found {self.dim}."
            raise ValueError(msg)


def _fit(task: Task[HisToGeneRecipe]) -> Fitted:
    recipe, images, expression = task.recipe, task.spots.rows, task.expression.matrix
    arguments = HisToGeneArguments.filled(recipe, image_size=int(images.shape[1]), n_genes=len(task.expression.genes))
    training = _windows(task.spots, np.flatnonzero(~task.held_out), largest=recipe.window)
    validation = _windows(task.spots, np.flatnonzero(task.held_out), largest=recipe.window)
    batches = (
        Sequences(images, expression, training, seed=task.seed),
        Sequences(images, expression, validation) if validation else None,
    )
    model, history = train_network(task, arguments, batches=batches)
    return Fitted(model, arguments, task.expression.genes, history=history, record={"window": recipe.window})


def _predict(trained: Trained, spots: Spots, reference: Reference, request: Request) -> Imputation:
    """Let the model put out the expression of the spots of each window together."""
    windows = _windows(spots, np.arange(spots.rows.shape[0]), largest=int(trained.method_config["window"]))
    output = WindowOutput(trained.model, request.columns, request.compute, windows, len(trained.genes))
    return imputation(trained, spots, reference, output)


def _windows(spots: Spots, rows: np.ndarray, *, largest: int) -> Windows:
    """Divide some rows into windows of neighbouring spots; none spans two sections, or more than 64 grid positions."""
    assert spots.grid is not None  # noqa: S101 - its record says that it needs the grid
    is_chosen = np.zeros(len(spots.grid), dtype=bool)
    is_chosen[rows] = True
    windows: Windows = []
    for _, section in section_rows(spots.sections, len(spots.grid)):
        chosen = section[is_chosen[section]]
        if len(chosen):
            section_windows = split_windows(spots.grid[chosen], largest=largest, side=POSITIONS)
            windows += [(chosen[members], positions) for members, positions in section_windows]
    return windows


METHOD = Method(
    name="histogene",
    kinds=(HisToGeneArguments.kind,),
    presets={"default": HisToGeneRecipe(), "paper": HisToGeneRecipe(patience=0)},
    needs=lambda _: Needs(CROPS, grid=True),
    fit=_fit,
    predict=_predict,
    held_out=HeldOut(spots=True),
    by_epochs=True,
    in_chunks=False,
    own_config={"window": whole(1)},
    required=("window",),
)
