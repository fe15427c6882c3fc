"""Features of crops that are kept: made as `fit` makes them, and known again by their record."""

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
from conftest import make_sections, never_read

import bleep_sc as bl
from bleep_sc.methods.hybrid.in_section import SectionView
from bleep_sc.methods.inputs import CropScale
from bleep_sc.models.encoders.frozen import build_frozen, reading_of, weights_digest
from bleep_sc.models.encoders.registry import encoder_named
from bleep_sc.tl._inputs.encoders import view_pixels

pytestmark = [
    pytest.mark.usefixtures("remembered_colours"),
    pytest.mark.filterwarnings("ignore:the model has nearly collapsed:UserWarning"),
]

QUICK: dict[str, Any] = {"max_epochs": 2, "members": 1, "hidden": 8, "n_components": 4, "context": 2}
KEY = "X_timm_test_resnet"
FEW_PIXELS = pytest.mark.filterwarnings("ignore:.*blown up to the:UserWarning")


def record(adata: AnnData, key: str = KEY) -> dict[str, Any]:
    return json.loads(adata.uns[key]["config"])


def encoded(adata: AnnData, encoder: Any, **arguments: Any) -> AnnData:
    bl.tl.encode(adata, encoder=encoder, **({"weights": None} | arguments))
    return adata


def flat(images: torch.Tensor) -> torch.Tensor:
    """A user's own function: colours, and how much they vary."""
    return torch.cat([images.mean(dim=(2, 3)), images.std(dim=(2, 3))], dim=1)


def pooled() -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return torch.nn.Sequential(torch.nn.AvgPool2d(4), torch.nn.Flatten(), torch.nn.Linear(48, 7))


# what is written


def test_features_stand_beside_the_record_of_what_made_them(ref: AnnData, small_network: str) -> None:
    encoded(ref, small_network, random_state=4)
    assert ref.obsm[KEY].shape == (96, 96)
    assert ref.obsm[KEY].dtype == np.float32
    reading = reading_of(encoder_named(small_network), view_px=16)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        network = build_frozen(small_network, reading)
    assert record(ref) == {
        "encoders": [
            {
                "name": small_network,
                "kind": "network",
                "n_features": 96,
                "feature_set": None,
                "weights": weights_digest(network),
                "reading": {"view_px": 16, "input_px": 16, "stages": None, "symmetries": 1},
            }
        ],
        "scale": {"size": 16, "size_um": 100.0, "spot_diameters": 1.0},
    }
    expected = network(torch.from_numpy(ref.obsm["crops"])).numpy()
    np.testing.assert_allclose(ref.obsm[KEY], expected, rtol=1e-4, atol=1e-5)


def test_features_of_several_encoders_stand_side_by_side(ref: AnnData, small_network: str) -> None:
    encoded(ref, "color")
    encoded(ref, small_network)
    encoded(ref, ["color", small_network, flat])
    key = "X_color_timm_test_resnet_flat"
    own = flat(torch.from_numpy(ref.obsm["crops"]).permute(0, 3, 1, 2).float() / 255).numpy()
    np.testing.assert_array_equal(ref.obsm[key], np.hstack([ref.obsm["X_color"], ref.obsm[KEY], own]))
    parts = record(ref, key)["encoders"]
    assert [(part["name"], part["kind"], part["n_features"]) for part in parts] == [
        ("color", "color", 164),
        (small_network, "network", 96),
        ("custom: flat", "custom", 6),
    ]
    assert parts[0]["feature_set"] and parts[1]["weights"] and parts[2]["weights"] is None


def test_a_module_is_told_by_its_weights(ref: AnnData) -> None:
    module = pooled()
    encoded(ref, module, key_added="X_own")
    (part,) = record(ref, "X_own")["encoders"]
    assert (part["name"], part["kind"], part["n_features"]) == ("custom: Sequential", "custom", 7)
    assert part["weights"] == weights_digest(module)


