"""The record of a method: all that `fit`, `embed`, `impute` and `cross_validate` must know of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from bleep_sc.methods.inputs import Needs, Spots
from bleep_sc.methods.names import Match, Mode
from bleep_sc.methods.prediction import Imputation, Reference, Request
from bleep_sc.methods.task import Fitted, Task, Trained
from bleep_sc.models.nets.rules import Rule

R = TypeVar("R")
Values = Mapping[str, Any]


@dataclass(frozen=True)
class HeldOut:
    """What a method leaves out of training to choose something by it."""

    spots: bool = False
    """Validation spots, on which the best epoch is found."""
    folds: bool = False
    """Folds of the reference, on which a penalty or a blend is chosen."""
    most_folds: int | None = None
    """The largest number of these folds, where each costs a training."""


class ReadExpression(Protocol):
    """Makes what a model's expression heads read of expression (n, n_genes)."""

    def __call__(
        self, trained: Trained, expression: np.ndarray, sections: np.ndarray | None, /, *, of_reference: bool
    ) -> np.ndarray:
        """Sections (n,) are those of the spots; `of_reference` says that they are the reference's, or part of it."""


def _as_it_is(
    trained: Trained, expression: np.ndarray, sections: np.ndarray | None, *, of_reference: bool
) -> np.ndarray:
    return expression


@dataclass(frozen=True)
class Space:
    """A space with the reference's spots in it, from which a method retrieves."""

    match: Match
    """Which embedding of the reference a query is compared with, unless the user says otherwise."""
    centred: bool = False
    """Whether features and expression are taken relative to the section: then a part of a section is embedded a little
    otherwise than the whole, and the reference's scores on components of expression are kept beside its embeddings."""
    read_expression: ReadExpression = _as_it_is
    """Makes what the expression heads read."""

    @property
    def has_expression(self) -> bool:
        """Whether expression is embedded too."""
        return self.match == "expression"


@dataclass(frozen=True)
class Method(Generic[R]):
    """One method. Nobody asks which one it is: what differs between methods stands here."""

    name: str
    """The name that users give it; two methods may share one, if their models are of different kinds."""
    kind: str
    """The kind of its model, one of ``models.nets.build.KINDS``."""
    presets: Mapping[str, R]
    """Its recipe in each preset that it has."""
    needs: Callable[[Values], Needs]
    """What it reads of the spots, from the values of its recipe, or from its own part of a config."""
    fit: Callable[[Task[R]], Fitted]
    predict: Callable[[Trained, Spots, Reference, Request], Imputation]
    modes: tuple[Mode, ...] = ("regression",)
    """The ways in which it can predict, its usual one first."""
    space: Space | None = None
    """None of a method that puts out values of its own."""
    held_out: HeldOut = HeldOut()
    by_epochs: bool = False
    """Whether it trains epoch by epoch, so that a training can be resumed."""
    divides: bool = False
    """Whether several processes can train it, each on a part of every batch."""
    names_all_genes: bool = False
    """Whether its model holds every gene, whichever were chosen to learn from."""
    in_chunks: bool = True
    """Whether some spots of a query can be predicted without the others."""
    see_in_section: Callable[[Trained, Spots], Spots] = lambda _, spots: spots
    """Makes what the model's heads read of what the image encoder made."""
    n_centers: Callable[[R], int] = lambda _: 0
    """How many numbers of each section its config keeps."""
    own_config: Mapping[str, Rule] = field(default_factory=dict)
    """What its own part of a config may hold."""
    required: tuple[str, ...] = ()
    """What of that no config may lack."""
    check_stored: Callable[[Trained, str], None] = lambda *_: None
    """Refuses a config, which comes from a file, that does not fit the model's parts."""
    serves: Callable[[Any], bool] = lambda _: True
    """Whether it is the one of its name that reads crops by this encoder."""
    complete: Callable[[dict[str, Any]], dict[str, Any]] = lambda arguments: arguments
    """Adds to the user's values what follows from them."""
    also_known_by: str = ""
    """Where another method of this name lacks an argument that this one has: how to get this one."""
    cannot_divide: str = ""
    """What to do where several processes cannot train it; empty: the general advice."""

    @property
    def retrieves(self) -> bool:
        """Whether it averages measured profiles of the reference."""
        return self.space is not None

    def mode(self, asked: Mode | None) -> Mode:
        """The way to predict that the user wants, or the method's usual one."""
        if asked not in (None, *self.modes):
            msg = (
                f"`predict={asked!r}`: this model predicts by {' or '.join(map(repr, self.modes))}. A model that "
                "mixes retrieval and regression is the default of `bleep_sc.tl.fit`."
            )
            raise ValueError(msg)
        return asked or self.modes[0]
