import numpy as np
import pytest
from skimage.filters import threshold_otsu

from bleep_sc.models.encoders.color.otsu import otsu_threshold


@pytest.mark.parametrize("seed", range(20))
def test_otsu_is_that_of_scikit_image(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = int(rng.integers(2, 60))
    image = rng.normal(rng.choice([0.1, 0.6], (size, size)), 0.05 + 0.1 * rng.random()).astype(np.float32)
    assert otsu_threshold(image) == threshold_otsu(image, nbins=64)


def test_values_on_the_edges_of_bins() -> None:
    image = (np.arange(65, dtype=np.float32).repeat(np.arange(65) % 5 + 1) / 64)[None]
    assert otsu_threshold(image) == threshold_otsu(image, nbins=64)


def test_one_value() -> None:
    assert otsu_threshold(np.full((3, 3), 0.25, dtype=np.float32)) == 0.25
