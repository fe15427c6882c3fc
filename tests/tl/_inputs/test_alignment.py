"""The short check of `fit` that images and expression belong together."""

import re
import warnings
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import squidpy as sq
from anndata import AnnData
from conftest import make_sections
from painted_lattice import FRAME, PITCH, fine_tissue, tissue, undone

import bleep_sc as bl
from bleep_sc.pp._alignment.ways import ways
from bleep_sc.tl._inputs import alignment

MIRROR = ways(tissue().obsm["spatial"], PITCH, FRAME)[1]
PATTERN = "does not fit the spots as given.*\n'{}': another way fits better: mirrored left to right about their centre"


@pytest.fixture(autouse=True)
def nothing_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alignment, "_answers", {})


def reference(seed: int = 0, *, mirrored: bool = False) -> AnnData:
    """A log-normalised section with features of its crops, which are cut at the right places."""
    adata = tissue(seed)
    hires = np.kron(adata.uns["spatial"]["a"]["images"]["hires"], np.ones((2, 2, 1), dtype=np.uint8))
    bl.pp.crops(adata, sq.im.ImageContainer(hires), size=8, mpp=1, check="off")
    totals = np.asarray(adata.X.sum(axis=1))
    adata.X = adata.X.multiply(1e3 / totals).tocsr().astype(np.float32)
    adata.X.data = np.log1p(adata.X.data)
    adata.obsm["X_color"] = adata.obsm["crops"].reshape(adata.n_obs, -1, 3).mean(axis=1).astype(np.float32)
    if mirrored:
        adata.obsm["spatial"] = undone(MIRROR, adata.obsm["spatial"])
    return adata


def fit(adata: AnnData, **how: object) -> None:
    bl.tl.fit(adata, **{"method": "ridge", "alpha": 1.0, "image_key": "X_color"} | how)  # type: ignore[arg-type]


@pytest.mark.parametrize("image_key", ["crops", "X_color"])
def test_what_fits_is_fitted_without_a_word(image_key: str) -> None:
    """Warnings are errors here."""
    fit(reference(), image_key=image_key)


def test_bins_are_judged_by_blocks_of_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alignment, "_MOST_SPOTS", 225)
    adata = fine_tissue()
    adata.X = adata.X.log1p()
    adata.obsm["X_color"] = np.random.default_rng(0).normal(size=(adata.n_obs, 3)).astype(np.float32)
    fit(adata)
    adata.obsm["spatial"] = adata.obsm["spatial"] + [PITCH, 0]
    with pytest.warns(UserWarning, match="'a': another way fits better: shifted by 1 block to the left"):
        fit(adata)


def test_one_warning_names_the_way_and_the_line_and_several_fits_give_it_once() -> None:
    adata = reference(mirrored=True)
    with pytest.warns(UserWarning, match=PATTERN.format("a")) as caught:
        fit(adata)
    assert len([warning for warning in caught if warning.category is UserWarning]) == 1
    text = str(caught[0].message)
    assert "`adata.obsm['spatial'] = [419, 0] + [-1, 1] * adata.obsm['spatial']`" in text
    assert "check='off'" in text
    fit(adata, key_added="second", n_components=3)
    bare = reference(mirrored=True)
    del bare.uns["spatial"]
    fit(bare)  # crops and places were mirrored together: nothing tells


def test_the_places_are_those_at_which_crops_were_cut() -> None:
    """`obsm['spatial']` may hold anything else, such as places in another picture."""
    adata = reference()
    hires = np.kron(adata.uns["spatial"]["a"]["images"]["hires"], np.ones((2, 2, 1), dtype=np.uint8))
    right, mirrored = adata.obsm["spatial"], undone(MIRROR, adata.obsm["spatial"])
    adata.obsm.update(spatial=mirrored, px=right)
    bl.pp.crops(adata, sq.im.ImageContainer(hires), size=8, mpp=1, check="off", spatial_key="px")
    fit(adata)
    adata.obsm.update(spatial=right, px=mirrored)
    with pytest.warns(UserWarning, match=PATTERN.format("a")) as caught:
        fit(adata)
    text = str(caught[0].message)
    assert "`adata.obsm['px'] = [419, 0] + [-1, 1] * adata.obsm['px']`" in text
    (call,) = re.findall(r"`(bleep_sc\.pp\.check_alignment\(.*?\))`", text)
    assert call == "bleep_sc.pp.check_alignment(adata, image_key='X_color', spatial_key='px')"
    with pytest.warns(UserWarning, match=PATTERN.format("a")):
        eval(call, {"bleep_sc": bl, "adata": adata})  # noqa: S307 - as a user would


def test_off_and_methods_without_images_say_nothing() -> None:
    fit(reference(mirrored=True), check="off")
    bl.tl.fit(reference(mirrored=True), method="coordinates", alpha=1.0)
    with pytest.raises(ValueError, match="`check` must be one of 'warn', 'off', found 'raise'"):
        fit(reference(), check="raise")


