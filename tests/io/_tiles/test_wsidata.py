"""Tiles and features of a WSIData: what the real package writes, in memory and as a store."""

import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from anndata.io import write_elem
from scipy import sparse

import bleep_sc as bl

SPEC = {"width": 256, "height": 256, "base_downsample": 2.0, "mpp": 0.5}
FEATURES = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)


def table(values: Any, tile_ids: Any, region: str = "tiles") -> AnnData:
    obs = pd.DataFrame({"tile_id": tile_ids, "library_id": region}, index=[f"row{i}" for i in range(len(tile_ids))])
    return AnnData(values, obs=obs, uns={"spatialdata_attrs": {"region": region}})


def wsi_like() -> SimpleNamespace:
    """The parts of a WSIData that are read; tiles and features are in different orders."""
    tiles = pd.DataFrame(
        {"tile_id": [7, 3, 5, 1], "x": [0, 512, 0, 100], "y": [0, 0, 512, 900], "tissue_id": [0, 0, 1, 1]}
    )
    return SimpleNamespace(
        name="slide.svs",
        shapes={"tiles": tiles},
        tables={"uni_tiles": table(FEATURES, [1, 3, 5, 7])},
        attrs={"tile_spec": {"tiles": dict(SPEC)}, "slide_properties": {"mpp": 0.25}},
    )


def test_features_are_joined_by_the_id_of_the_tile() -> None:
    slide = bl.io.from_wsidata(wsi_like(), features="uni")
    np.testing.assert_array_equal(slide.obsm["X_uni"], FEATURES[[3, 1, 2, 0]])
    np.testing.assert_array_equal(slide.obsm["spatial"], [[256, 256], [768, 256], [256, 768], [356, 1156]])
    assert list(slide.obs_names) == ["slide_7", "slide_3", "slide_5", "slide_1"]
    assert list(slide.obs["tile_id"]) == [7, 3, 5, 1]
    assert list(slide.obs["tissue_id"]) == [0, 0, 1, 1]
    record = json.loads(slide.uns["X_uni"]["config"])
    assert record["scale"] == {"size": 256, "size_um": 128.0, "spot_diameters": None}
    assert record["encoders"][0] | {"name": "uni", "n_features": 5, "weights": None} == record["encoders"][0]


@pytest.mark.parametrize("kind", [str, float, "category"])
def test_ids_may_be_of_another_type(kind: Any) -> None:
    wsi = wsi_like()
    wsi.tables["uni_tiles"].obs["tile_id"] = wsi.tables["uni_tiles"].obs["tile_id"].astype(kind)
    slide = bl.io.from_wsidata(wsi, features="uni_tiles", encoder="uni2")
    np.testing.assert_array_equal(slide.obsm["X_uni2"], FEATURES[[3, 1, 2, 0]])


def test_features_of_earlier_tiles_are_left_out_and_sparse_ones_are_read() -> None:
    wsi = wsi_like()
    wsi.tables["uni_tiles"] = table(sparse.csr_matrix(np.vstack([FEATURES, FEATURES])), [1, 3, 5, 7, 0, 2, 4, 6])
    slide = bl.io.from_wsidata(wsi, features="uni")
    np.testing.assert_array_equal(slide.obsm["X_uni"], FEATURES[[3, 1, 2, 0]])


def test_places_alone(ref: AnnData) -> None:
    slide = bl.io.from_wsidata(wsi_like(), ref, library_id="mine")
    assert slide.var.equals(ref.var)
    assert set(slide.obsm) == {"spatial"}
    assert slide.uns["spatial"]["mine"]["scalefactors"]["spot_diameter_fullres"] == 512


def test_a_slide_without_a_name_says_so() -> None:
    """As a SpatialData in memory; two such slides would be taken for one section after a concat."""
    wsi = wsi_like()
    del wsi.name
    with pytest.warns(UserWarning, match=r"no name, so it is called 'tiles'.*pass `library_id=`"):
        slide = bl.io.from_wsidata(wsi)
    assert list(slide.uns["spatial"]) == ["tiles"]
    assert list(bl.io.from_wsidata(wsi, library_id="P1").uns["spatial"]) == ["P1"]


