import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import dask.array as da
import numpy as np
import pytest
import torch
from anndata import AnnData
from conftest import PUBLISHED
from safetensors.numpy import load

import bleep_sc as bl
from bleep_sc.models.encoders.networks import build_network

pytestmark = pytest.mark.usefixtures("remembered_colours")

COLLAPSE = pytest.mark.filterwarnings("ignore:the model has nearly collapsed:UserWarning")
QUICK: dict[str, Any] = {**PUBLISHED, "max_epochs": 3}
BOTH = pytest.mark.parametrize("arguments", [QUICK, {"max_epochs": 3}], ids=["published", "default"])


def config(adata: AnnData, key: str = "bleep") -> dict[str, Any]:
    return json.loads(adata.uns[key]["config"])


def test_writes_what_the_contract_says(fitted_once: AnnData) -> None:
    for name in ("X_bleep_image", "X_bleep_expression"):
        assert fitted_once.obsm[name].shape == (96, 256)
        assert fitted_once.obsm[name].dtype == np.float32
    entry = fitted_once.uns["bleep"]
    assert set(entry) == {"model", "genes", "history", "panels", "config", "placed", "measured", "novelty"}
    assert entry["model"].dtype == np.uint8
    assert list(entry["genes"]) == list(fitted_once.var_names)
    history = entry["history"]
    assert len(history["train_loss"]) == len(history["validation_loss"]) <= 30
    best = int(history["best_epoch"][0])
    assert history["validation_loss"][best] == history["validation_loss"].min()
    assert set(entry["panels"]) == {"HEG-50", "HVG-50", "HVG-200"}
    assert config(fitted_once)["library_key"] == "section"


def test_learns(fitted_once: AnnData) -> None:
    loss = fitted_once.uns["bleep"]["history"]["train_loss"]
    assert loss[-1] < loss[0]
    image, expression = (fitted_once.obsm[f"X_bleep_{side}"] for side in ("image", "expression"))
    unit = [e / np.linalg.norm(e, axis=1, keepdims=True) for e in (image, expression)]
    rank = ((unit[0] @ unit[1].T) > (unit[0] * unit[1]).sum(axis=1)[:, None]).sum(axis=1)
    assert np.median(rank) < 96 / 4, "a spot's own profile is not nearer than chance"


@pytest.mark.slow
@COLLAPSE
@pytest.mark.parametrize("encoder", ["color", "timm:test_resnet"])
def test_one_seed_gives_the_same_weights_bit_for_bit(ref: AnnData, encoder: str) -> None:
    arguments: dict[str, Any] = {**PUBLISHED, "encoder": encoder, "weights": None, "max_epochs": 2}
    again, other = ref.copy(), ref.copy()
    bl.tl.fit(ref, **arguments, random_state=5)
    with torch.random.fork_rng(devices=[]):
        torch.rand(3)  # a moved global state must not matter
        bl.tl.fit(again, **arguments, random_state=5)
    bl.tl.fit(other, **arguments, random_state=6)
    assert ref.uns["bleep"]["model"].tobytes() == again.uns["bleep"]["model"].tobytes()
    assert ref.uns["bleep"]["model"].tobytes() != other.uns["bleep"]["model"].tobytes()
    assert np.array_equal(ref.obsm["X_bleep_image"], again.obsm["X_bleep_image"])


@pytest.mark.slow
@COLLAPSE
def test_torch_random_state_is_untouched(ref: AnnData) -> None:
    before = torch.get_rng_state()
    bl.tl.fit(ref, preset="paper", encoder="resnet18", weights=None, max_epochs=1)
    assert torch.equal(before, torch.get_rng_state())
    assert config(ref)["model"]["kind"] == "bleep", "a network is trained as published"


