import numpy as np
import pytest
from scipy.ndimage import label, maximum_filter

from bleep_sc.models.encoders.color.blobs import blob_areas, count_peaks, describe_areas


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("shape", [(1, 1), (3, 17), (40, 40)])
def test_blobs_touch_by_corners(share: float, shape: tuple[int, int]) -> None:
    mask = np.random.default_rng(0).random(shape) < share
    labels, _ = label(mask, structure=np.ones((3, 3)))
    np.testing.assert_array_equal(np.sort(blob_areas(mask)), np.sort(np.bincount(labels.ravel())[1:]))


@pytest.mark.parametrize("levels", [3, 1000])
def test_peaks(levels: int) -> None:
    rng = np.random.default_rng(levels)
    image = rng.integers(0, levels, (30, 41)).astype(np.float32)
    mask = rng.random(image.shape) < 0.7
    right = (image == maximum_filter(image, size=5, mode="nearest")) & mask
    assert count_peaks(image, mask, 2) == right.sum()


def test_areas_are_described() -> None:
    areas = np.array([9.0, 3, 4, 100])
    large = np.array([9.0, 4, 100])
    right = 3, np.log(large.mean()), np.log(large).std(), np.log((large**2).sum() / large.sum())
    np.testing.assert_allclose(describe_areas(areas, 4), right)
    assert describe_areas(areas, 200) == (0, 0, 0, 0)
