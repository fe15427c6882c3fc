"""A reference with rows of another model, or with other values than it was fitted on, is told from any sound one."""

import copy
import pickle
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pytest
from anndata import AnnData
from anndata.experimental import read_lazy
from conftest import PUBLISHED, make_sections
from scipy import sparse

import bleep_sc as bl
from bleep_sc.tl._inputs.placed import _among, fingerprints_of

FIT: dict[str, dict[str, Any]] = {
    "knn": {"method": "knn"},
    "published": {name: value for name, value in PUBLISHED.items() if name != "encoder"} | {"max_epochs": 2},
    "default": {"max_epochs": 2, "members": 1, "context": 4},
}
pytestmark = pytest.mark.filterwarnings("ignore:the model has nearly collapsed:UserWarning")


def section(name: str, seed: int) -> AnnData:
    """A section with features, whose spots have names of their own."""
    adata = make_sections(32, sections=(name,), size=8, seed=seed)
    adata.obs_names = [f"{name}-{i}" for i in range(32)]
    adata.obsm["feat"] = adata.obsm.pop("crops").mean(axis=(1, 2)).astype(np.float32)
    del adata.uns["crops"]
    return adata


def fit(adata: AnnData, method: str) -> AnnData:
    with bl.settings.override(progress_bar=False, device="cpu", verbosity="error"):
        bl.tl.fit(adata, **FIT[method], image_key="feat", library_key="section")
    return adata


@pytest.fixture(scope="module", params=FIT)
def once(request: pytest.FixtureRequest) -> AnnData:
    """A reference of two sections by each method that retrieves; do not change it, take `ref`."""
    with warnings.catch_warnings(action="ignore"):
        return fit(ad.concat([section("s1", 0), section("s2", 1)]), request.param)


@pytest.fixture
def ref(once: AnnData) -> AnnData:
    return once.copy()


def imputed(ref: AnnData, **arguments: Any) -> AnnData:
    """Warnings are errors."""
    query = section("q", 2)
    bl.tl.impute(query, ref, k=5, **arguments)
    return query


def through_h5ad(ref: AnnData, folder: Path) -> AnnData:
    ref.write_h5ad(folder / "ref.h5ad")
    return ad.read_h5ad(folder / "ref.h5ad")


def through_zarr(ref: AnnData, folder: Path) -> AnnData:
    with warnings.catch_warnings(action="ignore"):  # of anndata, of zarr's formats
        ref.write_zarr(folder / "ref.zarr")
    return ad.read_zarr(folder / "ref.zarr")


def lazily(ref: AnnData, folder: Path) -> AnnData:
    through_zarr(ref, folder)
    return read_lazy(folder / "ref.zarr")


def backed(ref: AnnData, folder: Path) -> AnnData:
    ref.write_h5ad(folder / "ref.h5ad")
    return ad.read_h5ad(folder / "ref.h5ad", backed="r")


def in_parts(ref: AnnData, folder: Path) -> AnnData:
    parts = [ref[ref.obs["section"] == name].copy() for name in ("s2", "s1")]
    return ad.concat(parts, uns_merge="first", merge="same")


def with_a_new_section(ref: AnnData, folder: Path) -> AnnData:
    """Which was placed by itself, and then joined."""
    new = section("s3", 3)
    bl.tl.embed(new, ref)
    return ad.concat([new, ref], uns_merge="first", merge="same")


def with_an_imputed_section(ref: AnnData, folder: Path) -> AnnData:
    new = section("s3", 3)
    bl.tl.embed(new, ref)
    bl.tl.impute(new, ref, k=5)
    return ad.concat([ref, new], uns_merge="first", merge="same")


def placed_anew(ref: AnnData, folder: Path) -> AnnData:
    joined = ad.concat([fit(section("s3", 3), "knn"), section("s4", 4)], uns_merge="first", merge="same")
    joined.uns["bleep"] = {part: ref.uns["bleep"][part] for part in ("model", "genes", "config", "history", "panels")}
    bl.tl.embed(joined)
    return joined


def its_own_query(ref: AnnData, folder: Path) -> AnnData:
    bl.tl.impute(ref, ref, k=5)
    return ref


def model_from_a_folder(ref: AnnData, folder: Path) -> AnnData:
    bl.io.write_model(ref, folder / "model")
    bl.io.read_model(ref, folder / "model")
    return ref


def as_float16(ref: AnnData, folder: Path) -> AnnData:
    for name in [name for name in ref.obsm if name.startswith("X_bleep")]:
        ref.obsm[name] = ref.obsm[name].astype(np.float16)
    ref.X = ref.X.toarray().astype(np.float16)
    return ref


