"""What passes between `impute` and the methods: what is asked, what the reference offers, and what comes of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from bleep_sc.methods.names import Match, Mode, Search
from bleep_sc.models.device import Compute
from bleep_sc.models.search.weighting import Weighting


@dataclass(frozen=True)
class Neighbors:
    """How neighbours are found and weighed: the arguments of `impute`."""

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
    """What a user asks of a query."""

    columns: np.ndarray
    """Which of the available genes stands in each column of the result, -1 for none (n_vars,)."""
    compute: Compute
    neighbors: Neighbors | None = None
    """None of methods that do not retrieve."""


@dataclass(frozen=True)
class Reference:
    """What a reference offers to a query, as arrays, in memory or lazy."""

    n_obs: int
    same_name: np.ndarray
    """Row of the reference's spot of the same name, by spot of the query; -1 for none (n_query,)."""
    same_place: np.ndarray
    """The same of a spot at the same place."""
    shares_spots: bool
    """Whether a spot of the query has the name and the place of one of the reference's."""
    images: Any = None
    """Image embeddings (n_obs, dim), by which the reference's own spots are recognised."""
    keys: Any = None
    """What a query is compared with (n_obs, dim)."""
    values: Any = None
    """What is averaged (n_obs, n_genes)."""
    components: np.ndarray | None = None
    """Scores of the reference on components of expression (n_obs, n_components), where these are predicted."""
    units: str = ""
    names: np.ndarray | None = None
    """Names of the spots (n_obs,)."""
    library: np.ndarray | None = None
    """The section of each spot (n_obs,), empty where it is not known."""


class Imputed(NamedTuple):
    """What some spots were given."""

    expression: Any
    """float32 (n, n_vars), NaN for genes that the reference lacks; NumPy, or dask where it is stored."""
    rows: np.ndarray | None = None
    """Neighbours in the reference int32 (n, k), best first, where such are averaged."""
    distances: np.ndarray | None = None


@dataclass(frozen=True)
class Imputation:
    """All that is needed to impute a query, and the record of it."""

    impute: Callable[..., Imputed]
    """Imputes any spots of the query, from their part of the inputs."""
    inputs: dict[str, Any]
    """Its arguments: arrays with one row a spot."""
    n_genes: int
    """The largest number of values that it has in hand of one spot."""
    provenance: dict[str, Any]
    """What `uns` tells of it."""
    embedding: np.ndarray | None = None
    """Embeddings of the query's images (n_obs, dim), where neighbours are looked for."""
    k: int = 0
    """The number of neighbours."""
    quiet: Callable[..., Imputed] | None = None
    """The same as `impute` without a progress bar, where it has one."""
