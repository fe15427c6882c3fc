"""Three models that predict component scores from image features: retrieval in a joint space, and two regressions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bleep_sc.methods.hybrid.blend import Setting
from bleep_sc.methods.hybrid.components import Centers, Components
from bleep_sc.methods.hybrid.kernel_ridge import KernelProblem, KernelRidge, predict
from bleep_sc.methods.learning.network import seeded
from bleep_sc.methods.learning.ridge_regression import Ridge, fit_ridge
from bleep_sc.models.device import Compute
from bleep_sc.models.inference import embed_in_batches
from bleep_sc.models.nets.hybrid import half_whitened
from bleep_sc.models.nets.joint import JointArguments, JointSpace
from bleep_sc.models.search.averaging import average_profiles
from bleep_sc.models.search.nearest import nearest
from bleep_sc.models.search.weighting import neighbor_weights
from bleep_sc.models.train.batches import Batches
from bleep_sc.models.train.checkpoints import Checkpoints
from bleep_sc.models.train.history import History
from bleep_sc.models.train.loop import Optimization, train

RETRIEVAL: tuple[Setting, ...] = ((25,), (50,), (100,), (200,))
"""The settings of retrieval to choose from: numbers of neighbours."""
LINEAR: tuple[Setting, ...] = ((100, 5), (300, 5), (1000, 5), (3000, 5))
KERNEL: tuple[Setting, ...] = ((0.1, 5), (0.3, 5), (1, 5), (0.1, 8), (0.3, 8), (1, 8))
"""The settings of kernel ridge regression to choose from: penalty and number of components.

Images tell so little of the later components that regressing them adds noise.
"""


@dataclass(frozen=True)
class LearnedSpots:
    """The spots that the models learn from, as arrays."""

    features: np.ndarray
    """Image features as seen in their section, float32 (n, n_features)."""
    expression: np.ndarray
    """Measured expression, float32 (n, n_genes)."""
    sections: np.ndarray | None

    def at_rows(self, rows: np.ndarray) -> "LearnedSpots":
        """Select the spots of some rows."""
        return LearnedSpots(
            self.features[rows], self.expression[rows], None if self.sections is None else self.sections[rows]
        )


@dataclass(frozen=True)
class ComponentModels:
    """The joint space, the components and the regressions that are learned from the same spots."""

    components: Components
    centers: Centers
    spread: np.ndarray
    """The standard deviation of each component's scores (n_components,)."""
    space: JointSpace
    history: History
    features: np.ndarray
    scores: np.ndarray
    compute: Compute
    seed: int

    @classmethod
    def learn(
        cls,
        spots: LearnedSpots,
        recipe: Any,
        *,
        compute: Compute,
        seed: int,
        announce: bool,
        checkpoints: Checkpoints | None,
    ) -> "ComponentModels":
        """Find the components and train the space; with `announce`, log how long that will take."""
        components = Components.learn(spots.expression, spots.sections, n_components=recipe.n_components, seed=seed)
        scores, centers = components.scores(spots.expression, spots.sections)
        spread = scores.std(axis=0)
        batches = Batches(
            spots.features,
            _inputs(scores, spread),
            np.arange(len(scores)),
            batch_size=recipe.batch_size,
            seed=seed,
        )
        optimization = Optimization(
            lr=recipe.lr, weight_decay=recipe.weight_decay, max_epochs=recipe.max_epochs, patience=0
        )
        with seeded(compute, seed):
            space = JointSpace(
                JointArguments.filled(recipe, n_features=spots.features.shape[1], n_components=scores.shape[1])
            )
            history = train(
                space,
                batches,
                None,
                optimization=optimization,
                compute=compute,
                announce=announce,
                checkpoints=checkpoints,
            )
        history.train_loss = [loss / recipe.members for loss in history.train_loss]
        return cls(components, centers, spread, space, history, spots.features, scores, compute, seed)

    def linear(self, setting: Setting) -> Ridge:
        """Fit a ridge regression from features to the first components."""
        alpha, rank = setting
        return fit_ridge(self.features, first(self.scores, rank), alpha=alpha)

    def kernel(self, settings: Sequence[Setting]) -> dict[Setting, KernelRidge]:
        """Fit a kernel ridge regression from features to the first components, for each setting."""
        problem = KernelProblem(self.features, self.scores, seed=self.seed)
        solved = {alpha: problem.solve(alpha) for alpha in {setting[0] for setting in settings}}
        return {setting: solved[setting[0]].first(setting[1]) for setting in settings}

    def predict(self, features: np.ndarray) -> dict[str, dict[Setting, np.ndarray]]:
        """Predict the scores (n, n_components) of new spots, by model and setting."""
        return {
            "retrieval": self._retrieve(features),
            "linear": {setting: self.linear(setting).predict(features) for setting in LINEAR},
            "kernel": {setting: predict(ridge, features) for setting, ridge in self.kernel(KERNEL).items()},
        }

    def embedded(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Embed the images of new spots, and the expression of the spots that were learned from."""
        space = self.space.to(self.compute.device)
        return (
            embed_in_batches(space.embed_image, features, compute=self.compute, desc="Embedding images"),
            embed_in_batches(
                space.embed_expression,
                _inputs(self.scores, self.spread),
                compute=self.compute,
                desc="Embedding expression",
            ),
        )

    def _retrieve(self, features: np.ndarray) -> dict[Setting, np.ndarray]:
        n = len(self.scores)
        # with fewer spots than the least number all of them are averaged; numbers are the same in each fold
        possible = [int(setting[0]) for setting in RETRIEVAL if setting[0] <= n] or [int(RETRIEVAL[0][0])]
        images, keys = self.embedded(features)
        rows, distances = nearest(images, keys, min(n, max(possible)), device=self.compute.device)
        return {
            (k,): average_profiles(
                self.scores, np.ascontiguousarray(rows[:, :k]), neighbor_weights(distances[:, :k], "mean")
            )
            for k in possible
        }


def first(scores: np.ndarray, rank: float) -> np.ndarray:
    """Copy scores, with all components after the first `rank` set to 0."""
    kept = scores.copy()
    kept[..., int(rank) :] = 0
    return kept


def _inputs(scores: np.ndarray, spread: np.ndarray) -> np.ndarray:
    inputs: np.ndarray = half_whitened(torch.from_numpy(scores), torch.from_numpy(spread)).numpy()
    return inputs
