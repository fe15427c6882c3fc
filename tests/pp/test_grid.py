"""A slide that was never sequenced: its lattice, its tissue, its scale, and the three lines on a real file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import geopandas as gpd
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import squidpy as sq
import tifffile
from anndata import AnnData
from scipy.spatial import KDTree
from shapely.geometry import box, mapping
from vendors.by_hand import by_hand, image_of

import bleep_sc as bl

GLASS, TISSUE = (242, 240, 243), (168, 92, 150)


def pixels_of(height: int = 1000, width: int = 1600) -> np.ndarray:
    """A slide with one rectangle of tissue, from (400, 200) to (1200, 800)."""
    pixels = np.empty((height, width, 3), dtype=np.uint8)
    pixels[:] = GLASS
    pixels[200:800, 400:1200] = TISSUE
    return pixels


@pytest.fixture
def tiff(tmp_path: Path) -> Path:
    """The slide as OME-TIFF of half a µm per pixel."""
    path = tmp_path / "case 7.ome.tif"
    metadata = {"PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.5, "PhysicalSizeYUnit": "µm"}
    tifffile.imwrite(path, pixels_of(), photometric="rgb", tile=(256, 256), metadata={"axes": "YXS", **metadata})
    return path


def visium(um_per_px: float = 0.25) -> AnnData:
    """A reference on Visium's lattice."""
    row, column = (each.ravel() for each in np.meshgrid(np.arange(12), np.arange(24), indexing="ij"))
    used = (row + column) % 2 == 0
    obs = pd.DataFrame({"array_row": row[used], "array_col": column[used]}, index=[f"s{i}" for i in range(used.sum())])
    xy = np.stack([column[used] * 50.0, row[used] * 50 * np.sqrt(3)], axis=1) / um_per_px + 300
    ref = AnnData(np.ones((used.sum(), 4), dtype=np.float32), obs=obs, obsm={"spatial": xy})
    ref.uns["spatial"] = {
        "v": {"images": {}, "scalefactors": {"spot_diameter_fullres": 55 / um_per_px}, "metadata": {}}
    }
    return ref


def test_the_lattice_is_laid_over_the_tissue(tiff: Path, log: pytest.LogCaptureFixture) -> None:
    """Squares of 100 µm are 200 pixels: 4 by 3 of them make up the tissue."""
    slide = bl.pp.grid(tiff, visium(), um=100, lattice="square")
    expected = np.stack(np.meshgrid([500, 700, 900, 1100], [300, 500, 700]), axis=-1).reshape(-1, 2)
    assert np.allclose(slide.obsm["spatial"], expected)
    assert slide.obs["tissue_share"].min() > 0.95
    assert slide.obs["array_row"].tolist() == np.repeat([1, 2, 3], 4).tolist()
    assert slide.obs["array_col"].tolist() == [2, 3, 4, 5] * 3
    assert slide.X is None
    assert slide.obs_names[0] == "case 7_0"
    factors = slide.uns["spatial"]["case 7"]["scalefactors"]
    assert (factors["microns_per_pixel"], factors["spot_diameter_fullres"]) == (0.5, 200)
    assert "'case 7' has 0.5 µm per pixel by the file's OME metadata (`PhysicalSizeX`)" in log.text


def test_pitch_and_kind_are_those_of_the_reference(tiff: Path, log: pytest.LogCaptureFixture) -> None:
    """Whatever the scale of the reference, 0.25 µm per pixel here and 0.5 on the slide: spots are 100 µm apart."""
    slide = bl.pp.grid(tiff, visium(0.25))
    distance = KDTree(slide.obsm["spatial"]).query(slide.obsm["spatial"], k=2)[0][:, 1]
    assert np.allclose(distance, 200)
    assert ((slide.obs["array_row"] + slide.obs["array_col"]) % 2 == 0).all()
    assert "The lattice is hexagonal (the reference's), its pitch 100 µm." in log.text
    area = 800 * 600 * 0.25  # µm²
    assert slide.n_obs == pytest.approx(area / (100**2 * np.sqrt(3) / 2), rel=0.25)


