"""Stores on disk: of zarr 2 and 3, and nothing of them is touched but what was asked for."""

import json
import pickle
import shutil
import warnings
from pathlib import Path
from typing import Any

import anndata
import dask.array as da
import numpy as np
import pytest
import spatialdata as sd
import zarr
from geopandas import GeoDataFrame
from shapely import to_ragged_array
from spatialdata._io.format import SpatialDataContainerFormatV01
from spatialdata.models import Labels2DModel, ShapesModel
from spatialdata.transformations import Identity, Scale
from vendors.by_hand import HEIGHT, WIDTH, XY, by_hand, circles_of, image_of, table_of
from vendors.tenx import says_where

import bleep_sc as bl

FORMATS = {"zarr 2": {"sdata_formats": SpatialDataContainerFormatV01()}, "zarr 3": {}}


def tissue() -> sd.SpatialData:
    """Two tables with shapes each, and labels and an image that are not asked for."""
    turned = {"global": Scale([2, 2], axes=("x", "y")), "um": Identity()}
    squares = ShapesModel.parse(
        GeoDataFrame(geometry=circles_of(XY / 2).buffer(4, cap_style="square")), transformations=turned
    )
    return by_hand(
        images={
            "he": image_of(says_where(HEIGHT, WIDTH), scale_factors=[2], chunks=(1, 64, 64)),
            "morphology_focus": image_of(says_where(HEIGHT, WIDTH)),
        },
        labels={"cells": Labels2DModel.parse(np.zeros((20, 20), int), dims=("y", "x"))},
        shapes={"S_square_008um": squares, "S_square_002um": circles_of(XY)},
        tables={
            "square_008um": table_of(["S_square_008um"] * 4, [3, 1, 2, 0]),
            "square_002um": table_of(["S_square_002um"] * 4, np.arange(4)),
        },
    )


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stores")
    with warnings.catch_warnings(action="ignore"):
        for name, kwargs in FORMATS.items():
            tissue().write(folder / name, **kwargs)
    return folder


@pytest.fixture(params=FORMATS)
def store(request: pytest.FixtureRequest, stores: Path, tmp_path: Path) -> Path:
    path = shutil.copytree(stores / request.param, tmp_path / "sample.zarr")
    assert (path / ".zattrs").exists() == (request.param == "zarr 2")
    return path


METADATA = ("zarr.json", ".zarray", ".zattrs", ".zgroup")


def damage(path: Path, *, but: tuple[str, ...] = ()) -> None:
    """Leave the names of what a folder holds, and junk in place of every file, but for those that end so."""
    for file in path.rglob("*"):
        if file.is_file() and not str(file).endswith(but):
            file.write_bytes(b"junk")


