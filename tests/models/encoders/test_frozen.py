"""Networks that read crops and never learn."""

import pytest
import torch
from torch import Tensor, nn

from bleep_sc.models.encoders.frozen import (
    FrozenEncoder,
    Reading,
    _symmetries,
    build_frozen,
    reading_of,
    weights_digest,
)
from bleep_sc.models.encoders.networks import ImageNetwork, build_network
from bleep_sc.models.encoders.of_lite import LITE0
from bleep_sc.models.encoders.registry import encoder_named
from bleep_sc.models.encoders.stages import stages_of

pytestmark = pytest.mark.usefixtures("torch_seeded")
HALF = (0.5, 0.5, 0.5)


def crops_of(n: int, size: int) -> Tensor:
    return torch.randint(256, (n, size, size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


class Flat(nn.Module):
    """Gives the pixels that it gets, so that a test sees what a network would."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


def flat(reading: Reading) -> FrozenEncoder:
    # normalised back to 0..255
    network = ImageNetwork(Flat(), 3 * reading.input_px**2, mean=(0, 0, 0), std=(1 / 255,) * 3)
    return FrozenEncoder(network, reading)


@pytest.mark.parametrize(("size", "first"), [(6, 2), (7, 2), (2, 0)])
def test_the_centre_is_read_half_a_pixel_to_the_upper_left_where_it_is_none(size: int, first: int) -> None:
    crops = crops_of(3, size)
    seen = flat(Reading(2, 2, None, 1))(crops).reshape(3, 3, 2, 2)
    assert torch.equal(seen, crops[:, first : first + 2, first : first + 2].permute(0, 3, 1, 2).float())


def test_shrinking_averages_and_rounds_nothing() -> None:
    crops = crops_of(2, 64)
    crops[:, ::2] = 0  # stripes: without antialiasing, all black or all bright
    seen = flat(Reading(64, 16, None, 1))(crops).reshape(2, 3, 16, 16)
    assert (seen.mean((2, 3)) - crops.float().mean((1, 2))).abs().max() < 2
    assert (seen != seen.round()).any()


@pytest.mark.slow
def test_views_are_all_different_ones_and_a_turned_crop_has_the_same_features() -> None:
    image = crops_of(1, 5).float()
    for number in (1, 4, 8):
        views = _symmetries(image, number)
        assert len({view.contiguous().numpy().tobytes() for view in views}) == number
    network = build_frozen("resnet18", Reading(32, 32, None, 8))
    crops = crops_of(2, 32)
    for turned in (crops.rot90(1, (1, 2)), crops.flip(1), crops.transpose(1, 2)):
        torch.testing.assert_close(network(turned), network(crops), rtol=1e-4, atol=1e-5)
    once = build_frozen("resnet18", Reading(32, 32, None, 1))
    assert not torch.allclose(once(crops.flip(1)), once(crops), rtol=1e-4, atol=1e-5)


def test_each_view_comes_to_the_network_laid_out_as_its_layers_read_it() -> None:
    """A view that is only strides over another is laid out piece by piece in the first layer, which takes longer."""
    laid_out = []

    class See(Flat):
        def forward(self, images: Tensor) -> Tensor:
            laid_out.append(images.is_contiguous(memory_format=torch.channels_last))
            return super().forward(images)

    network = ImageNetwork(See(), 3 * 4**2, mean=HALF, std=(0.25, 0.5, 1.0))
    crops = crops_of(2, 4)
    features = FrozenEncoder(network, Reading(4, 4, None, 8))(crops)
    assert laid_out == 8 * [True]
    values = (crops.double() / 255 - 0.5) / torch.tensor([0.25, 0.5, 1.0])
    turns = [values.rot90(quarter, (1, 2)) for quarter in range(4)]
    mean = sum(turn + turn.flip(2) for turn in turns) / 8
    torch.testing.assert_close(features, mean.permute(0, 3, 1, 2).flatten(1).float())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "stages"),
    [
        *((LITE0, None), (LITE0, (2, 3, 4)), ("resnet18", None), ("resnet18", (1, 3)), ("vit_b_32", None)),
        *(("timm:test_vit", None), ("timm:test_efficientnet", (0, 2)), ("timm:resnet10t", (0,))),
    ],
)
def test_a_stored_state_gives_the_same_features_bit_for_bit(name: str, stages: tuple[int, ...] | None) -> None:
    reading = Reading(30, 32, stages, 1)
    first = build_frozen(name, reading)
    with torch.no_grad():
        for value in first.buffers():
            if value.is_floating_point():  # statistics as after training, not as built
                value.mul_(0.9)
    second = build_frozen(name, reading)
    crops = crops_of(3, 41)
    assert not torch.equal(second(crops), first(crops))
    second.load_state_dict(first.state_dict(), strict=True)
    features = first(crops)
    assert torch.equal(second(crops), features)
    assert features.shape == (3, first.n_features)
    assert features.dtype == torch.float32
    assert features.std() > 0


def test_lite0_reads_three_stages_by_default_and_keeps_no_later_layer() -> None:
    reading = reading_of(encoder_named(LITE0), view_px=50)
    assert reading.view_px == 50
    assert reading.stages == (2, 3, 4)
    encoder = build_frozen(LITE0, reading)
    assert encoder.n_features == 40 + 80 + 112
    whole = build_network(LITE0, image_size=112)
    assert len(encoder.state_dict()) < len(whole.state_dict())
    assert sum(v.numel() for v in encoder.state_dict().values()) < 1e6


def test_pooled_stages_are_those_of_the_whole_network() -> None:
    encoder = build_frozen(LITE0, Reading(32, 32, (2, 4), 1), weights="imagenet")
    whole = build_network(LITE0, image_size=32, weights="imagenet").eval()
    maps: dict[int, Tensor] = {}
    for number, block in enumerate(whole.network.get_submodule("blocks").children()):
        block.register_forward_hook(lambda module, given, out, number=number: maps.update({number: out}))
    crops = crops_of(3, 32)
    with torch.inference_mode():
        whole(crops)
    expected = torch.cat([maps[2].mean((2, 3)), maps[4].mean((2, 3))], dim=1)
    torch.testing.assert_close(encoder(crops), expected)


def test_the_stages_of_a_resnet_are_its_layers() -> None:
    network = build_network("resnet18", image_size=32).network.eval()
    images = torch.randn(1, 3, 32, 32)
    parts = stages_of(network)
    assert len(parts) == 4
    with torch.inference_mode():
        torch.testing.assert_close(nn.Sequential(*parts)(images).mean((2, 3)), network(images))


def test_a_network_without_stages_has_none() -> None:
    assert stages_of(nn.Linear(1, 1)) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "stages", "known"),
    [("resnet18", (4,), "0 to 3"), ("resnet18", (), "0 to 3"), ("vit_b_32", (0,), "none .* pass `stages=None`")],
)
def test_stages_that_do_not_exist_are_refused(name: str, stages: tuple[int, ...], known: str) -> None:
    with pytest.raises(ValueError, match=rf"the stages of '{name}' are {known}"):
        build_frozen(name, Reading(32, 32, stages, 1))


def test_crops_smaller_than_the_view_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`view_px=9`: the crops have only 8 pixels"):
        flat(Reading(9, 4, None, 1))(crops_of(1, 8))


def test_a_vision_transformer_reads_whole_patches() -> None:
    with pytest.raises(ValueError, match=r"multiple of 32 pixels, found 50"):
        build_frozen("vit_b_32", Reading(50, 50, None, 1))


def test_the_default_side_is_the_one_that_a_network_was_made_for() -> None:
    sides = {name: reading_of(encoder_named(name), view_px=9).input_px for name in ("resnet50", "vit_b_16")}
    assert sides == {"resnet50": 224, "vit_b_16": 224}
    assert reading_of(encoder_named("timm:test_vit"), view_px=9).input_px == 160


def test_it_never_learns() -> None:
    encoder = build_frozen("resnet18", Reading(32, 32, (0,), 1))
    nn.Sequential(encoder).train()
    assert not any(module.training for module in encoder.modules())
    assert not any(value.requires_grad for value in encoder.parameters())
    assert not encoder(crops_of(1, 32)).requires_grad


def test_many_crops_are_read_in_portions() -> None:
    seen = []

    class Count(Flat):
        def forward(self, images: Tensor) -> Tensor:
            seen.append(len(images))
            return super().forward(images)

    encoder = FrozenEncoder(ImageNetwork(Count(), 12, mean=HALF, std=HALF), Reading(2, 2, None, 1))
    assert encoder(crops_of(50, 2)).shape == (50, 12)
    assert max(seen) <= 16
    assert sum(seen) == 50
    assert encoder(crops_of(0, 2)).shape == (0, 12)


def test_the_digest_is_of_the_values_and_not_of_how_they_lie_in_memory() -> None:
    first = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    before = weights_digest(first)
    assert weights_digest(first.to(memory_format=torch.channels_last)) == before
    assert len(before) == 64
    with torch.no_grad():
        first[0].bias[0] += 1e-6
    assert weights_digest(first) != before
    assert weights_digest(nn.Sequential(nn.Linear(2, 3))) != weights_digest(nn.Sequential(nn.Linear(3, 2)))
