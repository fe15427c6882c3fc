"""The decoders of a reference's folds, which turn its out-of-fold scores into expression: how they are stored.

They stay with the reference, whose rows hold the scores. A model that is written to a folder goes without them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bleep_sc.io._bundle import Part, names_from_bytes, names_to_bytes, pack, unpack

if TYPE_CHECKING:
    from bleep_sc.methods.hybrid.components import Decoder
    from bleep_sc.methods.task import OutOfFold

OUT_OF_FOLD = "out_of_fold"
"""The entry of `uns[key]`."""
_PARTS = {
    "genes": Part("uint8", ("characters of genes",)),
    "mean": Part("float32", ("folds", "genes")),
    "loadings": Part("float32", ("folds", "components", "genes")),
    "minimum": Part("float64", ("folds",), finite=False),
}


@dataclass(frozen=True)
class FoldDecoders:
    """The decoders of all folds, for the same genes."""

    genes: np.ndarray
    """Names of the genes (n_genes,)."""
    decoders: "list[Decoder]"
    """The decoder of each fold."""
    trained_on: int | None
    """The number of spots that a fold was trained on where it had more; None where all were."""
    patients: Mapping[str, str]
    """The patient of each section, as the model was fitted; none where they were unknown."""

    @property
    def width(self) -> int:
        """The number of scores of a spot."""
        return int(self.decoders[0].loadings.shape[0])

    def decode(self, scores: np.ndarray, fold: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Turn the scores of spots (n, n_components) into expression float32 (n, len(columns)), each by its fold."""
        out = np.empty((len(scores), len(columns)), dtype=np.float32)
        for number in np.unique(fold):
            rows = fold == number
            out[rows] = self.decoders[number].decode(scores[rows], columns)
        return out


def to_uns(out_of_fold: "OutOfFold", genes: np.ndarray, patients: Mapping[str, str]) -> np.ndarray:
    """Write the decoders as bytes, uint8 (n_bytes,), and the patient of each section."""
    n_folds, width = len(out_of_fold.decoders), out_of_fold.scores.shape[1]
    mean = np.stack([decoder.mean for decoder in out_of_fold.decoders]).astype(np.float32)
    loadings = np.zeros((n_folds, width, len(genes)), dtype=np.float32)
    for fold, decoder in enumerate(out_of_fold.decoders):
        loadings[fold, : len(decoder.loadings)] = decoder.loadings
    minimum = np.array([decoder.minimum for decoder in out_of_fold.decoders], dtype=np.float64)
    arrays = {"genes": names_to_bytes(genes), "mean": mean, "loadings": loadings, "minimum": minimum}
    return pack(arrays, {"trained_on": out_of_fold.trained_on, "patients": dict(patients)})


def from_uns(entry: Mapping[str, Any], *, where: str) -> FoldDecoders | None:
    """Read the decoders from `uns[key]`; None where the model keeps none.

    Raises
    ------
    ValueError
        The bytes are damaged. The message says what is.
    """
    if OUT_OF_FOLD not in entry:
        return None

    from bleep_sc.methods.hybrid.components import Decoder

    path = f"`{where}[{OUT_OF_FOLD!r}]`"
    arrays, record = unpack(entry[OUT_OF_FOLD], _PARTS, where=path)
    genes = names_from_bytes(arrays["genes"], where=path)
    trained_on, patients = record.get("trained_on"), record.get("patients")
    if (
        len(genes) != arrays["mean"].shape[1]
        or not arrays["loadings"].size
        or not (trained_on is None or (type(trained_on) is int and trained_on > 0))
        or (arrays["minimum"] > 0).any()
        or not isinstance(patients, dict)
        or not all(isinstance(patient, str) for patient in patients.values())
    ):
        msg = f"{path}: genes, decoders and record do not go together, so it is damaged. Fit the model again."
        raise ValueError(msg)
    decoders = [
        Decoder(mean, loadings, float(minimum))
        for mean, loadings, minimum in zip(arrays["mean"], arrays["loadings"], arrays["minimum"], strict=True)
    ]
    return FoldDecoders(genes, decoders, trained_on, patients)
