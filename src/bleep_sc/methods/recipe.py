"""The values that recipes share, above all those of gradient descent, and their checks."""

from dataclasses import dataclass, fields
from typing import Any, get_args

from bleep_sc._checks import check_choice, check_int, check_number
from bleep_sc.methods.names import Optimizer


def values_of(recipe: Any) -> dict[str, Any]:
    """List the values of a recipe by name, not copied: one of them may be a network of the user's."""
    return {field.name: getattr(recipe, field.name) for field in fields(recipe)}


def check_descent(recipe: Any) -> None:
    """Check the values that any training by gradient descent has to set."""
    check_int("batch_size", recipe.batch_size, minimum=2)
    if recipe.max_epochs is not None:  # as where the number of spots is to tell
        check_int("max_epochs", recipe.max_epochs)
    check_number("lr", recipe.lr, above=0)
    check_number("weight_decay", recipe.weight_decay, minimum=0)
    if check_number("dropout", recipe.dropout, minimum=0) >= 1:
        msg = f"`dropout` must be below 1, found {recipe.dropout!r}."
        raise ValueError(msg)


def check_limit(name: str, value: int, most: int) -> None:
    """Refuse a value above what a stored model may have: the model could not be read back."""
    if value > most:
        msg = f"`{name}` must be at most {most}, found {value}."
        raise ValueError(msg)


@dataclass(frozen=True)
class NoRecipe:
    """The recipe of a method of which nothing can be set."""


@dataclass(frozen=True)
class Training:
    """The values that all published methods share, which train a network by gradient descent."""

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
        check_descent(self)
