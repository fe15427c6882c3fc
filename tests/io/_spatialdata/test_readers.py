"""Miniatures of 10x Genomics' folders, read by the real readers: each place, scale and count is where it was put."""

import shutil
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import spatialdata as sd
import spatialdata_io
from anndata import AnnData
from vendors.tenx import some_counts
from vendors.visium import Visium, write_visium
from vendors.visium_hd import VisiumHD, write_visium_hd
from vendors.xenium import PIXEL_SIZE, Xenium, write_xenium

import bleep_sc as bl
from bleep_sc._logging import logger


def quietly(read: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    with warnings.catch_warnings(action="ignore"):
        return read(*args, **kwargs)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("vendors")


@pytest.fixture(scope="module")
def hd(folders: Path) -> VisiumHD:
    return write_visium_hd(folders / "hd")


@pytest.fixture(scope="module")
def hd_sdata(hd: VisiumHD) -> sd.SpatialData:
    return quietly(
        spatialdata_io.visium_hd,
        hd.folder,
        dataset_id="sample",
        load_segmentations_only=False,
        load_nucleus_segmentations=True,
        load_all_images=True,
    )


@pytest.fixture(scope="module")
def xenium(folders: Path) -> Xenium:
    return write_xenium(folders / "xenium")


@pytest.fixture(scope="module")
def read_xenium(xenium: Xenium) -> Callable[..., sd.SpatialData]:
    @cache
    def read(**kwargs: bool) -> sd.SpatialData:
        return quietly(spatialdata_io.xenium, xenium.folder, **kwargs)

    return read


def check_crops(adata: AnnData, image: Any, xy: np.ndarray) -> None:
    """The middle of each crop must be the pixel at the spot's place, which the image's colours tell."""
    bl.pp.crops(adata, image, size=8, check="off", mpp=1)
    assert adata.obsm["crops"][:, 4, 4, :2].tolist() == np.rint(xy).astype(int).tolist()


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_visium(version: Any, tmp_path: Path) -> None:
    mini: Visium = write_visium(tmp_path, version=version)
    sdata = quietly(spatialdata_io.visium, tmp_path, dataset_id="A", fullres_image_file=mini.image.name)
    adata = bl.io.from_spatialdata(sdata, table="table")
    assert list(adata.obs_names) == mini.barcodes
    assert np.allclose(adata.obsm["spatial"], mini.xy)
    assert adata.obsm["spatial"].dtype == np.float64
    assert np.array_equal(adata.X.toarray(), mini.counts)
    assert list(adata.obs["library_id"].unique()) == ["A"]
    library = adata.uns["spatial"]["A"]
    assert library["scalefactors"]["microns_per_pixel"] == pytest.approx(mini.um_per_px)
    assert library["scalefactors"]["spot_diameter_fullres"] == pytest.approx(mini.diameter)
    assert library["metadata"]["image"] == "A_full_image"
    assert library["metadata"]["chemistry_description"] == "miniature"
    assert "spatial" not in sdata["table"].obs
    assert list(sdata["table"].uns["spatial"]["A"]) == ["metadata"]  # the object itself is not touched
    check_crops(adata, sdata["A_full_image"], mini.xy)


@pytest.mark.parametrize(
    ("table", "width", "um_per_px"),
    [
        ("square_002um", 4.0, 0.5),
        ("square_008um", 16.0, 0.5),
        ("square_016um", 32.0, 0.5),
        # squares of 12 and 4 µm; of cells nothing tells the scale
        ("cell_segmentations", 2 * 24 / np.sqrt(np.pi), None),
        ("nucleus_segmentations", 2 * 8 / np.sqrt(np.pi), None),
    ],
)
def test_visium_hd(hd: VisiumHD, hd_sdata: sd.SpatialData, table: str, width: float, um_per_px: float | None) -> None:
    adata = bl.io.from_spatialdata(hd_sdata, table=table)
    truth = dict(zip(hd.barcodes[table], hd.xy[table], strict=True))
    assert set(adata.obs_names) == set(truth)
    xy = np.array([truth[name] for name in adata.obs_names])
    assert np.allclose(adata.obsm["spatial"], xy)
    scalefactors = adata.uns["spatial"][f"sample_{table}"]["scalefactors"]
    assert scalefactors["spot_diameter_fullres"] == pytest.approx(width)
    assert scalefactors.get("microns_per_pixel") == pytest.approx(um_per_px)
    check_crops(adata, hd_sdata["sample_full_image"], xy)


@pytest.mark.parametrize("kind", [{"bins_as_squares": False}, {"annotate_table_by_labels": True}])
def test_visium_hd_bins_as_circles_and_as_labels(hd: VisiumHD, kind: dict[str, bool]) -> None:
    """Without a prefix of its files, the names of its elements begin with an underscore."""
    sdata = quietly(spatialdata_io.visium_hd, hd.folder, load_segmentations_only=False, bin_size=8, **kind)
    region = sdata["square_008um"].uns["spatialdata_attrs"]["region"]
    assert region == ("_square_008um_labels" if "annotate_table_by_labels" in kind else "_square_008um")
    adata = bl.io.from_spatialdata(sdata, table="square_008um")
    assert np.allclose(adata.obsm["spatial"], hd.xy["square_008um"])
    scalefactors = adata.uns["spatial"][region]["scalefactors"]
    assert scalefactors["microns_per_pixel"] == pytest.approx(0.5)
    assert scalefactors["spot_diameter_fullres"] == pytest.approx(16)


def test_bins_as_circles_of_their_area(hd: VisiumHD) -> None:
    """As SpatialData's own `to_circles` makes them: an eighth wider than a bin."""
    sdata = quietly(spatialdata_io.visium_hd, hd.folder, load_segmentations_only=False, bin_size=8)
    sdata["_square_008um"] = sd.to_circles(sdata["_square_008um"])
    adata = bl.io.from_spatialdata(sdata, table="square_008um")
    scalefactors = adata.uns["spatial"]["_square_008um"]["scalefactors"]
    assert scalefactors["spot_diameter_fullres"] == pytest.approx(16 * 2 / np.sqrt(np.pi))
    assert scalefactors["microns_per_pixel"] == pytest.approx(0.5)


@pytest.mark.odd
@pytest.mark.parametrize("wrong", [np.nan, "first"])
def test_odd_rows_of_bins_tell_nothing(hd: VisiumHD, wrong: object) -> None:
    kind = {"annotate_table_by_labels": True}
    sdata = quietly(spatialdata_io.visium_hd, hd.folder, load_segmentations_only=False, bin_size=8, **kind)
    rows = sdata["square_008um"].obs["array_row"].astype(object)
    rows.iloc[0] = wrong
    sdata["square_008um"].obs["array_row"] = rows
    adata = bl.io.from_spatialdata(sdata, table="square_008um")
    assert np.allclose(adata.obsm["spatial"], hd.xy["square_008um"])
    assert "microns_per_pixel" not in adata.uns["spatial"]["_square_008um_labels"]["scalefactors"]


@pytest.mark.parametrize("vendor", ["xenium", "hd"])
def test_places_of_labels_come_back_as_they_were(
    vendor: str, hd: VisiumHD, read_xenium: Callable[..., sd.SpatialData]
) -> None:
    """Of a raster the table alone says where its instances lie; it was in the unit of the vendor."""
    if vendor == "xenium":
        sdata, table = read_xenium(), "table"
        sdata = sd.SpatialData.init_from_elements({**_elements(sdata), "table": sdata["table"].copy()})
    else:
        kind = {"annotate_table_by_labels": True}
        sdata = quietly(spatialdata_io.visium_hd, hd.folder, load_segmentations_only=False, bin_size=8, **kind)
        table = "square_008um"
    before = sdata[table].obsm["spatial"].copy()
    adata = bl.io.from_spatialdata(sdata, table=table)
    bl.io.to_spatialdata(sdata, adata, layer=None)
    np.testing.assert_allclose(sdata["bleep"].obsm["spatial"], before)
    again = bl.io.from_spatialdata(sdata, table="bleep")
    np.testing.assert_allclose(again.obsm["spatial"], adata.obsm["spatial"])
    if vendor == "xenium":  # of an object that says nothing of its image
        del adata.uns["spatial"]
        bl.io.to_spatialdata(sdata, adata, layer=None, table="bare")
        assert not sdata["bare"].obsm


@pytest.mark.parametrize(
    ("region", "instance_key", "kwargs"),
    [
        ("cell_labels", "cell_labels", {}),
        ("cell_circles", "cell_id", {"cells_as_circles": True}),
        ("cell_boundaries", "cell_id", {}),
        ("nucleus_boundaries", "cell_labels", {}),
        ("cell_labels", "cell_labels", {"nucleus_boundaries": False, "transcripts": False}),
    ],
)
def test_xenium(
    xenium: Xenium, read_xenium: Callable[..., sd.SpatialData], region: str, instance_key: str, kwargs: Any
) -> None:
    sdata = read_xenium(**kwargs)
    table = sdata["table"].copy()
    table.obs["region"] = region
    table.obs["region"] = table.obs["region"].astype("category")
    table.uns["spatialdata_attrs"] = {"region": region, "region_key": "region", "instance_key": instance_key}
    sdata = sd.SpatialData.init_from_elements({**_elements(sdata), "table": table})
    adata = bl.io.from_spatialdata(sdata, table="table")
    assert list(adata.obs["cell_id"]) == xenium.cells
    assert np.array_equal(adata.X.toarray(), some_counts(len(xenium.cells)))
    assert np.allclose(adata.obsm["spatial"], xenium.xy)
    scalefactors = adata.uns["spatial"][region]["scalefactors"]
    assert scalefactors["microns_per_pixel"] == pytest.approx(1.6 * PIXEL_SIZE)
    width = xenium.width_um / (2 if "nucleus" in region else 1) / xenium.um_per_px
    assert scalefactors["spot_diameter_fullres"] == pytest.approx(width)
    check_crops(adata, sdata["he_image"], xenium.xy)


def _elements(sdata: sd.SpatialData) -> dict[str, Any]:
    return {name: element for kind, name, element in sdata.gen_elements() if kind != "tables"}


def test_labels_of_xenium_are_not_read(read_xenium: Callable[..., sd.SpatialData]) -> None:
    sdata = read_xenium()
    raster = sdata["cell_labels"]["scale0"].image

    def read(block: np.ndarray) -> np.ndarray:
        raise AssertionError

    unreadable = raster.copy(data=raster.data.map_blocks(read, dtype=raster.dtype, meta=np.empty((0, 0), raster.dtype)))
    unreadable.attrs = dict(raster.attrs)
    elements = _elements(sdata) | {"cell_labels": unreadable, "table": sdata["table"]}
    assert bl.io.from_spatialdata(sd.SpatialData.init_from_elements(elements), table="table").n_obs == 12


@pytest.mark.parametrize(
    ("image", "reason"),
    [("sample_cytassist_image", "CytAssist takes"), ("sample_full", "no such image"), ("sample_umi", "no such image")],
)
def test_images_of_visium_hd_that_are_refused(hd_sdata: sd.SpatialData, image: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"{reason}.*'sample_full_image'.*'sample_cytassist_image' .no H&E image.*"):
        bl.io.from_spatialdata(hd_sdata, table="square_008um", image=image)


def test_the_log_asks_for_a_name_of_a_sample_of_xenium(
    read_xenium: Callable[..., sd.SpatialData], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logger, "propagate", True)
    with caplog.at_level("INFO", logger="bleep_sc"):
        bl.io.from_spatialdata(read_xenium(), library_id="X1")
        assert "pass `library_id=`" not in caplog.text
        bl.io.from_spatialdata(read_xenium())
        assert "Every sample of Xenium has this region: pass `library_id=` before you join several." in caplog.text


@pytest.mark.slow
def test_samples_of_xenium_that_spatialdata_joined(xenium: Xenium, read_xenium: Callable[..., sd.SpatialData]) -> None:
    """It adds the sample to the name of each element, so that each is a library of its own."""
    samples = {sample: quietly(spatialdata_io.xenium, xenium.folder) for sample in "AB"}
    joined = quietly(sd.concatenate, samples, concatenate_tables=True)
    adata = bl.io.from_spatialdata(joined)
    assert np.allclose(adata.obsm["spatial"], np.concatenate([xenium.xy, xenium.xy]))
    assert list(adata.uns["spatial"]) == ["cell_labels-A", "cell_labels-B"]
    for sample in "AB":
        library = adata.uns["spatial"][f"cell_labels-{sample}"]
        assert library["metadata"]["image"] == f"he_image-{sample}"
        assert library["scalefactors"]["microns_per_pixel"] == pytest.approx(xenium.um_per_px)
        assert (adata.obs["library_id"] == f"cell_labels-{sample}").sum() == len(xenium.cells)


def test_fluorescence_is_refused_by_name(read_xenium: Callable[..., sd.SpatialData]) -> None:
    with pytest.raises(ValueError, match=r"'morphology_focus'` is refused: it is Xenium's fluorescence.*'he_image'"):
        bl.io.from_spatialdata(read_xenium(), image="morphology_focus")
    with pytest.raises(ValueError, match=r"no H&E image shares a coordinate system with `sdata\.shapes"):
        bl.io.from_spatialdata(read_xenium(aligned_images=False), table="table")


def test_an_image_of_16_bits_says_so_where_it_is_the_only_one(read_xenium: Callable[..., sd.SpatialData]) -> None:
    sdata = read_xenium()
    wide = sdata["he_image"]["scale0"].image
    wide = wide.copy(data=wide.data.astype(np.uint16) * 256)
    wide.attrs = dict(sdata["he_image"]["scale0"].image.attrs)
    sdata = sd.SpatialData.init_from_elements({**_elements(sdata), "he_image": wide, "table": sdata["table"]})
    with pytest.raises(ValueError, match=r"no H&E image shares.*'he_image' does, but:.*uint16"):
        bl.io.from_spatialdata(sdata, table="table")


def test_an_image_without_its_alignment(xenium: Xenium, tmp_path: Path) -> None:
    """The reader lays it on the morphology image without a word."""
    shutil.copytree(xenium.folder, tmp_path / "outs")
    (tmp_path / "outs" / "mini_he_imagealignment.csv").unlink()
    sdata = quietly(spatialdata_io.xenium, tmp_path / "outs")
    with pytest.warns(UserWarning, match=r"'he_image' has no alignment.*0\.2125 µm per pixel.*xenium_aligned_image"):
        adata = bl.io.from_spatialdata(sdata, table="table", image="he_image")
    assert np.allclose(adata.obsm["spatial"], xenium.um / PIXEL_SIZE)
    alignment = xenium.folder / "mini_he_imagealignment.csv"
    with warnings.catch_warnings(action="ignore"):
        sdata["he"] = spatialdata_io.xenium_aligned_image(xenium.folder / "mini_he_image.ome.tif", alignment)
    assert np.allclose(bl.io.from_spatialdata(sdata, table="table", image="he").obsm["spatial"], xenium.xy)


def test_the_table_is_named(hd_sdata: sd.SpatialData) -> None:
    with pytest.raises(ValueError, match=r"Say which table.*'square_016um'.*'cell_segmentations'"):
        bl.io.from_spatialdata(hd_sdata)
    with pytest.raises(ValueError, match=r"'square_004um'`: there is no such table.*'square_016um'"):
        bl.io.from_spatialdata(hd_sdata, table="square_004um")


def test_without_the_full_image_the_small_one_is_taken(tmp_path: Path) -> None:
    mini = write_visium(tmp_path)
    sdata = quietly(spatialdata_io.visium, tmp_path, dataset_id="A")
    with pytest.warns(UserWarning, match=r"small picture 'A_hires_image' .*: a spot is 6\.9 pixels"):
        adata = bl.io.from_spatialdata(sdata)
    assert np.allclose(adata.obsm["spatial"], mini.xy / 2)
    scalefactors = adata.uns["spatial"]["A"]["scalefactors"]
    assert scalefactors["microns_per_pixel"] == pytest.approx(2 * mini.um_per_px)
    assert scalefactors["spot_diameter_fullres"] == pytest.approx(mini.diameter / 2)
    bl.pp.crops(adata, sdata["A_hires_image"], size=8, check="off")
    assert adata.uns["crops"]["A"]["um_per_px"] == pytest.approx(8)
    # the picture holds every second pixel
    assert np.array_equal(adata.obsm["crops"][:, 4, 4, :2], 2 * np.rint(mini.xy / 2))


@pytest.mark.slow
def test_block_one_as_written(hd: VisiumHD, hd_sdata: sd.SpatialData, tmp_path: Path) -> None:
    """From a store to crops of a width in µm, to a prediction (here made up), and back."""
    store = tmp_path / "sample.zarr"
    quietly(hd_sdata.write, store)
    adata = bl.io.from_spatialdata(store, table="square_008um", image="sample_full_image")
    sdata = sd.read_zarr(store)
    bl.pp.crops(adata, sdata["sample_full_image"], um=10, size=20)
    record = adata.uns["crops"]["sample_square_008um"]
    assert record["um_per_px"] == pytest.approx(0.5)
    from_element = adata.obsm["crops"].copy()
    bl.pp.crops(adata, um=10, size=20)  # finds the image in the store by itself
    assert np.array_equal(adata.obsm["crops"], from_element)
    assert len(adata.uns["crops"]["sample_square_008um"]["findings"]) == 0

    query = adata[::-2].copy()
    query.layers["bleep"] = np.arange(query.n_obs * query.n_vars, dtype="float32").reshape(query.shape)
    bl.io.to_spatialdata(sdata, query, layer="bleep", table="bleep")
    bl.io.to_spatialdata(store, query)
    for written in (sdata, sd.read_zarr(store)):
        values = sd.get_values("gene1", sdata=written, element_name="sample_square_008um", table_name="bleep")
        expected = dict(zip(query.obs["location_id"], query.layers["bleep"][:, 1], strict=True))
        assert values["gene1"].to_dict() == expected
        assert set(written.tables) == {*hd_sdata.tables, "bleep"}


def test_sections_joined_by_spatialdata(tmp_path: Path) -> None:
    """It adds to the names of all elements."""
    mini = write_visium(tmp_path)
    how: dict[str, Any] = {"dataset_id": "S", "fullres_image_file": mini.image.name}
    read = {name: quietly(spatialdata_io.visium, tmp_path, **how) for name in "pq"}
    both = quietly(sd.concatenate, read, concatenate_tables=True)
    adata = bl.io.from_spatialdata(both)
    assert {name: entry["metadata"]["image"] for name, entry in adata.uns["spatial"].items()} == {
        "S-p": "S_full_image-p",
        "S-q": "S_full_image-q",
    }
    assert np.allclose(adata.obsm["spatial"], np.vstack([mini.xy, mini.xy]))


@pytest.mark.slow
def test_a_part_cut_out_by_spatialdata(tmp_path: Path) -> None:
    """Its image begins elsewhere; a spot in the last half pixel is still inside."""
    mini = write_visium(tmp_path)
    sdata = quietly(spatialdata_io.visium, tmp_path, dataset_id="S", fullres_image_file=mini.image.name)
    box: dict[str, Any] = {"min_coordinate": [40, 35], "max_coordinate": [170, 150]}
    part = quietly(sd.bounding_box_query, sdata, axes=("x", "y"), target_coordinate_system="S", **box)
    adata = bl.io.from_spatialdata(part)
    xy = np.array([mini.xy[mini.barcodes.index(name)] for name in adata.obs_names])
    assert np.allclose(adata.obsm["spatial"], xy - [40, 35])
    assert (np.rint(xy[:, 1]) == 150).any()
    bl.pp.crops(adata, part["S_full_image"], size=8, check="off")
    inside = np.rint(xy[:, 1]) < 150
    assert np.array_equal(adata.obsm["crops"][inside, 4, 4, :2], np.rint(xy[inside]))