def test_a_list_of_one_is_that_one(ref: AnnData) -> None:
    encoded(ref, "color")
    encoded(ref, ["color"], key_added="X_listed")
    assert record(ref, "X_listed") == record(ref, "X_color")
    assert np.array_equal(ref.obsm["X_listed"], ref.obsm["X_color"])


def test_a_copy_leaves_the_original_alone(ref: AnnData, unchanged: Callable[..., None]) -> None:
    unchanged(ref)
    changed = bl.tl.encode(ref, encoder="color", copy=True)
    assert changed is not None
    assert {"X_color", "crops"} <= set(changed.obsm)


@pytest.mark.parametrize("encoder", ["network", "color", "module"])
def test_lazy_crops_give_the_same(encoder: str, ref: AnnData, small_network: str) -> None:
    lazy = ref.copy()
    lazy.obsm["crops"] = da.from_array(ref.obsm["crops"], chunks=(10, 16, 16, 3))
    what = {"network": small_network, "color": "color", "module": pooled()}[encoder]
    for adata in (ref, lazy):
        encoded(adata, what, key_added="X_made")
    np.testing.assert_allclose(lazy.obsm["X_made"], ref.obsm["X_made"], rtol=1e-4, atol=1e-5)
    assert record(lazy, "X_made") == record(ref, "X_made")
    assert isinstance(lazy.obsm["crops"], da.Array), "crops stay where they are"


# fit and impute take them


@pytest.mark.slow
def test_fit_makes_the_same_features_bit_for_bit(
    ref: AnnData, small_network: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    learn = SectionView.learn

    def remember(raw: np.ndarray, **arguments: Any) -> SectionView:
        seen.append(raw.copy())
        return learn(raw, **arguments)

    monkeypatch.setattr(SectionView, "learn", remember)
    several = ["color", small_network]
    bl.tl.fit(ref, encoder=several, weights=None, **QUICK)
    encoded(ref, several, key_added="X_kept")
    assert np.array_equal(seen[0], ref.obsm["X_kept"])
    bl.tl.fit(ref, image_key="X_kept", **QUICK)
    assert np.array_equal(seen[1], ref.obsm["X_kept"])


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["color", "network", "function", "several"])
def test_a_fit_on_features_predicts_as_one_on_crops(
    encoder: str, ref: AnnData, query: AnnData, small_network: str
) -> None:
    """And each reads the query's features and, if it has its own encoder, its crops."""
    what = {"color": "color", "network": small_network, "function": flat, "several": [small_network, "color"]}[encoder]
    of_user = {"encoder": flat} if encoder == "function" else {}
    encoded(ref, what, key_added="X_kept")
    encoded(query, what, key_added="X_kept")
    bl.tl.fit(ref, encoder=what, weights=None, key_added="crops_read", **QUICK)
    bl.tl.impute(query, ref, key="crops_read", **of_user)
    expected = query.layers["crops_read"]
    assert expected.std() > 0.1
    bl.tl.impute(query, ref, key="crops_read", image_key="X_kept", key_added="by_features")
    np.testing.assert_array_equal(query.layers["by_features"], expected)
    del ref.obsm["crops"], query.obsm["crops"]
    bl.tl.fit(ref, image_key="X_kept", **QUICK)
    bl.tl.impute(query, ref)
    np.testing.assert_array_equal(query.layers["bleep"], expected)
    np.testing.assert_array_equal(ref.obsm["X_bleep_image"], ref.obsm["X_crops_read_image"])
    np.testing.assert_array_equal(query.obs["bleep_reliability"], query.obs["crops_read_reliability"])