def test_a_finer_pitch_is_a_denser_map_over_the_same_tissue(tiff: Path) -> None:
    coarse, fine = (bl.pp.grid(tiff, visium(), um=um) for um in (100, 25))
    assert coarse.n_obs == pytest.approx(400 * 300 / (100**2 * np.sqrt(3) / 2), rel=0.25)
    assert fine.n_obs == pytest.approx(400 * 300 / (25**2 * np.sqrt(3) / 2), rel=0.03)
    image = sq.im.ImageContainer(pixels_of())
    bl.pp.crops(fine, image, um=100, size=8, mpp=0.5)
    assert fine.uns["crops"]["case 7"]["size_um"] == 100  # the width of a crop does not follow the pitch


def test_pitch_of_a_reference_whose_scale_only_its_crops_know(tiff: Path) -> None:
    ref = visium(0.25)
    del ref.obs["array_row"]
    with pytest.raises(ValueError, match=r"`um` is needed.*scale of the reference is unknown for \['v'\].*Pass `um="):
        bl.pp.grid(tiff, ref)
    bl.pp.crops(
        ref, sq.im.ImageContainer(np.full((6000, 6000, 3), 200, np.uint8)), um=55, mpp=0.25, size=8, check="off"
    )
    slide = bl.pp.grid(tiff, ref)
    assert KDTree(slide.obsm["spatial"]).query(slide.obsm["spatial"], k=2)[0][:, 1] == pytest.approx(200)


def test_cells_of_a_reference_stand_on_no_lattice(tiff: Path, log: pytest.LogCaptureFixture) -> None:
    cells = AnnData(np.ones((300, 3)), obsm={"spatial": np.random.default_rng(0).uniform(0, 1000, (300, 2))})
    assert bl.pp.grid(tiff, cells, um=100).n_obs == 12
    assert "The lattice is square (since the reference stands on none)" in log.text
    with pytest.raises(ValueError, match="`um` is needed"):
        bl.pp.grid(tiff, cells)


@pytest.mark.parametrize("kind", ["array", "small array", "frame", "geojson"])
def test_tissue_may_be_said(tiff: Path, tmp_path: Path, kind: str) -> None:
    """The left half of the slide's upper part: 4 by 2 squares of 100 µm."""
    region = box(0, 0, 800, 400)
    array = np.zeros((1000, 1600), dtype=bool)
    array[:400, :800] = True
    path = tmp_path / "regions.geojson"
    path.write_text(json.dumps({"type": "Feature", "geometry": mapping(region), "properties": {}}))
    frame = gpd.GeoDataFrame({"tissue_id": [0]}, geometry=[region])
    given: dict[str, Any] = {"array": array, "small array": array[::10, ::10], "frame": frame, "geojson": path}
    slide = bl.pp.grid(tiff, visium(), um=100, lattice="square", mask=given[kind])
    expected = np.stack(np.meshgrid([100, 300, 500, 700], [100, 300]), axis=-1).reshape(-1, 2)
    assert np.allclose(slide.obsm["spatial"], expected)
    assert np.allclose(slide.obs["tissue_share"], 1, atol=0.02)


def test_all_spots_or_only_full_ones(tiff: Path) -> None:
    everything = bl.pp.grid(tiff, visium(), um=100, lattice="square", min_tissue=0)
    assert everything.n_obs == 8 * 5
    assert everything.obs["in_tissue"].sum() == 12
    moved = bl.pp.grid(tiff, visium(), um=150, lattice="square", min_tissue=0.3)
    assert moved.obs["tissue_share"].min() >= 0.3
    assert set(moved.obs["in_tissue"]) == {0, 1}


def test_a_scale_that_is_given_goes_before_the_file_and_the_difference_is_named(tiff: Path) -> None:
    with pytest.warns(UserWarning, match=r"0\.25 by the argument `mpp`, 0\.5 by the file's OME metadata.*400 pixels"):
        slide = bl.pp.grid(tiff, visium(), um=100, mpp=0.25)
    assert slide.uns["spatial"]["case 7"]["scalefactors"]["microns_per_pixel"] == 0.25
    bl.pp.grid(tiff, visium(), um=100, mpp=0.51)  # within 5 %: silent


