import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from plain_color import plain_features

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


def assert_plain(crops: np.ndarray) -> None:
    """Compare with the plain statement of each feature.

    Only what counts pixels beyond a threshold may be a pixel off: the plain statement's last bit is the machine's.
    """
    plain = plain_features(crops)
    assert list(plain) == feature_names()
    found = color_features(crops)
    for name, values in zip(feature_names(), found.T, strict=True):
        tolerance = 1e-3 if name.partition("_")[2].startswith(("nuclei", "dark", "peak")) else 3e-5
        np.testing.assert_allclose(values, plain[name], rtol=tolerance, atol=tolerance, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 7, 8, 13, 32, 33, 64, 111, 112, 113, 224, 225, 300])
def test_values_are_those_of_the_plain_statement(size: int) -> None:
    noise = np.random.default_rng(size).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    assert_plain(np.concatenate([tissue(2, size, seed=size), noise]))


@pytest.mark.parametrize("size", [1, 2, 5, 16, 97])
def test_values_of_few_colours(size: int) -> None:
    crops = np.full((5, size, size, 3), 255, dtype=np.uint8)
    crops[1] = 0
    crops[2] = 235, 130, 200
    crops[3, 0, 0] = 254  # all but white
    crops[4, size // 2 :] = 90, 70, 150
    assert_plain(crops)


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (90, 70, 150), (235, 130, 200)])
def test_one_colour_has_the_same_features_at_every_size(colour: tuple[int, int, int]) -> None:
    """Also where a crop is shrunk by a ratio that is no whole number, and rounding could make a texture of nothing."""
    crops = {size: np.full((1, size, size, 3), colour, dtype=np.uint8) for size in (16, 113, 145, 224, 300)}
    small = color_features(crops.pop(16))
    for crop in crops.values():
        np.testing.assert_allclose(color_features(crop), small, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [22, 64, 109, 145])
def test_values_of_real_tissue(size: int, real_data: Path) -> None:
    from PIL import Image

    with Image.open(real_data / "mob2k" / "MOB1.jpg") as picture:
        image = np.asarray(picture.convert("RGB"))
    places = np.random.default_rng(size).integers(500, 1300, (12, 2))
    assert_plain(np.stack([image[y : y + size, x : x + size] for y, x in places]))


def test_a_crop_is_described_by_itself() -> None:
    crops = tissue(70, 32)
    together = color_features(crops)
    np.testing.assert_array_equal(color_features(crops[[69, 3]]), together[[69, 3]])


@pytest.mark.parametrize("n_threads", [2, 5])
def test_threads_change_no_bit(n_threads: int) -> None:
    crops = tissue(9, 130)
    torch.set_num_threads(1)
    alone = color_features(crops)
    torch.set_num_threads(n_threads)
    np.testing.assert_array_equal(color_features(crops), alone)


def test_views_of_arrays() -> None:
    """Arrays that are not to be written to, turned, or parts of larger ones."""
    crops = tissue(4, 33)
    whole = np.zeros((8, 40, 40, 3), dtype=np.uint8)
    whole[::2, 3:36, 3:36] = crops
    whole.flags.writeable = False
    np.testing.assert_array_equal(color_features(whole[::2, 3:36, 3:36]), color_features(crops))
    turned = crops[:, ::-1].transpose(0, 2, 1, 3)
    np.testing.assert_array_equal(color_features(turned), color_features(turned.copy()))


def test_no_crops() -> None:
    assert color_features(np.zeros((0, 16, 16, 3), dtype=np.uint8)).shape == (0, len(feature_names()))


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


def test_within_tasks_of_dask() -> None:
    import dask

    crops = tissue(6, 32)
    tasks = [dask.delayed(color_features)(crops[i : i + 2]) for i in range(0, 6, 2)]
    found = dask.compute(*tasks, scheduler="threads", num_workers=3)
    np.testing.assert_array_equal(np.concatenate(found), color_features(crops))


FORKED = """
import multiprocessing
import warnings
import numpy as np
from bleep_sc.models.encoders.color import color_features

warnings.simplefilter("ignore")  # newer Pythons doubt forks of a process with threads
crops = np.random.default_rng(0).integers(0, 256, (6, 24, 24, 3), dtype=np.uint8)
here = color_features(crops)
with multiprocessing.get_context("fork").Pool(2) as pool:
    there = pool.map(color_features, [crops[:3], crops[3:]])
np.testing.assert_array_equal(np.concatenate(there), here)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system starts processes anew")
def test_in_forked_processes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", FORKED], check=True, cwd=tmp_path, timeout=120)
