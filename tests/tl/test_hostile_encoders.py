"""What is odd in encoders, their features and counts is refused by name, before long work and before any is written."""

import json
import logging
import warnings
from collections.abc import Callable
from typing import Any

import anndata as ad
import numpy as np
import pytest
import torch
from anndata import AnnData
from torch import Tensor, nn

import bleep_sc as bl

QUICK: dict[str, Any] = {"max_epochs": 1, "members": 1, "n_components": 3}


@pytest.fixture(scope="module")
def tissue() -> AnnData:
    return bl.datasets.toy(n_patients=1, n_sections=2, n_spots=40, n_genes=20, progress_bar=False)


@pytest.fixture
def adata(tissue: AnnData) -> AnnData:
    return tissue.copy()


def means(images: Tensor) -> Tensor:
    """Return the mean colour of images, the quickest encoder."""
    return images.mean((2, 3))


class Pooled(nn.Module):
    """A module with weights that tell it from others."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        weights = np.random.default_rng(seed).normal(size=(3, 4)).astype(np.float32)
        self.mix = nn.Parameter(torch.from_numpy(weights))

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3)) @ self.mix


def fields(adata: AnnData) -> list[str]:
    return sorted(map(str, [*adata.obsm, *adata.uns, *adata.obs, *adata.var, *adata.layers]))


def texts(caught: list[warnings.WarningMessage]) -> list[str]:
    return [str(warning.message) for warning in caught if warning.category is UserWarning]


@pytest.mark.parametrize("value", [np.float32(0.5), np.int64(50)])
def test_numbers_of_numpy_are_kept_as_plain_ones(adata: AnnData, value: Any) -> None:
    bl.tl.fit(adata, encoder=means, view=value, lr=np.float32(1e-3), **QUICK)
    assert json.loads(adata.uns["bleep"]["config"])["params"]["view"] == value


@pytest.mark.parametrize("encoder", [[None], [["color"]], [["color", means]], ["color", ["resnet18"]]])
def test_lists_are_flat(adata: AnnData, encoder: Any) -> None:
    message = r"`encoder` must be a flat list of names, torch modules and functions; it holds (None|\[)"
    for shell in (bl.tl.fit, bl.tl.encode):
        with pytest.raises(TypeError, match=message):
            shell(adata, encoder=encoder)


def test_weights_are_a_name_or_a_path(adata: AnnData) -> None:
    with pytest.raises(TypeError, match=r"`weights` must be 'imagenet', None or the path of a file .*, found True"):
        bl.tl.encode(adata, encoder="resnet18", weights=True)  # type: ignore[arg-type]


def test_a_view_that_nothing_reads_is_refused(adata: AnnData) -> None:
    message = (
        r"`view=0.3`: 'color' always reads the whole crop. Leave `view` out, or cut narrower crops with .*um=\.\.\."
    )
    for shell in (bl.tl.fit, bl.tl.encode):
        with pytest.raises(ValueError, match=message):
            shell(adata, encoder="color", view=0.3)
    bl.tl.encode(adata, encoder=["color", means], view=0.3, key_added="X_made")  # one of the two reads it
    with pytest.raises(ValueError, match=r"`view=0.3`: `adata.obsm\['X_made'\]` holds ready-made features, so no crop"):
        bl.tl.fit(adata, image_key="X_made", view=0.3)


def test_encoders_without_a_fixed_number_of_features(adata: AnnData) -> None:
    calls: list[int] = []

    def growing(images: Tensor) -> Tensor:
        calls.append(0)
        return means(images)[:, : len(calls)]

    before = fields(adata)
    message = "must return the same number of features, at least one, of whatever crops it gets; it returned "
    with pytest.raises(ValueError, match=f"{message}1 and 2"):
        bl.tl.encode(adata, encoder=growing, batch_size=20)
    with pytest.raises(ValueError, match=f"{message}0"):
        bl.tl.fit(adata, encoder=lambda images: means(images)[:, :0])
    assert fields(adata) == before


def test_features_replace_no_model_and_no_crops(adata: AnnData) -> None:
    bl.tl.fit(adata, **QUICK)
    adata.obsm["small"] = adata.obsm["crops"]
    adata.uns["pca"] = {"params": {}}
    for key, kept in {
        "bleep": "a model",
        "X_bleep_image": "each spot's place in the space of a model",
        "small": "the picture of each spot",
        "pca": r"something else, in `adata.uns\['pca'\]`,",
    }.items():
        with pytest.raises(ValueError, match=rf"`key_added='{key}'`: {kept} is kept under that name. Choose another"):
            bl.tl.encode(adata, encoder=means, key_added=key)
    bl.tl.encode(adata, encoder=means, key_added="X_made")
    bl.tl.encode(adata, encoder=means, key_added="X_made")  # features themselves are made again


def test_counts_are_looked_at_before_images_are_read(adata: AnnData) -> None:
    def forbidden(_: Tensor) -> Tensor:
        pytest.fail("an image was read")

    counts = adata.layers["counts"].toarray()
    counts[0, 0] = np.nan
    adata.layers["counts"] = counts
    with pytest.raises(ValueError, match=r"`adata.layers\['counts'\]` holds NaN"):
        bl.tl.fit(adata, encoder=forbidden, **QUICK)


@pytest.mark.parametrize(
    ("change", "apart"),
    [
        (lambda counts: np.minimum(counts, 5), True),  # few molecules are counts too
        (lambda counts: counts * (np.arange(len(counts)) > 0)[:, None], True),  # a spot without any
        (lambda counts: counts - 1.0 * (np.arange(counts.shape[1]) == 3), False),  # below 0
        (np.log1p, False),
        (np.zeros_like, False),
        (lambda counts: (counts > 2) * 1.0, False),  # detected or not
    ],
)
def test_what_counts_are(adata: AnnData, change: Callable[[np.ndarray], np.ndarray], apart: bool) -> None:  # noqa: FBT001
    counts = adata.layers["counts"].toarray()
    counts[:, 3] = 0
    adata.layers["counts"] = change(counts)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        bl.tl.fit(adata, encoder=means, **QUICK)
    assert ("depth_unit" in json.loads(adata.uns["bleep"]["config"])) is apart
    said = [text for text in texts(caught) if "does not hold raw counts" in text]
    assert len(said) == (0 if apart else 1)


def test_embed_reads_no_depth_from_logarithms(adata: AnnData) -> None:
    bl.tl.fit(adata, encoder=means, **QUICK)
    query = adata.copy()
    query.layers["counts"] = query.X.copy()
    del query.uns["bleep"]
    with pytest.raises(
        ValueError, match=r"does not hold raw counts, and the model reads the depth .* `del adata.layers"
    ):
        bl.tl.embed(query, adata, encoder=means)
    del query.layers["counts"]
    bl.tl.embed(query, adata, encoder=means)


@pytest.mark.slow
def test_messages_of_a_model_that_reads_features(adata: AnnData) -> None:
    ref, query, own = adata.copy(), adata.copy(), Pooled(0)
    bl.tl.encode(ref, encoder=["color", own], key_added="X_made")
    bl.tl.fit(ref, image_key="X_made", **QUICK)
    with pytest.raises(ValueError, match=r"encode\(query, encoder=\['color', <your Pooled>\], key_added='X_made'\)"):
        bl.tl.impute(query, ref, image_key="crops")
    with pytest.raises(
        ValueError, match=r"reads ready-made features \(X_made\), so there is no image .* leave `encoder`"
    ):
        bl.tl.impute(ref.copy(), ref, encoder=own)
    for encoders, said in (
        (["color", Pooled(1)], r"'custom: Pooled': weights of hash [0-9a-f]{8}, not of hash [0-9a-f]{8}\. Make"),
        ([own, "color"], r"made by 'custom: Pooled', and the model reads 'color'\. Make the features as for the"),
    ):
        bl.tl.encode(query, encoder=encoders, key_added="X_made")
        with pytest.raises(ValueError, match=said):
            bl.tl.impute(query, ref)
    bl.tl.encode(query, encoder=["color", own], view=0.5, key_added="X_made")
    with pytest.raises(ValueError, match=r"'custom: Pooled': pixels of a crop 32, not all\. Make"):
        bl.tl.impute(query, ref)


@pytest.mark.slow
def test_an_own_encoder_that_cannot_be_checked(adata: AnnData) -> None:
    own = Pooled(0)
    ref, query = adata.copy(), adata.copy()
    bl.tl.fit(ref, encoder=["color", own], **QUICK)
    with pytest.raises(TypeError, match=r"must be the torch module or the function of custom: Pooled, found 'color'"):
        bl.tl.impute(query, ref, encoder="color")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"pass the same one as `encoder=`, and no other: 2 were found"):
        bl.tl.impute(query, ref, encoder=["color", own])  # type: ignore[list-item]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        bl.tl.impute(query, ref, encoder=lambda images: own(images))
    assert [text for text in texts(caught) if "is no torch module, and the model was trained with one" in text]
    assert len(texts(caught)) == 1


def test_a_lost_record_is_said(adata: AnnData, caplog: pytest.LogCaptureFixture) -> None:
    bl.tl.encode(adata, encoder=["color", means], key_added="X_made")
    halves = [adata[:40].copy(), adata[40:].copy()]
    kept, lost = ad.concat(halves, uns_merge="unique"), ad.concat(halves)
    with bl.settings.override(verbosity="info"), caplog.at_level(logging.INFO, logger="bleep_sc"):
        bl.tl.fit(kept, image_key="X_made", library_key="section", **QUICK)
        assert "does not say what made these features" not in caplog.text
        bl.tl.fit(lost, image_key="X_made", library_key="section", **QUICK)
    assert "taken for those of one encoder. If they are of `bleep_sc.tl.encode`: `anndata.concat` keeps" in caplog.text
    encoders = [len(json.loads(part.uns["bleep"]["config"])["image"]["encoders"]) for part in (kept, lost)]
    assert encoders == [2, 0]


@pytest.mark.slow
def test_a_model_in_training_mode_is_given_back_as_it_came(adata: AnnData) -> None:
    with torch.random.fork_rng():
        conv = nn.Conv2d(3, 4, 3)
    own = nn.Sequential(conv, nn.BatchNorm2d(4), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    own[2].eval()
    conv.weight.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in own.state_dict().items()}
    bl.tl.fit(adata, encoder=["color", own], **QUICK)
    query = adata.copy()
    del query.uns["bleep"]
    bl.tl.impute(query, adata, encoder=own)  # weights, batch norm's counters too, are those of the fit
    assert [module.training for module in own] == [True, True, False, True, True]
    assert [conv.weight.requires_grad, conv.bias.requires_grad] == [False, True]
    assert all(torch.equal(tensor, before[name]) for name, tensor in own.state_dict().items())


def test_a_reference_of_fewer_genes_is_not_called_changed(adata: AnnData) -> None:
    """Depth counted of the genes that are left is less: neither another model's nor a place elsewhere."""
    adata.var["highly_variable"] = np.arange(adata.n_vars) < 10
    bl.tl.fit(adata, encoder=means, **QUICK)
    query, ref = adata.copy(), adata[:, :10].copy()
    del query.uns["bleep"]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        bl.tl.impute(query, ref, encoder=means)
    assert not [text for text in texts(caught) if "is not what the model" in text]
    bl.tl.embed(ref, encoder=means)
    depth, before = ref.obsm["X_bleep_components"][:, 0], adata.obsm["X_bleep_components"][:, 0]
    sections = adata.obs["section"].to_numpy()
    assert all(abs(depth[sections == name].mean()) < 1e-3 for name in np.unique(sections))
    assert np.corrcoef(depth, before)[0, 1] > 0.8