@pytest.mark.parametrize("method", ["ridge", "knn", "regressor"])
def test_other_methods_take_them_too(method: Any, ref: AnnData, query: AnnData, small_network: str) -> None:
    for adata in (ref, query):
        encoded(adata, ["color", small_network], key_added="X_kept")
    quick = {"max_epochs": 2} if method == "regressor" else {}
    bl.tl.fit(ref, method=method, image_key="X_kept", **quick)  # type: ignore[arg-type]
    bl.tl.impute(query, ref)
    assert np.isfinite(query.layers["bleep"]).all()
    assert query.obs["bleep_reliability"].between(0, 1).all()
    encoded(query, ["color", small_network], key_added="X_kept", random_state=9)
    with pytest.raises(
        ValueError, match=r"made by 'timm:test_resnet', and the model reads 'timm:test_resnet': weights"
    ):
        bl.tl.impute(query, ref)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Writing zarr v2 data:UserWarning")  # anndata's own default
@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_the_record_survives_writing(
    suffix: str, ref: AnnData, query: AnnData, small_network: str, tmp_path: Path
) -> None:
    for name, adata in (("ref", ref), ("query", query)):
        encoded(adata, small_network)
        getattr(adata, f"write_{suffix}")(tmp_path / f"{name}.{suffix}")
    back, query_back = (getattr(ad, f"read_{suffix}")(tmp_path / f"{name}.{suffix}") for name in ("ref", "query"))
    assert record(back) == record(ref)
    for one, other in ((ref, query), (back, query_back)):
        bl.tl.fit(one, image_key=KEY, **QUICK)
        bl.tl.impute(other, one)
    np.testing.assert_array_equal(query_back.layers["bleep"], query.layers["bleep"])
    encoded(query_back, small_network, random_state=1)
    with pytest.raises(ValueError, match="weights"):
        bl.tl.impute(query_back, back)


def test_without_a_record_one_warning_says_that_nobody_can_check(
    ref: AnnData, query: AnnData, small_network: str
) -> None:
    for adata in (ref, query):
        encoded(adata, small_network)
    bl.tl.fit(ref, image_key=KEY, **QUICK)
    bl.tl.impute(query, ref)
    expected = query.layers["bleep"].copy()
    del query.uns[KEY]
    with pytest.warns(UserWarning) as caught:
        bl.tl.impute(query, ref)
    (ours,) = [warning for warning in caught if warning.category is UserWarning]
    assert ours.filename == __file__
    assert str(ours.message) == (
        f"`query.obsm['{KEY}']` does not say what made these features, and the model reads those of '{KEY}': nobody "
        "can check that they are the same. `bleep_sc.tl.encode(query, ...)` records it."
    )
    np.testing.assert_array_equal(query.layers["bleep"], expected)


def test_features_that_were_made_elsewhere_need_no_record(ref: AnnData, query: AnnData) -> None:
    """Warnings are errors: a model that knows no encoder asks for none."""
    for adata in (ref, query):
        adata.obsm["X_uni"] = adata.obsm.pop("crops").mean(axis=(1, 2))
    bl.tl.fit(ref, image_key="X_uni", **QUICK)
    bl.tl.impute(query, ref)
    assert np.isfinite(query.layers["bleep"]).all()


# what is refused


def wider(query: AnnData) -> None:
    query.uns["crops"]["q"]["size_um"] = 130.0


