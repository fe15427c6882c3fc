"""The records that pass between `impute` and the methods: request, reference and imputation."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from bleep_sc.methods.names import Match, Mode, Search
from bleep_sc.models.device import Compute
from bleep_sc.models.search.weighting import Weighting


@dataclass(frozen=True)
class Neighbors:
    """The arguments of `impute` that say how neighbours are found and weighed."""

    predict: Mode
    """Whether measured profiles are averaged, or components of expression predicted."""
    k: int
    match: Match
    weighting: Weighting
    temperature: float
    search: Search
    layer: str | None


@dataclass(frozen=True)
class Request:
    """The request of a user to predict a query."""

    columns: np.ndarray
    """The available gene that stands in each column of the result, -1 for none (n_vars,)."""
    compute: Compute
    neighbors: Neighbors | None = None
    """The way to find neighbours; None for methods that do not retrieve."""


@dataclass(frozen=True)
class Reference:
    """The parts of a reference that serve a query, as arrays, in memory or lazy."""

    n_obs: int
    same_name: np.ndarray
    """The row of the reference's spot of the same name, -1 for none (n_query,)."""
    same_place: np.ndarray
    """The row of the reference's spot at the same place, -1 for none (n_query,)."""
    shares_spots: bool
    """Whether a spot of the query has the name and the place of one of the reference's."""
    images: Any = None
    """Image embeddings (n_obs, dim), by which the reference's own spots are recognised."""
    keys: Any = None
    """The embeddings that a query is compared with (n_obs, dim)."""
    values: Any = None
    """The expression that is averaged (n_obs, n_genes)."""
    components: np.ndarray | None = None
    """Scores of the reference on components of expression (n_obs, n_components), where these are predicted."""
    units: str = ""
    names: np.ndarray | None = None
    """Names of the spots (n_obs,)."""
    library: np.ndarray | None = None
    """The section of each spot (n_obs,), empty where it is not known."""


class Imputed(NamedTuple):
    """The predicted expression of some spots, and their neighbours."""

    expression: Any
    """The expression float32 (n, n_vars), NaN for genes that the reference lacks; NumPy, or dask where it is stored."""
    rows: np.ndarray | None = None
    """The rows of the neighbours in the reference, int32 (n, k), best first; None without neighbours."""
    distances: np.ndarray | None = None


@dataclass(frozen=True)
class Imputation:
    """An imputation that is ready to run, and the record of it."""

    impute: Callable[..., Imputed]
    """The function that imputes any spots of the query, from their rows of the inputs."""
    inputs: dict[str, Any]
    """The arguments of `impute`: arrays with one row a spot."""
    n_genes: int
    """The largest number of values of one spot that are in memory at once."""
    provenance: dict[str, Any]
    """The record of the imputation that `uns` keeps."""
    embedding: np.ndarray | None = None
    """Embeddings of the query's images (n_obs, dim), where neighbours are looked for."""
    k: int = 0
    """The number of neighbours."""
    quiet: Callable[..., Imputed] | None = None
    """The same as `impute` without a progress bar, where it has one."""
    reliability: np.ndarray | None = None
    """How far each spot looks like the reference's (n_obs,), where the model can tell."""
