"""The arguments of a kind of model as a record: what it is built from, what a config stores, and what each may be."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple, Self, get_type_hints

from torch import nn

from bleep_sc.models.encoders.networks import build_network
from bleep_sc.models.nets.projection import Standardize
from bleep_sc.models.nets.rules import BOOL, MAX_SIDE, NETWORK_NAME, REPEATS, Rule, or_null, whole

Weights = str | Path | None
"""First weights of an image network: ``"imagenet"``, a file, or None for random ones."""


@dataclass(frozen=True)
class Arguments(ABC):
    """The arguments of one kind of model; each field is annotated with its type and its rule.

    The names of the fields, and their order, are those of a stored config.
    """

    kind: ClassVar[str]
    """Name of the kind in a config."""

    @classmethod
    def rules(cls) -> dict[str, Rule]:
        """Return the rule of each argument, by name and in order."""
        annotated = get_type_hints(cls, include_extras=True)
        return {field.name: annotated[field.name].__metadata__[0] for field in fields(cls)}

    @classmethod
    def repeats(cls) -> tuple[str, ...]:
        """Return the names of the arguments that say how often a part is repeated."""
        return tuple(name for name, rule in cls.rules().items() if rule is REPEATS)

    @classmethod
    def filled(cls, recipe: Any, **others: Any) -> Self:
        """Build the record: each argument is taken from `others`, or else from the recipe's attribute of that name."""
        of_recipe = [field.name for field in fields(cls) if field.name not in others]
        return cls(**{name: getattr(recipe, name) for name in of_recipe}, **others)

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> Self:
        """Build the record from a description, which holds all arguments of the kind and no others.

        Raises
        ------
        KeyError
            An argument is missing.
        ValueError
            The description holds an unknown argument.
        """
        names = [field.name for field in fields(cls)]
        arguments = {name: spec[name] for name in names}
        if unknown := [name for name in spec if name not in ("kind", *names)]:
            msg = f"a model of the kind {cls.kind!r} has no argument {unknown[0]!r}; it has {', '.join(names)}"
            raise ValueError(msg)
        return cls(**arguments)

    def spec(self) -> dict[str, Any]:
        """Return the description that a config stores: plain values by name."""
        return {"kind": self.kind, **{field.name: getattr(self, field.name) for field in fields(self)}}

    @property
    def network(self) -> str | None:
        """Name of the image network that is part of the model; None where the model has no network with a name."""
        return None

    @property
    def reads_crops(self) -> bool:
        """Whether the model reads crops, and not ready-made features."""
        return self.network is not None

    @abstractmethod
    def build(self, weights: Weights = None) -> nn.Module:
        """Build the model with weights from torch's random state. Its image network begins with `weights`."""


class BuiltEncoder(NamedTuple):
    """An image encoder and the width of its features."""

    module: nn.Module
    n_features: int


@dataclass(frozen=True)
class ImageArguments(Arguments):
    """The arguments that all kinds of model with an image encoder have.

    The image encoder is a named network for crops, or nothing where the input is ready-made features. Either may be
    followed by a `Standardize`.
    """

    encoder: Annotated[str | None, or_null(NETWORK_NAME)]
    """Name of the network; None where the input is ready-made features."""
    image_size: Annotated[int | None, or_null(whole(1, MAX_SIDE))]
    """Side in pixels of the crops that the network reads; None without a network."""
    n_image_features: Annotated[int | None, or_null(whole(0))]
    """Width of ready-made features; None with a network."""
    standardize: Annotated[bool, BOOL]
    """Whether features are brought to mean 0 and variance 1."""

    @property
    def network(self) -> str | None:
        """Name of the image network that is part of the model."""
        return self.encoder

    def build_encoder(self, weights: Weights = None) -> BuiltEncoder:
        """Build the image encoder alone."""
        parts: list[nn.Module] = []
        n_features: Any = self.n_image_features
        if self.encoder is not None:
            size: Any = self.image_size
            network = build_network(self.encoder, image_size=size, weights=weights)
            parts, n_features = [network], network.n_features
        if self.standardize:
            parts.append(Standardize(n_features))
        return BuiltEncoder(parts[0] if len(parts) == 1 else nn.Sequential(*parts), n_features)