OTHERS: dict[str, tuple[Callable[[AnnData], object], str]] = {
    "another encoder": (
        lambda q: encoded(q, "color", key_added=KEY),
        r"was made by 'color', and the model reads 'timm:test_resnet'\. Make the features as",
    ),
    "other weights": (
        lambda q: encoded(q, "timm:test_resnet", random_state=1),
        r"and the model reads 'timm:test_resnet': weights of hash \w{8}, not of hash \w{8}\.",
    ),
    "another view": (
        lambda q: encoded(q, "timm:test_resnet", view=0.5),
        r"and the model reads 'timm:test_resnet': pixels of a crop 8, not 16\. Make the features as for the reference",
    ),
    "another encoder more": (
        lambda q: encoded(q, ["timm:test_resnet", "color"], key_added=KEY),
        r"was made by 2 encoders, and the model reads 1: 'timm:test_resnet'\. Make the features as for the reference",
    ),
    "a function of that name": (
        lambda q: encoded(q, flat, key_added=KEY),
        r"was made by 'custom: flat', and the model reads 'timm:test_resnet'\. Make the features as",
    ),
    "another width of tissue": (
        lambda q: (wider(q), encoded(q, "timm:test_resnet")),
        r"crops of reference and query show different widths of tissue",
    ),
    "a column less": (
        lambda q: (encoded(q, "timm:test_resnet"), q.obsm.update({KEY: q.obsm[KEY][:, 1:]})),
        r"has 95 columns, and its record says 96: it was changed since the record was written",
    ),
    "crops": (
        lambda q: (q.obsm.update({KEY: q.obsm["crops"]}), q.uns.update({KEY: q.uns["crops"]})),
        r"holds crops, but the model was trained on features: name these by `image_key`, or make them with "
        r"`bleep_sc.tl.encode\(query, encoder='timm:test_resnet', key_added='X_timm_test_resnet'\)`",
    ),
}


@pytest.mark.odd
@FEW_PIXELS
@pytest.mark.parametrize("fitted_on", ["features", "crops"])
def test_features_of_others_are_refused_by_name(
    fitted_on: str, ref: AnnData, query: AnnData, small_network: str, unchanged: Callable[..., None]
) -> None:
    encoded(ref, small_network)
    source = {"crops": {"encoder": small_network, "weights": None}, "features": {"image_key": KEY}}[fitted_on]
    bl.tl.fit(ref, **source, **QUICK)  # type: ignore[arg-type]
    unchanged(ref)
    for case, (make, message) in OTHERS.items():
        if "crops" == case == fitted_on:
            continue
        other = query.copy()
        make(other)
        unchanged(other)
        with pytest.raises(ValueError, match=message):
            bl.tl.impute(other, ref, image_key=KEY)


@pytest.mark.odd
def test_encoders_in_another_order_are_refused(ref: AnnData, query: AnnData, small_network: str) -> None:
    encoded(ref, ["color", small_network], key_added="X_kept")
    encoded(query, [small_network, "color"], key_added="X_kept")
    bl.tl.fit(ref, image_key="X_kept", **QUICK)
    with pytest.raises(ValueError, match=r"was made by 'timm:test_resnet', and the model reads 'color'"):
        bl.tl.impute(query, ref)


@pytest.mark.odd
def test_a_module_with_other_weights_is_refused(ref: AnnData, query: AnnData, unchanged: Callable[..., None]) -> None:
    module = pooled()
    bl.tl.fit(ref, encoder=module, **QUICK)
    bl.tl.impute(query, ref, encoder=module)
    unchanged(query)
    with torch.no_grad():
        module[2].bias += 1  # type: ignore[operator]
    with pytest.raises(ValueError, match=r"`encoder` has other weights than the 'custom: Sequential'.*Pass the same"):
        bl.tl.impute(query, ref, encoder=module)


def damaged(change: Callable[[dict[str, Any]], object]) -> Callable[[AnnData], None]:
    def damage(adata: AnnData) -> None:
        found = record(adata)
        change(found)
        adata.uns[KEY] = {"config": json.dumps(found)}

    return damage


def text(value: Any) -> Callable[[AnnData], None]:
    return lambda adata: adata.uns.update({KEY: {"config": value}})


def of_encoder(**values: Any) -> Callable[[AnnData], None]:
    return damaged(lambda found: found["encoders"][0].update(values))


def of_reading(**values: Any) -> Callable[[AnnData], None]:
    return damaged(lambda found: found["encoders"][0]["reading"].update(values))


