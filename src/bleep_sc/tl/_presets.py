from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from bleep_sc._validate import check_choice, check_int, check_number

PresetName = Literal["default", "paper"]


@dataclass(frozen=True)
class Recipe:
    """Everything about a model and its training that can be set by an argument of `fit`."""

    encoder: Any = "resnet50"
    dim: int = 256
    dropout: float = 0.1
    temperature: float = 1.0
    batch_size: int = 128
    accumulate: int = 1
    lr: float = 1e-3
    weight_decay: float = 1e-3
    max_epochs: int = 150
    patience: int = 10

    def __post_init__(self) -> None:
        for name in ("dim", "accumulate", "max_epochs"):
            check_int(name, getattr(self, name))
        check_int("batch_size", self.batch_size, minimum=2)
        check_int("patience", self.patience, minimum=0)
        check_number("temperature", self.temperature, above=0)
        check_number("lr", self.lr, above=0)
        check_number("weight_decay", self.weight_decay, minimum=0)
        if check_number("dropout", self.dropout, minimum=0) >= 1:
            msg = f"`dropout` must be below 1, found {self.dropout!r}."
            raise ValueError(msg)


PRESETS: dict[str, Recipe] = {
    "default": Recipe(),
    # four GPUs with 128 spots each, the loss per GPU, only gradients averaged; all 150 epochs, the best one kept
    "paper": Recipe(accumulate=4, patience=0),
}


def recipe(preset: PresetName, **arguments: Any) -> Recipe:
    """Return a preset with the arguments that are not None in place of its own values."""
    check_choice("preset", preset, PRESETS)
    known = {field.name for field in fields(Recipe)}
    given = {name: value for name, value in arguments.items() if value is not None}
    if unknown := given.keys() - known:  # pragma: no cover - a slip of ours, never of a user
        raise TypeError(unknown)
    return replace(PRESETS[preset], **given)
