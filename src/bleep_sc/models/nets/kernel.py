import torch
from torch import Tensor, nn


class KernelRegression(nn.Module):
    """A regression by a sum of Gaussian bumps around landmark spots. `tl` solves for the heights of the bumps.

    Parameters
    ----------
    n_landmarks, n_features, n_targets
        Number of landmarks, width of the input and width of the prediction.
    """

    landmarks: Tensor
    coefficients: Tensor
    mean: Tensor
    width: Tensor

    def __init__(self, n_landmarks: int, n_features: int, n_targets: int) -> None:
        super().__init__()
        self.register_buffer("landmarks", torch.zeros(n_landmarks, n_features))
        self.register_buffer("coefficients", torch.zeros(n_landmarks, n_targets))
        self.register_buffer("mean", torch.zeros(n_targets))
        self.register_buffer("width", torch.ones(()))
        """Squared distance at which a bump has fallen to 1/e."""

    def forward(self, features: Tensor) -> Tensor:
        """Predict targets (n, n_targets) from features (n, n_features)."""
        predicted: Tensor = gaussian(features, self.landmarks, self.width) @ self.coefficients + self.mean
        return predicted


def gaussian(a: Tensor, b: Tensor, width: Tensor) -> Tensor:
    """Compute exp(-squared distance / width) between the rows of two matrices."""
    # the plain formula: matrix products cancel digits of small distances
    return torch.exp(-(torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist") ** 2) / width)
