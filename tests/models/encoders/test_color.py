import numpy as np
import pytest
import torch

from bleep_sc.models.encoders.color import color_features, feature_names
from bleep_sc.models.train.augment import N_SYMMETRIES, symmetry


def tissue(n: int = 3, size: int = 96, *, radius: float = 4.0, spacing: int = 16, seed: int = 0) -> np.ndarray:
    """Pink ground with purple discs on a jittered grid."""
    rng = np.random.default_rng(seed)
    y, x = np.indices((size, size))
    out = np.empty((n, size, size, 3))
    for image in out:
        image[:] = (0.92, 0.70, 0.82)
        for cy in range(spacing // 2, size, spacing):
            for cx in range(spacing // 2, size, spacing):
                jy, jx = rng.normal(0, spacing / 10, 2)
                image[np.hypot(y - cy - jy, x - cx - jx) < radius] = (0.35, 0.25, 0.55)
    return np.clip(255 * (out + 0.02 * rng.normal(size=out.shape)), 0, 255).astype(np.uint8)


def column(features: np.ndarray, name: str) -> np.ndarray:
    return features[:, feature_names().index(name)]


def test_every_column_has_its_name() -> None:
    names = feature_names()
    assert len(set(names)) == len(names)
    assert color_features(tissue()).shape == (3, len(names))


@pytest.mark.parametrize("size", [16, 33, 64, 97, 224])
def test_turned_crops_have_the_same_features(size: int) -> None:
    crops = torch.from_numpy(tissue(2, size))
    straight = color_features(crops.numpy())
    for number in range(1, N_SYMMETRIES):
        turned = color_features(symmetry(crops, number).contiguous().numpy())
        np.testing.assert_allclose(turned, straight, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("size", [1, 2, 5, 16, 130])
@pytest.mark.parametrize("value", [0, 128, 255])
def test_one_colour_gives_finite_values(size: int, value: int) -> None:
    assert np.isfinite(color_features(np.full((2, size, size, 3), value, dtype=np.uint8))).all()


def test_a_crop_is_described_by_itself() -> None:
    crops = tissue(70, 32)
    together = color_features(crops)
    np.testing.assert_allclose(color_features(crops[[69, 3]]), together[[69, 3]], rtol=1e-5, atol=1e-5)


def test_nuclei_are_counted_and_measured() -> None:
    few_large = color_features(tissue(spacing=24, radius=6.0))
    many_small = color_features(tissue(spacing=12, radius=3.0))
    assert (column(many_small, "whole_nuclei_density") > 1.5 * column(few_large, "whole_nuclei_density")).all()
    assert (column(few_large, "whole_nuclei_size") > column(many_small, "whole_nuclei_size") + np.log(2)).all()
    # (96 / 24)² nuclei of 36 π pixels on 96² pixels
    np.testing.assert_allclose(column(few_large, "whole_nuclei_density") ** 2, 1000 * 16 / 96**2, rtol=0.15)
    np.testing.assert_allclose(np.exp(column(few_large, "whole_nuclei_size")), 36 * np.pi, rtol=0.2)
    # the same share of nuclei in both: mean colour cannot tell them apart
    np.testing.assert_allclose(column(few_large, "whole_red_mean"), column(many_small, "whole_red_mean"), atol=0.02)


def test_fibres_are_coherent() -> None:
    y = np.indices((64, 64))[0]
    stripes = np.repeat((200 + 40 * np.sin(y / 2))[None, :, :, None], 3, axis=3).astype(np.uint8)
    for name in ("whole_coherence1_local", "whole_coherence1_whole"):
        assert column(color_features(stripes), name)[0] > 0.9
    assert column(color_features(tissue()), "whole_coherence1_whole").max() < 0.3


def test_stains_are_told_apart() -> None:
    purple = np.full((1, 32, 32, 3), (90, 70, 150), dtype=np.uint8)
    pink = np.full((1, 32, 32, 3), (235, 130, 200), dtype=np.uint8)
    names = ("whole_haematoxylin_mean", "whole_eosin_mean")
    (purple_h, purple_e), (pink_h, pink_e) = (
        [float(column(color_features(crop), name)[0]) for name in names] for crop in (purple, pink)
    )
    assert purple_h > pink_h + 0.2
    assert pink_e / max(pink_h, 0.01) > purple_e / purple_h


def test_dask_crops() -> None:
    import dask.array as da

    crops = tissue(5, 32)
    np.testing.assert_array_equal(color_features(da.from_array(crops, chunks=(2, 32, 32, 3))), color_features(crops))
