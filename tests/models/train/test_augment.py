import numpy as np
import torch

from bleep_sc.models.train.augment import N_SYMMETRIES, symmetry, turn_each


def test_the_eight_symmetries_differ_and_keep_all_pixels() -> None:
    image = torch.arange(27, dtype=torch.uint8).reshape(1, 3, 3, 3)
    turned = [symmetry(image, number) for number in range(N_SYMMETRIES)]
    assert len({tuple(t.flatten().tolist()) for t in turned}) == 8
    for t in turned:
        assert sorted(t[0].reshape(9, 3).tolist()) == sorted(image[0].reshape(9, 3).tolist())


def test_each_image_gets_its_own_turn() -> None:
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 255, (20, 6, 6, 3), dtype=np.uint8))
    which = torch.from_numpy(rng.integers(0, 8, 20))
    turned = turn_each(images, which)
    for i in range(20):
        assert torch.equal(turned[i], symmetry(images[i : i + 1], int(which[i]))[0])