def of_an_earlier_version(ref: AnnData, folder: Path) -> AnnData:
    for part in ("placed", "measured"):
        del ref.uns["bleep"][part]
    return ref


def other_names(ref: AnnData, folder: Path) -> AnnData:
    ref.obs_names = [f"{name}-ref" for name in ref.obs_names]
    if "X_bleep_expression" not in ref.obsm:  # expression that is embedded is compared whatever its name
        ref.X = ref.X * 2
    return ref


SOUND: dict[str, Callable[[AnnData, Path], AnnData]] = {
    "as fitted": lambda ref, folder: ref,
    "some rows": lambda ref, folder: ref[5:40].copy(),
    "a view": lambda ref, folder: ref[::2],
    "rows in another order": lambda ref, folder: ref[np.random.default_rng(0).permutation(ref.n_obs)].copy(),
    "genes in another order": lambda ref, folder: ref[:, ::-1].copy(),
    "pickled": lambda ref, folder: pickle.loads(pickle.dumps(ref)),
    "copied": lambda ref, folder: copy.deepcopy(ref),
    "h5ad": through_h5ad,
    "zarr": through_zarr,
    "lazy": lazily,
    "backed": backed,
    "parts joined again": in_parts,
    "a new section": with_a_new_section,
    "a section that was imputed too": with_an_imputed_section,
    "another model's, placed again": placed_anew,
    "its own query": its_own_query,
    "the model read from a folder": model_from_a_folder,
    "half precision": as_float16,
    "an earlier version's": of_an_earlier_version,
    "names that are not known": other_names,
}


@pytest.mark.parametrize("case", SOUND)
@pytest.mark.slow
def test_nothing_is_said_of_a_sound_reference(case: str, ref: AnnData, tmp_path: Path) -> None:
    sound = SOUND[case](ref, tmp_path)
    imputed(sound)
    imputed(sound, match="image")


@pytest.mark.parametrize("layer", ["counts", "scaled"])
def test_nothing_is_said_of_a_layer_that_the_user_names(layer: str, ref: AnnData) -> None:
    ref.layers["scaled"] = ref.X.toarray() - 3
    imputed(ref, layer=layer, predict="retrieval" if "members" in str(ref.uns["bleep"]["config"]) else None)


def joined_after_separate_fits(ref: AnnData, folder: Path) -> AnnData:
    method = next(name for name in FIT if ref.uns["method"] == name)
    return ad.concat([ref, fit(section("s3", 3), method)], uns_merge="first", merge="same")


def another_fit_on_disk(ref: AnnData, folder: Path) -> AnnData:
    return lazily(joined_after_separate_fits(ref, folder), folder)


def one_row(ref: AnnData, folder: Path) -> AnnData:
    for name in [name for name in ref.obsm if name.startswith("X_bleep")]:
        ref.obsm[name][7, 0] += 1e-3
    return ref


def values(change: Callable[[Any], Any]) -> Callable[[AnnData, Path], AnnData]:
    def changed(ref: AnnData, folder: Path) -> AnnData:
        ref.X = change(ref.X)
        return ref

    return changed


ROWS = (
    r"`ref\.obsm\['X_bleep_\w+'\]` is not what the model 'bleep' makes of `ref` \({}\): .*tl\.embed\(ref, key='bleep'\)"
)
X = r"`ref\.X` is not what the model 'bleep' was fitted on: {}.*Restore `ref\.X`"
CHANGED: dict[str, tuple[Callable[[AnnData, Path], AnnData], str]] = {
    "joined after separate fits": (joined_after_separate_fits, ROWS.format("32 of 96 rows")),
    "the same on disk": (another_fit_on_disk, ROWS.format(r"\d+ of 64 rows looked at")),
    "one row of another model": (one_row, ROWS.format("1 of 64 rows")),
    "counts": (lambda ref, _: values(lambda _: ref.layers["counts"])(ref, _), X.format("16 of 16 spots looked at")),
    "scaled": (values(lambda x: x.toarray() / x.toarray().std(axis=0)), X.format("16 of 16 spots")),
    "another unit": (values(lambda x: x / np.log(2)), X.format("16 of 16 spots")),
    "rows in another order": (values(lambda x: x[np.random.default_rng(0).permutation(x.shape[0])]), X.format("")),
    "one section's": (
        values(lambda x: sparse.vstack([x[:32], 1.2 * x[32:]]).tocsr()),
        X.format(r"8 of 16 spots looked at have other values, [\d.]+ to [\d.]+ where there were [\d.]+ to [\d.]+\."),
    ),
}


