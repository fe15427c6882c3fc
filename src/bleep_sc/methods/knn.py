"""No training at all: measured profiles are averaged over the nearest spots in the space of image features."""

from dataclasses import dataclass
from typing import Any

from bleep_sc.methods.inputs import IMAGES, Needs
from bleep_sc.methods.learning.closed_form import standardized
from bleep_sc.methods.learning.network import encoder_arguments
from bleep_sc.methods.predicting.neighbors import retrieve
from bleep_sc.methods.record import Method, Space
from bleep_sc.methods.task import Fitted, Task
from bleep_sc.models.encoders.registry import COLOR
from bleep_sc.models.nets.arguments import BuiltEncoder
from bleep_sc.models.nets.feature_space import FeatureArguments, FeatureSpace


@dataclass(frozen=True)
class KnnRecipe:
    """Retrieval straight on image features."""

    encoder: Any = COLOR


def _fit(task: Task[KnnRecipe]) -> Fitted:
    """Take the features themselves, standardised, as the space to retrieve in."""
    encoder, features = standardized(task)
    arguments = FeatureArguments(**encoder_arguments(task, standardize=True))
    model = FeatureSpace(BuiltEncoder(encoder, features.shape[1])).eval()
    return Fitted(model, arguments, task.expression.genes, image_embedding=features, seen=features)


METHOD = Method(
    name="knn",
    kinds=(FeatureArguments.kind,),
    presets={"default": KnnRecipe()},
    needs=lambda values: Needs(IMAGES, values.get("encoder")),
    fit=_fit,
    predict=retrieve,
    modes=("retrieval",),
    space=Space(match="image"),
)