def test_folds_say_nothing() -> None:
    parts = [reference(seed, mirrored=True) for seed in (0, 1)]
    adata = ad.concat(parts, label="slide", keys=["one", "two"], index_unique="-", merge="same")
    adata.uns["spatial"] = {name: part.uns["spatial"]["a"] for name, part in zip(("one", "two"), parts, strict=True)}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        bl.tl.cross_validate(
            adata,
            methods=["ridge"],
            group_key="slide",
            counts_layer=None,
            library_key="slide",
            n_bootstrap=0,
            method_kwargs={"ridge": {"alpha": 1.0, "image_key": "X_color"}},
        )
    assert not [each for each in caught if "does not fit" in str(each.message)]
    with pytest.warns(UserWarning, match=PATTERN.format("one")) as told:
        fit(adata, library_key="slide")
    assert len(told) == 1
    assert "\n'two': another way" in str(told[0].message)
    assert "(adata.obs['slide'] == 'two')" in str(told[0].message)


def test_features_alone_tell_where_there_is_no_picture() -> None:
    adata = reference()
    del adata.uns["spatial"]
    fit(adata)
    side = int(np.sqrt(adata.n_obs))
    for key in ("crops", "X_color"):  # as where tiles were listed from right to left
        values = adata.obsm[key]
        adata.obsm[key] = values.reshape(side, side, *values.shape[1:])[:, ::-1].reshape(values.shape).copy()
    pattern = r"mirrored left to right about their centre.*Colours of `obsm\['X_color'\]`"
    with pytest.warns(UserWarning, match=pattern):
        fit(adata)


@pytest.mark.odd
@pytest.mark.parametrize("damage", ["no places", "text", "picture of text", "a factor of text", "NaN"])
def test_what_cannot_be_judged_is_fitted_as_ever(damage: str) -> None:
    adata = reference()
    library = adata.uns["spatial"]["a"]
    if damage == "no places":
        del adata.obsm["spatial"]
    elif damage == "NaN":
        adata.obsm["spatial"][3] = np.nan
    elif damage == "text":
        adata.uns["spatial"] = {"a": "nothing"}
    elif damage == "picture of text":
        library["images"]["hires"] = np.full((8, 8, 3), "a")
    else:
        library["scalefactors"]["tissue_hires_scalef"] = "a"
    fit(adata)
    assert "bleep" in adata.uns


def test_the_picture_is_that_of_the_section_whose_crops_are_learned() -> None:
    """One of several sections was taken out; `uns` holds the pictures of all, and the first is another's."""
    adata = reference(1)
    own = adata.uns["spatial"]["a"]
    misleading = reference(1)
    misleading.uns["spatial"] = {"a": own | {"images": {"hires": own["images"]["hires"][:, ::-1].copy()}}}
    with pytest.warns(UserWarning, match="does not fit the spots"):
        fit(misleading)
    adata.uns["spatial"] = {"first": misleading.uns["spatial"]["a"], "a": own}
    fit(adata)
    adata.uns["spatial"] = {"first": own, "a": misleading.uns["spatial"]["a"]}
    alignment._answers.clear()
    with pytest.warns(UserWarning, match="'a': another way fits better"):
        fit(adata)
    del adata.uns["crops"]  # now nobody knows whose spots these are, so no picture is asked
    alignment._answers.clear()
    fit(adata)


def test_what_crops_found_is_repeated_before_training(tmp_path: Path) -> None:
    """Of the sections that are learned from, in one warning; not where the user says that all is right."""
    parts = {name: reference(seed) for seed, name in enumerate("ab")}
    both = ad.concat(parts, label="section", index_unique="-")
    finding = pd.DataFrame({"sign": ["look"], "found": ["Seen."], "remedy": ["Pass the image of 'a'."]})
    record = parts["a"].uns["crops"]["a"] | {"library_key": "section"}
    both.uns["crops"] = {name: record | {"findings": finding[:0]} for name in "ab"}
    fit(both, alpha=1.0)
    for name in "ab":
        both.uns["crops"][name]["findings"] = finding
    both.uns["crops"]["gone"] = record | {"findings": finding}
    both.write_h5ad(tmp_path / "both.h5ad")
    for each in (both, ad.read_h5ad(tmp_path / "both.h5ad")):
        with pytest.warns(UserWarning, match=r"pp\.crops` found that image, scale and spots may not belong") as said:
            fit(each)
        assert len(said) == 1
        lines = str(said[0].message).splitlines()
        assert lines[1:3] == ["'a' (look): Pass the image of 'a'.", "'b' (look): Pass the image of 'a'."]
        assert "'gone'" not in str(said[0].message)
        assert "`adata.uns['crops']`" in lines[3]
    fit(both, check="off")
    bl.tl.fit(both, method="coordinates", alpha=1.0)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ridge", "bleep"])
def test_images_that_tell_nothing_are_named_in_the_log(method: str, log: pytest.LogCaptureFixture) -> None:
    """The images of each section are shuffled, or they are right."""
    ref = make_sections(200)
    how = {"method": method} | ({"max_epochs": 2} if method == "bleep" else {})
    said = "The images tell next to nothing of the expression"
    with log.at_level("INFO", logger="bleep_sc"):
        bl.tl.fit(ref, check="off", **how)
        assert said not in log.text
        ref.obsm["crops"] = np.random.default_rng(0).permutation(ref.obsm["crops"])
        bl.tl.fit(ref, check="off", **how)
        assert said in log.text
