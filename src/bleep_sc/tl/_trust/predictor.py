"""The record of a predictor: intervals belong to the method, and the arguments of `impute`, that were calibrated."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc.io._stored import StoredModel
from bleep_sc.methods.names import Match, Mode
from bleep_sc.methods.task import Trained
from bleep_sc.models.search.weighting import Weighting
from bleep_sc.tl._inputs.reference import neighbors_to_average


def predictor_of(
    ref: AnnData,
    stored: StoredModel,
    trained: Trained,
    *,
    predict: Mode | None = None,
    k: int | None = None,
    match: Match | None = None,
    weighting: Weighting = "mean",
    temperature: float = 0.1,
) -> dict[str, Any]:
    """Make the record of what `impute` does with these arguments."""
    method = trained.method
    if method.space is None:
        given = {"predict": predict, "k": k, "match": match, "weighting": None if weighting == "mean" else weighting}
        if unused := [name for name, value in given.items() if value is not None]:
            msg = f"`{unused[0]}`: `method={method.name!r}` finds no neighbours, so it has none. Leave it out."
            raise ValueError(msg)
        return {"method": method.name}
    layer = stored.config.expression.layer
    record = {
        "method": method.name,
        "predict": method.mode(predict),
        "k": neighbors_to_average(k, ref, stored),
        "match": match or method.space.match,
        "weighting": weighting,
        "layer": "X" if layer is None else layer,
    }
    return record | ({"temperature": temperature} if weighting == "softmax" else {})


def check_same_predictor(
    query: AnnData,
    name: str,
    calibrated: Mapping[str, Any],
    *,
    n_reference: int,
    key: str,
    kept: Callable[[], Mapping[str, Mapping[str, Any]]],
) -> None:
    """Refuse a layer that another predictor has made than the one that was calibrated.

    `kept` returns the predictors that `calibrate` can take without training, by the arguments that ask for them.
    """
    entry = query.uns[name]
    params = entry.get("params", {})
    other = {argument: value for argument, value in calibrated.items() if not _same(params.get(argument), value)}
    if other:
        given = ", ".join(f"{argument}={_shown(params.get(argument))}" for argument in other)
        needed = ", ".join(f"{argument}={_shown(value)}" for argument, value in other.items())
        quick = [call for call, record in kept().items() if all(_same(params.get(a), v) for a, v in record.items())]
        arguments = quick[0] if quick else f"cross_fit=True, {_call(params, other)}"
        named = "" if key == _keys.MODEL else f"key={key!r}"
        call = ", ".join(filter(None, ("ref", named, arguments)))
        msg = (
            f"`query.layers[{name!r}]` was imputed with {given}, but the calibration is of {needed}, and another "
            f"predictor has other errors. Impute with {needed}, or calibrate this one: "
            f"`bleep_sc.tl.calibrate({call})`."
        )
        raise ValueError(msg)
    names = entry.get("reference_names")
    if names is not None and len(names) != n_reference:
        msg = (
            f"`query.layers[{name!r}]` was imputed from {len(names)} spots, but the calibration is of a reference of "
            f"{n_reference}. Impute from the whole reference, or fit and calibrate the one that you use."
        )
        raise ValueError(msg)


def _same(found: Any, expected: Any) -> bool:
    if isinstance(found, np.ndarray | np.generic) and np.ndim(found) == 0:
        found = np.asarray(found).item()
    return bool(found == expected)


def _shown(value: Any) -> str:
    return repr(value.item() if isinstance(value, np.generic) else value)


def _call(params: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    arguments = [name for name in other if name in ("predict", "k", "match", "weighting", "temperature")]
    return ", ".join(f"{name}={_shown(params.get(name))}" for name in arguments) or "..."
