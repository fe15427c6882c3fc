"""What a sweep tries: the settings, and which of them one training serves."""

import inspect
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bleep_sc._checks import check_int
from bleep_sc.tl._cv.plan import DECIDED_HERE, OF_IMPUTE, Asked, checked, plain_arguments
from bleep_sc.tl._fit import fit

K = "k"
"""The parameter that says how many neighbours are averaged; `fit` does not have it."""
_OF_READING = (K, *sorted(OF_IMPUTE))
_NO_MATTER = {"device", "precision", "devices", "num_nodes", "strategy", "check"}
"""Arguments of `fit` that say how a model is computed, not which."""


@dataclass(frozen=True)
class Training:
    """A model that is trained once in each fold, and the settings that it serves."""

    label: str
    asked: Asked
    readings: dict[int, dict[str, Any]]
    """By number of setting, the arguments with which the model predicts: `k` and `predict`."""


@dataclass(frozen=True)
class Grid:
    """All settings of a sweep, in the order in which they were given, the last parameter fastest."""

    values: dict[str, list[Any]]
    """The values of each parameter."""
    settings: list[dict[str, Any]]
    trainings: list[Training]

    def label(self, number: int) -> str:
        """Name a setting in words."""
        return ", ".join(f"{name}={value}" for name, value in self.settings[number].items())

    @property
    def largest_k(self) -> int | None:
        """The largest number of neighbours; None where it is not swept."""
        return max(self.values[K]) if K in self.values else None


def make_grid(parameters: Any, method: str, method_kwargs: Mapping[str, Any] | None) -> Grid:
    """Check what is to be tried, and lay out its settings; nothing is trained for an error."""
    given = plain_arguments(method, method_kwargs)
    if not isinstance(parameters, Mapping) or not parameters:
        msg = f'`parameters` must name what to vary and its values, such as {{"k": [10, 50]}}; found {parameters!r}.'
        raise ValueError(msg)
    for name in parameters:
        _check_name(name, given)
    values = {name: _values(name, candidates) for name, candidates in parameters.items()}
    if all(len(candidates) < 2 for candidates in values.values()):
        msg = f"`parameters` leaves nothing to choose: {values!r} has one value of each. Give two or more of one."
        raise ValueError(msg)
    settings = [dict(zip(values, each, strict=True)) for each in itertools.product(*values.values())]
    return Grid(values, settings, _trainings(settings, {"method": method, **given}))


def _check_name(name: Any, given: Mapping[str, Any]) -> None:
    path = f"`parameters[{name!r}]`"
    if name in given:
        msg = f"{path} is also in `method_kwargs`: leave it out of one."
        raise ValueError(msg)
    if name in DECIDED_HERE or name in _NO_MATTER or name == "method":
        why = {
            "method": "is no parameter of one method. `bleep_sc.tl.cross_validate` compares methods",
            "random_state": "is luck: a seed that did well on one tissue says nothing about other tissue",
        }.get(name, "changes no model" if name in _NO_MATTER else "is what each fold sets itself")
        msg = f"{path} {why}, so no fold can choose it. Leave it out."
        raise ValueError(msg)
    if name not in _OF_READING and name not in inspect.signature(fit).parameters:
        msg = f"{path} is no argument of `bleep_sc.tl.fit`, nor {' or '.join(f'`{each}`' for each in _OF_READING)}."
        raise ValueError(msg)


def _values(name: str, candidates: Any) -> list[Any]:
    """Return the values of a parameter, plain and all of one kind, since a table keeps them in one column."""
    if isinstance(candidates, str) or not isinstance(candidates, Iterable):
        candidates = [candidates]
    values = [value.item() if isinstance(value, np.generic) else value for value in candidates]
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    if not values or not (numbers or all(isinstance(value, str) for value in values)):
        msg = f"`parameters[{name!r}]` must be a list of numbers, or one of names; found {values!r}."
        raise ValueError(msg)
    if len(set(values)) < len(values):
        msg = f"`parameters[{name!r}]` has a value twice: {values!r}."
        raise ValueError(msg)
    return [check_int(f"parameters[{name!r}]", value) for value in values] if name == K else values


def _trainings(settings: list[dict[str, Any]], given: dict[str, Any]) -> list[Training]:
    """Gather the settings that one training serves: those that differ only in how the model predicts."""
    trainings: dict[str, Training] = {}
    for number, setting in enumerate(settings):
        of_model = {name: value for name, value in setting.items() if name not in _OF_READING}
        # a way to predict that the model lacks is refused here, whichever setting is the first
        of_reading = {name: value for name, value in setting.items() if name in _OF_READING}
        named = {name: value for name, value in of_reading.items() if name in OF_IMPUTE}
        asked = checked({**given, **of_model, **named}, path="method_kwargs")
        if K in setting and asked.method.space is None:
            msg = (
                f"`parameters['k']`: `method={asked.method.name!r}` has no `k`, since it does not retrieve. "
                "Those that do are 'bleep' and 'knn'."
            )
            raise ValueError(msg)
        label = ", ".join([asked.method.name, *(f"{name}={value}" for name, value in of_model.items())])
        trainings.setdefault(label, Training(label, asked, {})).readings[number] = of_reading
    return list(trainings.values())
