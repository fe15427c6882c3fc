import torch
from torch import Tensor

N_SYMMETRIES = 8
"""Number of flips and quarter turns of a square, all equally valid because tissue has no up."""


def symmetry(images: Tensor, number: int) -> Tensor:
    """Turn images (n, y, x, channels) by `number % 4` quarter turns, mirrored first where `number >= 4`."""
    if number >= 4:
        images = images.flip(2)
    return images.rot90(number % 4, dims=(1, 2))


def turn_each(images: Tensor, turns: Tensor) -> Tensor:
    """Give every image its own symmetry.

    `turns` holds n numbers in 0..7. They are on the CPU, so that nothing waits for a GPU to hand them over.
    """
    # images of one symmetry side by side: one transfer and three copies, whatever the number of symmetries
    sizes = turns.bincount(minlength=N_SYMMETRIES).tolist()
    order = turns.argsort(stable=True).to(images.device, non_blocking=True)
    turned = torch.empty_like(images)
    turned[order] = torch.cat([symmetry(part, number) for number, part in enumerate(images[order].split(sizes))])
    return turned