def test_what_is_laid_can_be_stored_and_is_right_on_a_container(tmp_path: Path) -> None:
    image = sq.im.ImageContainer(pixels_of()[::2, ::2], scale=0.5)
    slide = bl.pp.grid(image, visium(), um=100, lattice="square", mpp=0.5, library_id="x")
    assert slide.obsm["spatial"][0].tolist() == [500, 300]
    small = slide.uns["spatial"]["x"]
    x, y = (slide.obsm["spatial"][0] * small["scalefactors"]["tissue_hires_scalef"]).astype(int)
    assert small["images"]["hires"][y, x, 1] < 110
    slide.write_h5ad(tmp_path / "slide.h5ad")
    assert ad.read_h5ad(tmp_path / "slide.h5ad").obs["tissue_share"].equals(slide.obs["tissue_share"])


@pytest.mark.slow
def test_the_same_tissue_is_found_on_a_level_of_a_pyramid(tmp_path: Path, tiff: Path) -> None:
    path = tmp_path / "pyramid.tif"
    full = pixels_of().repeat(4, axis=0).repeat(4, axis=1)
    with tifffile.TiffWriter(path) as writer:
        options: dict[str, Any] = {"photometric": "rgb", "tile": (256, 256), "compression": "jpeg", "resolutionunit": 3}
        writer.write(full, subifds=2, resolution=(80_000, 80_000), **options)
        for step in (2, 4):
            writer.write(full[::step, ::step], subfiletype=1, **options)
    slide = bl.pp.grid(path, visium(), um=100, lattice="square")
    assert np.allclose(slide.obsm["spatial"] / 4, bl.pp.grid(tiff, visium(), um=100, lattice="square").obsm["spatial"])


@pytest.fixture(scope="module")
def toy() -> AnnData:
    with bl.settings.override(progress_bar=False, device="cpu"):
        ref = bl.datasets.toy(n_patients=1, n_sections=1, n_spots=40, n_genes=60)
        bl.tl.fit(ref, method="ridge", alpha=1.0)
    return ref


@pytest.mark.filterwarnings("ignore:Use `squidpy.pl.spatial_scatter` instead:FutureWarning")
def test_three_lines_on_a_real_slide(real_data: Path, toy: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(real_data / "slides")
    file = "CMU-1-Small-Region.svs"
    slide = bl.pp.grid(file, toy, um=100)
    bl.pp.crops(slide, file, um=100, size=64)
    with pytest.warns(UserWarning, match="look unlike the reference"):  # painted tissue is no skin
        bl.tl.impute(slide, toy)
    assert slide.layers["bleep"].shape == (slide.n_obs, 60)
    factors = slide.uns["spatial"]["CMU-1-Small-Region"]["scalefactors"]
    assert factors["microns_per_pixel"] == 0.499
    assert 50 <= slide.n_obs <= 65  # counted on the picture: 4 to 6 in each of 14 rows
    sc.pl.spatial(slide, color=toy.var_names[0], layer="bleep", show=False)
    drawn = plt.gcf().axes[0].collections[0]
    assert len(drawn.get_array()) == slide.n_obs
    plt.close("all")


@pytest.mark.odd
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"um": 0}, r"`um`.*above 0"),
        ({"um": 0.2}, r"`um=0\.2` would lay .* spots, 0\.4 pixels apart: the slide is 0\.8 x 0\.5 mm"),
        ({"um": 5000}, r"`um=5000` is wider than the slide"),
        ({"lattice": "round"}, r"`lattice` must be one of"),
        ({"min_tissue": 1.2}, r"`min_tissue` must be between 0 and 1"),
        ({"mpp": -1}, r"`mpp`.*above 0"),
        ({"library_id": "a/b"}, r"`library_id`"),
        ({"series": -1}, r"`series`"),
        ({"mask": np.zeros((1000, 1600))}, r"`mask` is empty"),
        ({"mask": np.ones((1600, 1000))}, r"`mask` is 1000 x 1600 and the slide 1600 x 1000 .*`mask\.T` would fit"),
        ({"mask": np.ones((10, 10, 3))}, r"`mask` must be an array \(y, x\)"),
        (
            {"mask": gpd.GeoDataFrame(geometry=[box(9e4, 0, 9e4 + 5, 5)])},
            r"covers nothing of the slide .*if they are",
        ),
        ({"mask": gpd.GeoDataFrame(geometry=[])}, r"`mask` holds no polygon of tissue"),
        ({"mask": [1, 2]}, r"`mask` must be an array, polygons or the path"),
    ],
)
def test_bad_arguments(tiff: Path, arguments: dict[str, Any], message: str, unchanged: Callable[..., None]) -> None:
    ref = visium()
    unchanged(ref)
    with pytest.raises(ValueError, match=message):
        bl.pp.grid(tiff, ref, **{"um": 100, **arguments})