DAMAGED: dict[str, Callable[[AnnData], None]] = {
    "no JSON": text("{"),
    "a list": text("[]"),
    "null": text("null"),
    "a number": text(5),
    "bytes": text(np.zeros(4)),
    "too long": text(" " * (2**20 + 1) + "{}"),
    "no encoders": damaged(lambda found: found.pop("encoders")),
    "an empty list": damaged(lambda found: found.update(encoders=[])),
    "encoders a record": damaged(lambda found: found.update(encoders={"name": "color"})),
    "an encoder a word": damaged(lambda found: found.update(encoders=["color"])),
    "no scale": damaged(lambda found: found.pop("scale")),
    "a scale of words": damaged(lambda found: found["scale"].update(size="wide")),
    "a scale below 0": damaged(lambda found: found["scale"].update(size_um=-1)),
    "more of scale": damaged(lambda found: found["scale"].update(more=1)),
    "features below 0": of_encoder(n_features=-1),
    "features a word": of_encoder(n_features="96"),
    "unknown kind": of_encoder(kind="pickle"),
    "a kind without reading": of_encoder(kind="color"),
    "no reading": of_encoder(reading=None),
    "reading a word": of_encoder(reading="x"),
    "weights a number": of_encoder(weights=5),
    "a value more": of_encoder(__class__="x"),
    "a view of nothing": of_reading(view_px=0),
    "a view of a billion": of_reading(view_px=10**9),
    "an input of a billion": of_reading(input_px=10**9),
    "nine symmetries": of_reading(symmetries=9),
    "two symmetries": of_reading(symmetries=2),
    "a symmetry true": of_reading(symmetries=True),
    "stages a number": of_reading(stages=3),
    "no stages": of_reading(stages=[]),
    "stages below 0": of_reading(stages=[-1]),
    "a reading more": of_reading(more=1),
}


@pytest.mark.odd
def test_a_damaged_record_is_refused(
    ref: AnnData, query: AnnData, small_network: str, unchanged: Callable[..., None]
) -> None:
    """By `fit` and by `impute`, with the line that makes it again."""
    for adata in (ref, query):
        encoded(adata, small_network)
    fresh = ref.copy()
    bl.tl.fit(ref, image_key=KEY, **QUICK)
    for case, damage in DAMAGED.items():
        for name, adata, call in (
            ("adata", fresh.copy(), lambda adata: bl.tl.fit(adata, image_key=KEY, **QUICK)),
            ("query", query.copy(), lambda adata: bl.tl.impute(adata, ref)),
        ):
            damage(adata)
            unchanged(adata)
            with pytest.raises(ValueError, match=r"`\w+\.uns\['X_timm_test_resnet'\]`") as caught:
                call(adata)
            message = str(caught.value)
            assert f"`{name}.uns['{KEY}']` does not say what made the features of `obsm['{KEY}']`" in message, case
            assert f"Make them again with `bleep_sc.tl.encode({name}, encoder=..., key_added='{KEY}')`" in message, case


def features_for_crops(adata: AnnData) -> None:
    adata.obsm["crops"] = np.ones((adata.n_obs, 3))


def unknown_um(adata: AnnData) -> None:
    for values in adata.uns["crops"].values():
        values["size_um"] = np.nan


