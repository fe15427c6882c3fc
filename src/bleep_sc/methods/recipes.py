"""What can be set of each method, and the values of each preset: the one place where defaults of training stand."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

from bleep_sc._checks import check_choice, check_int, check_number
from bleep_sc.models.encoders.registry import COLOR, names_network
from bleep_sc.models.nets.rules import MAX_CONTEXT, MAX_REPEATS

Method = Literal["bleep", "stnet", "histogene", "regressor", "ridge", "knn", "coordinates", "counts", "mean"]
PresetName = Literal["default", "paper"]
Optimizer = Literal["adamw", "adam", "sgd"]
LIMITS: Mapping[str, int] = {"members": MAX_REPEATS, "depth": MAX_REPEATS, "context": MAX_CONTEXT}
"""More than these a stored model is refused for."""
_ADAM_LR = 3e-4


@dataclass(frozen=True)
class Training:
    """What all published methods share, which train a network by gradient descent."""

    dropout: float = 0.1
    batch_size: int = 128
    lr: float = 1e-3
    weight_decay: float = 1e-3
    max_epochs: int = 150
    patience: int = 10
    optimizer: Optimizer = "adamw"

    def __post_init__(self) -> None:
        check_int("patience", self.patience, minimum=0)
        check_choice("optimizer", self.optimizer, get_args(Optimizer))
        _check_descent(self)


def _check_limit(name: str, value: int) -> None:
    if value > LIMITS[name]:
        msg = f"`{name}` must be at most {LIMITS[name]}, found {value}."
        raise ValueError(msg)


def _check_descent(values: Any) -> None:
    """What any training by gradient descent has to set."""
    check_int("batch_size", values.batch_size, minimum=2)
    check_int("max_epochs", values.max_epochs)
    check_number("lr", values.lr, above=0)
    check_number("weight_decay", values.weight_decay, minimum=0)
    if check_number("dropout", values.dropout, minimum=0) >= 1:
        msg = f"`dropout` must be below 1, found {values.dropout!r}."
        raise ValueError(msg)


@dataclass(frozen=True)
class HybridRecipe:
    """Retrieval in a joint space of image features and components of expression, blended with regression.

    Found on real sections of two tissues, where each part helps or does no harm (docs, "Which parts pay"). A wider
    `context` helps one of them and costs the other.
    """

    encoder: Any = COLOR
    context: int = 8
    n_components: int = 20
    members: int = 3
    dim: int = 128
    hidden: int = 256
    dropout: float = 0.3
    temperature: float = 0.1
    batch_size: int = 256
    lr: float = 5e-4
    weight_decay: float = 0.1
    max_epochs: int = 100

    def __post_init__(self) -> None:
        for name in ("n_components", "members", "dim", "hidden"):
            check_int(name, getattr(self, name))
        _check_limit("members", self.members)
        check_int("context", self.context, minimum=0)
        _check_limit("context", self.context)
        check_number("temperature", self.temperature, above=0)
        _check_descent(self)


@dataclass(frozen=True)
class BleepRecipe(Training):
    """BLEEP (Xie et al., NeurIPS 2023, section 4.2)."""

    encoder: Any = "resnet50"
    dim: int = 256
    temperature: float = 1.0
    accumulate: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_int("dim", self.dim)
        check_int("accumulate", self.accumulate)
        check_number("temperature", self.temperature, above=0)


@dataclass(frozen=True)
class StNetRecipe(Training):
    """ST-Net (He et al., Nat Biomed Eng 2020; its repository's command line)."""

    encoder: Any = "densenet121"
    dropout: float = 0.0
    batch_size: int = 32
    lr: float = 1e-6
    weight_decay: float = 0.0
    max_epochs: int = 50
    optimizer: Optimizer = "sgd"


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
        _check_limit("depth", self.depth)
        check_int("window", self.window)
        if check_int("dim", self.dim) % 64:
            msg = f"`dim` must be a multiple of 64 for 'histogene' (64 for each attention head), found {self.dim}."
            raise ValueError(msg)


@dataclass(frozen=True)
class RegressorRecipe(Training):
    """A network with a linear or one-hidden-layer head and mean squared error."""

    encoder: Any = "resnet50"
    hidden: int | None = None
    lr: float = 3e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hidden is not None:
            check_int("hidden", self.hidden)


@dataclass(frozen=True)
class CoordinatesRecipe:
    """Ridge regression on the place in the section; a penalty of None is chosen on held-out sections."""

    n_components: int = 5
    alpha: float | None = None

    def __post_init__(self) -> None:
        check_int("n_components", self.n_components, minimum=0)
        if self.alpha is not None:
            check_number("alpha", self.alpha, above=0)


@dataclass(frozen=True)
class RidgeRecipe(CoordinatesRecipe):
    """The same on image features."""

    encoder: Any = COLOR


@dataclass(frozen=True)
class KnnRecipe:
    """Retrieval straight on image features."""

    encoder: Any = COLOR


@dataclass(frozen=True)
class NoRecipe:
    """Nothing to set."""


Recipe = (
    HybridRecipe
    | BleepRecipe
    | StNetRecipe
    | HisToGeneRecipe
    | RegressorRecipe
    | RidgeRecipe
    | CoordinatesRecipe
    | KnnRecipe
    | NoRecipe
)

DEFAULTS: Mapping[str, Recipe] = {
    "bleep": HybridRecipe(),
    "stnet": StNetRecipe(),
    "histogene": HisToGeneRecipe(),
    "regressor": RegressorRecipe(),
    "ridge": RidgeRecipe(),
    "knn": KnnRecipe(),
    "coordinates": CoordinatesRecipe(),
    "counts": NoRecipe(),
    "mean": NoRecipe(),
}

PAPER: Mapping[str, Recipe] = {
    # four GPUs with 128 spots each, the loss per GPU, only gradients averaged; all 150 epochs, the best one kept
    "bleep": BleepRecipe(accumulate=4, patience=0),
    "stnet": StNetRecipe(patience=0),
    "histogene": HisToGeneRecipe(patience=0),
}


NETWORK = BleepRecipe()
"""BLEEP's default where a network reads the crops: as published, but stopped early."""


def recipe(method: Method, preset: PresetName, arguments: Mapping[str, Any]) -> Recipe:
    """Return a method's preset with the arguments that are not None in place of its own values.

    Raises
    ------
    ValueError
        An argument that the method does not have, or a preset that it does not have.
    """
    check_choice("preset", preset, get_args(PresetName))
    if preset == "paper" and method not in PAPER:
        msg = f"`preset='paper'` is of the published methods {list(PAPER)}, `method={method!r}` has none."
        raise ValueError(msg)
    values = (PAPER if preset == "paper" else DEFAULTS)[method]
    encoder = arguments.get("encoder")
    if isinstance(values, HybridRecipe) and names_network(encoder):
        values = NETWORK
    known = [field.name for field in fields(values)]
    given = {name: value for name, value in arguments.items() if value is not None}
    if unknown := [name for name in given if name not in known]:
        msg = f"`method={method!r}` has no `{unknown[0]}`; " + (
            f"what can be set of it: {', '.join(f'`{name}`' for name in sorted(known))}." if known else "leave it out."
        )
        if isinstance(values, HybridRecipe) and hasattr(NETWORK, unknown[0]):
            msg += " The published BLEEP has it: `preset='paper'`, or an `encoder` that is a network."
        raise ValueError(msg)
    if method == "stnet" and given.get("optimizer", "sgd") != "sgd":
        # the published rate is SGD's, for a loss summed over the batch; Adam scales its steps itself
        given.setdefault("lr", _ADAM_LR)
    return replace(values, **given)
