import numpy as np
import pytest
import torch

from bleep_sc.models.nets.joint import JointArguments, JointSpace
from bleep_sc.models.nets.losses import info_nce
from bleep_sc.models.train.batches import Batch
from bleep_sc.models.train.randomness import own_generator


def space_of(members: int = 3, *, dropout: float = 0.3) -> JointSpace:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return JointSpace(
            JointArguments(
                n_features=5, n_components=4, members=members, dim=6, hidden=7, dropout=dropout, temperature=0.1
            )
        ).eval()


@pytest.fixture
def batch() -> Batch:
    rng = np.random.default_rng(0)
    return Batch(*(torch.from_numpy(rng.normal(size=(9, width)).astype(np.float32)) for width in (5, 4)))


def by_hand(head: torch.nn.Sequential, rows: torch.Tensor) -> np.ndarray:
    """A head without dropout: linear, GELU, linear; float64."""
    first, second = (part for part in head if isinstance(part, torch.nn.Linear))
    x = rows.numpy().astype(np.float64) @ first.weight.detach().numpy().T + first.bias.detach().numpy()
    erf = torch.erf(torch.from_numpy(x) / 2**0.5).numpy()
    return (x * (1 + erf) / 2) @ second.weight.detach().numpy().T + second.bias.detach().numpy()


def test_the_cosine_is_the_mean_of_the_members_cosines(batch: Batch) -> None:
    space = space_of()
    image, expression = space.embed_image(batch.images), space.embed_expression(batch.expression)
    assert image.shape == expression.shape == (9, space.width) == (9, 18)
    for whole in (image, expression):
        np.testing.assert_allclose(whole.norm(dim=1).detach().numpy(), 1, atol=1e-6)
    expected = np.zeros((9, 9))
    for one, other in zip(space.image_heads, space.expression_heads, strict=True):
        a, b = by_hand(one, batch.images), by_hand(other, batch.expression)
        expected += (a @ b.T) / np.linalg.norm(a, axis=1)[:, None] / np.linalg.norm(b, axis=1) / 3
    np.testing.assert_allclose((image @ expression.T).detach().numpy(), expected, atol=1e-6)


def test_the_loss_is_the_sum_of_the_members_own(batch: Batch) -> None:
    """A member learns from its own loss alone: with others beside it, it gets the same gradient."""
    space = space_of()
    loss = space.loss(batch)
    alone = [
        info_nce(torch.from_numpy(by_hand(a, batch.images)), torch.from_numpy(by_hand(b, batch.expression)), 0.1)
        for a, b in zip(space.image_heads, space.expression_heads, strict=True)
    ]
    assert loss.item() == pytest.approx(sum(part.item() for part in alone), abs=1e-5)
    loss.backward()
    together = space.image_heads[1][1].weight.grad.clone()
    space.zero_grad()
    own = info_nce(space.image_heads[1](batch.images), space.expression_heads[1](batch.expression), 0.1)
    own.backward()
    torch.testing.assert_close(space.image_heads[1][1].weight.grad, together)
    assert (together != 0).any()


def test_members_begin_and_drop_differently(batch: Batch) -> None:
    space = space_of()
    parts = space.embed_image(batch.images).detach().reshape(9, 3, 6)
    assert not np.allclose(parts[:, 0], parts[:, 1])
    space.train()
    with torch.random.fork_rng():
        assert not torch.equal(space.embed_image(batch.images), space.embed_image(batch.images))
        assert not torch.equal(space.embed_expression(batch.expression), space.embed_expression(batch.expression))


def test_both_sides_drop_inputs_but_only_images_drop_hidden_values(batch: Batch) -> None:
    space = space_of(dropout=0.3)
    rates = [
        [part.p for part in heads[0] if isinstance(part, torch.nn.Dropout)]
        for heads in (space.image_heads, space.expression_heads)
    ]
    assert rates == [[0.2, 0.3], [0.2, 0.0]]


def test_the_members_draw_as_they_would_one_after_another(batch: Batch) -> None:
    """Whether in one product or head by head, from the shared random state or an own one: the loss is the same."""
    space = space_of().train()
    with torch.random.fork_rng():
        torch.manual_seed(3)
        expected = sum(
            info_nce(image(batch.images), expression(batch.expression), 0.1)
            for image, expression in zip(space.image_heads, space.expression_heads, strict=True)
        )
        torch.manual_seed(3)
        shared = space.loss(batch)
        torch.manual_seed(3)
        space.random = own_generator(torch.device("cpu"))
        torch.manual_seed(4)
        own = space.loss(batch)
        assert own != space.loss(batch), "an own generator moves on too"
    assert shared.item() == pytest.approx(expected.item(), abs=1e-5)
    assert own.item() == shared.item()


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_layer_without_dropout_draws_nothing(batch: Batch, dropout: float) -> None:
    space = space_of(dropout=dropout).train()
    masks = space.image_heads.empty_masks(batch.images)
    assert [mask is None for mask in masks] == [False, dropout == 0]
    assert [mask is None for mask in space.expression_heads.empty_masks(batch.expression)] == [False, True]