@pytest.mark.odd
@pytest.mark.parametrize("case", CHANGED)
@pytest.mark.slow
def test_a_changed_reference_is_said_once(
    case: str, ref: AnnData, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    change, message = CHANGED[case]
    ref.uns["method"] = request.node.callspec.params["once"]
    changed = change(ref, tmp_path)
    with pytest.warns(UserWarning) as caught:
        imputed(changed)
    ours = [str(warning.message) for warning in caught if warning.category is UserWarning]
    (said,) = [message for message in ours if "looks like raw counts" not in message]
    assert re.match(message, said)
    if case == "joined after separate fits":
        bl.tl.embed(changed)
        imputed(changed)


@pytest.mark.odd
def test_values_of_a_layer_are_remembered_too() -> None:
    ref = section("s1", 0)
    ref.layers["log"], ref.X = ref.X, ref.layers["counts"]
    bl.tl.fit(ref, method="knn", image_key="feat", layer="log")
    imputed(ref)  # `X` was never said to be the same
    imputed(ref, layer="log")
    ref.layers["log"] = ref.layers["log"] * 2
    with pytest.warns(UserWarning, match=r"`ref\.layers\['log'\]` is not what the model 'bleep' was fitted on"):
        imputed(ref, layer="log")


@pytest.mark.parametrize("method", ["ridge", "mean"])
def test_nothing_of_the_spots_is_remembered_where_none_is_needed(method: str) -> None:
    ref = section("s1", 0)
    bl.tl.fit(ref, method=method, image_key="feat")
    assert not {"placed", "measured"} & set(ref.uns["bleep"])


def test_little_is_remembered(once: AnnData) -> None:
    measured = once.uns["bleep"]["measured"]
    rows = once.obs_names.get_indexer(measured["spots"])
    expected = once[rows, list(measured["genes"])].X.toarray()
    np.testing.assert_array_equal(measured["values"], expected)
    assert measured["values"].shape == (16, 30)
    (placed,) = once.uns["bleep"]["placed"].values()
    kinds = sum(name.startswith("X_bleep") for name in once.obsm)
    assert placed.dtype == np.uint64
    assert placed.shape == (kinds * once.n_obs,)


def test_a_folder_holds_nothing_of_the_spots(once: AnnData, tmp_path: Path) -> None:
    bl.io.write_model(once, tmp_path / "model")
    text = (tmp_path / "model" / "config.json").read_text()
    assert "placed" not in text
    assert "measured" not in text
    assert "s1-0" not in text


def test_odd_names_of_spots_are_not_remembered() -> None:
    """Names that could not be read back: the model must be."""
    ref = section("s1", 0)
    ref.obs_names = ["", "x" * 2000, "a\0b", *ref.obs_names[3:]]
    bl.tl.fit(ref, method="knn", image_key="feat")
    assert len(ref.uns["bleep"]["measured"]["spots"]) == 14
    imputed(ref)


@pytest.mark.parametrize("known", [[], [7], [3, 2**64 - 1, 0, 3, 9], [5, 4]])
def test_known_numbers_are_found(known: list[int]) -> None:
    numbers = np.array([9, 0, 3, 2**64 - 1, 8, 3], dtype=np.uint64)
    assert _among(numbers, np.array(known, dtype=np.uint64)).tolist() == [int(number) in known for number in numbers]


def test_fingerprints_tell_rows_kinds_and_models_apart() -> None:
    rows = np.random.default_rng(0).normal(size=(500, 7)).astype(np.float32)
    one_bit = rows.copy()
    one_bit.view(np.uint32)[np.arange(500), np.arange(500) % 7] ^= np.uint32(1) << np.arange(500, dtype=np.uint32) % 32
    swapped = rows[:, [1, 0, *range(2, 7)]]
    zeros = [np.zeros((1, width), dtype=np.float32) for width in (1, 2)]

    def found(rows: np.ndarray, kind: str = "image", model: str = "a") -> set[int]:
        (made,) = fingerprints_of({f"X_m_{kind}": rows}, "m", model).values()
        return set(made.tolist())

    others = [found(one_bit), found(swapped), found(rows, "expression"), found(rows, model="b")]
    assert found(rows) == found(rows[::-1]) == found(np.asfortranarray(rows)) == found(rows.astype(">f4"))
    assert len(set().union(found(rows), *others)) == 5 * 500
    assert len(found(zeros[0]) | found(zeros[1])) >= 1
    with bl.settings.override(memory=1):
        assert found(rows) == found(np.array(rows))
