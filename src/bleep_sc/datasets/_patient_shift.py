"""How patients of toy tissue are moved apart: in stain, in the level of each gene and in depth."""

from dataclasses import dataclass

import numpy as np

from bleep_sc.datasets._tissue import Stain

STRENGTH_SPREAD, VECTOR_SPREAD, BATCH_SPREAD = 0.5, 0.4, 0.75
"""Standard deviations, at a shift of 1, of the logarithms of stain strength, stain vectors and gene-wise levels."""
MOST_SHADE = 2.0
"""The highest power, at a shift of 1, by which the background's shade deepens."""
DEPTH_FACTOR = 5.0
"""The factor, at a shift of 1, by which every second patient has fewer counts."""
_STREAM = 0x5417
"""Sets the random numbers of shifts apart from those of the tissue, which stay what they are without a shift."""


@dataclass(frozen=True)
class PatientShift:
    """The shift of one patient, on top of the small differences that all patients have."""

    strength: np.ndarray
    """Factors of the strength of haematoxylin and of eosin (2,)."""
    vectors: np.ndarray
    """Factors of the absorption of each stain in red, green and blue (2, 3)."""
    shade: np.ndarray
    """Powers of the background's colour (3,)."""
    batch: np.ndarray
    """What is added to the log-level of each gene (n_genes,)."""
    depth: float
    """Factor of the expected counts of a spot."""

    @classmethod
    def draw(cls, by: float, *, patient: int, n_genes: int, seed: int) -> "PatientShift":
        """Draw the shift of a patient, who is counted from 0; `by` 0 shifts nothing, whatever is drawn."""
        rng = np.random.default_rng([seed, _STREAM, patient])
        return cls(
            strength=np.exp(by * rng.normal(0, STRENGTH_SPREAD, size=2)),
            vectors=np.exp(by * rng.normal(0, VECTOR_SPREAD, size=(2, 3))),
            shade=1 + by * rng.uniform(0, MOST_SHADE, size=3),
            batch=by * rng.normal(0, BATCH_SPREAD, size=n_genes),
            depth=DEPTH_FACTOR ** (-by * (patient % 2)),
        )

    def of_stain(self, stain: Stain) -> Stain:
        """Shift a stain."""
        return Stain(stain.strength * self.strength, stain.vectors * self.vectors, stain.background**self.shade)
