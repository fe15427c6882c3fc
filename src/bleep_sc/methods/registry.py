"""Finds methods by name: the one that a user means, and the one of a stored model."""

from collections.abc import Mapping
from dataclasses import fields, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from bleep_sc._checks import check_choice
from bleep_sc.methods.names import MethodName, PresetName

if TYPE_CHECKING:
    from bleep_sc.methods.record import Method

_SHARED: Mapping[str, tuple[str, ...]] = {"bleep": ("hybrid.method", "hybrid.slim", "bleep")}
"""The files of methods that share a name; the first that has the preset is taken."""


def methods_named(name: str) -> "tuple[Method[Any], ...]":
    """List the methods under a name: one, or several of different kinds of model."""
    return tuple(import_module(f"bleep_sc.methods.{file}").METHOD for file in _SHARED.get(name, (name,)))


def all_methods() -> "list[Method[Any]]":
    """List every method."""
    return [method for name in get_args(MethodName) for method in methods_named(name)]


def choose(name: MethodName, preset: PresetName, arguments: Mapping[str, Any]) -> "tuple[Method[Any], Any]":
    """Choose the method that a user means, and its recipe.

    The recipe is the preset's, with the arguments that are not None in their place.

    Raises
    ------
    ValueError
        An argument that the method does not have, or a preset that it does not have.
    """
    check_choice("preset", preset, get_args(PresetName))
    method = next((method for method in methods_named(name) if preset in method.presets), None)
    if method is None:
        having = list(dict.fromkeys(method.name for method in all_methods() if preset in method.presets))
        msg = f"`preset={preset!r}` is of {', '.join(map(repr, having))}; `method={name!r}` has none. Leave it out."
        raise ValueError(msg)
    recipe = method.presets[preset]
    known = [field.name for field in fields(recipe)]
    set_values = {name: _plain(value) for name, value in arguments.items() if value is not None}
    if unknown := [argument for argument in set_values if argument not in known]:
        msg = f"`method={name!r}` has no `{unknown[0]}`; " + (
            f"what can be set of it: {', '.join(f'`{argument}`' for argument in sorted(known))}."
            if known
            else "leave it out."
        )
        others = [other for other in methods_named(name) if other is not method]
        msg += "".join(f" {other.also_known_by}" for other in others if _can_set(other, unknown[0]))
        raise ValueError(msg)
    return method, replace(recipe, **method.complete(set_values))


def _plain(value: Any) -> Any:
    """Turn a number of NumPy into Python's own: the config of a model, which is JSON, holds no other."""
    return value.item() if isinstance(value, np.generic) else value


def settable() -> set[str]:
    """List every argument that a recipe has."""
    recipes = [recipe for method in all_methods() for recipe in method.presets.values()]
    return {field.name for recipe in recipes for field in fields(recipe)}


def method_of_stored(name: str, kind: str) -> "Method[Any] | None":
    """Find the method of a stored model, by its name and the kind of its model; None where no method fits both."""
    if name not in get_args(MethodName):
        return None
    return next((method for method in methods_named(name) if kind in method.kinds), None)


def _can_set(method: "Method[Any]", argument: str) -> bool:
    return bool(method.also_known_by) and any(
        argument == field.name for recipe in method.presets.values() for field in fields(recipe)
    )