BAD: dict[str, tuple[Callable[[AnnData], object], dict[str, Any], type[Exception], str]] = {
    "no crops": (lambda a: a.obsm.pop("crops"), {}, KeyError, r"obsm\['crops'\].*bleep_sc\.pp\.crops"),
    "features": (features_for_crops, {}, ValueError, r"obsm\['crops'\].*holds features already.*Name crops"),
    "unknown": (lambda a: None, {"encoder": "resnet19"}, ValueError, r"`encoder` must be 'color'.*'resnet19'"),
    "unknown of timm": (lambda a: None, {"encoder": "timm:nothing"}, ValueError, r"timm has no model of that name"),
    "unknown in a list": (lambda a: None, {"encoder": ["color", "resnet19"]}, ValueError, r"found 'resnet19'"),
    "a number": (lambda a: None, {"encoder": 5}, TypeError, r"`encoder` must be a name, a torch module.*found 5"),
    "a number in a list": (lambda a: None, {"encoder": ["color", 5]}, TypeError, r"`encoder` must be a name.*found 5"),
    "an empty list": (lambda a: None, {"encoder": []}, ValueError, r"`encoder` is an empty list: name one or more"),
    "twice": (lambda a: None, {"encoder": ["color", "color"]}, ValueError, r"`encoder` holds 'color' twice"),
    "a function twice": (
        lambda a: None,
        {"encoder": [flat, flat]},
        ValueError,
        r"`encoder` holds <function flat.* twice",
    ),
    "no view": (lambda a: None, {"view": 0}, ValueError, r"`view`.*above 0"),
    "a view below 0": (lambda a: None, {"view": -1.0}, ValueError, r"`view`.*above 0"),
    "view of words": (
        lambda a: None,
        {"view": "all"},
        ValueError,
        r"`view`.*above 0, found 'all'",
    ),
    "wider than the crop": (
        lambda a: None,
        {"encoder": "timm:test_resnet", "view": 101.0},
        ValueError,
        r"`view=101` µm is more than a crop shows, 100 µm.*`bleep_sc.pp.crops\(\.\.\., um=101\)`.*smaller `view`",
    ),
    "unknown µm": (
        unknown_um,
        {"encoder": "timm:test_resnet", "view": 50.0},
        ValueError,
        r"`view=50` is a width in µm, but nobody knows how many µm a crop is wide.*such as `view=0.5`",
    ),
    "one file for two": (
        lambda a: None,
        {"encoder": ["resnet18", "color", "timm:test_resnet"], "weights": "w.pth"},
        ValueError,
        r"`weights='w.pth'` is the file of one network, but `encoder` names 2: 'resnet18', 'timm:test_resnet'",
    ),
    "a key": (lambda a: None, {"key_added": "a/b"}, ValueError, r"`key_added`"),
    "a seed": (lambda a: None, {"random_state": -1}, ValueError, r"`random_state`"),
    "NaN": (lambda a: None, {"encoder": lambda images: flat(images) / 0 * 0}, ValueError, r"NaN or infinite"),
    "a table too long": (lambda a: None, {"encoder": lambda images: images}, ValueError, r"must return a tensor"),
}


@pytest.mark.odd
@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named_and_nothing_is_written(case: str, ref: AnnData, unchanged: Callable[..., None]) -> None:
    damage, arguments, error, message = BAD[case]
    damage(ref)
    unchanged(ref)
    with pytest.raises(error, match=message):
        bl.tl.encode(ref, **({"encoder": "color", "weights": None} | arguments))


@pytest.mark.odd
@pytest.mark.parametrize("case", ["an empty list", "twice", "one file for two", "wider than the crop", "unknown µm"])
def test_fit_refuses_the_same_before_a_crop_is_read(case: str, ref: AnnData, unchanged: Callable[..., None]) -> None:
    damage, arguments, error, message = BAD[case]
    damage(ref)
    ref.obsm["crops"] = never_read(ref.obsm["crops"])
    unchanged(ref)
    with pytest.raises(error, match=message):
        bl.tl.fit(ref, **({"weights": None} | QUICK | arguments))


@pytest.mark.odd
def test_views_of_objects_are_refused(ref: AnnData) -> None:
    with pytest.raises(ValueError, match=r"view.*\.copy\(\)"):
        bl.tl.encode(ref[:40], encoder="color")


# the part of a crop that a network reads


