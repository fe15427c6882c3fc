from typing import Any

import numpy as np
import pytest
import torch

from bleep_sc.models.device import resolve_compute
from bleep_sc.models.nets.arguments import BuiltEncoder
from bleep_sc.models.nets.kinds import arguments_of
from bleep_sc.models.nets.regressor import Regressor, RegressorArguments
from bleep_sc.models.train.batches import Batches
from bleep_sc.models.train.loop import Optimization, train


def test_accumulated_gradients_are_the_mean_of_the_batches() -> None:
    """One step on two batches moves the weights by the optimiser's step on their mean gradient."""
    rng = np.random.default_rng(0)
    features, expression = rng.normal(size=(2, 60, 5)).astype(np.float32)
    spec = {"kind": "bleep", "encoder": None, "image_size": None, "n_image_features": 5, "standardize": True}
    spec |= {"n_genes": 5, "dim": 8, "dropout": 0.0, "temperature": 1.0}
    rows = np.arange(60)

    def batches() -> Batches:
        return Batches(features, expression, rows, batch_size=20, seed=0)

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = arguments_of(spec).build()
    by_hand = build_and_copy(model, spec)
    # three batches, two for each step: the second step holds one batch, whose gradient must not be halved
    optimization = Optimization(lr=1e-3, weight_decay=1e-3, max_epochs=1, patience=0, accumulate=2)
    train(model, batches(), batches(), optimization=optimization, compute=resolve_compute(device="cpu"))

    step = torch.optim.AdamW(by_hand.parameters(), lr=1e-3, weight_decay=1e-3)
    first, second, third = batches()
    for group in ([first, second], [third]):
        step.zero_grad()
        torch.stack([by_hand.loss(b) for b in group]).mean().backward()
        step.step()
    for ours, theirs in zip(model.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_losses_of_an_epoch_are_the_mean_over_its_spots() -> None:
    features, expression = np.random.default_rng(0).normal(size=(2, 25, 4)).astype(np.float32)
    arguments = RegressorArguments(
        **{"encoder": None, "image_size": None, "n_image_features": 4, "standardize": False, "n_genes": 4},
        **{"hidden": None, "rank": None, "dropout": 0.0, "loss": "mse", "symmetries": False},
    )
    model = Regressor(arguments, BuiltEncoder(torch.nn.Identity(), 4))
    optimization = Optimization(lr=1e-12, weight_decay=0, max_epochs=2, patience=0)
    # batches of 6, 6 and 5, and of 4 and 4
    parts = [Batches(features, expression, rows, batch_size=6) for rows in (np.arange(17), np.arange(17, 25))]
    history = train(model, *parts, optimization=optimization, compute=resolve_compute(device="cpu"))
    # the head begins at zero, so that the error is the expression itself
    assert history.train_loss == pytest.approx(2 * [np.square(expression[:17]).mean()])
    assert history.validation_loss == pytest.approx(2 * [np.square(expression[17:]).mean()])


def build_and_copy(model: Any, spec: dict[str, Any]) -> Any:
    with torch.random.fork_rng():
        copied = arguments_of(spec).build()
    copied.load_state_dict(model.state_dict())
    return copied
