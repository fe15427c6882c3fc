"""Image features of a spot as seen in its section: standardised there, and followed by those of its neighbours."""

from dataclasses import dataclass, replace

import numpy as np

from bleep_sc._grid import within_reach
from bleep_sc._logging import warn
from bleep_sc._stats import section_rows
from bleep_sc.methods.inputs import Spots
from bleep_sc.methods.task import Trained
from bleep_sc.models.nets.hybrid import Hybrid
from bleep_sc.models.nets.slim import Slim

FEWEST_TO_STANDARDIZE = 30
"""The fewest spots of a section that is standardised by itself.

The mean and spread of a smaller section would be mostly chance, so it is standardised by the reference.
"""


@dataclass(frozen=True)
class SectionView:
    """The average mean and spread of the reference's sections, which serve sections too small for their own."""

    mean: np.ndarray
    """The mean of each feature (n_features,)."""
    scale: np.ndarray
    """The standard deviation of each feature within a section (n_features,)."""
    context_scale: np.ndarray
    """The standard deviation of the neighbours' mean of each standardised feature (n_features,)."""
    n_neighbors: int
    """The number of nearest spots that are averaged; 0 averages none."""

    @classmethod
    def of(cls, model: Hybrid | Slim, n_neighbors: int) -> "SectionView":
        """Read the view that a fitted model stores."""
        stored = (model.feature_mean, model.feature_scale, model.context_scale)
        mean, scale, context_scale = (tensor.cpu().numpy().astype(np.float64) for tensor in stored)
        return cls(mean, scale, context_scale, n_neighbors)

    def at_features(self, columns: slice) -> "SectionView":
        """Select the view of some features."""
        return SectionView(self.mean[columns], self.scale[columns], self.context_scale[columns], self.n_neighbors)

    @classmethod
    def of_standardized(cls, n_features: int) -> "SectionView":
        """Make the view of features in units of the reference, whose mean is 0 and whose spread is 1 there."""
        ones = np.ones(n_features)
        return cls(np.zeros(n_features), ones, ones, n_neighbors=0)

    @classmethod
    def learn(
        cls, features: np.ndarray, *, sections: np.ndarray | None, xy: np.ndarray | None, n_neighbors: int
    ) -> "SectionView":
        """Take the averages over the reference's sections, each weighed by its spots."""
        rows_of_sections = [rows for _, rows in section_rows(sections, len(features))]
        share = np.array([len(rows) for rows in rows_of_sections]) / len(features)
        mean = share @ np.array([features[rows].mean(axis=0, dtype=np.float64) for rows in rows_of_sections])
        scale = _not_zero(share @ np.array([features[rows].std(axis=0, dtype=np.float64) for rows in rows_of_sections]))
        view = cls(mean, scale, np.ones_like(scale), n_neighbors)
        if n_neighbors == 0:
            return view
        spreads = []
        for rows in rows_of_sections:
            standardized = view._standardized(features[rows])
            spreads.append(_mean_of_neighbors(standardized, _places(xy, rows), n_neighbors).std(axis=0))
        return cls(mean, scale, _not_zero(share @ np.array(spreads)), n_neighbors)

    def apply(self, features: np.ndarray, *, sections: np.ndarray | None, xy: np.ndarray | None) -> np.ndarray:
        """Standardise features (n, n_features) section by section and append those of the neighbourhood.

        Returns
        -------
        float32 (n, n_features), or twice as wide where neighbours are looked at.
        """
        out = np.empty((len(features), features.shape[1] * (2 if self.n_neighbors else 1)), dtype=np.float32)
        small = []
        for name, rows in section_rows(sections, len(features)):
            if len(rows) < FEWEST_TO_STANDARDIZE:
                small.append(f"{name!r} ({len(rows)} spots)" if name else f"all {len(rows)} spots")
            as_seen = self._standardized(features[rows])
            if self.n_neighbors:
                around = _mean_of_neighbors(as_seen, _places(xy, rows), self.n_neighbors)
                as_seen = np.hstack([as_seen, _standardized(around, np.zeros_like(self.mean), self.context_scale)])
            out[rows] = as_seen
        if small:
            warn(
                f"image features are standardised within each section, but {small[0]} "
                + (f"and {len(small) - 1} other sections " if len(small) > 1 else "")
                + f"have fewer than {FEWEST_TO_STANDARDIZE} spots, too few to tell a section's own mean and spread: "
                "the reference's are used, so differences in staining remain."
            )
        return out

    def _standardized(self, features: np.ndarray) -> np.ndarray:
        return _standardized(features, self.mean, self.scale)


def see_in_section(trained: Trained, spots: Spots) -> Spots:
    """Make what the model's heads read: features standardised within the section, beside those of the neighbours."""
    view = SectionView.of(trained.model, trained.method_config["context"])
    return replace(spots, rows=view.apply(np.asarray(spots.rows), sections=spots.sections, xy=spots.xy))


def _standardized(values: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Standardise values by the spots' own mean and spread.

    `mean` and `scale` take their place where spots are few; `scale` alone where a feature does not vary.
    """
    values = values.astype(np.float64)
    if len(values) < FEWEST_TO_STANDARDIZE:
        return np.asarray((values - mean) / scale)
    own_scale = values.std(axis=0)
    return np.asarray((values - values.mean(axis=0)) / np.where(own_scale > 1e-3 * scale, own_scale, scale))


def _mean_of_neighbors(values: np.ndarray, xy: np.ndarray, n_neighbors: int) -> np.ndarray:
    """Average values over each spot's nearest other spots; a spot without any stands for its own neighbourhood."""
    if len(values) == 1 or n_neighbors == 0:
        return values
    near = within_reach(xy, n_neighbors)
    return np.asarray((near @ values - values) / (np.diff(near.indptr) - 1)[:, None])


def _places(xy: np.ndarray | None, rows: np.ndarray) -> np.ndarray:
    if xy is None:
        msg = "neighbours are looked for, but there are no places"
        raise ValueError(msg)
    return xy[rows]


def _not_zero(scale: np.ndarray) -> np.ndarray:
    return np.where(scale > 1e-9, scale, 1.0)