@pytest.mark.parametrize(
    ("view", "scale", "pixels"),
    [
        (None, CropScale(224, 165.0, 3.0), 112),
        (None, CropScale(224, 165.0, 1.5), 224),
        (None, CropScale(224, 165.0, 1.0), 224),
        (None, CropScale(224, 165.0, None), 224),
        (None, CropScale(224), 224),
        (None, CropScale(224, 165.0, 165 / 8), 112),  # bins of 8 µm: 12 µm would show one nucleus
        (None, CropScale(224, 55.0, 55 / 8), 224),
        (None, CropScale(224, 400.0, 4.0), 84),
        (None, CropScale(224, None, 3.0), 112),
        (0.5, CropScale(224), 112),
        (1, CropScale(224, 165.0, 3.0), 224),
        (82.5, CropScale(224, 165.0, 3.0), 112),
        (165, CropScale(224, 165.0, 3.0), 224),
        (0.3, CropScale(16), 6),  # 4.8 pixels: 5 have no middle in 16
        (0.3, CropScale(17), 5),
        (1e-9, CropScale(16), 2),
        (1e-9, CropScale(17), 1),
    ],
)
def test_a_view_is_centred_on_whole_pixels(view: float | None, scale: CropScale, pixels: int) -> None:
    assert view_pixels(view, scale) == pixels
    assert (scale.size - pixels) % 2 == 0


@pytest.mark.parametrize("view", [0.5, 50.0, None])
def test_a_network_sees_only_its_view(view: float | None, ref: AnnData, query: AnnData, small_network: str) -> None:
    """What lies outside changes nothing; the model and `impute` keep to it."""
    if view is None:  # 1.5 of 3 diameters
        for adata in (ref, query):
            for values in adata.uns["crops"].values():
                values["spot_diameters"], values["size_um"] = 3.0, 165.0
    hidden = ref.copy()
    hidden.obsm["crops"][:, :4] = 0
    hidden.obsm["crops"][:, :, 12:] = 255
    for adata in (ref, hidden):
        encoded(adata, small_network, view=view)
    assert record(ref)["encoders"][0]["reading"]["view_px"] == 8
    assert np.array_equal(ref.obsm[KEY], hidden.obsm[KEY])
    bl.tl.fit(ref, encoder=small_network, weights=None, view=view, **QUICK)
    found = json.loads(ref.uns["bleep"]["config"])
    assert found["params"]["view"] == view
    assert (
        found["image"]["encoders"][0]["reading"]["view_px"] == found["model"]["encoders"][0]["network"]["view_px"] == 8
    )
    bl.tl.impute(query, ref)
    expected = query.layers["bleep"].copy()
    query.obsm["crops"][:, :4] = 7
    bl.tl.impute(query, ref)
    np.testing.assert_array_equal(query.layers["bleep"], expected)


@pytest.mark.slow
def test_few_pixels_are_one_warning_with_the_line_that_mends_it(ref: AnnData, query: AnnData) -> None:
    """Of `fit`, not again of each prediction; and of how many pixels a crop needs."""
    few = ref[::3].copy()
    with pytest.warns(UserWarning) as caught:
        bl.tl.fit(few, encoder="timm:test_resnet", weights=None, view=0.5, **(QUICK | {"max_epochs": 1}))
    (ours,) = [warning for warning in caught if warning.category is UserWarning and "blown" in str(warning.message)]
    assert ours.filename == __file__
    assert str(ours.message) == (
        "`encoder='timm:test_resnet'` reads 8 of a crop's 16 px, blown up to the 160 px that it was made for. If the "
        "image has more detail, cut larger crops: `bleep_sc.pp.crops(..., size=320)`, with the same `um`."
    )
    bl.tl.impute(query, few)


def test_the_log_says_what_is_read(ref: AnnData, small_network: str, log: pytest.LogCaptureFixture) -> None:
    encoded(ref, small_network, view=50)
    assert "timm:test_resnet reads the centre of each crop, 8 of 16 px (50 µm), as 16 px." in log.text


def test_toy_sections_of_two_sizes_are_refused() -> None:
    mixed = make_sections(20)
    mixed.uns["crops"]["s2"]["size_um"] = 130.0
    with pytest.raises(ValueError, match=r"mixes scales.*'s1'.*'s2'"):
        bl.tl.encode(mixed, encoder="color")
