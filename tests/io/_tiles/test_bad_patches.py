"""Odd, damaged and hostile patch files: one clear error, before anything large is read."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import patch_files
import pytest
from anndata import AnnData

import bleep_sc as bl

pytestmark = pytest.mark.odd

CORNERS = np.array([[0, 0], [512, 0], [0, 512]])
FEATURES = np.ones((3, 4), dtype=np.float32)
Change = Callable[[h5py.File], Any]


def replaced(name: str, values: Any, **options: Any) -> Change:
    def change(file: h5py.File) -> None:
        beside = dict(file[name].attrs) if name in file else {}
        file.pop(name, None)
        file.create_dataset(name, data=values, **options).attrs.update(beside)

    return change


def claims(name: str, shape: tuple[int, ...], chunks: tuple[int, ...]) -> Change:
    """An array of which nothing was ever written: it takes no room in the file."""

    def change(file: h5py.File) -> None:
        del file[name]
        most = (None,) * len(shape)
        file.create_dataset(name, shape=shape, maxshape=most, chunks=chunks, dtype=np.float32, compression="gzip")

    return change


def external(file: h5py.File) -> None:
    del file["features"]
    file["features"] = h5py.ExternalLink("other.h5", "features")


def soft(file: h5py.File) -> None:
    file["real"] = file["features"][()]
    del file["features"]
    file["features"] = h5py.SoftLink("/real")


def kept_outside(file: h5py.File) -> None:
    del file["features"]
    file.create_dataset("features", shape=(3, 4), dtype="f4", external=[("raw.bin", 0, 48)])


def virtual(file: h5py.File) -> None:
    del file["features"]
    layout = h5py.VirtualLayout(shape=(3, 4), dtype="f4")
    layout[:] = h5py.VirtualSource("other.h5", "features", shape=(3, 4))
    file.create_virtual_dataset("features", layout)


def group(file: h5py.File) -> None:
    del file["features"]
    file.create_group("features")


def objects(file: h5py.File) -> None:
    del file["features"]
    array = file.create_dataset("features", shape=(3, 4), dtype=h5py.ref_dtype)
    array[0, 0] = file["coords"].ref


NAN = FEATURES.copy()
NAN[1, 2] = np.nan
REFUSED: dict[str, tuple[Change, str]] = {
    "no coords": (lambda f: f.pop("coords"), r"'a\.h5' has no `coords`; it holds 'features'"),
    "text coords": (replaced("coords", np.array([["a", "b"]] * 3, dtype="S")), r"`coords` .* must hold num.*text"),
    "three coordinates": (replaced("coords", np.ones((3, 3))), r"`coords` .* shape \(n_patches, 2\), x .*\(3, 3\)"),
    "a row of coords": (replaced("coords", np.ones(2)), r"`coords` .* shape \(n_patches, 2\); found \(2,\)"),
    "no patches": (replaced("coords", np.ones((0, 2))), r"`features` .* has 3 rows, and `coords` .* has 0"),
    "NaN in coords": (replaced("coords", CORNERS * np.array([1, np.nan])), r"`coords` .* NaN .* 3 of 3 tiles.*row 0"),
    "rows that do not match": (replaced("features", FEATURES[:2]), r"`features` .* has 2 rows, and `coords` .* has 3"),
    "features of the slide": (replaced("features", FEATURES[0]), r"`features` .* n_features\); found \(4,\)"),
    "two slides": (replaced("features", np.ones((2, 3, 4))), r"`features` .* found \(2, 3, 4\)"),
    "no columns": (replaced("features", np.ones((3, 0))), r"`features` .* \(n_tiles, n_features\).*\(3, 0\)"),
    "NaN in features": (replaced("features", NAN), r"`features` .* NaN, .* 1 of 3 tiles, such as 'TCGA-01_1'"),
    "beyond float32": (replaced("features", np.full((3, 4), 1e300)), r"`features` .* infinite or .* 3 of 3 tiles"),
    "complex": (replaced("features", FEATURES * 1j), r"`features` .* must hold numbers.*complex"),
    "text": (replaced("features", np.array([["a"] * 4] * 3, dtype="S")), r"`features` .* must hold numbers.*text"),
    "references": (objects, r"`features` .* must hold numbers"),
    "a link to another file": (external, r"`features` in 'a\.h5' is a link to somewhere else"),
    "a link": (soft, r"`features` in 'a\.h5' is a link to somewhere else"),
    "values in another file": (kept_outside, r"`features` in 'a\.h5' keeps its values in another file"),
    "virtual": (virtual, r"`features` in 'a\.h5' keeps its values in another file"),
    "a group": (group, r"`features` in 'a\.h5' is no array"),
    "more than memory": (claims("features", (3, 2**40), (1, 1024)), r"is said to be .* GiB; at most 32 GiB are read"),
    "a bomb of chunks": (claims("features", (3, 4), (3, 4)), r"\(3, 4\), and takes only 0 bytes of the file"),
    "chunks of gigabytes": (
        claims("features", (3, 4), (2**15, 2**14)),
        r"packed in parts of \(32768, 16384\), 2 GiB each",
    ),
    "both": (replaced("embeddings", FEATURES), r"'a\.h5' holds `features` and `embeddings`: keep one"),
    "too few names": (replaced("barcodes", np.array(["a", "b"], dtype="S")), r"each of the 3 patches .* 2 names"),
    "a name twice": (replaced("barcode", np.array([["a"], ["b"], ["a"]], dtype="S")), r"3 patches once.* 2 different"),
    "a name of nothing": (replaced("barcode", np.array(["", "b", "c"], dtype="S")), r"`barcode` in 'a\.h5' holds ''"),
    "names that are numbers": (replaced("barcode", np.arange(3)), r"`barcode` .* must hold names"),
    "names in no encoding": (replaced("barcode", np.array([b"\xff", b"b", b"c"])), r"`barcode` .* could not be read"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
def test_is_refused(change: Change, message: str, tmp_path: Path) -> None:
    path = patch_files.trident(tmp_path / "a.h5", CORNERS, FEATURES)
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises((ValueError, KeyError), match=message):
        bl.io.from_patches(path, mpp=0.25)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (None, r"'a\.h5' has no `img`; it holds 'coords', 'features'"),
        (
            np.zeros((2, 8, 8, 3), dtype=np.uint8),
            r"`img` in 'a\.h5' has 2 pictures, and `coords` in 'a\.h5' has 3 places",
        ),
        (
            np.zeros((3, 8, 9, 3), dtype=np.uint8),
            r"must be uint8 \(n_patches, size, size, 3\), RGB; found uint8 .*8, 9, 3",
        ),
        (np.zeros((3, 8, 8, 4), dtype=np.uint8), r"must be uint8 .* found uint8 \(3, 8, 8, 4\)"),
        (np.zeros((3, 8, 8, 3)), r"must be uint8 .* found float64"),
        (np.zeros((3, 8, 8)), r"`img` .* must have the shape \(n_patches, size, size, 3\); found \(3, 8, 8\)"),
    ],
)
def test_pictures_that_are_no_crops_are_refused(values: np.ndarray | None, message: str, tmp_path: Path) -> None:
    path = patch_files.trident(tmp_path / "a.h5", CORNERS, FEATURES)
    if values is not None:
        with h5py.File(path, "r+") as file:
            file["img"] = values
    with pytest.raises((ValueError, KeyError), match=message):
        bl.io.from_patches(path, mpp=0.25, crops=True)


def test_a_slide_without_tissue_is_refused(tmp_path: Path) -> None:
    path = patch_files.trident(tmp_path / "a.h5", np.zeros((0, 2)))
    with pytest.raises(ValueError, match=r"`coords` in 'a\.h5' holds no tile: no tissue was found"):
        bl.io.from_patches(path, mpp=0.25)


def test_what_is_not_known_is_asked_for(tmp_path: Path) -> None:
    path = patch_files.trident(tmp_path / "a.h5", CORNERS)
    with pytest.raises(ValueError, match=r"nobody knows how many µm .* Pass `mpp=`.*The file says 40x: about 0\.25"):
        bl.io.from_patches(path)
    path = patch_files.clam_features(tmp_path / "b.h5", CORNERS, FEATURES)
    with pytest.raises(ValueError, match=r"'b\.h5' does not say how wide a patch is\. Pass `patch_size=`"):
        bl.io.from_patches(path, mpp=0.25)
    with pytest.raises(ValueError, match=r"`features` in 'b\.h5' does not say which encoder made it\. Pass its name"):
        bl.io.from_patches(path, mpp=0.25, patch_size=512)
    path = patch_files.trident(tmp_path / "c.h5", CORNERS, FEATURES, encoder=None)
    with pytest.raises(ValueError, match="does not say which encoder made it"):
        bl.io.from_patches(path, mpp=0.25)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mpp": 0}, "`mpp` must be a finite number above 0"),
        ({"mpp": "0.5"}, "`mpp` must be a finite number above 0"),
        ({"patch_size": -1}, "`patch_size` must be a finite number above 0"),
        ({"encoder": ""}, "`encoder` must be the name of the encoder"),
        ({"encoder": 3}, "`encoder` must be the name of the encoder"),
        ({"encoder": "uni"}, r"`encoder='uni'` made features, and 'a\.h5' holds none"),
        ({"library_id": "a/b"}, "`library_id` must be a name without '/'"),
        ({"ref": "ref.h5ad"}, "`ref` must be an AnnData"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = patch_files.trident(tmp_path / "a.h5", CORNERS)
    with pytest.raises((ValueError, TypeError), match=message):
        bl.io.from_patches(path, **{"mpp": 0.25} | arguments)


def test_no_such_file_no_hdf5_and_a_truncated_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"`path`: there is no file"):
        bl.io.from_patches(tmp_path / "a.h5")
    with pytest.raises(FileNotFoundError, match=r"`path`: there is no file"):
        bl.io.from_patches(tmp_path)
    (tmp_path / "b.h5").write_text("coords")
    with pytest.raises(ValueError, match=r"could not be opened as an HDF5 file"):
        bl.io.from_patches(tmp_path / "b.h5")
    whole = patch_files.trident(tmp_path / "c.h5", CORNERS, FEATURES).read_bytes()
    for share in (0.1, 0.5, 0.9, 0.99):
        (tmp_path / "c.h5").write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises((ValueError, KeyError), match=r"c\.h5"):
            bl.io.from_patches(tmp_path / "c.h5", mpp=0.25)


def test_damaged_bytes_never_raise_anything_else(tmp_path: Path) -> None:
    """One error of ours, or values that are numbers: whatever 120 changed bytes do."""
    whole = bytearray(patch_files.trident(tmp_path / "a.h5", CORNERS, FEATURES).read_bytes())
    rng, refused = np.random.default_rng(0), 0
    for place in rng.choice(len(whole), 120, replace=False):
        damaged = whole.copy()
        damaged[place] ^= 0xFF
        (tmp_path / "a.h5").write_bytes(damaged)
        try:
            slide = bl.io.from_patches(tmp_path / "a.h5", mpp=0.25, patch_size=512, encoder="uni_v1")
        except (ValueError, KeyError) as err:
            refused += 1
            assert "a.h5" in str(err)
        except UserWarning:
            continue
        else:
            assert np.isfinite(slide.obsm["spatial"]).all()
    assert refused


def test_a_damaged_record_is_refused(ref: AnnData, tmp_path: Path) -> None:
    slide = bl.io.from_patches(patch_files.trident(tmp_path / "a.h5", CORNERS, FEATURES), ref, mpp=0.25)
    text = slide.uns["X_uni_v1"]["config"]
    ref.obsm["X_uni_v1"] = np.ones((ref.n_obs, 4), dtype=np.float32)
    for old, new in (('"features"', '"feature"'), ("null", "3"), ("256", "0"), ("128.0", "-1")):
        assert old in text
        ref.uns["X_uni_v1"] = {"config": text.replace(old, new)}
        with pytest.raises(ValueError, match=re.escape("`adata.uns['X_uni_v1']` does not say what made")):
            bl.tl.fit(ref, image_key="X_uni_v1")


def test_tiles_that_were_written_twice_are_named(tmp_path: Path) -> None:
    """As where a program was run again and added to the file."""
    corners = np.concatenate([CORNERS, CORNERS[1:]])
    path = patch_files.trident(tmp_path / "twice.h5", corners, np.ones((5, 4), dtype=np.float32))
    with pytest.warns(UserWarning, match=r"2 of 5 tiles of `coords` in 'twice\.h5' stand where .* 'TCGA-01_3'") as told:
        slide = bl.io.from_patches(path, mpp=0.25)
    (line,) = re.findall(r"`(slide = .*?\(\))`", str(told[0].message))
    names = {"slide": slide, "pd": pd}
    exec(line, names)  # noqa: S102 - as a user would
    assert list(names["slide"].obs_names) == ["TCGA-01_0", "TCGA-01_1", "TCGA-01_2"]


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="It is a folder: pass one of the files in it"):
        bl.io.from_patches(tmp_path)
