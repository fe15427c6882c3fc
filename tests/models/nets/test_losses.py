from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

from bleep_sc.models.nets.losses import bleep_loss, info_nce


def loss_of_the_paper(image: np.ndarray, spot: np.ndarray, temperature: float) -> float:
    """The formula of the paper, spot by spot, in float64."""
    n = len(image)
    logits = np.array([[spot[i] @ image[j] / temperature for j in range(n)] for i in range(n)])
    similarity = np.array([[(image[i] @ image[j] + spot[i] @ spot[j]) / 2 for j in range(n)] for i in range(n)])
    targets = softmax(similarity / temperature, axis=1)
    total = 0.0
    for i in range(n):
        total += -sum(targets[i] * log_softmax(logits[i])) / 2
        total += -sum(targets[:, i] * log_softmax(logits[:, i])) / 2
    return total / n


@pytest.mark.parametrize("temperature", [1.0, 0.3, 10.0])
@pytest.mark.parametrize("n", [1, 2, 17])
def test_equals_the_formula(n: int, temperature: float) -> None:
    rng = np.random.default_rng(n)
    image, spot = rng.normal(size=(2, n, 8))
    ours = bleep_loss(torch.from_numpy(image), torch.from_numpy(spot), temperature)
    assert float(ours) == pytest.approx(loss_of_the_paper(image, spot, temperature), abs=1e-6)


def test_constant_embeddings_give_the_logarithm_of_the_batch() -> None:
    same = torch.ones(64, 256)
    assert float(bleep_loss(same, same)) == pytest.approx(np.log(64), abs=1e-5)


def test_gradients_flow_through_the_targets() -> None:
    rng = np.random.default_rng(0)
    image = torch.from_numpy(rng.normal(size=(5, 4))).requires_grad_()
    spot = torch.from_numpy(rng.normal(size=(5, 4))).requires_grad_()
    assert torch.autograd.gradcheck(bleep_loss, (image, spot), eps=1e-6)


def contrast_spot_by_spot(image: np.ndarray, spot: np.ndarray, temperature: float) -> float:
    """InfoNCE both ways: how surely each spot finds its own partner among all, in float64."""
    n = len(image)
    cosine = np.array([[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in image] for a in spot])
    total = 0.0
    for i in range(n):
        total -= np.log(np.exp(cosine[i, i] / temperature) / sum(np.exp(cosine[i, j] / temperature) for j in range(n)))
        total -= np.log(np.exp(cosine[i, i] / temperature) / sum(np.exp(cosine[j, i] / temperature) for j in range(n)))
    return total / (2 * n)


@pytest.mark.parametrize("temperature", [1.0, 0.1, 10.0])
@pytest.mark.parametrize("n", [1, 2, 17])
def test_info_nce_equals_the_formula(n: int, temperature: float) -> None:
    rng = np.random.default_rng(n)
    image, spot = rng.normal(size=(2, n, 8)) * rng.uniform(0.1, 10, size=(2, n, 1))
    ours = info_nce(torch.from_numpy(image), torch.from_numpy(spot), temperature)
    assert float(ours) == pytest.approx(contrast_spot_by_spot(image, spot, temperature), abs=1e-6)


def test_info_nce_is_low_where_partners_meet_and_has_gradients() -> None:
    rng = np.random.default_rng(0)
    image, spot = (torch.from_numpy(rng.normal(size=(5, 4))).requires_grad_() for _ in range(2))
    assert torch.autograd.gradcheck(lambda a, b: info_nce(a, b, 0.5), (image, spot), eps=1e-6)
    assert info_nce(image, image) < info_nce(image, spot)
    assert info_nce(image, image.flip(0)) > info_nce(image, spot)


@pytest.mark.parametrize("loss", [bleep_loss, info_nce])
def test_mixed_precision_rounds_no_loss(loss: Callable[..., torch.Tensor]) -> None:
    """Embeddings in float32 keep their digits: products of some hundreds in bfloat16 are whole numbers."""
    rng = np.random.default_rng(0)
    image, expression = (torch.from_numpy(rng.normal(size=(20, 256)).astype(np.float32)) for _ in range(2))
    exact = loss(image.double(), expression.double(), 0.5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss(image, expression, 0.5)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-5)
