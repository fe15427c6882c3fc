"""What several processes make of a batch that they divide, in one process."""

from typing import Any

import numpy as np
import pytest
import torch

from bleep_sc.models.nets.arguments import BuiltEncoder
from bleep_sc.models.nets.losses import bleep_loss
from bleep_sc.models.nets.regressor import Regressor, RegressorArguments
from bleep_sc.models.train.batches import Batches
from bleep_sc.models.train.shares import Share


@pytest.mark.parametrize("loss", ["mse", "stnet"])
def test_losses_of_parts_average_to_that_of_the_whole(loss: Any) -> None:
    """Values and gradients of three uneven parts, whose mean is what DDP makes."""
    rng = np.random.default_rng(0)
    features, expression = (rng.normal(size=(11, width)).astype(np.float32) for width in (3, 5))
    arguments = RegressorArguments(
        **{"encoder": None, "image_size": None, "n_image_features": 3, "standardize": False, "n_genes": 5},
        **{"hidden": None, "rank": None, "dropout": 0.0, "loss": loss, "symmetries": False},
    )
    model = Regressor(arguments, BuiltEncoder(torch.nn.Identity(), 3))

    def loss_and_gradient(rank: int, n_processes: int) -> tuple[float, np.ndarray]:
        batches = Batches(features, expression, np.arange(11), batch_size=11, seed=0)
        if n_processes > 1:
            batches.divide(rank, n_processes)
        (batch,) = batches
        assert len(batch) == 11
        model.zero_grad()
        value = model.loss(batch)
        value.backward()
        return value.item(), model.head[-1].weight.grad.numpy().copy()

    whole, gradient = loss_and_gradient(0, 1)
    parts = [loss_and_gradient(rank, 3) for rank in range(3)]
    assert np.mean([value for value, _ in parts]) == pytest.approx(whole, rel=1e-5)
    np.testing.assert_allclose(np.mean([part for _, part in parts], axis=0), gradient, rtol=1e-5)


def test_gathered_rows_get_the_gradient_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    image, profile = (torch.from_numpy(rng.normal(size=(5, 4))).requires_grad_() for _ in range(2))
    expected = bleep_loss(image, profile)
    expected.backward()
    pieces: list[torch.Tensor] = []

    def all_gather(parts: list[torch.Tensor], own: torch.Tensor) -> None:
        whole = pieces.pop(0).detach()
        for part, rows in zip(parts, (whole[:3], whole[3:]), strict=True):
            assert own.shape == part.shape == (3, 4)
            part[: len(rows)] = rows

    monkeypatch.setattr(torch.distributed, "all_gather", all_gather)
    for rank, rows in enumerate((slice(0, 3), slice(3, 5))):
        share, own = Share.of(np.arange(5), rank, 2)
        assert share.sizes == (3, 2)
        assert own.tolist() == list(range(5))[rows]
        mine = [whole[rows].detach().requires_grad_() for whole in (image, profile)]
        pieces[:] = [image, profile]
        loss = bleep_loss(share.gather(mine[0]), share.gather(mine[1]))
        assert loss.item() == pytest.approx(expected.item())
        loss.backward()
        for part, whole in zip(mine, (image, profile), strict=True):
            # DDP will halve it
            torch.testing.assert_close(part.grad / 2, whole.grad[rows])