def test_the_argument_goes_before_the_slides_own_scale() -> None:
    with pytest.warns(UserWarning, match=r"0\.5 by the argument `mpp`, 0\.25 by `wsi\.attrs"):
        slide = bl.io.from_wsidata(wsi_like(), mpp=0.5)
    assert slide.uns["spatial"]["slide"]["scalefactors"]["microns_per_pixel"] == 0.5


# the real thing


@pytest.fixture(scope="module")
def real(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Path]]:
    """A WSIData of an Aperio slide with tiles of 128 px at 1 µm per pixel, shuffled after features were made."""
    source, store = real_data / "slides" / "CMU-1-Small-Region.svs", tmp_path_factory.mktemp("wsi") / "CMU.zarr"
    if not source.exists():
        pytest.skip(f"there is no {source}")
    with warnings.catch_warnings(action="ignore"):  # of wsidata and what it imports
        wsidata = pytest.importorskip("wsidata")
        wsi = wsidata.open_wsi(source, store=store)
        spec = wsidata.TileSpec.from_wsidata(wsi, tile_px=128, mpp=1.0)
        corners = np.array([[x, y] for x in range(0, 1900, 256) for y in range(0, 2600, 256)])
        wsidata.io.add_tiles(wsi, "tiles", corners, spec, np.zeros(len(corners), dtype=int))
        wsidata.io.add_features(wsi, "uni_tiles", "tiles", _features(corners))
        wsi.shapes["tiles"] = wsi.shapes["tiles"].sample(frac=0.5, random_state=0)
        wsi.write()
    yield wsi, store
    shutil.rmtree(store)


def _features(corners: np.ndarray) -> np.ndarray:
    """Features that say where a tile is."""
    return np.column_stack([corners, corners.sum(axis=1), corners[:, 0] * 0 + 1]).astype(np.float32)


@pytest.mark.parametrize("stored", [False, True], ids=["in memory", "stored"])
def test_a_real_wsidata(real: tuple[Any, Path], stored: bool) -> None:  # noqa: FBT001
    """1 µm per pixel is asked for and the slide has 0.499: 128 px are int(128 · 1 / 0.499) = 256 of level 0."""
    wsi, store = real
    with warnings.catch_warnings(action="ignore"):
        expected = wsi.fetch.features_anndata("uni")  # wsidata's own joining; it gives corners
    slide = bl.io.from_wsidata(store if stored else wsi, features="uni", image=wsi.reader.file)
    np.testing.assert_array_equal(slide.obsm["spatial"], expected.obsm["spatial"] + 128)
    np.testing.assert_array_equal(slide.obsm["X_uni"], expected.X)
    np.testing.assert_array_equal(slide.obsm["X_uni"], _features(slide.obsm["spatial"] - 128))
    record = json.loads(slide.uns["X_uni"]["config"])
    assert record["scale"] == {"size": 128, "size_um": pytest.approx(256 * 0.499), "spot_diameters": None}
    (library,) = slide.uns["spatial"].values()
    assert library["images"]["hires"].shape == (2000, 1496, 3)
    assert list(slide.uns["spatial"]) == ["CMU" if stored else "CMU-1-Small-Region"]


def test_crops_of_a_real_slide_are_cut_at_its_tiles(real: tuple[Any, Path]) -> None:
    """The same pixels as wsidata reads for its tiles, to one grey value in the mean."""
    wsi, _ = real
    slide = bl.io.from_wsidata(wsi, library_id="CMU")
    slide = slide[:6].copy()
    bl.pp.crops(slide, wsi.reader.file, size=256, check="off")
    for crop, (x, y) in zip(slide.obsm["crops"], slide.obsm["spatial"] - 128, strict=True):
        theirs = wsi.read_region(int(x), int(y), 256, 256)
        assert np.abs(crop.astype(float) - theirs[..., :3]).mean() < 1


