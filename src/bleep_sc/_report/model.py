"""What the model is, in words: from the model in the reference, or from what the prediction has recorded."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from anndata import AnnData

from bleep_sc._report.asked import Asked
from bleep_sc._report.citation import PAPERS
from bleep_sc._report.plain import mapping, text
from bleep_sc._report.records import Model

if TYPE_CHECKING:
    from bleep_sc.io._stored import StoredModel
    from bleep_sc.methods.inputs import InputRecord

_METHODS = {
    "bleep": "The model looks for spots of the reference that look alike, and mixes what was measured there with a "
    "regression.",
    "knn": "The model averages what was measured in spots of the reference whose image features are alike.",
    "ridge": "The model predicts expression from image features by a linear regression.",
    "regressor": "A neural network predicts expression from the picture of each spot.",
    "stnet": "A neural network, ST-Net, predicts expression from the picture of each spot.",
    "histogene": "A neural network, HisToGene, predicts all spots of a slide together.",
    "coordinates": "The model predicts from the place of a spot alone. It does not see the picture.",
    "counts": "The model predicts from the total counts of each spot. It does not see the picture.",
    "mean": "The model predicts the mean of the reference everywhere. It does not see the picture.",
}
_ONLY_AVERAGES = "The model looks for spots of the reference that look alike, and averages what was measured there."


def model_of(asked: Asked) -> Model:
    """Describe the model, as fully as the objects at hand tell."""
    provenance, params = asked.provenance, mapping(asked.provenance.get("params"))
    sha256 = text(provenance.get("model_sha256"))
    method = text(params.get("method"))
    facts: list[tuple[str, str]] = []
    if asked.ref is not None:
        from bleep_sc.io._stored import from_uns

        stored = from_uns(asked.ref.uns, asked.key)
        method, sha256 = stored.config.method, stored.sha256
        facts += _of_stored(asked.ref, stored)
    elif method:
        facts.append(("Method", method))
    facts += _of_prediction(params)
    if (units := units_of(asked)) and not any(name == "Units" for name, _ in facts):
        facts.append(("Units", units))
    says = _METHODS.get(method, "")
    if method == "bleep" and "weights" not in params and params:
        says = _ONLY_AVERAGES
    return Model(tuple(facts), says, sha256)


def units_of(asked: Asked) -> str:
    """The units of the prediction in words; empty where nothing says them."""
    return text(asked.provenance.get("units"))


def is_in_sample(asked: Asked) -> bool:
    """Whether the model has learned from spots that are shown."""
    return bool(np.asarray(asked.provenance.get("in_sample", False)).any())


def papers_of(asked: Asked) -> tuple[str, ...]:
    """The papers to cite: that of the method, where it has one."""
    method = text(mapping(asked.provenance.get("params")).get("method"))
    return tuple(PAPERS[name] for name in (method,) if name in PAPERS)


def _of_stored(ref: AnnData, stored: "StoredModel") -> list[tuple[str, str]]:
    config = stored.config
    reference = ["a slim model, without spots" if config.slim else f"{ref.n_obs:,} spots"]
    for column, noun in ((config.library_key, "section"), (config.patient_key, "patient")):
        if column and column in ref.obs:
            n = int(ref.obs[column].nunique())
            reference.append(f"{n:,} {noun}{'s' * (n != 1)}")
    facts = [
        ("Method", f"{config.method}, preset {config.preset}" if config.preset else config.method),
        ("Reference", ", ".join(reference)),
        ("Learned from", f"{len(stored.genes):,} genes"),
        ("Units", config.units),
        ("What sees the picture", _encoders(config.image)),
    ]
    scale = config.image.scale
    if scale is not None and scale.size_um:
        facts.append(("Tissue that it sees", f"{scale.size_um:.4g} µm wide"))
    facts.append(("Versions", ", ".join(f"{name} {version}" for name, version in config.versions.items())))
    return [(name, value) for name, value in facts if value]


def _encoders(image: "InputRecord") -> str:
    texts = []
    for encoder in image.encoders:
        weights = f", weights {encoder.weights[:12]}…" if encoder.weights else ""
        texts.append(f"{encoder.name} ({encoder.n_features:,} features{weights})")
    return "; ".join(texts) or image.encoder


def _of_prediction(params: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How the layer was predicted."""
    facts = []
    if "k" in params:
        facts.append(("Reference spots averaged", text(params["k"])))
    weights = mapping(params.get("weights"))
    if weights:
        total = sum(map(float, weights.values())) or 1.0
        largest_first = sorted(weights.items(), key=lambda part: -float(part[1]))
        shares = ", ".join(f"{float(share) / total:.0%} {name}" for name, share in largest_first)
        facts.append(("Mixed from", shares))
    if measured := text(params.get("measured")):
        facts.append(("Corrected by measured spots", f"those that obs[{measured!r}] marks"))
    return facts
