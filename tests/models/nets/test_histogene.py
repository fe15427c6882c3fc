"""HisToGene against the facts of its publication and repository."""

import numpy as np
import pytest
import torch

from bleep_sc.models.nets.histogene import HisToGene, HisToGeneArguments
from bleep_sc.models.train.batches import Batch


def small(**arguments: int) -> HisToGene:
    torch.manual_seed(0)
    sizes = {"image_size": 8, "n_genes": 5, "dim": 128, "depth": 2, **arguments}
    return HisToGene(HisToGeneArguments(**sizes, dropout=0.1)).eval()


@pytest.fixture(autouse=True)
def forked() -> object:
    with torch.random.fork_rng():
        yield


def test_published_size() -> None:
    """Depth 8, 785 genes: 106 million parameters, layer by layer as in the published code."""
    with torch.device("meta"):
        model = HisToGene(HisToGeneArguments(image_size=112, n_genes=785, dim=1024, depth=8, dropout=0.1))
    embeddings = 3 * 112 * 112 * 1024 + 1024 + 2 * 64 * 1024
    attention = 2 * 1024 + 3 * 1024 * 1024 + 1024 * 1024 + 1024
    feed_forward = 2 * 1024 + 1024 * 2048 + 2048 + 2048 * 1024 + 1024
    head = 2 * 1024 + 1024 * 785 + 785
    expected = embeddings + 8 * (attention + feed_forward) + head
    assert sum(p.numel() for p in model.parameters()) == expected == 106_648_337


def test_of_larger_crops_the_centre_112_pixels_are_read() -> None:
    model = small(image_size=224, n_genes=3, dim=64, depth=1)
    assert model.patch_embedding.in_features == 3 * 112 * 112
    crops = torch.randint(0, 256, (4, 224, 224, 3), dtype=torch.uint8)
    places = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
    framed = crops.clone()
    framed[:, :56], framed[:, -56:], framed[:, :, :56], framed[:, :, -56:] = 0, 0, 0, 0
    torch.testing.assert_close(model.predict(crops, places), model.predict(framed, places))
    framed[:, 56] = 255
    assert not torch.allclose(model.predict(crops, places), model.predict(framed, places))


def test_attention_equals_a_plain_loop() -> None:
    model = small()
    attention = model.blocks[0].attention
    x = torch.randn(1, 6, 128)
    query, key, value = attention.query_key_value(x)[0].split(128, dim=1)
    expected = torch.empty(6, 128)
    for head in range(2):
        part = slice(64 * head, 64 * head + 64)
        for spot in range(6):
            weights = torch.softmax(key[:, part] @ query[spot, part] / 8, dim=0)
            expected[spot, part] = weights @ value[:, part]
    torch.testing.assert_close(attention(x)[0], attention.out(expected), atol=1e-5, rtol=1e-4)


def test_every_spot_sees_the_others_and_its_place() -> None:
    model = small()
    crops = torch.randint(0, 256, (5, 8, 8, 3), dtype=torch.uint8)
    places = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1], [2, 2]])
    whole = model.predict(crops, places)
    assert whole.shape == (5, 5)
    order = torch.tensor([3, 1, 4, 0, 2])
    torch.testing.assert_close(model.predict(crops[order], places[order]), whole[order], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(model.predict(crops[:4], places[:4]), whole[:4], atol=1e-4)
    assert not torch.allclose(model.predict(crops, places.flip(1)), whole, atol=1e-4)


def test_loss_is_the_mean_squared_error() -> None:
    model = small()
    crops = torch.randint(0, 256, (4, 8, 8, 3), dtype=torch.uint8)
    places, truth = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]]), torch.randn(4, 5)
    found = model.loss(Batch(crops, truth, positions=places))
    predicted = model.predict(crops, places).detach().numpy()
    assert found.item() == pytest.approx(np.mean((predicted - truth.numpy()) ** 2), rel=1e-5)
