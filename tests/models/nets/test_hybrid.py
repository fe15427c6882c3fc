from typing import Any

import numpy as np
import pytest
import torch

from bleep_sc.models.nets.hybrid import Hybrid, half_whitened
from bleep_sc.models.nets.kinds import arguments_of
from bleep_sc.models.nets.serialize import model_from_bytes, weights_to_bytes

SPEC: dict[str, Any] = {
    **{"kind": "hybrid", "n_image_features": 5, "n_features": 10, "n_genes": 30, "n_components": 4, "n_landmarks": 8},
    **{"members": 2, "dim": 6, "hidden": 7, "dropout": 0.3, "temperature": 0.1},
}


@pytest.fixture
def hybrid() -> Hybrid:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = arguments_of(SPEC).build()
        for values in model.state_dict().values():
            values.normal_()
        model.kernel.width.fill_(20.0)
        model.spread.abs_()
        # coefficients of many near landmarks are large, and cancel
        model.kernel.coefficients.mul_(50)
    assert isinstance(model, Hybrid)
    return model.eval()


@pytest.fixture
def features() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=(12, 10)).astype(np.float32))


def test_half_whitened_takes_half_of_the_spread_away() -> None:
    rng = np.random.default_rng(0)
    spread = np.array([8.0, 2.0, 0.5])
    scores = rng.normal(size=(5000, 3)) * spread
    found = half_whitened(torch.from_numpy(scores), torch.from_numpy(spread)).numpy()
    np.testing.assert_allclose(found.std(axis=0), np.sqrt(spread / spread.mean()), rtol=0.05)
    # by hand, with a component that does not vary
    one = half_whitened(torch.tensor([[6.0, 0.0]]), torch.tensor([2.0, 0.0]))
    np.testing.assert_allclose(one.numpy(), [[6 / np.sqrt(2.0), 0.0]], rtol=1e-6)


def test_regress_stacks_both_regressions(hybrid: Hybrid, features: torch.Tensor) -> None:
    found = hybrid.regress(features)
    assert found.shape == (12, 2, 4)
    x, weights = features.numpy().astype(np.float64), {n: v.numpy() for n, v in hybrid.state_dict().items()}
    np.testing.assert_allclose(
        found[:, 0].detach(), x @ weights["linear.weight"].T + weights["linear.bias"], rtol=1e-4, atol=1e-4
    )
    square = ((x[:, None] - weights["kernel.landmarks"]) ** 2).sum(axis=2)
    expected = np.exp(-square / 20) @ weights["kernel.coefficients"] + weights["kernel.mean"]
    np.testing.assert_allclose(found[:, 1].detach(), expected, rtol=1e-4, atol=1e-4)


def test_mixed_precision_does_not_round_the_regressions(hybrid: Hybrid, features: torch.Tensor) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = hybrid.regress(features)
    assert torch.equal(rounded, hybrid.regress(features))


def test_expression_goes_in_half_whitened(hybrid: Hybrid) -> None:
    scores = torch.from_numpy(np.random.default_rng(1).normal(size=(6, 4)).astype(np.float32))
    expected = hybrid.space.embed_expression(half_whitened(scores, hybrid.spread))
    assert torch.equal(hybrid.embed_expression(scores), expected)
    assert expected.shape == (6, hybrid.width) == (6, 12)


def test_one_file_holds_it_all(hybrid: Hybrid, features: torch.Tensor) -> None:
    again = model_from_bytes(SPEC, weights_to_bytes(hybrid), where="here")
    for name, values in hybrid.state_dict().items():
        assert torch.equal(again.state_dict()[name], values)
    assert torch.equal(again.embed_image(features), hybrid.embed_image(features))  # type: ignore[operator]
    assert {"loadings", "spread", "feature_mean", "feature_scale", "context_scale"} <= set(hybrid.state_dict())
    lies = {"n_landmarks": [10**9], "members": [3, 10**9], "n_components": [5], "n_image_features": [4]}
    for part, value in ((part, value) for part, values in lies.items() for value in values):
        with pytest.raises(ValueError, match=r"here: the weights do not belong to the config"):
            model_from_bytes(SPEC | {part: value}, weights_to_bytes(hybrid), where="here")
