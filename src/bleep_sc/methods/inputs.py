"""The input of a method, as arrays: crops, features of crops, places, counts, or nothing."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bleep_sc.models.encoders.frozen import Reading
from bleep_sc.models.train.batches import Rows

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class InputKind:
    """A kind of input, and its properties."""

    name: str
    """The name of the kind in a config."""
    from_crops: bool = False
    """Whether the input is made from crops, so that their scale matters."""
    is_image: bool = False
    """Whether the model reads the crops themselves, by a network of its own."""
    by_user: bool = False
    """Whether an encoder of the user's made the input: the model does not bring that encoder."""
    width: int | None = None
    """The number of values of a spot, where it is the same for all data."""


NETWORK = InputKind("network", from_crops=True, is_image=True)
BY_HAND = InputKind("color", from_crops=True)
"""Features that the package makes; the first of them gave the kind its name."""
CUSTOM = InputKind("custom", from_crops=True, by_user=True)
FROZEN = InputKind("frozen", from_crops=True)
"""Features by a network that is not trained, or by several encoders side by side; the model brings the networks."""
FEATURES = InputKind("features")
"""Features that were ready when they came; as the kind of an encoder: another program made them."""
PLACE = InputKind("place", width=9)
COUNTS = InputKind("counts", width=1)
NOTHING = InputKind("nothing", width=0)

KINDS: Mapping[str, InputKind] = {
    kind.name: kind for kind in (NETWORK, BY_HAND, CUSTOM, FROZEN, FEATURES, PLACE, COUNTS, NOTHING)
}


@dataclass(frozen=True)
class Source:
    """The source of a method's input, and the kinds of input that it may give.

    A stored model may name no other kind: a file must not make a model read anything else, such as counts.
    """

    kinds: tuple[InputKind, ...]
    is_image: bool = False
    """Whether the input is made from images."""
    takes_features: bool = False
    """Whether ready-made image features may stand in place of crops."""
    frozen: bool = False
    """Whether encoders are read as they are, so that their features are made before the method begins."""
    needs_places: bool = False
    """Whether a section without places of its spots cannot be read."""
    reads_query_counts: bool = False
    """Whether the method must see the counts of the very spots that it predicts."""


IMAGES = Source((NETWORK, BY_HAND, CUSTOM, FEATURES), is_image=True, takes_features=True)
FROZEN_IMAGES = Source((BY_HAND, CUSTOM, FROZEN, FEATURES), is_image=True, takes_features=True, frozen=True)
CROPS = Source((NETWORK,), is_image=True)
PLACES = Source((PLACE,), needs_places=True)
TOTAL_COUNTS = Source((COUNTS,), reads_query_counts=True)
NO_INPUT = Source((NOTHING,))


@dataclass(frozen=True)
class Needs:
    """The needs of a method: what is to be read of a section for it."""

    source: Source
    encoder: Any = None
    """The encoder that reads the crops: a name, or the user's function; None where the method has its own.

    Of a method that reads encoders frozen it may be a tuple of several.
    """
    view: float | None = None
    """The part of a crop that a frozen network reads: a share of its width, or µm above 1; None is the usual."""
    n_neighbors: int = 0
    """The number of neighbours of each spot that are looked at; 0 needs no places."""
    grid: bool = False
    """Whether row and column of each spot are needed."""

    @property
    def places(self) -> bool:
        """Whether a section without places of its spots cannot be read."""
        return self.grid or self.source.needs_places


@dataclass(frozen=True)
class CropScale:
    """The width of a crop, in three units; None where it is not known."""

    size: int | None
    """In the crop's pixels; known of all crops, and not of every tile that another program read."""
    size_um: float | None = None
    spot_diameters: float | None = None


