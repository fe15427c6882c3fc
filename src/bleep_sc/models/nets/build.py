"""A model from its description: plain values, which a stored config holds, and no class named by a file."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from bleep_sc.models.encoders.networks import build_network
from bleep_sc.models.nets.bleep import Bleep
from bleep_sc.models.nets.heads import regression_head
from bleep_sc.models.nets.histogene import HisToGene
from bleep_sc.models.nets.hybrid import Hybrid
from bleep_sc.models.nets.projection import Standardize
from bleep_sc.models.nets.regressor import Regressor

Spec = Mapping[str, Any]

_HYBRID = (
    *("n_image_features", "n_features", "n_genes", "n_components", "n_landmarks"),
    *("members", "dim", "hidden", "dropout", "temperature"),
)


class FeatureSpace(nn.Module):
    """Image features as they are: what retrieval without any training compares."""

    def __init__(self, image_encoder: nn.Module, width: int) -> None:
        super().__init__()
        self.width = width
        self.image_encoder = image_encoder

    def embed_image(self, images: Tensor) -> Tensor:
        """Crops uint8 (n, y, x, 3), or features (n, n_features), to (n, n_features)."""
        features: Tensor = self.image_encoder(images)
        return features


def build_model(spec: Spec, *, weights: Any = None) -> nn.Module:
    """Build the model that `spec` describes, with fresh weights.

    ``spec["kind"]`` is ``"bleep"``, ``"hybrid"``, ``"regressor"``, ``"histogene"`` or ``"features"``. HisToGene reads
    crops, and the hybrid features of spots in their sections. All others have an image encoder: ``encoder`` (the name
    of a network, whose first weights are `weights`, or ``None`` where the input is features), ``image_size`` and
    ``n_image_features`` (of whichever applies), and ``standardize``, whether features are brought to mean 0 and
    variance 1.
    """
    kind = spec["kind"]
    if kind == "histogene":
        return HisToGene(**_pick(spec, "image_size", "n_genes", "dim", "depth", "dropout"))
    if kind == "hybrid":
        return Hybrid(**_pick(spec, *_HYBRID))
    encoder, n_features = _image_encoder(spec, weights)
    if kind == "bleep":
        sizes = _pick(spec, "n_genes", "dim", "dropout", "temperature")
        return Bleep(encoder, n_image_features=n_features, **sizes)
    if kind == "regressor":
        head = regression_head(n_features, spec["n_genes"], **_pick(spec, "hidden", "rank", "dropout"))
        return Regressor(encoder, head, **_pick(spec, "loss", "symmetries"))
    if kind == "features":
        return FeatureSpace(encoder, n_features)
    msg = f"unknown kind of model {kind!r}"
    raise ValueError(msg)


def _image_encoder(spec: Spec, weights: Any) -> tuple[nn.Module, int]:
    parts: list[nn.Module] = []
    n_features = spec["n_image_features"]
    if spec["encoder"] is not None:
        network = build_network(spec["encoder"], image_size=spec["image_size"], weights=weights)
        parts, n_features = [network], network.n_features
    if spec["standardize"]:
        parts.append(Standardize(n_features))
    return (parts[0] if len(parts) == 1 else nn.Sequential(*parts)), n_features


def _pick(spec: Spec, *names: str) -> dict[str, Any]:
    return {name: spec[name] for name in names}
