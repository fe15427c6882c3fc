"""The models that predict component scores from image features: retrieval in a joint space, and two regressions.

Each encoder has a joint space and regressions of its own. Their spaces stand side by side, as the members of one space
do, so that the cosine between two spots is the mean of the encoders' cosines.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bleep_sc._blocks import dense
from bleep_sc.methods.hybrid.blend import Setting, Shares
from bleep_sc.methods.hybrid.components import Centers, Components
from bleep_sc.methods.hybrid.kernel_ridge import KernelProblem, KernelRidge, predict_by_each
from bleep_sc.methods.learning.network import seeded
from bleep_sc.methods.learning.ridge_regression import Ridge, fit_ridge
from bleep_sc.models.device import Compute
from bleep_sc.models.inference import embed_in_batches
from bleep_sc.models.nets.fused import side_by_side
from bleep_sc.models.nets.hybrid import half_whitened
from bleep_sc.models.nets.joint import JointArguments, JointSpace
from bleep_sc.models.search.averaging import average_profiles
from bleep_sc.models.search.nearest import nearest
from bleep_sc.models.search.weighting import neighbor_weights
from bleep_sc.models.train.batches import Batches
from bleep_sc.models.train.checkpoints import Checkpoints
from bleep_sc.models.train.history import History
from bleep_sc.models.train.loop import Optimization, train
from bleep_sc.models.train.randomness import own_generator

RETRIEVAL: tuple[Setting, ...] = ((25,), (50,), (100,), (200,))
"""The settings of retrieval to choose from: numbers of neighbours."""
LINEAR: tuple[Setting, ...] = ((100, 5), (300, 5), (1000, 5), (3000, 5))
KERNEL: tuple[Setting, ...] = ((0.1, 5), (0.3, 5), (1, 5), (0.1, 8), (0.3, 8), (1, 8))
"""The settings of the regressions to choose from: penalty and number of components, not counting depth.

Images tell so little of the later components that regressing them adds noise.
"""

_EPOCHS, _MOST_SPOTS_SEEN_SO_OFTEN = 100, 20_000
"""Epochs of training, and the most spots for which there are so many; a step costs the same, however many there are."""


@dataclass(frozen=True)
class LearnedSpots:
    """The spots that the models learn from, as arrays."""

    features: Sequence[np.ndarray]
    """The image features of each encoder as seen in their section, float32 (n, n_features)."""
    expression: Any
    """Measured expression, float32 (n, n_genes), dense or CSR."""
    sections: np.ndarray | None
    depth: np.ndarray | None
    """The logarithm of each spot's total counts (n,); None where these are not known."""

    def at_rows(self, rows: np.ndarray) -> "LearnedSpots":
        """Select the spots of some rows, with dense expression."""
        return LearnedSpots(
            [features[rows] for features in self.features],
            dense(self.expression[rows]),
            None if self.sections is None else self.sections[rows],
            None if self.depth is None else self.depth[rows],
        )