@dataclass(frozen=True)
class EncoderRecord:
    """The record of an encoder that made features of crops, by which features of another one are told apart."""

    name: str
    """The name of the encoder, or a description."""
    kind: InputKind
    """Whether a network made the features, the package by hand, an encoder of the user's, or another program."""
    n_features: int
    feature_set: str | None = None
    """The version of features that the package makes by hand."""
    weights: str | None = None
    """The digest of a network's weights; None where nobody knows them."""
    reading: Reading | None = None
    """The way in which a network reads a crop."""

    @property
    def elsewhere(self) -> bool:
        """Whether another program made the features: its name for the encoder is all that is known of that."""
        return not self.kind.from_crops

    def to_json(self) -> dict[str, Any]:
        """Turn the record into plain types."""
        reading = None if self.reading is None else self.reading.to_json()
        return {**vars(self), "kind": self.kind.name, "reading": reading}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "EncoderRecord":
        """Make the record that checked plain types describe."""
        reading = None if values["reading"] is None else Reading.from_json(values["reading"])
        return cls(**{**values, "kind": KINDS[values["kind"]], "reading": reading})


@dataclass(frozen=True)
class InputRecord:
    """The record of a model's input in its config."""

    key: str
    """The key of `obsm` with the crops or features."""
    kind: InputKind
    encoder: str
    """The name of the network, or a description."""
    n_features: int | None
    """The number of values of a spot; None where a network reads crops."""
    scale: CropScale | None
    feature_set: str | None = None
    encoders: tuple[EncoderRecord, ...] = ()
    """The encoders whose features stand side by side; none where the kind says it all, or nobody knows them."""

    @property
    def elsewhere(self) -> bool:
        """Whether another program made the features that the model reads."""
        return any(encoder.elsewhere for encoder in self.encoders)

    @property
    def of_user(self) -> list[str]:
        """The encoders that only the user has, by description."""
        if not self.encoders:
            return [self.encoder] if self.kind.by_user else []
        return [encoder.name for encoder in self.encoders if encoder.kind.by_user]

    def to_json(self) -> dict[str, Any]:
        """Turn the record into plain types."""
        return {
            "key": self.key,
            "kind": self.kind.name,
            "encoder": self.encoder,
            "feature_set": self.feature_set,
            "n_features": self.n_features,
            "scale": None if self.scale is None else asdict(self.scale),
            "encoders": [encoder.to_json() for encoder in self.encoders],
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "InputRecord":
        """Make the record that checked plain types describe."""
        kind = KINDS[values["kind"]]
        scale = CropScale(**values["scale"]) if values["scale"] is not None else None
        return cls(
            values["key"],
            kind,
            values["encoder"],
            values["n_features"],
            scale,
            values["feature_set"],
            tuple(EncoderRecord.from_json(encoder) for encoder in values["encoders"]),
        )


@dataclass(frozen=True)
class Spots:
    """The input that a method reads of the spots of some sections."""

    rows: Rows
    """The values of each spot: uint8 (n_obs, y, x, 3) for a network, else float32 (n_obs, n_features)."""
    kind: InputKind
    encoder: str
    """The name of the network, or a description."""
    scale: CropScale | None = None
    feature_set: str | None = None
    """The version of features that the package makes by hand."""
    sections: np.ndarray | None = None
    """The section of each spot (n_obs,); None where all are of one."""
    xy: np.ndarray | None = None
    """The place of each spot (n_obs, 2), where neighbours are looked at."""
    grid: np.ndarray | None = None
    """Row and column of each spot in its section (n_obs, 2), where they are needed."""
    encoders: tuple[EncoderRecord, ...] = ()
    """The encoders whose features stand side by side in `rows`, where they are known."""
    networks: "tuple[nn.Module | None, ...]" = ()
    """The frozen network of each of these encoders; None for an encoder without one."""

    @property
    def widths(self) -> tuple[int, ...]:
        """The number of features of each encoder, side by side in `rows`."""
        return tuple(encoder.n_features for encoder in self.encoders) or (int(self.rows.shape[1]),)

    def record(self, key: str) -> InputRecord:
        """Make the record of the input for a config; `key` is where in `obsm` the images stand."""
        width = None if self.kind.is_image else int(self.rows.shape[1])
        return InputRecord(key, self.kind, self.encoder, width, self.scale, self.feature_set, self.encoders)
