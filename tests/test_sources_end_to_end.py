"""From what the readers of the field give to a prediction and back: Visium HD, a slide without spots, tiles of others.

The lines that a user writes stand here as they are in the documentation. Two pieces of painted tissue are written as
Space Ranger's folders, and `spatialdata_io` reads them. What is checked is known from how they were painted.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import patch_files
import pytest
import scanpy as sc
import spatialdata as sd
import spatialdata_io
from anndata import AnnData
from scipy import ndimage
from vendors.visium_hd import Slide, write_visium_hd

import bleep_sc as bl

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Use `squidpy.pl.spatial_scatter` instead:FutureWarning"),
]

GENES = ["ERBB2", *(f"g{i}" for i in range(1, 24))]
LINKED = slice(0, 16)
"""Genes that follow the stain; the others follow nothing."""
SLIDE = "CMU-1-Small-Region.svs"


@dataclass(frozen=True)
class Painted:
    """Tissue on an image of 1 µm per pixel, as a store of SpatialData."""

    store: Path
    stain: np.ndarray
    """How dark and how blue it is (2, y, x)."""

    def rates(self, xy: np.ndarray) -> np.ndarray:
        """Expected counts of a bin by gene."""
        return _rates(self.stain, xy)


def _rates(stain: np.ndarray, xy: np.ndarray) -> np.ndarray:
    column, row = np.rint(xy).astype(int).T
    slopes = np.random.default_rng(3).choice([-0.8, 0.8], size=(2, len(GENES)))
    slopes[:, 0] = 0.8, 0
    slopes[:, LINKED.stop :] = 0
    return np.asarray(np.exp(stain[:, row, column].T @ slopes - 0.5))


def _paint(folder: Path, name: str, *, side_um: int, seed: int) -> Painted:
    """Stains are smooth fields of about 60 µm."""
    rng = np.random.default_rng(seed)
    size = side_um + 240
    fields = ndimage.gaussian_filter(rng.normal(size=(2, size, size)), sigma=(0, 30, 30))
    stain = fields / fields.std(axis=(1, 2), keepdims=True)
    red, blue = 185 - 22 * stain[0] - 18 * stain[1], 195 - 14 * stain[0] + 8 * stain[1]
    green = 120 - 20 * stain[0]
    image = np.clip(np.stack([red, green, blue], axis=-1) + rng.normal(0, 4, (size, size, 1)), 0, 255).astype(np.uint8)
    slide = Slide(
        image=image,
        um_per_px=1.0,
        side_um=side_um,
        begin=(140.0, 100.0),
        bins=(8,),
        counts=lambda xy: rng.poisson(_rates(stain, xy)),
        genes=GENES,
    )
    outs = write_visium_hd(folder / f"{name}_outs", slide, cells=False).folder
    store = folder / f"{name}.zarr"
    with warnings.catch_warnings(action="ignore"):
        spatialdata_io.visium_hd(outs, dataset_id="sample", bin_size=8, load_segmentations_only=False).write(store)
    return Painted(store, stain)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Painted:
    return _paint(tmp_path_factory.mktemp("sample"), "sample", side_um=880, seed=0)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Painted:
    return _paint(tmp_path_factory.mktemp("other"), "other", side_um=160, seed=1)


@pytest.fixture(scope="module")
def pooled_once(sample: Painted) -> tuple[AnnData, AnnData]:
    """Bins, and the reference that was pooled of them and trained."""
    with bl.settings.override(progress_bar=False, device="cpu"):
        adata = bl.io.from_spatialdata(sample.store, table="square_008um", image="sample_full_image")
        ref = bl.pp.pool(adata, um=55)
        sc.pp.normalize_total(ref, target_sum=1e4)
        sc.pp.log1p(ref)
        bl.pp.crops(ref, um=100)
        bl.tl.fit(ref, max_epochs=10, members=1)
    return adata, ref


@pytest.fixture
def pooled(pooled_once: tuple[AnnData, AnnData]) -> tuple[AnnData, AnnData]:
    adata, ref = pooled_once
    return adata.copy(), ref.copy()


def rank_correlation(a: Any, b: Any) -> float:
    a, b = (np.argsort(np.argsort(np.asarray(each).ravel())) for each in (a, b))
    return float(np.corrcoef(a, b)[0, 1])


def test_pooled_bins_hold_all_counts_where_they_were(pooled: tuple[AnnData, AnnData], sample: Painted) -> None:
    adata, ref = pooled
    assert adata.n_obs == 110**2
    assert np.array_equal(ref.layers["counts"].sum(axis=0), adata.X.sum(axis=0))
    assert ref.obs["n_pooled"].sum() == adata.n_obs
    assert ref.n_obs == 16**2  # 880 / 55
    factors = ref.uns["spatial"]["sample_square_008um"]["scalefactors"]
    assert factors["microns_per_pixel"] == pytest.approx(1)
    assert factors["spot_diameter_fullres"] == pytest.approx(55)
    # a place lies in the middle of its bins, to half a bin
    members = adata.obs["pool"].astype(str).to_numpy()
    for name in ref.obs_names[[0, 100, 200]]:
        middle = adata.obsm["spatial"][members == name].mean(axis=0)
        assert np.abs(middle - ref[name].obsm["spatial"][0]).max() <= 4
    # and expects what was painted there
    expected = sample.rates(ref.obsm["spatial"])[:, 0]
    share = ref.layers["counts"][:, 0].toarray().ravel() / ref.obs["n_pooled"]
    assert np.corrcoef(expected, share)[0, 1] > 0.8
    record = ref.uns["crops"]["sample_square_008um"]
    assert record["size_um"] == 100
    assert record["um_per_px"] == pytest.approx(100 / 224)
    assert len(record["findings"]) == 0


def test_blocks_one_and_two(pooled: tuple[AnnData, AnnData], other: Painted) -> None:
    """Bins of another sample are predicted from spots pooled of the first, and go back to where they came from."""
    ref = pooled[1]
    sdata = sd.read_zarr(other.store)
    query = bl.io.from_spatialdata(other.store, table="square_008um", image="sample_full_image")
    query = query[::3].copy()
    bl.pp.crops(query, sdata["sample_full_image"], um=100)
    bl.tl.impute(query, ref)
    truth = np.log(other.rates(query.obsm["spatial"]))
    scores = [rank_correlation(query.layers["bleep"][:, i], truth[:, i]) for i in range(LINKED.stop)]
    assert np.median(scores) > 0.7

    bl.io.to_spatialdata(sdata, query, layer="bleep", table="bleep")
    with warnings.catch_warnings(action="ignore"):  # of anndata, about its next version
        sdata.write_element("bleep")
    again = sd.read_zarr(other.store)
    table, bins = again["bleep"], again["square_008um"]
    assert table.uns["spatialdata_attrs"] == bins.uns["spatialdata_attrs"]
    assert np.array_equal(table.X, query.layers["bleep"])
    shapes, joined = sd.join_spatialelement_table(
        sdata=again, spatial_element_names="sample_square_008um", table_name="bleep", how="inner", match_rows="left"
    )
    centres = shapes["sample_square_008um"].centroid
    assert joined.n_obs == query.n_obs
    assert joined.obs["location_id"].tolist() == centres.index.tolist()
    back = query[joined.obs_names]
    assert np.allclose(np.column_stack([centres.x, centres.y]), back.obsm["spatial"])
    assert np.array_equal(joined.X, back.layers["bleep"])
    values = sd.get_values("ERBB2", sdata=again, element_name="sample_square_008um", table_name="bleep")
    assert values["ERBB2"].to_dict() == dict(
        zip(query.obs["location_id"], query[:, "ERBB2"].layers["bleep"].ravel(), strict=True)
    )


@pytest.fixture
def in_folder_of_slides(real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (real_data / "slides" / SLIDE).exists():
        pytest.skip(f"there is no {real_data / 'slides' / SLIDE}")
    (tmp_path / "slide.svs").symlink_to(real_data / "slides" / SLIDE)
    monkeypatch.chdir(tmp_path)


def greens(crops: np.ndarray) -> np.ndarray:
    return np.asarray(crops[..., 1].mean(axis=(1, 2)))


@pytest.mark.usefixtures("in_folder_of_slides")
def test_block_three(pooled: tuple[AnnData, AnnData]) -> None:
    """A real file of Aperio. Painted tissue taught that ERBB2 is where green is dark, and nothing else."""
    ref = pooled[1]
    slide = bl.pp.grid("slide.svs", ref, um=100)
    bl.pp.crops(slide, "slide.svs", um=100)
    with pytest.warns(UserWarning, match="look unlike the reference"):  # it is skin
        bl.tl.impute(slide, ref)
    sc.pl.spatial(slide, color="ERBB2", layer="bleep", show=False)
    drawn = plt.gcf().axes[0].collections[0].get_array()
    plt.close("all")
    imputed = slide[:, "ERBB2"].layers["bleep"].ravel()
    assert np.allclose(drawn, np.sort(imputed))  # scanpy draws the highest last
    assert slide.uns["spatial"]["slide"]["scalefactors"]["microns_per_pixel"] == 0.499
    assert list(slide.var_names) == GENES
    assert slide.obs["tissue_share"].min() >= 0.5
    assert rank_correlation(imputed, greens(slide.obsm["crops"])) < -0.4
    across = np.diff(np.unique(slide.obsm["spatial"][:, 0].round(6)))
    assert np.allclose(across, 100 / 0.499)  # the pitch, as squares like the reference's
    assert 50 <= slide.n_obs <= 65  # counted on the picture: 4 to 6 in each of 14 rows


def corners_and_features(adata: AnnData, side: int) -> tuple[np.ndarray, np.ndarray]:
    """What a program that knows colours alone would say of tiles around the spots."""
    corners = np.rint(adata.obsm["spatial"]).astype(int) - side // 2
    colours = adata.obsm["crops"].reshape(adata.n_obs, -1, 3)
    return corners, np.hstack([colours.mean(axis=1), colours.std(axis=1)]).astype(np.float32)


@pytest.mark.usefixtures("in_folder_of_slides")
def test_block_four(pooled: tuple[AnnData, AnnData], tmp_path: Path) -> None:
    ref = pooled[1]
    corners, features = corners_and_features(ref, 100)
    of_ref = patch_files.trident(
        tmp_path / "ref.h5", corners, features, encoder="uni", patch_size=100, magnification=10, target=10
    )
    tiles = bl.io.from_patches(of_ref, mpp=1)
    assert np.abs(tiles.obsm["spatial"] - ref.obsm["spatial"]).max() <= 0.5
    ref.obsm["X_uni"], ref.uns["X_uni"] = tiles.obsm["X_uni"], tiles.uns["X_uni"]
    bl.tl.fit(ref, image_key="X_uni", method="ridge")

    wsi = _wsi("slide.svs", tmp_path / "slide.zarr")
    assert bl.io.from_wsidata(wsi, features="uni").n_vars == 0  # genes are the reference's
    slide = bl.io.from_wsidata(wsi, ref, features="uni")
    by_id = wsi.shapes["tiles"].set_index("tile_id").loc[slide.obs["tile_id"]]
    assert np.array_equal(slide.obsm["spatial"], by_id[["x", "y"]] + 100)  # 200 pixels wide
    with pytest.warns(UserWarning, match="look unlike the reference"):
        bl.tl.impute(slide, ref)
    assert rank_correlation(slide[:, "ERBB2"].layers["bleep"], slide.obsm["X_uni"][:, 1]) < -0.4

    names = list(slide.obs_names)
    patch_files.hest(tmp_path / "slide_patches.h5", by_id[["x", "y"]], names, pixel_size=0.499, side=200)
    again = bl.io.from_patches("slide_patches.h5")
    assert list(again.obs_names) == names
    assert np.array_equal(again.obsm["spatial"], slide.obsm["spatial"])


def _wsi(source: str, store: Path) -> Any:
    """A WSIData of tiles of 100 µm, half of them, in an order of their own."""
    with warnings.catch_warnings(action="ignore"):  # of wsidata and what it imports
        wsidata = pytest.importorskip("wsidata")
        wsi = wsidata.open_wsi(source, store=store)
        spec = wsidata.TileSpec.from_wsidata(wsi, tile_px=100, mpp=0.998)
        corners = np.array([[x, y] for x in range(0, 1900, 200) for y in range(0, 2600, 200)])
        pixels = np.stack([wsi.read_region(int(x), int(y), 200, 200)[..., :3] for x, y in corners])
        colours = pixels.reshape(len(corners), -1, 3)
        features = np.hstack([colours.mean(axis=1), colours.std(axis=1)]).astype(np.float32)
        wsidata.io.add_tiles(wsi, "tiles", corners, spec, np.zeros(len(corners), dtype=int))
        wsidata.io.add_features(wsi, "uni_tiles", "tiles", features)
        wsi.shapes["tiles"] = wsi.shapes["tiles"].sample(frac=0.5, random_state=0)
    return wsi


def test_block_five(pooled: tuple[AnnData, AnnData]) -> None:
    adata, ref = pooled
    bl.pp.check_alignment(adata)
    bl.pp.check_alignment(ref)
    for given in (adata, ref):
        assert given.uns["alignment_check"]["sample_square_008um"]["verdict"] == "fits"
    ref.obsm["spatial"][:, 0] = 1120 - ref.obsm["spatial"][:, 0]
    with pytest.warns(UserWarning, match="mirrored"):
        bl.pp.check_alignment(ref)
    assert "another way fits better" in ref.uns["alignment_check"]["sample_square_008um"]["verdict"]
    bl.pl.alignment_check(ref, show=False)
    plt.close("all")