@COLLAPSE
def test_the_paper_trains_the_network_along_that_is_named(ref: AnnData, small_network: str, tmp_path: Path) -> None:
    """Whatever the network. The default recipe leaves its weights as they were."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        first = build_network(small_network, image_size=16, weights=None).network.state_dict()
    torch.save(first, tmp_path / "weights.pth")
    moved = {}
    for preset, part in (("paper", "image_encoder.network."), ("default", "frozen.0.network.network.")):
        arguments: dict[str, Any] = {"preset": preset, "encoder": small_network, "weights": tmp_path / "weights.pth"}
        bl.tl.fit(ref, **arguments, max_epochs=1)
        stored = load(ref.uns["bleep"]["model"].tobytes())
        moved[preset] = [name for name in first if not np.array_equal(stored[part + name], first[name].numpy())]
    assert moved["default"] == []
    assert len(moved["paper"]) > 0.9 * len(first)


@pytest.mark.slow
def test_best_epoch_is_kept(ref: AnnData) -> None:
    """The stored weights are those of the best epoch: training to just there gives the same."""
    long, short = ref.copy(), ref.copy()
    # a learning rate at which the loss goes up and down
    arguments = PUBLISHED | {"lr": 0.01, "patience": 0}
    bl.tl.fit(long, **arguments, max_epochs=40)
    best = int(long.uns["bleep"]["history"]["best_epoch"][0])
    assert best < 39, "the last epoch was the best: the test shows nothing"
    bl.tl.fit(short, **arguments, max_epochs=best + 1)
    assert long.uns["bleep"]["model"].tobytes() == short.uns["bleep"]["model"].tobytes()


@COLLAPSE
def test_stops_early_with_patience(ref: AnnData) -> None:
    bl.tl.fit(ref, **(PUBLISHED | {"max_epochs": 100, "lr": 0.03, "patience": 2}))
    history = ref.uns["bleep"]["history"]
    assert len(history["validation_loss"]) == int(history["best_epoch"][0]) + 3 < 100


@COLLAPSE
def test_presets_name_the_paper(ref: AnnData) -> None:
    bl.tl.fit(ref, preset="paper", encoder="color", max_epochs=1)
    params = config(ref)["params"]
    assert params == {
        "encoder": "color",
        "dim": 256,
        "dropout": 0.1,
        "temperature": 1.0,
        "batch_size": 128,
        "accumulate": 4,
        "lr": 1e-3,
        "weight_decay": 1e-3,
        "max_epochs": 1,
        "patience": 0,
        "weights": None,  # the colour features have none
        "optimizer": "adamw",
        "validation_share": 0.2,
        "random_state": 0,
        "validation_key": None,
    }


@COLLAPSE
def test_lazy_crops_train_like_crops_in_memory(ref: AnnData) -> None:
    lazy = ref.copy()
    lazy.obsm["crops"] = da.from_array(ref.obsm["crops"], chunks=(10, 16, 16, 3))
    for adata in (ref, lazy):
        bl.tl.fit(
            adata,
            preset="paper",
            encoder="timm:test_resnet",
            weights=None,
            max_epochs=1,
            batch_size=32,
        )
    assert ref.uns["bleep"]["model"].tobytes() == lazy.uns["bleep"]["model"].tobytes()


@COLLAPSE
def test_ready_made_features_train_the_heads_alone(ref: AnnData) -> None:
    ref.obsm["X_uni"] = ref.obsm["crops"].mean(axis=(1, 2))
    bl.tl.fit(ref, preset="paper", accumulate=1, patience=10, image_key="X_uni", max_epochs=3)
    recorded = config(ref)
    assert recorded["image"]["kind"] == "features"
    assert recorded["model"]["n_image_features"] == 3


@COLLAPSE
def test_a_custom_encoder_is_called_but_not_stored_nor_trained(ref: AnnData) -> None:
    encoder = torch.nn.Sequential(torch.nn.AvgPool2d(8), torch.nn.Flatten(), torch.nn.Dropout(0.5)).train()
    bl.tl.fit(ref, **(PUBLISHED | {"encoder": encoder, "max_epochs": 2}))
    recorded = config(ref)
    assert recorded["image"]["kind"] == "custom"
    assert recorded["image"]["n_features"] == 12
    assert all(module.training for module in encoder.modules())


@COLLAPSE
def test_harmony_may_be_negative_and_names_its_genes(ref: AnnData) -> None:
    ref.obsm["X_harmony"] = np.random.default_rng(0).normal(size=(ref.n_obs, 4)).astype(np.float32)
    ref.uns["harmony"] = {"genes": np.array(["a", "b", "c", "d"], dtype=object)}
    bl.tl.fit(ref, use_rep="X_harmony", key_added="hm", **QUICK)
    assert list(ref.uns["hm"]["genes"]) == ["a", "b", "c", "d"]
    assert "X_hm_image" in ref.obsm
    assert "bleep" not in ref.uns


@COLLAPSE
@BOTH
def test_copy_leaves_the_original_alone(
    arguments: dict[str, Any], ref: AnnData, unchanged: Callable[..., None]
) -> None:
    unchanged(ref)
    changed = bl.tl.fit(ref, copy=True, **arguments)
    assert changed is not None
    assert "bleep" in changed.uns


@COLLAPSE
def test_says_what_it_does(ref: AnnData, log: pytest.LogCaptureFixture) -> None:
    bl.tl.fit(ref, **QUICK)
    assert "Training on 76 spots in 3 batches an epoch, 20 spots held out for validation" in log.text
    assert "Expected training time" in log.text
    assert "mean cosine between two spots" in log.text
    assert "reference spots are among the" in log.text


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_collapse_is_warned_of(preset: Any, ref: AnnData) -> None:
    ref.obsm["X_same"] = np.ones((ref.n_obs, 4), dtype=np.float32)
    with pytest.warns(UserWarning, match=r"nearly collapsed"):
        bl.tl.fit(ref, preset=preset, image_key="X_same", max_epochs=2)


def test_a_long_training_on_a_cpu_is_warned_of(ref: AnnData) -> None:
    """Warnings are errors here, so that it ends there."""
    with pytest.raises(UserWarning, match=r"will take up to about .* h.*encoder='color'.*encoder='resnet18'"):
        bl.tl.fit(ref, **(PUBLISHED | {"max_epochs": 10_000_000, "batch_size": 16}))


@pytest.mark.slow
@COLLAPSE
@BOTH
def test_leaves_no_files_behind(
    arguments: dict[str, Any], ref: AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bl.tl.fit(ref, **(arguments | {"max_epochs": 20}))
    assert list(tmp_path.iterdir()) == []


@BOTH
def test_ctrl_c_is_a_keyboard_interrupt(
    arguments: dict[str, Any], ref: AnnData, unchanged: Callable[..., None]
) -> None:
    import signal

    def interrupted(*args: object, **kwargs: object) -> None:
        signal.raise_signal(signal.SIGINT)

    unchanged(ref)
    # Python's own handler, which a background job may have been started without
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(torch.optim.AdamW, "step", interrupted)
            bl.tl.fit(ref, **arguments)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.odd
def test_diverging_loss_is_an_error(ref: AnnData, unchanged: Callable[..., None]) -> None:
    unchanged(ref)
    with pytest.raises(FloatingPointError, match=r"diverged"):
        bl.tl.fit(ref, **PUBLISHED, max_epochs=2, lr=1e30)


def negative(ref: AnnData) -> None:
    ref.X = ref.X.toarray() - 1


def nan(ref: AnnData) -> None:
    ref.X.data[3] = np.nan


def twice(ref: AnnData) -> None:
    ref.var_names = ["g0", *ref.var_names[:-1]]


def scales(ref: AnnData) -> None:
    ref.uns["crops"]["s2"]["size_um"] = 130.0


BAD: dict[str, tuple[Callable[[AnnData], object], dict[str, Any], type[Exception], str]] = {
    "no crops": (lambda a: a.obsm.pop("crops"), {}, KeyError, r"obsm\['crops'\].*bleep_sc\.pp\.crops"),
    "no features": (lambda a: None, {"image_key": "X_uni"}, KeyError, r"obsm\['X_uni'\]"),
    "negative": (negative, {}, ValueError, r"adata\.X.*negative.*sc\.pp\.log1p.*X_harmony"),
    "NaN": (nan, {}, ValueError, r"adata\.X.*NaN"),
    "no X": (lambda a: setattr(a, "X", None), {}, KeyError, r"adata\.X.*empty"),
    "no layer": (lambda a: None, {"layer": "norm"}, KeyError, r"layers\['norm'\]"),
    "no representation": (lambda a: None, {"use_rep": "X_harmony"}, KeyError, r"X_harmony.*harmonize"),
    "names twice": (twice, {}, ValueError, r"var_names.*'g0'.*var_names_make_unique"),
    "nothing selected": (
        lambda a: a.var.__setitem__("highly_variable", False),
        {},
        ValueError,
        r"var\['highly_variable'\].*selects no gene.*select_genes",
    ),
    "mask not boolean": (
        lambda a: a.var.__setitem__("mine", 1.5),
        {"mask_var": "mine"},
        ValueError,
        r"var\['mine'\].*boolean",
    ),
    "scales": (scales, {}, ValueError, r"mixes scales.*'s1'.*'s2'.*100 and 130 µm"),
    "float crops": (
        lambda a: a.obsm.__setitem__("crops", a.obsm["crops"] / 255),
        {},
        ValueError,
        r"obsm\['crops'\].*uint8",
    ),
    "encoder": (lambda a: None, {"encoder": "resnet19"}, ValueError, r"`encoder` must be 'color'.*'resnet19'"),
    "encoder with features": (
        lambda a: a.obsm.__setitem__("X_uni", np.ones((96, 2))),
        {"image_key": "X_uni", "encoder": "resnet18"},
        ValueError,
        r"ready-made features.*Leave `encoder` out",
    ),
    "method": (lambda a: None, {"method": "magic"}, ValueError, r"`method`.*'magic'"),
    "preset": (lambda a: None, {"preset": "better"}, ValueError, r"`preset`.*'default', 'best', 'paper'.*'better'"),
    "temperature": (lambda a: None, {"temperature": 0}, ValueError, r"`temperature`.*above 0"),
    "epochs": (lambda a: None, {"max_epochs": 0}, ValueError, r"`max_epochs`.*at least 1"),
    "section column": (lambda a: None, {"library_key": "slide"}, KeyError, r"obs\['slide'\]"),
    "validation column": (lambda a: None, {"validation_key": "slide"}, KeyError, r"obs\['slide'\]"),
    "device": (lambda a: None, {"device": "cuda:99"}, ValueError, r"`device='cuda:99'`"),
    "key": (lambda a: None, {"key_added": "a/b"}, ValueError, r"`key_added`"),
}


@pytest.mark.odd
@pytest.mark.parametrize("preset", ["default", "paper"])
@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named_before_any_work(
    case: str, preset: str, ref: AnnData, unchanged: Callable[..., None]
) -> None:
    damage, arguments, error, message = BAD[case]
    damage(ref)
    unchanged(ref)
    quick = {} if "image_key" in arguments else {"encoder": "color", "max_epochs": 1}
    with pytest.raises(error, match=message):
        bl.tl.fit(ref, **({"preset": preset} | quick | arguments))


@pytest.mark.odd
def test_few_spots_and_views_are_refused(ref: AnnData) -> None:
    with pytest.raises(ValueError, match=r"15 spots; at least 16"):
        bl.tl.fit(ref[:15].copy(), **QUICK)
    with pytest.raises(ValueError, match=r"view.*\.copy\(\)"):
        bl.tl.fit(ref[:40], **QUICK)
    with pytest.raises(TypeError, match=r"must be an AnnData"):
        bl.tl.fit(np.ones((20, 3)), **QUICK)  # type: ignore[arg-type]


@pytest.mark.odd
@COLLAPSE
def test_raw_counts_are_warned_of(ref: AnnData) -> None:
    with pytest.warns(UserWarning, match=r"looks like raw counts.*normalize_total"):
        bl.tl.fit(ref, layer="counts", **QUICK)


@COLLAPSE
def test_crops_without_a_record_are_usable(ref: AnnData) -> None:
    del ref.uns["crops"]
    with pytest.warns(UserWarning, match=r"does not say at which scale"):
        bl.tl.fit(ref, **QUICK)


@COLLAPSE
def test_survives_writing(fitted: AnnData, tmp_path: Path) -> None:
    fitted.write_h5ad(tmp_path / "ref.h5ad")
    back = ad.read_h5ad(tmp_path / "ref.h5ad")
    assert back.uns["bleep"]["model"].tobytes() == fitted.uns["bleep"]["model"].tobytes()
    assert back.uns["bleep"]["config"] == fitted.uns["bleep"]["config"]