def test_measured_spots_that_hold_nothing(adata: AnnData) -> None:
    bl.tl.fit(adata, method="mean")
    query = adata.copy()
    del query.uns["bleep"]
    query.obs["is_measured"] = np.arange(query.n_obs) % 4 == 0
    values = query.X.toarray()
    values[0] = 0
    query.X = values
    n = int(query.obs["is_measured"].sum())
    with pytest.warns(
        UserWarning, match=rf"^1 of {n} spots that `query.obs\['is_measured'\]` marks as measured hold no"
    ):
        bl.tl.impute(query, adata, measured="is_measured")
    query.X = np.zeros_like(values)
    with pytest.raises(ValueError, match=rf"^{n} of {n} spots .* in `query.X` are 0\. Put what was measured there"):
        bl.tl.impute(query, adata, measured="is_measured", key_added="with")
    assert "with" not in query.layers


def test_folds_are_trained_anew_with_the_same_own_encoders(adata: AnnData) -> None:
    own = Pooled(0)
    bl.tl.fit(adata, encoder=own, **QUICK)
    for encoder, found in ((None, 0), ([own, means], 2)):
        with pytest.raises(
            ValueError, match=rf"with 1 encoders of your own \(custom: Pooled\), found {found}: pass the"
        ):
            bl.tl.calibrate(adata, cross_fit=True, encoder=encoder)  # type: ignore[arg-type]
