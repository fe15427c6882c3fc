"""How unlike the spots of a reference a spot looks: a distance in image features, and its rank among held-out spots."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from bleep_sc._side_effects import python_random_state_kept
from bleep_sc._stats import row_blocks

_MOST_SPOTS = 10_000
"""The number of spots that are learned from: more would move no rank by a hundredth, and cost seconds a group."""
_MOST_GROUPS = 10
_MOST_AXES = 32
_SPOTS_OF_AN_AXIS = 10
"""The number of spots behind each principal component: with so many its spread is known to within a fifth or so."""
_PARTS = 5
_FLAT = 1e-6
_TINY = 1e-12


@dataclass(frozen=True)
class Look:
    """The look of some spots: where they lie in the space of image features, and how far they spread."""

    center: np.ndarray
    """Mean of each feature (n_features,)."""
    scale: np.ndarray
    """Spread of each feature within sections (n_features,); infinite where it does not vary and says nothing."""
    middle: np.ndarray
    """Mean of the scaled features (n_features,)."""
    axes: np.ndarray
    """Directions in the scaled features, divided by the spread along each (n_axes, n_features)."""
    rest: np.ndarray
    """Mean and spread, over spots, of the log of what lies beside the axes; an infinite spread where nothing does."""

    def distances(self, features: np.ndarray) -> np.ndarray:
        """Compute how far spots lie from these, in spreads: float64 (n,)."""
        out, axes = np.empty(len(features)), self.axes.astype(np.float64)
        for part in row_blocks(features):
            scaled = _scaled(features[part], self.center, self.scale) - self.middle
            places = scaled @ axes.T
            square = np.square(places).sum(axis=1)
            if np.isfinite(self.rest[1]):
                square += np.square((_log_rest(scaled, places, axes) - self.rest[0]) / self.rest[1])
            out[part] = np.sqrt(square)
        return out

    @classmethod
    def learn(cls, features: np.ndarray, sections: np.ndarray, *, n_axes: int | None) -> Self:
        """Learn the look of spots (n, n_features) in `sections` (n,), on so many principal components or on none."""
        features = features.astype(np.float64)
        center = features.mean(axis=0)
        square = np.zeros_like(center)
        for section in np.unique(sections):
            rows = features[sections == section]
            square += np.square(rows - rows.mean(axis=0)).sum(axis=0)
        spread = np.sqrt(square / len(features))
        scale = np.where(spread > np.maximum(_FLAT * np.abs(features).max(axis=0), 1e-30), spread, np.inf)
        # rounded as they are stored, so that the reference's spots and a query's are scaled alike
        center, scale = center.astype(np.float32), scale.astype(np.float32)
        scaled = _scaled(features, center, scale)
        middle = scaled.mean(axis=0).astype(np.float32)
        scaled -= middle
        varies = np.isfinite(scale)
        axes, rest = _whitened(scaled, varies) if n_axes is None else _components(scaled, varies, n_axes)
        return cls(center, scale, middle, axes.astype(np.float32), rest.astype(np.float32))


@dataclass(frozen=True)
class Novelty:
    """What tells how unlike a reference a spot looks.

    The distance is Mahalanobis', of features as they are: standardised within its section, a slide that is unlike the
    reference as a whole would look like it. Scaled features go through arcsinh, so that long tails of single features
    do not make the covariance. Its rank among the distances of reference spots that took no part in learning makes it
    a p-value. The rank holds for tissue that differs from the reference as the groups of the reference, its patients or
    else its sections, differ from each other.
    """

    look: Look
    held_out: np.ndarray
    """Distances of reference spots, each by a look that was learned without its group, ascending (n_held_out,)."""
    names: tuple[str, ...] = ()
    """Names of the features; none where they have none."""

    @classmethod
    def of_reference(
        cls,
        features: np.ndarray,
        *,
        groups: np.ndarray,
        sections: np.ndarray | None = None,
        names: Sequence[str] = (),
        on_components: bool = False,
    ) -> Self:
        """Learn the look of a reference.

        Parameters
        ----------
        features
            Image features of its spots (n, n_features), not standardised.
        groups
            The patient of each spot, or its section, or its part of a section (n,).
        sections
            The section of each spot (n,); None where all are of one.
        names
            Names of the features, where they mean something.
        on_components
            Whether the distance is taken on the first principal components. Features of networks are many and depend
            on each other. So few spots do not tell a covariance of all of them.
        """
        if sections is None:
            sections = np.zeros(len(features), dtype=np.int64)
        groups, sections = (np.unique(labels.astype(str), return_inverse=True)[1] for labels in (groups, sections))
        rows = _some(groups)
        groups = _to_leave_out(groups[rows])
        features, sections = features[rows], sections[rows]
        left_out = [own for own in (groups == group for group in np.unique(groups)) if _leaves_enough(own)]
        n_axes = None
        if on_components:  # as many in each, else the distances were not alike
            fewest = min(len(own) - int(own.sum()) for own in left_out)
            n_axes = min(_MOST_AXES, max(1, fewest // _SPOTS_OF_AN_AXIS))
        held_out = []
        for own in left_out:
            others = Look.learn(features[~own], sections[~own], n_axes=n_axes)
            held_out.append(others.distances(features[own]))
        look = Look.learn(features, sections, n_axes=n_axes)
        distances = np.sort(np.concatenate(held_out)).astype(np.float32)
        return cls(look, distances, tuple(names))

    @property
    def usual(self) -> float:
        """The distance that 95 % of the reference's held-out spots stay within."""
        return float(np.quantile(self.held_out, 0.95))

    def p_values(self, distances: np.ndarray) -> np.ndarray:
        """Compute the share of reference spots that lie as far or farther (n,), the spot itself among them."""
        nearer = np.searchsorted(self.held_out.astype(np.float64), distances, side="left")
        return np.asarray((1 + len(self.held_out) - nearer) / (len(self.held_out) + 1))

    def relative(self, distances: np.ndarray) -> float:
        """Compute the median distance over the usual one."""
        return float(np.median(distances)) / max(self.usual, _TINY)

    def moved(self, features: np.ndarray) -> np.ndarray:
        """Compute how far the median of each feature lies from the reference's mean, in its spreads (n_features,)."""
        median = np.median(features, axis=0).astype(np.float64)
        return np.asarray((median - self.look.center) / self.look.scale)

    def named(self, moved: np.ndarray, n: int = 3) -> list[tuple[str, float]]:
        """List the features that moved most, by name; none where they have no names.

        Names say first which view of the crop a feature is of. What is of one kind moves together in all views, so each
        kind is listed once.
        """
        listed: dict[str, tuple[str, float]] = {}
        for feature in np.argsort(-np.abs(moved), kind="stable") if self.names else ():
            name = self.names[feature]
            if len(listed) < n and moved[feature]:
                listed.setdefault(name.partition("_")[2], (name, float(moved[feature])))
        return list(listed.values())


