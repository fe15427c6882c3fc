"""The config of a model: all but its weights, in plain types that have been checked."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bleep_sc.methods.inputs import InputRecord


@dataclass(frozen=True)
class ExpressionSource:
    """The place in an AnnData of the expression that a model learned from."""

    layer: str | None
    """Name of the layer; None is `X`."""
    use_rep: str | None
    """Key of a representation in `obsm` that takes the place of a layer; else None."""


@dataclass(frozen=True)
class Config:
    """The config of a stored model: its method, how it was trained, and its inputs."""

    method: str
    preset: str
    params: Mapping[str, Any]
    """Values of the model's recipe."""
    model: Mapping[str, Any]
    """Kind of model, and the arguments that it is built with."""
    image: "InputRecord"
    """The input that the model reads of a spot."""
    expression: ExpressionSource
    library_key: str
    """Column of `obs` with the sections; empty where none was known."""
    patient_key: str
    """Column of `obs` with the patients; empty where none was known."""
    units: str
    """Units of the expression that the model learned from."""
    method_config: Mapping[str, Any]
    """The method's own part of the config: what was chosen, and what its predictions need."""
    versions: Mapping[str, str]
    slim: bool = False
    """Whether the model is made to be shared without any spot of its reference."""
    rest: Mapping[str, Any] = field(default_factory=dict)
    """The values that a later release has added, by name: they are kept, and nobody reads them."""

    def to_json(self) -> dict[str, Any]:
        """Turn the config into plain types, in the order in which configs are written."""
        return {
            "method": self.method,
            "preset": self.preset,
            "params": dict(self.params),
            "model": dict(self.model),
            "image": self.image.to_json(),
            "expression": asdict(self.expression),
            "library_key": self.library_key,
            "patient_key": self.patient_key,
            "units": self.units,
            **self.method_config,
            "versions": dict(self.versions),
            **({"slim": True} if self.slim else {}),
            **self.rest,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Config":
        """Make the config that plain types describe; `check_config` has checked them."""
        from bleep_sc.methods.inputs import InputRecord
        from bleep_sc.methods.registry import all_methods

        rest = dict(values)
        of_methods = {name for method in all_methods() for name in method.own_config}
        method_config = {name: rest.pop(name) for name in values if name in of_methods}
        common = ("method", "preset", "params", "model", "library_key", "patient_key", "units", "versions")
        common_values = {name: rest.pop(name) for name in common}
        image, expression = InputRecord.from_json(rest.pop("image")), ExpressionSource(**rest.pop("expression"))
        slim = rest.pop("slim", False)
        return cls(
            **common_values, image=image, expression=expression, method_config=method_config, slim=slim, rest=rest
        )
