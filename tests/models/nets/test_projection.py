import numpy as np
import pytest
import torch

from bleep_sc.models.nets.projection import ProjectionHead, Standardize


@pytest.mark.usefixtures("torch_seeded")
def test_head_has_the_parameters_of_the_paper() -> None:
    head = ProjectionHead(3467)
    # two Linear layers with bias and a LayerNorm
    assert sum(p.numel() for p in head.parameters()) == (3467 * 256 + 256) + (256 * 256 + 256) + 2 * 256


@pytest.mark.usefixtures("torch_seeded")
def test_head_equals_the_formula() -> None:
    head = ProjectionHead(7, dim=5).eval()
    x = torch.randn(3, 7, generator=torch.Generator().manual_seed(0))
    state = {n: v.double().numpy() for n, v in head.state_dict().items()}
    projected = x.double().numpy() @ state["projection.weight"].T + state["projection.bias"]
    from scipy.stats import norm

    hidden = projected * norm.cdf(projected) @ state["hidden.weight"].T + state["hidden.bias"]
    total = hidden + projected
    expected = (total - total.mean(1, keepdims=True)) / np.sqrt(total.var(1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(head(x).detach().numpy(), expected, atol=1e-5)


def test_standardize_learns_mean_and_spread() -> None:
    rng = np.random.default_rng(0)
    features = torch.from_numpy(rng.normal(5, 3, size=(200, 4)).astype(np.float32))
    features[:, 2] = 7.0
    layer = Standardize(4)
    layer.learn(features)
    out = layer(features).numpy()
    np.testing.assert_allclose(out.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(out.std(0)[[0, 1, 3]], 1, atol=1e-4)
    assert np.isfinite(out).all()