@dataclass(frozen=True)
class EncoderModels:
    """The joint space and the regressions that are learned from the features of one encoder."""

    space: JointSpace
    history: History
    features: np.ndarray
    """The features of the spots that were learned from (n, n_features)."""
    scores: np.ndarray
    """The scores of these spots on components of expression (n, n_components)."""
    compute: Compute
    seed: int

    @classmethod
    def learn(
        cls,
        features: np.ndarray,
        scores: np.ndarray,
        recipe: Any,
        *,
        compute: Compute,
        seed: int,
        announce: bool,
        checkpoints: Checkpoints | None,
    ) -> "EncoderModels":
        """Train the space; with `announce`, log how long that will take."""
        inputs = _inputs(scores)
        batches = Batches(features, inputs, np.arange(len(scores)), batch_size=recipe.batch_size, seed=seed)
        optimization = Optimization(
            lr=recipe.lr,
            weight_decay=recipe.weight_decay,
            max_epochs=recipe.max_epochs or _epochs(len(scores)),
            patience=0,
        )
        arguments = JointArguments.filled(recipe, n_features=features.shape[1], n_components=scores.shape[1])
        with seeded(compute, seed):
            space = JointSpace(arguments)
            space.random = own_generator(compute.device)
        history = train(
            space,
            batches,
            None,
            optimization=optimization,
            compute=compute,
            announce=announce,
            checkpoints=checkpoints,
            random=space.random,
        )
        history.train_loss = [loss / recipe.members for loss in history.train_loss]
        return cls(space, history, features, scores, compute, seed)

    def linear(self, setting: Setting) -> Ridge:
        """Fit a ridge regression from features to the first components."""
        alpha, rank = setting
        return fit_ridge(self.features, first(self.scores, rank), alpha=alpha)

    def kernel(self, settings: Sequence[Setting]) -> dict[Setting, KernelRidge]:
        """Fit a kernel ridge regression from features to the first components, for each setting."""
        problem = KernelProblem(self.features, self.scores, seed=self.seed)
        solved = {alpha: problem.solve(alpha) for alpha in {setting[0] for setting in settings}}
        return {setting: solved[setting[0]].first(setting[1]) for setting in settings}

    def regress(
        self, features: np.ndarray, settings: Mapping[str, Sequence[Setting]]
    ) -> dict[str, dict[Setting, np.ndarray]]:
        """Predict the scores (n, n_components) of new spots, by regression and setting."""
        return {
            "linear": {setting: self.linear(setting).predict(features) for setting in settings["linear"]},
            "kernel": predict_by_each(self.kernel(settings["kernel"]), features),
        }

    def embedded(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Embed the images of new spots, and the expression of the spots that were learned from."""
        space, inputs = self.space.to(self.compute.device), _inputs(self.scores)
        return (
            embed_in_batches(space.embed_image, features, compute=self.compute, desc="Embedding images"),
            embed_in_batches(space.embed_expression, inputs, compute=self.compute, desc="Embedding expression"),
        )


@dataclass(frozen=True)
class ComponentModels:
    """The components of expression, and what each encoder tells of them, learned from the same spots."""

    components: Components
    centers: Centers
    scores: np.ndarray
    """The scores of the spots on the components (n, n_components)."""
    encoders: Sequence[EncoderModels]

    @classmethod
    def learn(
        cls,
        spots: LearnedSpots,
        recipe: Any,
        *,
        compute: Compute,
        seed: int,
        announce: bool,
        checkpoints: Callable[[str], Checkpoints | None],
    ) -> "ComponentModels":
        """Find the components and train the space of each encoder; `checkpoints` gives those of a training by name."""
        expression, sections, depth = spots.expression, spots.sections, spots.depth
        components = Components.learn(expression, sections, n_components=recipe.n_components, seed=seed, depth=depth)
        scores, centers = components.scores(expression, sections, depth=depth)
        several = len(spots.features) > 1
        encoders = [
            EncoderModels.learn(
                features,
                scores,
                recipe,
                compute=compute,
                seed=seed,
                announce=announce and number == 1,
                checkpoints=checkpoints(f"-encoder{number}" if several else ""),
            )
            for number, features in enumerate(spots.features, 1)
        ]
        return cls(components, centers, scores, encoders)

    @property
    def spread(self) -> np.ndarray:
        """The standard deviation of each component's scores (n_components,)."""
        return np.asarray(self.scores.std(axis=0))

    @property
    def history(self) -> History:
        """The mean loss of the encoders, by epoch."""
        losses = zip(*(encoder.history.train_loss for encoder in self.encoders), strict=True)
        return History([float(np.mean(loss)) for loss in losses], best_epoch=self.encoders[0].history.best_epoch)

    def embedded(self, features: Sequence[np.ndarray], shares: Shares) -> tuple[np.ndarray, np.ndarray]:
        """Embed the images of new spots, and the expression of the spots that were learned from."""
        pairs = [encoder.embedded(own) for encoder, own in zip(self.encoders, features, strict=True)]
        images, profiles = zip(*pairs, strict=True)
        return _joined(images, shares), _joined(profiles, shares)

    def retrieve(
        self, features: Sequence[np.ndarray], possible_shares: Sequence[Shares], neighbors: Sequence[Setting]
    ) -> dict[Shares, dict[Setting, np.ndarray]]:
        """Predict the scores (n, n_components) of new spots by retrieval, by shares and number of neighbours."""
        n = len(self.scores)
        # with fewer spots than the least number all of them are averaged; numbers are the same in each fold
        possible = [int(setting[0]) for setting in neighbors if setting[0] <= n] or [int(neighbors[0][0])]
        pairs = [encoder.embedded(own) for encoder, own in zip(self.encoders, features, strict=True)]
        out: dict[Shares, dict[Setting, np.ndarray]] = {}
        for shares in possible_shares:
            images, profiles = (_joined(of_encoders, shares) for of_encoders in zip(*pairs, strict=True))
            device = self.encoders[0].compute.device
            rows, distances = nearest(images, profiles, min(n, max(possible)), device=device)
            out[shares] = {
                (k,): average_profiles(
                    self.scores, np.ascontiguousarray(rows[:, :k]), neighbor_weights(distances[:, :k], "mean")
                )
                for k in possible
            }
        return out

    @property
    def possible_settings(self) -> dict[str, list[Setting]]:
        """The settings of each regression to choose from; depth, where it is a component, comes on top of them."""
        n_apart = 0 if self.components.depth_unit is None else 1
        settings = {"linear": LINEAR, "kernel": KERNEL}
        return {name: [(alpha, rank + n_apart) for alpha, rank in pairs] for name, pairs in settings.items()}

    def regress(
        self, features: Sequence[np.ndarray], settings: Sequence[Mapping[str, Sequence[Setting]]]
    ) -> list[dict[str, dict[Setting, np.ndarray]]]:
        """Predict the scores (n, n_components) of new spots, for each encoder by regression and setting."""
        of_encoders = zip(self.encoders, features, settings, strict=True)
        return [encoder.regress(own, of_encoder) for encoder, own, of_encoder in of_encoders]


def _epochs(n_spots: int) -> int:
    """Number of epochs where the user names none: of very many spots, each is seen less often."""
    return max(1, min(_EPOCHS, -(-_EPOCHS * _MOST_SPOTS_SEEN_SO_OFTEN // n_spots)))


def first(scores: np.ndarray, rank: float) -> np.ndarray:
    """Copy scores, with all components after the first `rank` set to 0."""
    kept = scores.copy()
    kept[..., int(rank) :] = 0
    return kept


def _joined(embeddings: Sequence[np.ndarray], shares: Shares) -> np.ndarray:
    joined: np.ndarray = side_by_side([torch.from_numpy(embedding) for embedding in embeddings], shares).numpy()
    return joined


def _inputs(scores: np.ndarray) -> np.ndarray:
    spread = torch.from_numpy(scores.std(axis=0))
    inputs: np.ndarray = half_whitened(torch.from_numpy(scores), spread).numpy()
    return inputs