def contents(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


@pytest.mark.slow
def test_only_one_table_its_shapes_and_the_image_are_read(store: Path) -> None:
    expected = bl.io.from_spatialdata(tissue(), table="square_008um", image="he")
    for other in ("tables/square_002um", "shapes/S_square_002um", "labels", "images/morphology_focus"):
        damage(store / other)
    before = contents(store)
    adata = bl.io.from_spatialdata(str(store), table="square_008um", image="he")
    assert contents(store) == before
    assert np.allclose(adata.obsm["spatial"], XY[[3, 1, 2, 0]])
    assert np.array_equal(adata.X, expected.X)
    assert adata.obs.equals(expected.obs)
    assert adata.uns["spatialdata_attrs"] == expected.uns["spatialdata_attrs"]
    library, wanted = (each.uns["spatial"]["S_square_008um"] for each in (adata, expected))
    assert library["metadata"].pop("source_image_path") == str(store / "images" / "he")
    assert library["metadata"] == wanted["metadata"]
    assert library["scalefactors"] == wanted["scalefactors"]
    assert library["scalefactors"]["microns_per_pixel"] == pytest.approx(8 / 16)
    assert all(np.array_equal(library["images"][name], wanted["images"][name]) for name in ("hires", "lowres"))


def test_only_the_tiles_under_the_spots_are_read(store: Path) -> None:
    adata = bl.io.from_spatialdata(store, table="square_008um")
    adata = adata[:1].copy()  # at (90, 30): of the tiles of 64 pixels, row 0 and column 1
    image = store / "images" / "he"
    damage(image / "s0", but=("/0/1", *METADATA))
    with pytest.raises(ValueError, match="pixels of `image` could not be read"):
        bl.pp.blank(adata, spatial=XY, library_id="new", image=image, spot_diameter=5)
    with warnings.catch_warnings(action="ignore"):
        element = sd.read_zarr(store)["he"]
    for way in (image, str(image), element, None):
        for lazy in (False, True):
            bl.pp.crops(adata, way, size=20, check="off", lazy=lazy)
            assert np.asarray(adata.obsm["crops"])[0, 10, 10, :2].tolist() == [90, 30]


def test_a_store_is_read_back_after_h5ad(store: Path, tmp_path: Path) -> None:
    from anndata import read_h5ad

    adata = bl.io.from_spatialdata(store, table="square_008um")
    adata.write_h5ad(tmp_path / "a.h5ad")
    read = read_h5ad(tmp_path / "a.h5ad")
    bl.pp.crops(read, size=8, check="off")
    assert read.obsm["crops"][:, 4, 4, :2].tolist() == XY[[3, 1, 2, 0]].astype(int).tolist()


def test_shapes_of_stores_of_2023(tmp_path: Path, store: Path) -> None:
    """They lie as arrays: coordinates, offsets of polygons, radius, and index."""
    path = store / "shapes" / "S_square_008um"
    squares = tissue()["S_square_008um"]
    (path / "shapes.parquet").unlink()
    kind, coordinates, offsets = to_ragged_array(np.array(squares.geometry))
    group = zarr.open_group(path, mode="a", use_consolidated=False)
    group.attrs["spatialdata_attrs"] = {"geos": {"name": kind.name, "type": kind.value}, "version": "0.1"}
    group.create_array("coords", data=coordinates)
    for number, offset in enumerate(offsets):
        group.create_array(f"offset{number}", data=offset)
    group.create_array("Index", data=np.asarray(squares.index))
    adata = bl.io.from_spatialdata(store, table="square_008um")
    assert np.allclose(adata.obsm["spatial"], XY[[3, 1, 2, 0]])
    for file in path.glob("offset*"):
        shutil.rmtree(file)
    group.attrs["spatialdata_attrs"] = {"geos": {"name": "POINT", "type": 0}, "version": "0.1"}
    zarr.open_group(path, mode="a").create_array("coords", data=XY / 2, overwrite=True)
    zarr.open_group(path, mode="a").create_array("radius", data=np.full(4, 4.0))
    adata = bl.io.from_spatialdata(store, table="square_008um")
    assert np.allclose(adata.obsm["spatial"], XY[[3, 1, 2, 0]])
    assert adata.uns["spatial"]["S_square_008um"]["scalefactors"]["spot_diameter_fullres"] == 16


@pytest.mark.slow
def test_written_back_beside_what_cannot_be_read(store: Path) -> None:
    adata = bl.io.from_spatialdata(store, table="square_008um")
    adata.layers["bleep"] = np.full(adata.shape, 0.25, "float32")
    for other in ("tables/square_002um", "shapes/S_square_002um"):
        damage(store / other, but=METADATA)
    before = contents(store)
    bl.io.to_spatialdata(store, adata, table="first")
    after = contents(store)
    changed = {name for name in before | after if before.get(name) != after.get(name)}
    assert {name for name in changed if not name.startswith("tables/first/")} <= {"zarr.json", ".zmetadata"}
    with pytest.raises(ValueError, match=r"`sdata.tables` has 'first' already.*overwrite=True"):
        bl.io.to_spatialdata(store, adata, table="first")
    assert contents(store) == after
    adata.layers["bleep"] += 1
    bl.io.to_spatialdata(store, adata, table="first", overwrite=True)
    table = anndata.read_zarr(store / "tables" / "first")
    assert set(zarr.open_group(store, mode="r")["tables"].group_keys()) == {"square_002um", "square_008um", "first"}
    assert np.array_equal(table.X, adata.layers["bleep"])
    assert {path.name for path in (store / "tables").iterdir() if path.is_dir()} == {
        *("square_002um", "square_008um", "first")
    }


@pytest.mark.odd
def test_a_write_that_fails_leaves_the_store_as_it_was(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adata = bl.io.from_spatialdata(store, table="square_008um")
    adata.layers["bleep"] = np.full(adata.shape, 0.25, "float32")
    bl.io.to_spatialdata(store, adata)
    before = contents(store)
    values = adata.layers["bleep"]

    def gone(block: np.ndarray) -> np.ndarray:
        raise OSError(5, "Input/output error")

    adata.layers["bleep"] = da.from_array(values).map_blocks(gone, dtype=values.dtype, meta=values[:0])
    with pytest.raises(OSError, match="Input/output error"):
        bl.io.to_spatialdata(store, adata, overwrite=True)
    assert contents(store) == before
    adata.layers["bleep"] = values

    def no_room(self: Path, target: Path) -> Path:
        if target.name == "bleep" and ".new-" in self.name:
            raise OSError(28, "No space left on device")
        return original(self, target)

    original = Path.rename
    monkeypatch.setattr(Path, "rename", no_room)
    with pytest.raises(OSError, match="No space"):
        bl.io.to_spatialdata(store, adata, overwrite=True)
    assert contents(store) == before


@pytest.mark.odd
@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("tables/square_008um", r"`sdata.tables\['square_008um'\]` could not be read from its store"),
        ("shapes/S_square_008um/shapes.parquet", r"`sdata.shapes\['S_square_008um'\]` could not be read from its"),
        (
            "shapes/S_square_008um/zarr.json",
            r"`sdata.shapes\['S_square_008um'\]`: its transformations in 'sample.zarr'",
        ),
        ("images/he/zarr.json", r"`sdata.images\['he'\]`"),
        ("images/he/s0/zarr.json", r"`sdata.images\['he'\]`"),
    ],
)
def test_what_is_damaged_is_named(store: Path, broken: str, message: str) -> None:
    if (store / ".zattrs").exists():
        broken = broken.replace("s0/zarr.json", "s0/.zarray").replace("zarr.json", ".zattrs")
    path = store / broken
    if path.is_dir():
        damage(path)
    else:
        path.write_bytes(b"junk")
    with pytest.raises(ValueError, match=message):
        bl.io.from_spatialdata(store, table="square_008um", image="he")


