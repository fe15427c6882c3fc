"""What spots look like to a method: the image features by which a spot unlike the reference is noticed."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from bleep_sc._side_effects import threads_for
from bleep_sc.methods.inputs import BY_HAND, Spots
from bleep_sc.methods.task import Fitted, Task, Trained
from bleep_sc.models.device import Compute
from bleep_sc.models.encoders.registry import made_by_hand
from bleep_sc.models.scheduled import encode_images
from bleep_sc.models.search.novelty import Novelty


class Seen(NamedTuple):
    """The features of spots, and what goes on from there: a network need not see the same crops twice."""

    features: np.ndarray
    """Image features (n_obs, n_features), not standardised by section."""
    trained: Trained
    spots: Spots


def see(trained: Trained, spots: Spots, compute: Compute) -> Seen:
    """Compute what a trained method sees in the images of a query, by its network where it has one."""
    if not spots.kind.is_image:
        return Seen(np.asarray(spots.rows), trained, spots)
    features = encode_images(trained.model, spots.rows, compute=compute)
    rest = trained.model.after_encoder()
    if rest is None:
        return Seen(features, trained, spots)
    return Seen(features, replace(trained, model=rest), replace(spots, rows=features))


def novelties_of(task: Task[Any], fitted: Fitted, groups: np.ndarray) -> list[Novelty]:
    """Learn what the spots look like to each encoder of a method; `groups` (n_obs,) are left out in turn."""
    spots = task.spots
    if not spots.kind.is_image:
        features = np.asarray(spots.rows)
    elif fitted.seen is not None:
        features = fitted.seen
    else:
        features = encode_images(fitted.model.eval(), spots.rows, compute=task.compute)
    widths = spots.widths if len(spots.encoders) > 1 else (features.shape[1],)
    kinds = [encoder.kind for encoder in spots.encoders] or [spots.kind]
    names = [encoder.name for encoder in spots.encoders] or [spots.encoder]
    out = []
    for own, kind, name in zip(by_encoder(features, widths), kinds, names, strict=True):
        by_hand = made_by_hand(name) if kind is BY_HAND else None
        with threads_for(len(own)):
            novelty = Novelty.of_reference(
                own,
                groups=groups,
                sections=spots.sections,
                names=() if by_hand is None else by_hand.names(),
                on_components=by_hand is None,
            )
        out.append(novelty)
    return out


def by_encoder(features: np.ndarray, widths: Sequence[int]) -> list[np.ndarray]:
    """Part features that stand side by side (n_obs, n_features) into those of each encoder."""
    return np.split(features, np.cumsum(widths)[:-1], axis=1)
