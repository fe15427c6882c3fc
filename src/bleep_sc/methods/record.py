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
    """The spots that a method leaves out of training, to choose something by them."""

    spots: bool = False
    """Whether it holds out validation spots, on which the best epoch is found."""
    folds: bool = False
    """Whether it makes folds of the reference, on which a penalty or a mix is chosen."""
    most_folds: int | None = None
    """The largest number of these folds, where each costs a training."""


class ReadExpression(Protocol):
    """A function that turns expression (n, n_genes) into the input of a model's expression heads.

    Expression is dense, or CSR for a method that reads it so.
    """

    def __call__(
        self,
        trained: Trained,
        expression: Any,
        sections: np.ndarray | None,
        /,
        *,
        depth: np.ndarray | None,
        of_reference: bool,
    ) -> np.ndarray:
        """Make the input of spots in these `sections` (n,).

        `depth` (n,) are the logarithms of their total counts, where the model reads them. `of_reference` says that the
        spots are the reference's, or some of them.
        """


def _as_it_is(
    trained: Trained,
    expression: Any,
    sections: np.ndarray | None,
    *,
    depth: np.ndarray | None,
    of_reference: bool,
) -> np.ndarray:
    return expression


@dataclass(frozen=True)
class Space:
    """A space with the reference's spots in it, from which a method retrieves."""

    match: Match
    """The embedding of the reference that a query is compared with, unless the user says otherwise."""
    centred: bool = False
    """Whether features and expression are taken relative to the section.

    Then a part of a section is embedded a little otherwise than the whole. The reference's scores on components of
    expression are kept beside its embeddings.
    """
    read_expression: ReadExpression = _as_it_is
    """The function that makes the input of the expression heads."""
    reads_depth: Callable[[Values], bool] = lambda _: False
    """The function that tells from the method's part of a config whether that input needs total counts."""
    depth_genes: Callable[[Values], int] = lambda _: 0
    """The function that tells from it how many genes these were counted of in training; 0 where nobody knows."""

    @property
    def has_expression(self) -> bool:
        """Whether expression is embedded too."""
        return self.match == "expression"


@dataclass(frozen=True)
class Method(Generic[R]):
    """A method. Other code never asks which method it is: all that differs between methods stands here."""

    name: str
    """The name that users give it; two methods may share one, if their models are of different kinds."""
    kinds: tuple[str, ...]
    """The kinds of model that it makes, of ``models.nets.kinds.KINDS``."""
    presets: Mapping[str, R]
    """Its recipe in each preset that it has."""
    needs: Callable[[Values], Needs]
    """The function that tells its needs, from the values of its recipe or from its own part of a config."""
    fit: Callable[[Task[R]], Fitted]
    predict: Callable[[Trained, Spots, Reference, Request], Imputation]
    modes: tuple[Mode, ...] = ("regression",)
    """The ways in which it can predict, its usual one first."""
    space: Space | None = None
    """The space that it retrieves from; None for a method that puts out values of its own."""
    slim: Callable[[Trained, Mapping[str, Any], np.ndarray, Any], Fitted] | None = None
    """The function that makes, of a model that retrieves, one that needs no spots of the reference.

    It gets the description of the model in its config, the reference's scores on components (n_obs, n_components) and
    its expression (n_obs, n_genes). None where nothing is left without the spots, and where none are needed anyway.
    """
    held_out: HeldOut = HeldOut()
    keeps_held_out: bool = False
    """Whether it keeps what models that never saw a spot predict of it, where there are several sections."""
    by_epochs: bool = False
    """Whether it trains epoch by epoch, so that a training can be resumed."""
    divides: bool = False
    """Whether several processes can train it, each on a part of every batch."""
    names_all_genes: bool = False
    """Whether its model holds every gene, whichever were chosen to learn from."""
    in_chunks: bool = True
    """Whether some spots of a query can be predicted without the others."""
    reads_sparse: bool = False
    """Whether it reads expression as CSR where it is stored sparse; others read it dense."""
    learns_depth: bool = False
    """Whether it tells library depth apart from the rest, where the reference's raw counts are there."""
    see_in_section: Callable[[Trained, Spots], Spots] = lambda _, spots: spots
    """The function that turns image features into the input of the model's heads."""
    networks: Callable[[Any], tuple[Any, ...]] = lambda _: ()
    """The function that lists, for each encoder that a model reads frozen, the network that it brings, or None."""
    n_centers: Callable[[R], int] = lambda _: 0
    """The function that tells how many numbers of each section its config keeps."""
    own_config: Mapping[str, Rule] = field(default_factory=dict)
    """The rules for its own part of a config, by name."""
    required: tuple[str, ...] = ()
    """The names of `own_config` that no config may lack."""
    check_stored: Callable[[Trained, str], None] = lambda *_: None
    """The function that refuses a config, which comes from a file, that does not fit the model's parts."""
    complete: Callable[[dict[str, Any]], dict[str, Any]] = lambda arguments: arguments
    """The function that adds to the user's values those that follow from them."""
    also_known_by: str = ""
    """The advice how to get this method, where another of its name lacks an argument that this one has."""
    other_modes: str = "A model that mixes retrieval and regression is the default of `bleep_sc.tl.fit`."
    """The advice how to get a model that predicts otherwise."""
    cannot_divide: str = ""
    """The advice where several processes cannot train it; empty for the general advice."""

    @property
    def needs_spots(self) -> bool:
        """Whether a model of it predicts nothing without the reference's spots, in whatever form it is written."""
        return self.space is not None and self.slim is None

    @property
    def retrieves(self) -> bool:
        """Whether it averages measured profiles of the reference."""
        return self.space is not None

    def mode(self, asked: Mode | None) -> Mode:
        """Choose the way to predict: the one that the user asks for, or the method's usual one."""
        if asked not in (None, *self.modes):
            msg = (
                f"`predict={asked!r}`: this model predicts by {' or '.join(map(repr, self.modes))}. {self.other_modes}"
            )
            raise ValueError(msg)
        return asked or self.modes[0]
