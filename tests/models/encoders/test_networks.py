from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bleep_sc.models.encoders.networks import ImageNetwork, build_network
from bleep_sc.models.encoders.record import Encoder
from bleep_sc.models.encoders.registry import ENCODERS, NETWORKS, check_encoder_name, encoder_named
from bleep_sc.models.encoders.weights import imagenet_state
from bleep_sc.models.nets.kinds import arguments_of
from bleep_sc.models.nets.serialize import model_from_bytes, weights_to_bytes

WIDTHS = {
    "resnet18": 512,
    "resnet34": 512,
    "resnet50": 2048,
    "resnet101": 2048,
    "resnet152": 2048,
    "densenet121": 1024,
    "efficientnet_b0": 1280,
    "vit_b_16": 768,
    "vit_b_32": 768,
    "vit_l_32": 1024,
    "efficientnet_lite0": 1280,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_gives_features_of_its_width(name: str) -> None:
    with torch.random.fork_rng(), torch.device("meta"):
        network = build_network(name, image_size=64)
        features = network(torch.zeros(2, 64, 64, 3, dtype=torch.uint8))
    assert features.shape == (2, WIDTHS[name])
    assert network.n_features == WIDTHS[name]


def in_front_of(network: nn.Module, encoder: Encoder) -> ImageNetwork:
    return ImageNetwork(network, 3, mean=encoder.mean, std=encoder.std)


def test_crops_are_normalised_as_imagenet() -> None:
    crops = torch.tensor([[[[255, 0, 51]]]], dtype=torch.uint8)
    out = in_front_of(nn.Identity(), ENCODERS["resnet18"])(crops)
    np.testing.assert_allclose(
        out[0, :, 0, 0], [(1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (0.2 - 0.406) / 0.225], atol=1e-5
    )


def test_images_reach_the_network_channels_last() -> None:
    seen = {}

    class Look(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen["channels_last"] = x.is_contiguous(memory_format=torch.channels_last)
            return x.mean(dim=(2, 3))

    in_front_of(Look(), ENCODERS["resnet18"])(torch.zeros(2, 8, 8, 3, dtype=torch.uint8))
    assert seen["channels_last"]


def test_timm_network() -> None:
    with torch.random.fork_rng():
        network = build_network("timm:resnet10t", image_size=64).eval()
    assert network(torch.zeros(1, 64, 64, 3, dtype=torch.uint8)).shape == (1, network.n_features)


@pytest.mark.odd
@pytest.mark.parametrize(
    ("name", "mean", "std"),
    [
        ("timm:test_vit", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        ("timm:test_efficientnet", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ],
)
def test_timm_networks_are_fed_as_they_were_trained(name: str, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    with torch.random.fork_rng():
        built = build_network(name, image_size=32)
    built.network = nn.Identity()
    out = built(torch.tensor([[[[255, 0, 51]]]], dtype=torch.uint8))[0, :, 0, 0]
    np.testing.assert_allclose(out, [(x - m) / s for x, m, s in zip((1, 0, 0.2), mean, std, strict=True)], atol=1e-5)


@pytest.mark.parametrize(
    "name", ["resnet19", "hf-hub:someone/model", "torch.nn.Linear", "timm:no_such", "timm:hf-hub:x"]
)
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"encoder"):
        check_encoder_name(name)


@pytest.mark.odd
def test_vision_transformer_needs_a_fitting_size() -> None:
    with pytest.raises(ValueError, match=r"multiple of 16 pixels, found 50"):
        build_network("vit_b_16", image_size=50)


@pytest.fixture
def resnet() -> nn.Module:
    import torchvision

    with torch.random.fork_rng():
        torch.manual_seed(1)
        return torchvision.models.resnet18(weights=None)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_from_a_file(resnet: nn.Module, tmp_path: Path, suffix: str) -> None:
    from safetensors.torch import save_file

    path = tmp_path / f"weights{suffix}"
    (torch.save if suffix == ".pth" else save_file)(resnet.state_dict(), path)
    with torch.random.fork_rng():
        network = build_network("resnet18", image_size=32, weights=path).network
    assert torch.equal(network.get_parameter("conv1.weight"), resnet.get_parameter("conv1.weight"))
    assert torch.equal(network.get_buffer("bn1.running_var"), resnet.get_buffer("bn1.running_var"))


@pytest.mark.odd
def test_weights_of_another_network_are_refused(resnet: nn.Module, tmp_path: Path) -> None:
    torch.save(resnet.state_dict(), tmp_path / "r18.pth")
    with pytest.raises(ValueError, match=r"do not fit the network"), torch.random.fork_rng():
        build_network("resnet34", image_size=32, weights=tmp_path / "r18.pth")


def test_old_densenet_names_are_read(tmp_path: Path) -> None:
    import re

    import torchvision

    with torch.random.fork_rng():
        state = torchvision.models.densenet121(weights=None).state_dict()
        old = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", name): v for name, v in state.items()}
        assert old.keys() != state.keys()
        torch.save(old, tmp_path / "dense.pth")
        network = build_network("densenet121", image_size=32, weights=tmp_path / "dense.pth").network
    name = "features.denseblock1.denselayer1.conv1.weight"
    assert torch.equal(network.get_parameter(name), state[name])


@pytest.mark.odd
def test_a_file_that_holds_code_is_refused_and_not_run(tmp_path: Path) -> None:
    import pickle

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "ran",))  # type: ignore[return-value]

    (tmp_path / "bomb.pth").write_bytes(pickle.dumps({"conv1.weight": Bomb()}, protocol=2))
    with pytest.raises(ValueError, match=r"no file of plain tensors"), torch.random.fork_rng():
        build_network("resnet18", image_size=32, weights=tmp_path / "bomb.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.odd
def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such file"), torch.random.fork_rng():
        build_network("resnet18", image_size=32, weights=tmp_path / "none.pth")


@pytest.mark.odd
@pytest.mark.usefixtures("torch_seeded")
def test_a_failed_download_offers_the_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    import urllib.error

    def offline(*args: object, **kwargs: object) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", offline)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(RuntimeError, match=r"(?s)weights=None.*weights='path/to/file.pth'.*encoder='color'"):
        imagenet_state(encoder_named("resnet18"))


@pytest.mark.usefixtures("torch_seeded")
def test_a_stored_network_comes_back_in_the_memory_order_it_was_trained_in() -> None:
    """Convolutions are twice as quick in it."""
    spec = {
        **{"kind": "bleep", "encoder": "resnet18", "image_size": 32, "n_image_features": None, "standardize": False},
        **{"n_genes": 5, "dim": 8, "dropout": 0.1, "temperature": 1.0},
    }
    trained = arguments_of(spec).build().eval()
    stored = model_from_bytes(spec, weights_to_bytes(trained), where="here")
    kernels = [value for value in stored.parameters() if value.ndim == 4 and value.shape[2] > 1]
    assert kernels
    assert all(value.is_contiguous(memory_format=torch.channels_last) for value in kernels)
    crops = torch.randint(256, (2, 32, 32, 3), dtype=torch.uint8)
    with torch.inference_mode():
        assert torch.equal(stored.embed_image(crops), trained.embed_image(crops))  # type: ignore[operator]