def test_of_a_store_only_one_table_is_read(real: tuple[Any, Path], tmp_path: Path) -> None:
    """Another table, and another element, may be damaged."""
    store = Path(shutil.copytree(real[1], tmp_path / "slide.zarr"))
    shutil.copytree(store / "tables" / "uni_tiles", store / "tables" / "gigapath_tiles")
    (store / "tables" / "gigapath_tiles" / "X" / "zarr.json").write_text("{")
    (store / "shapes" / "cells").mkdir()
    (store / "shapes" / "cells" / "shapes.parquet").write_text("no parquet")
    assert bl.io.from_wsidata(store, features="uni").n_obs
    with pytest.raises(ValueError, match=r"`wsi`: `tables\['gigapath_tiles'\]` could not be read"):
        bl.io.from_wsidata(store, features="gigapath")
    with pytest.raises(ValueError, match=r"`wsi`: `shapes\['cells'\]` could not be read"):
        bl.io.from_wsidata(store, tiles="cells")


# what is refused


def _set(path: str, value: Any) -> Callable[[SimpleNamespace], None]:
    def change(wsi: SimpleNamespace) -> None:
        *way, last = path.split(".")
        entry: Any = wsi
        for step in way:
            entry = getattr(entry, step) if isinstance(entry, SimpleNamespace) else entry[step]
        entry[last] = value

    return change


def _drop(column: str) -> Callable[[SimpleNamespace], None]:
    return lambda wsi: wsi.shapes.update(tiles=wsi.shapes["tiles"].drop(columns=column))


NAN = FEATURES.copy()
NAN[2, 1] = np.nan
REFUSED: dict[str, tuple[Callable[[SimpleNamespace], None], str]] = {
    "no tiles": (lambda wsi: wsi.shapes.clear(), r"`tiles='tiles'`: `wsi\.shapes` has no such entry; there is nothing"),
    "no features": (lambda wsi: wsi.tables.clear(), r"`features='uni'`: `wsi\.tables` has no such entry"),
    "cells": (_drop("x"), r"`wsi\.shapes\['tiles'\]` lacks 'x', so it holds no tiles"),
    "no ids": (_drop("tile_id"), r"`wsi\.shapes\['tiles'\]` lacks 'tile_id'"),
    "text": (_set("shapes.tiles.x", ["a", "b", "c", "d"]), r"`wsi\.shapes\['tiles'\]\['x'\]` must hold numbers"),
    "NaN": (_set("shapes.tiles.x", [np.nan, 1, 2, 3]), r"`wsi\.shapes\['tiles'\]` is NaN or infinite for 1 of 4 tiles"),
    "an id twice": (
        _set("shapes.tiles.tile_id", [7, 7, 5, 1]),
        r"`wsi\.shapes\['tiles'\]` has 1 rows with a `tile_id`",
    ),
    "no spec": (lambda wsi: wsi.attrs.pop("tile_spec"), r"`wsi\.attrs\['tile_spec'\]\['tiles'\]` is missing"),
    "a spec without width": (
        _set("attrs.tile_spec.tiles.width", None),
        r"\['width'\]` must be a finite number above 0",
    ),
    "no squares": (_set("attrs.tile_spec.tiles.height", 128), r"tiles must be squares .* found 256 x 128"),
    "no scale": (
        lambda wsi: wsi.attrs.pop("slide_properties"),
        r"nobody knows how many µm .* `wsi\.set_mpp` records it",
    ),
    "a scale of 0": (_set("attrs.slide_properties.mpp", 0), r"\['mpp'\]` must be a finite number above 0, found 0"),
    "tiles without features": (
        _set("tables.uni_tiles", table(FEATURES[:3], [1, 3, 5])),
        r"`wsi\.tables\['uni_tiles'\]` has no features for 1 of 4 tiles, such as `tile_id` 7",
    ),
    "features of other tiles": (
        _set("tables.uni_tiles", table(FEATURES, [1, 3, 5, 7], region="tiles_20x")),
        r"holds features of 'tiles_20x', not of 'tiles'",
    ),
    "features of one tile twice": (
        _set("tables.uni_tiles", table(FEATURES, [1, 3, 5, 5])),
        r"`wsi\.tables\['uni_tiles'\]` has 1 rows with a `tile_id` that an earlier row has, such as 5",
    ),
    "NaN in features": (
        _set("tables.uni_tiles", table(NAN, [1, 3, 5, 7])),
        r"`wsi\.tables\['uni_tiles'\]` is NaN, infinite or above 1e\+12 for 1 of 4 tiles, such as 'slide_5'",
    ),
    "no values": (
        lambda wsi: wsi.tables.update(uni_tiles=AnnData(obs=wsi.tables["uni_tiles"].obs)),
        r"`wsi\.tables\['uni_tiles'\]` has no values",
    ),
    "no ids of features": (
        lambda wsi: wsi.tables["uni_tiles"].obs.pop("tile_id"),
        r"`wsi\.tables\['uni_tiles'\]` has no column `tile_id`",
    ),
}