@pytest.mark.odd
def test_other_bad_arguments(tiff: Path, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"`mask` must be an array .*found int"):
        bl.pp.grid(tiff, visium(), um=100, mask=3)
    with pytest.raises(FileNotFoundError, match=r"`mask`: there is no file"):
        bl.pp.grid(tiff, visium(), um=100, mask="none.geojson")
    with pytest.raises(FileNotFoundError, match=r"`image`: there is no file"):
        bl.pp.grid(tmp_path / "none.svs", visium(), um=100)


@pytest.mark.odd
def test_a_slide_without_scale_and_one_without_tissue(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no tag of 'ImageContainer' says how many µm.*Pass `mpp=`"):
        bl.pp.grid(sq.im.ImageContainer(pixels_of()), visium(), um=100)
    empty = sq.im.ImageContainer(np.full((400, 400, 3), 240, dtype=np.uint8))
    with pytest.raises(ValueError, match=r"no tissue was found on `image` by its colours.*`mask=`"):
        bl.pp.grid(empty, visium(), um=20, mpp=0.5)
    with pytest.raises(ValueError, match=r"no spot of a lattice of 190 µm lies on tissue.*highest share is"):
        bl.pp.grid(
            sq.im.ImageContainer(pixels_of(400, 400)[:, ::-1]),
            visium(),
            um=190,
            mpp=0.5,
            min_tissue=0.99,
            mask=np.eye(4),
        )


@pytest.mark.odd
def test_a_damaged_slide(tiff: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.tif"
    short.write_bytes(tiff.read_bytes()[: tiff.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"short\.tif|pixels of `image` could not be read"):
        bl.pp.grid(short, visium(), um=100, mpp=0.5)


@pytest.mark.odd
def test_a_truncated_svs(real_data: Path, tmp_path: Path) -> None:
    whole = (real_data / "slides" / "CMU-1-Small-Region.svs").read_bytes()
    for share in (0.001, 0.1, 0.3, 0.6):
        path = tmp_path / f"{share}.svs"
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(ValueError, match=r"could not be read"):
            bl.pp.grid(path, visium(), um=100)


@pytest.mark.slow
def test_a_slide_without_a_name_says_so_and_stores_give_theirs(tmp_path: Path) -> None:
    """Two slides of one name would be taken for one section after a concat."""
    image = sq.im.ImageContainer(pixels_of())
    with pytest.warns(UserWarning, match=r"no name, so it is called 'slide'.*pass `library_id=`"):
        slide = bl.pp.grid(image, visium(), um=100, mpp=0.5)
    assert list(slide.uns["spatial"]) == ["slide"]
    assert list(bl.pp.grid(image, visium(), um=100, mpp=0.5, library_id="P1").uns["spatial"]) == ["P1"]
    for store in ("X1", "X2"):
        by_hand(images={"he": image_of(pixels_of())}, tables={}).write(tmp_path / f"{store}.zarr")
        slide = bl.pp.grid(tmp_path / f"{store}.zarr" / "images" / "he", visium(), um=100, mpp=0.5)
        assert list(slide.uns["spatial"]) == [f"{store}_he"]