@pytest.mark.odd
def test_folders_that_are_no_store(tmp_path: Path) -> None:
    for name, error, message in (
        ("gone.zarr", FileNotFoundError, r"there is no folder.*spatialdata.read_zarr"),
        ("s3://bucket/sample.zarr", FileNotFoundError, "there is no folder"),
        ("file", FileNotFoundError, "there is no folder"),
        ("outs", ValueError, r"'outs' is no SpatialData store.*spatialdata_io"),
        ("empty.zarr", ValueError, "'empty.zarr' is no SpatialData store"),
    ):
        if name == "file":
            (tmp_path / name).write_text("")
        elif name == "outs":
            (tmp_path / name / "images").mkdir(parents=True)
        elif name == "empty.zarr":
            zarr.create_group(tmp_path / name)
        with pytest.raises(error, match=message):
            bl.io.from_spatialdata(name if "://" in name else tmp_path / name)


def test_several_regions(tmp_path: Path) -> None:
    """Their list comes back from disk as an array."""
    path = tmp_path / "two.zarr"
    shapes = {"A": circles_of(XY), "B": circles_of(XY + 5, index=np.array(["w", "x", "y", "z"]))}
    table = table_of(["A", "B", "B", "A"], ["1", "z", "w", "0"])
    with warnings.catch_warnings(action="ignore"):
        by_hand(shapes=shapes, tables={"table": table}).write(path)
    adata = bl.io.from_spatialdata(path)
    assert np.allclose(adata.obsm["spatial"], [XY[1], XY[3] + 5, XY[0] + 5, XY[0]])
    assert adata.obs["library_id"].tolist() == ["A", "B", "B", "A"]
    bl.pp.crops(adata, size=8, library_key="library_id", mpp=1, check="off")
    assert adata.obsm["crops"][:, 4, 4, 0].tolist() == [180, 95, 45, 40]


class Bomb:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.odd
@pytest.mark.parametrize("part", ["filters", "compressor"])
@pytest.mark.parametrize("where", ["shapes/S_square_008um/Index", "tables/square_008um/obs/spot", "images/he/s0"])
def test_nothing_is_unpickled(where: str, part: str, stores: Path, tmp_path: Path) -> None:
    """Zarr 2 knows a codec that unpickles, whatever the type of the values is."""
    store = shutil.copytree(stores / "zarr 2", tmp_path / "sample.zarr")
    mark, array = tmp_path / "unpickled", store / where
    if where.startswith("shapes"):
        (store / "shapes" / "S_square_008um" / "shapes.parquet").unlink()
    shutil.rmtree(array, ignore_errors=True)
    array.mkdir()
    shape = [3, HEIGHT, WIDTH] if where.startswith("images") else [4]
    described = {"zarr_format": 2, "shape": shape, "chunks": shape, "order": "C", "fill_value": 0, "dtype": "|u1"}
    codec = {"id": "pickle", "protocol": 5}
    described |= {"filters": [codec], "compressor": None} if part == "filters" else {"filters": None, part: codec}
    (array / ".zarray").write_text(json.dumps(described))
    (array / ".zattrs").write_text(json.dumps({"encoding-type": "array", "encoding-version": "0.2.0"}))
    (array / ".".join("0" * len(shape))).write_bytes(pickle.dumps(Bomb(mark)))
    kind, name = where.split("/")[:2]
    with pytest.raises(ValueError, match=rf"`sdata\.{kind}\['{name}'\]` holds pickled values"):
        bl.io.from_spatialdata(store, table="square_008um", image="he")
    assert not mark.exists()
    pickle.loads((array / ".".join("0" * len(shape))).read_bytes())  # it would have been
    assert mark.exists()
