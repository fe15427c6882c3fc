import torch
from torch import Tensor

N_SYMMETRIES = 8
"""Flips and quarter turns of a square: tissue has no up."""


def symmetry(images: Tensor, which: int) -> Tensor:
    """Turn images (n, y, x, channels) by `which % 4` quarter turns, mirrored first where `which >= 4`."""
    if which >= 4:
        images = images.flip(2)
    return images.rot90(which % 4, dims=(1, 2))


def turn_each(images: Tensor, which: Tensor) -> Tensor:
    """Give every image its own symmetry: `which` holds n numbers in 0..7, on the CPU so that nothing waits for them."""
    turned = torch.empty_like(images)
    for number in range(N_SYMMETRIES):
        rows = (which == number).nonzero().squeeze(1).to(images.device, non_blocking=True)
        if len(rows):
            turned[rows] = symmetry(images[rows], number)
    return turned
