"""ST-Net and the plain regressor against what was published, and against values worked out by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from bleep_sc.models.nets.arguments import BuiltEncoder
from bleep_sc.models.nets.heads import MeanHead, regression_head
from bleep_sc.models.nets.kinds import arguments_of
from bleep_sc.models.nets.regressor import Loss, Regressor, RegressorArguments
from bleep_sc.models.train.augment import N_SYMMETRIES, symmetry
from bleep_sc.models.train.batches import Batch

STNET = {
    "kind": "regressor",
    "encoder": "densenet121",
    "image_size": 64,
    "n_image_features": None,
    "standardize": False,
    "n_genes": 250,
    "hidden": None,
    "rank": None,
    "dropout": 0.0,
    "loss": "stnet",
    "symmetries": True,
}


@pytest.fixture(autouse=True)
def forked() -> object:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def test_stnet_is_a_densenet_121_of_published_size() -> None:
    with torch.device("meta"):
        model = arguments_of(STNET).build()
    # torchvision's DenseNet-121 has 7,978,856 parameters, of which 1024 × 1000 + 1000 are its classifier's
    backbone = 7_978_856 - 1_025_000
    assert sum(p.numel() for p in model.parameters()) == backbone + 1024 * 250 + 250


def test_the_first_prediction_is_the_training_mean() -> None:
    model = arguments_of(STNET).build().eval()
    mean = torch.rand(250)
    model.head[-1].start_at(mean)
    with torch.inference_mode():
        predicted = model.predict(torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8))
    torch.testing.assert_close(predicted, mean.expand(2, 250))


class Corner(nn.Module):
    """The first pixel of a crop: as far from symmetric as can be."""

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        return crops[:, 0, 0].float()


def of_the_corner(loss: Loss, *, symmetries: bool) -> Regressor:
    """A regressor that predicts the first pixel of a crop."""
    arguments = RegressorArguments(
        **{"encoder": None, "image_size": None, "n_image_features": 3, "standardize": False, "n_genes": 3},
        **{"hidden": None, "rank": None, "dropout": 0.0, "loss": loss, "symmetries": symmetries},
    )
    model = Regressor(arguments, BuiltEncoder(Corner(), 3))
    with torch.no_grad():
        model.head[-1].weight.copy_(torch.eye(3))
    return model


def test_losses_by_hand() -> None:
    crops = torch.zeros(2, 2, 2, 3, dtype=torch.uint8)
    crops[0, 0, 0], crops[1, 0, 0] = torch.tensor([1, 2, 3]), torch.tensor([4, 5, 6])
    truth = torch.tensor([[1.0, 0.0, 3.0], [4.0, 5.0, 9.0]])
    # errors 0, 2, 0 and 0, 0, -3: squares sum to 13
    stnet = of_the_corner("stnet", symmetries=False)
    assert stnet.loss(Batch(crops, truth)).item() == pytest.approx(13 / 3)
    mse = of_the_corner("mse", symmetries=False)
    assert mse.loss(Batch(crops, truth)).item() == pytest.approx(13 / 6)


def test_prediction_is_the_mean_over_eight_symmetries() -> None:
    crops = torch.randint(0, 256, (3, 4, 4, 3), dtype=torch.uint8)
    model = of_the_corner("stnet", symmetries=True)
    # a flip or quarter turn brings each of the four corners to the first place, twice
    corners = crops[:, [0, 0, -1, -1], [0, -1, 0, -1]].float().mean(dim=1)
    torch.testing.assert_close(model.predict(crops), corners)
    for which in range(N_SYMMETRIES):
        torch.testing.assert_close(model.predict(symmetry(crops, which)), corners)
    assert not torch.allclose(model(symmetry(crops, 1)), model(crops))


def test_heads() -> None:
    assert [type(part).__name__ for part in regression_head(4, 6)] == ["MeanHead"]
    assert [type(part).__name__ for part in regression_head(4, 6, dropout=0.2)] == ["Dropout", "MeanHead"]
    assert [type(part).__name__ for part in regression_head(4, 6, hidden=5)] == [
        *("Linear", "GELU", "Dropout", "MeanHead"),
    ]
    low_rank = regression_head(4, 6, rank=2)
    assert low_rank[0].out_features == 2
    assert low_rank[1].weight.shape == (6, 2)
    nothing = MeanHead(0, 3)
    nothing.start_at(torch.tensor([1.0, 2.0, 3.0]))
    assert nothing(torch.empty(2, 0)).tolist() == [[1, 2, 3], [1, 2, 3]]


def test_channels_are_normalised_by_the_crops_learned_from() -> None:
    model = arguments_of({**STNET, "encoder": "resnet18"}).build()
    crops = torch.randint(0, 256, (6, 8, 8, 3), dtype=torch.uint8)
    network = model.image_encoder
    network.learn(crops)
    flat = crops.numpy().reshape(-1, 3)
    np.testing.assert_allclose(network.mean.numpy(), flat.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(network.std.numpy(), flat.std(axis=0), rtol=1e-5)
    assert "image_encoder.mean" in model.state_dict()
