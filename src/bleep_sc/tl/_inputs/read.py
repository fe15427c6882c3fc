"""Reads the inputs of a method from an AnnData, once, into arrays."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from anndata import AnnData
from torch import nn

from bleep_sc import _keys
from bleep_sc._checks import check_in
from bleep_sc._expression import expression_values
from bleep_sc._stats import log_depth
from bleep_sc.methods.inputs import (
    COUNTS,
    NO_INPUT,
    NOTHING,
    PLACE,
    PLACES,
    TOTAL_COUNTS,
    InputRecord,
    Needs,
    Source,
    Spots,
)
from bleep_sc.models.device import Compute
from bleep_sc.tl._inputs.encoders import Encoding
from bleep_sc.tl._inputs.images import choose_images, images_as_stored
from bleep_sc.tl._inputs.places import grid_of_sections, neighbor_places, place_features


@dataclass(frozen=True)
class AsAsked:
    """The images that the user names in `fit`."""

    image_key: str
    method: str
    explicit: bool
    """Whether the user asked for the encoder."""
    encoding: Encoding
    """The way in which frozen encoders are read."""

    def images(self, adata: AnnData, needs: Needs, *, compute: Compute, name: str) -> Spots:
        """Read crops, or features, as the method takes them."""
        return choose_images(
            adata,
            needs,
            image_key=self.image_key,
            method=self.method,
            explicit=self.explicit,
            encoding=self.encoding,
            compute=compute,
            name=name,
        )


@dataclass(frozen=True)
class AsStored:
    """The images that suit a stored model."""

    record: InputRecord
    image_key: str | None = None
    encoder: Any = None
    """The user's own encoder, or several, where the model was trained with them."""
    networks: Sequence[nn.Module | None] = ()
    """The frozen networks that the model brings."""

    def images(self, adata: AnnData, needs: Needs, *, compute: Compute, name: str) -> Spots:
        """Read crops, or features, of the kind, width and scale that the model knows."""
        return images_as_stored(
            adata, self.record, self.image_key, self.encoder, self.networks, compute=compute, name=name
        )


def read(
    adata: AnnData,
    needs: Needs,
    image_source: AsAsked | AsStored,
    *,
    sections: np.ndarray | None,
    compute: Compute,
    name: str = "adata",
) -> Spots:
    """Read the inputs that a method needs of each spot.

    Parameters
    ----------
    adata
        The spots.
    needs
        What the method says that it reads.
    image_source
        Which images are read, where it reads images.
    sections
        The section of each spot (n_obs,); None where all are of one.
    compute
        Where features of crops are computed.
    name
        What messages call `adata`.
    """
    xy = neighbor_places(adata, needs.n_neighbors, name=name)
    if needs.source.is_image:
        spots = image_source.images(adata, needs, compute=compute, name=name)
    else:
        spots = _WITHOUT_IMAGES[needs.source](adata, sections, name)
    grid = grid_of_sections(adata, sections, name=name) if needs.grid else None
    return replace(spots, sections=sections, xy=xy, grid=grid)


def _places(adata: AnnData, sections: np.ndarray | None, name: str) -> Spots:
    """Read a polynomial of the place of each spot in its section."""
    return Spots(place_features(adata, sections, name=name), PLACE, "place in the section")


def _depth(adata: AnnData, sections: np.ndarray | None, name: str) -> Spots:
    """Read the logarithm of each spot's total counts, which must have been measured."""
    check_in(
        f"{name}.layers",
        _keys.COUNTS,
        adata.layers.keys(),
        remedy="`method='counts'` predicts from the total counts of the very spots that it predicts: a yardstick for "
        "how much of a score is sequencing depth, not a method for slides without counts.",
    )
    depth = log_depth(expression_values(adata, _keys.COUNTS, name=name))
    return Spots(depth.astype(np.float32)[:, None], COUNTS, "total counts")


def _nothing(adata: AnnData, sections: np.ndarray | None, name: str) -> Spots:
    """Make features of no width, for a method that reads nothing."""
    return Spots(np.empty((adata.n_obs, 0), dtype=np.float32), NOTHING, "nothing")


_WITHOUT_IMAGES: Mapping[Source, Callable[[AnnData, np.ndarray | None, str], Spots]] = {
    PLACES: _places,
    TOTAL_COUNTS: _depth,
    NO_INPUT: _nothing,
}