@pytest.mark.odd
@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
def test_is_refused(change: Callable[[SimpleNamespace], None], message: str) -> None:
    wsi = wsi_like()
    change(wsi)
    with pytest.raises((ValueError, KeyError), match=message):
        bl.io.from_wsidata(wsi, features="uni")


@pytest.mark.odd
def test_other_sources_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"`wsi` must be a WSIData, with `shapes`.* found int"):
        bl.io.from_wsidata(3)
    with pytest.raises(FileNotFoundError, match="there is no zarr store"):
        bl.io.from_wsidata(tmp_path / "slide.zarr")
    (tmp_path / "slide.svs").write_bytes(b"II*\0")
    with pytest.raises(ValueError, match=r"is a file, and a zarr store is a folder\. LazySlide keeps"):
        bl.io.from_wsidata(tmp_path / "slide.svs")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="could not be opened as a zarr store"):
        bl.io.from_wsidata(tmp_path / "empty")
    with pytest.raises(ValueError, match=r"`encoder='uni'` names what made the features: say which by `features=`"):
        bl.io.from_wsidata(wsi_like(), encoder="uni")


@pytest.mark.odd
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix])
def test_a_store_that_lies_about_its_size_is_refused(form: Callable[[np.ndarray], Any], tmp_path: Path) -> None:
    """Before any memory is taken for what it claims to hold."""
    import zarr

    store = tmp_path / "slide.zarr"
    group = zarr.open_group(store, mode="w", zarr_format=2)
    group.attrs.update(wsi_like().attrs)
    (store / "shapes" / "tiles").mkdir(parents=True)
    wsi_like().shapes["tiles"].to_parquet(store / "shapes" / "tiles" / "shapes.parquet")
    write_elem(group.create_group("tables"), "uni_tiles", table(form(FEATURES), [1, 3, 5, 7]))
    described = store / "tables" / "uni_tiles" / "X" / ("" if form is np.asarray else "data") / ".zarray"
    content = json.loads(described.read_text())
    content["shape"] = [2**40, *content["shape"][1:]]
    described.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"`tables\['uni_tiles'\]` is said to be \(1099511627776,.*at most 32 GiB"):
        bl.io.from_wsidata(store, features="uni")


@pytest.mark.odd
def test_pickled_values_of_a_store_are_never_read(tmp_path: Path) -> None:
    """Version 2 of zarr has a filter that unpickles, which runs whatever the store says."""
    import zarr

    store = tmp_path / "slide.zarr"
    group = zarr.open_group(store, mode="w", zarr_format=2)
    group.attrs.update(wsi_like().attrs)
    (store / "shapes" / "tiles").mkdir(parents=True)
    wsi_like().shapes["tiles"].to_parquet(store / "shapes" / "tiles" / "shapes.parquet")
    tables = group.create_group("tables/uni_tiles")
    tables.create_array("X", data=FEATURES)
    described = json.loads((store / "tables" / "uni_tiles" / "X" / ".zarray").read_text())
    described["filters"] = [{"id": "pickle", "protocol": 5}]
    (store / "tables" / "uni_tiles" / "X" / ".zarray").write_text(json.dumps(described))
    with pytest.raises(ValueError, match="holds pickled values, which are never read"):
        bl.io.from_wsidata(store, features="uni")