def _some(groups: np.ndarray) -> np.ndarray:
    """Choose rows evenly from all groups, all rows where they are few enough."""
    if len(groups) <= _MOST_SPOTS:
        return np.arange(len(groups))
    by_group = np.argsort(groups, kind="stable")
    return np.sort(by_group[np.linspace(0, len(groups) - 1, _MOST_SPOTS).astype(np.int64)])


def _to_leave_out(groups: np.ndarray) -> np.ndarray:
    """Join many groups to a few; make parts of neighbouring rows where most spots could not be left out so."""
    groups = groups % _MOST_GROUPS
    if 2 * sum(own.sum() for own in (groups == group for group in set(groups)) if _leaves_enough(own)) < len(groups):
        return np.arange(len(groups)) * _PARTS // len(groups)
    return groups


def _leaves_enough(own: np.ndarray) -> bool:
    """Whether the spots beside a group are a quarter at least: a few would say of most others that they are far."""
    return 4 * int((~own).sum()) >= len(own)


def _scaled(features: np.ndarray, center: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return np.arcsinh((features.astype(np.float64) - center) / scale)


def _whitened(scaled: np.ndarray, varies: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Make axes along which the features vary alike and independently, by a shrunk covariance of all of them."""
    axes = np.zeros((int(varies.sum()), len(varies)))
    if len(axes):
        with python_random_state_kept():
            from sklearn.covariance import ledoit_wolf
        covariance = ledoit_wolf(scaled[:, varies], assume_centered=True)[0]
        variances, directions = np.linalg.eigh(covariance)
        variances = np.maximum(variances, _FLAT * variances.mean())
        axes[:, varies] = (directions / np.sqrt(variances)).T
    return axes, np.array([0, np.inf])


def _components(scaled: np.ndarray, varies: np.ndarray, n_axes: int) -> tuple[np.ndarray, np.ndarray]:
    """Make axes of the first principal components, and say how much of a spot usually lies beside them."""
    n_axes = min(n_axes, int(varies.sum()))
    if not n_axes:
        return np.zeros((0, len(varies))), np.array([0, np.inf])
    with python_random_state_kept():
        from sklearn.decomposition import PCA
    found = PCA(n_axes, random_state=0).fit(scaled)
    spread = np.sqrt(np.maximum(found.explained_variance_, _FLAT * found.explained_variance_.max() + _TINY))
    axes = found.components_ / spread[:, None]
    if n_axes == varies.sum():
        return axes, np.array([0, np.inf])
    rest = _log_rest(scaled, scaled @ axes.T, axes)
    return axes, np.array([rest.mean(), max(rest.std(), 0.01)])


def _log_rest(scaled: np.ndarray, places: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Compute the log of how far spots lie beside orthogonal axes (n,).

    Blur and compression change what the first components do not see. As one number it counts as one axis does.
    """
    along = np.square(places) / np.maximum(np.square(axes).sum(axis=1), _TINY)
    rest = np.square(scaled).sum(axis=1) - along.sum(axis=1)
    return np.asarray(np.log(np.maximum(rest, _TINY)) / 2)
