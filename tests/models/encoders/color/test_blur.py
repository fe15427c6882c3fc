import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from bleep_sc.models.encoders.color.blur import blur


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (3, 5), (7, 4), (20, 31), (112, 112)])
def test_blurs_have_the_bits_of_scipy(shape: tuple[int, int]) -> None:
    images = np.random.default_rng(0).random((2, *shape), dtype=np.float32)
    sigmas = (0.7, 1.0, 2.8, 6.0)
    blurred = blur(images, *sigmas)
    assert blurred.shape == (2, 4, *shape)
    for number, sigma in enumerate(sigmas):
        right = gaussian_filter(images, (0, sigma, sigma), truncate=3)
        np.testing.assert_array_equal(blurred[:, number], right)
