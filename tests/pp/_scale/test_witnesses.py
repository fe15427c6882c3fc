"""Which scale is believed, who contradicts it, and what is no witness."""

import logging
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import tifffile
from anndata import AnnData
from squidpy.im import ImageContainer

import bleep_sc as bl
from bleep_sc.pp._places_code import PlacesCode
from bleep_sc.pp._scale.witness import Witness
from bleep_sc.pp._scale.witnesses import Evidence, Scale, contradiction, scale_of_section

PITCH, MPP = 200.0, 0.5
CODE = PlacesCode("spatial", "lib", None)
TAG = Witness("the file's tags", 0.25)


def visium(pitch: float = PITCH) -> tuple[pd.DataFrame, np.ndarray]:
    row, column = np.array([(r, c) for r in range(12) for c in range(r % 2, 20, 2)]).T
    xy = np.stack([column * pitch / 2, row * pitch * np.sqrt(3) / 2], axis=1) + 100
    return pd.DataFrame({"array_row": row, "array_col": column}, index=[f"s{i}" for i in range(len(row))]), xy


def asked(
    mpp: Any = None, *, lattice: bool = False, tag: Witness | None = None, metadata: Any = None, **factors: Any
) -> Scale:
    obs, xy = visium()
    obs = obs if lattice else obs.iloc[:, :0]
    return scale_of_section(Evidence("lib", mpp, factors, metadata or {}, obs=obs, xy=xy, tag=tag))


def test_order_of_precedence() -> None:
    recorded = {"microns_per_pixel": 0.3, "spot_diameter_fullres": 110.0}
    assert asked(0.7, lattice=True, tag=TAG, **recorded).um_per_px == 0.7
    assert asked({"lib": 0.6}, lattice=True, **recorded).um_per_px == 0.6
    assert asked({"other": 0.6}, lattice=True, **recorded).um_per_px == 0.3
    assert asked(lattice=True, tag=TAG).um_per_px == MPP
    assert np.isnan(asked(tag=TAG).um_per_px), "the tags of a file only check where spots were measured"
    assert np.isnan(asked().um_per_px)


@pytest.mark.parametrize("source", ["reference", "argument"])
def test_a_slide_without_spots_takes_its_files_tags(source: str) -> None:
    found = asked(tag=TAG, metadata={"spot_diameter_from": source}, spot_diameter_fullres=80.0)
    assert found.um_per_px == TAG.um_per_px
    copied = np.isnan(found.spot_diameter)
    assert copied == (source == "reference"), "what was copied from the reference says nothing of this slide"


@pytest.mark.parametrize(("diameter", "known"), [(110.0, True), (130.0, True), (200.0, False), (60.0, False)])
def test_a_visium_spot_fits_its_lattice(diameter: float, known: bool) -> None:  # noqa: FBT001
    """55 µm and 65 µm of 100; a lattice of touching bins is not Visium's."""
    found = asked(lattice=True, spot_diameter_fullres=diameter)
    assert np.isfinite(found.um_per_px) == known
    assert (found.doubt is None) == known
    if found.doubt is not None:
        assert f"{PITCH / diameter:.3g} spot diameters apart" in found.doubt.found
        assert "mpp=" in found.doubt.remedy


def test_a_lattice_that_nothing_confirms_is_told() -> None:
    alone = asked(lattice=True)
    assert alone.um_per_px == MPP
    assert alone.doubt is not None
    assert "mpp=0.5`" in alone.doubt.remedy
    assert asked(lattice=True, tag=Witness("tag", 0.5)).doubt is None
    assert asked(0.5, lattice=True).doubt is None


@pytest.mark.parametrize(
    ("scale", "first", "second"),
    [
        (asked(0.7, microns_per_pixel=0.3), 0.7, 0.3),
        (asked(0.7, lattice=True), 0.7, 0.5),
        (asked(microns_per_pixel=0.3, lattice=True), 0.3, 0.5),
        (asked(lattice=True, tag=TAG), 0.5, 0.25),
        (asked(0.54, lattice=True), 0.54, 0.5),
    ],
)
def test_two_witnesses_that_differ_are_told(scale: Scale, first: float, second: float) -> None:
    found = contradiction(scale, size=224, um=100, code=CODE)
    assert found is not None
    for value in (first, second):
        assert f"{value:.4g} by" in found.found
        assert f"{100 / value:.4g} pixels" in found.found
    assert f"`mpp={second:g}`" in found.remedy
    native = contradiction(scale, size=224, um=None, code=CODE)
    assert native is not None
    assert f"{224 * second:.4g} µm" in native.found


def test_witnesses_that_agree_are_silent() -> None:
    for scale in (asked(0.52, lattice=True, microns_per_pixel=0.51, tag=Witness("tag", 0.5)), asked(0.5), asked()):
        assert contradiction(scale, size=224, um=100, code=CODE) is None


def test_places_in_micrometres_are_recognised() -> None:
    """Neighbours 100 units apart where the file has 0.25 µm per pixel."""
    obs, xy = visium(100.0)
    factors = {"spot_diameter_fullres": 55.0}
    scale = scale_of_section(Evidence("lib", None, factors, {}, obs=obs, xy=xy, tag=TAG))
    found = contradiction(scale, size=224, um=None, code=CODE)
    assert found is not None
    assert "`adata.obsm['spatial'] = adata.obsm['spatial'] / 0.25`" in found.remedy


def test_a_lattice_of_100_to_the_digit_may_be_in_micrometres() -> None:
    """Nobody else knows the scale; a pitch of 98 pixels is one of pixels."""
    for pitch, doubted in ((100.0, True), (98.0, False)):
        obs, xy = visium(pitch)
        factors = {"spot_diameter_fullres": 0.55 * pitch}
        scale = scale_of_section(Evidence("lib", None, factors, {}, obs=obs, xy=xy, tag=None))
        assert (scale.doubt is not None) == doubted
        assert scale_of_section(Evidence("lib", 100 / pitch, factors, {}, obs=obs, xy=xy, tag=None)).doubt is None


@pytest.mark.parametrize("section", ["her2st/C2", "her2st/C6", "mob2k/MOB1", "mob2k/MOB3"])
def test_first_generation_arrays_stay_unknown(real_data: Path, section: str) -> None:
    adata = ad.read_h5ad(real_data / f"{section}.h5ad")
    factors = adata.uns["spatial"][section.split("/")[1]]["scalefactors"]
    xy = adata.obsm["spatial"]
    scale = scale_of_section(Evidence("x", None, factors, {}, obs=adata.obs, xy=xy, tag=None))
    assert np.isnan(scale.um_per_px)
    assert scale.doubt is None


def slide(path: Path, um_per_px: float) -> Path:
    """An OME-TIFF that says its scale."""
    pixels = np.random.default_rng(0).integers(0, 256, size=(200, 300, 3), dtype=np.uint8)
    size = {"PhysicalSizeX": um_per_px, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": um_per_px}
    tifffile.imwrite(path, pixels, photometric="rgb", tile=(64, 64), metadata={"axes": "YXS", **size})
    return path


@pytest.fixture(scope="module")
def ref() -> AnnData:
    """Toy tissue, whose scale is known, with a model."""
    ref = bl.datasets.toy(n_patients=1, n_spots=40, n_genes=20)
    bl.tl.fit(ref, method="ridge", library_key="section", progress_bar=False)
    return ref


def test_impute_never_compares_a_copied_number_with_itself(
    ref: AnnData, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    """A slide scanned four times as finely as the reference, whose spot diameter was taken over."""
    (record, *_) = ref.uns["crops"].values()
    xy = np.random.default_rng(0).uniform(60, 140, size=(30, 2))
    image = slide(tmp_path / "slide.ome.tif", record["um_per_px"] / 4)
    blank = bl.pp.blank(ref, spatial=xy, library_id="new")
    with log.at_level(logging.INFO, logger="bleep_sc"):
        bl.pp.crops(blank, image, size=record["size"])
    assert "µm per pixel by the file's OME metadata" in log.text
    found = blank.uns["crops"]["new"]
    assert np.isnan(found["spot_diameters"])
    assert found["um_per_px"] == pytest.approx(record["um_per_px"] / 4, rel=1e-4), "by the file"
    with pytest.raises(ValueError, match=r"different widths of tissue.*µm wide"):
        bl.tl.impute(blank, ref, progress_bar=False)
    bl.pp.crops(blank, image, size=record["size"], um=record["size_um"])
    with pytest.warns(UserWarning, match="look unlike the reference"):  # it is no such tissue
        bl.tl.impute(blank, ref, progress_bar=False)


def test_a_copied_number_alone_leaves_the_scale_unknown(ref: AnnData) -> None:
    blank = bl.pp.blank(ref, spatial=np.array([[60.0, 60.0], [80.0, 70.0]]), library_id="new")
    pixels = np.random.default_rng(0).integers(0, 256, size=(200, 300, 3), dtype=np.uint8)
    with pytest.warns(UserWarning, match="the scale of the image is unknown for 'new'.*Pass `mpp=`"):
        bl.pp.crops(blank, ImageContainer(pixels), size=16)
    assert np.isnan(blank.uns["crops"]["new"]["spot_diameters"])


def test_an_unknown_scale_names_what_the_file_says(tmp_path: Path) -> None:
    adata = AnnData(np.ones((2, 1), dtype=np.float32), obsm={"spatial": np.array([[60.0, 60.0], [80.0, 70.0]])})
    path = slide(tmp_path / "slide.ome.tif", 0.25)
    with pytest.warns(UserWarning, match=r"Pass `mpp=`.*the file's OME metadata \(`PhysicalSizeX`\) it is 0\.25 for"):
        bl.pp.crops(adata, path, size=16)
    with pytest.raises(ValueError, match=r"`um=100`: the scale of 'library' is unknown.*OME metadata.* it is 0\.25"):
        bl.pp.crops(adata, path, um=100)
    with pytest.warns(UserWarning, match=r"0\.5 by the argument `mpp`, 0\.25 by the file's OME metadata") as warned:
        bl.pp.crops(adata, path, um=20, mpp=0.5)
    assert len(warned) == 1
    (sign,) = adata.uns["crops"]["library"]["findings"]["sign"]
    assert sign == "scale"


@pytest.mark.odd
@pytest.mark.parametrize("wrong", [0.02734, 27.34])
def test_a_file_that_is_wrong_by_ten_is_named_and_never_believed(ref: AnnData, tmp_path: Path, wrong: float) -> None:
    """No microscope has such pixels: the value is held against another one, and is none by itself."""
    path = slide(tmp_path / "slide.ome.tif", wrong)
    xy = np.array([[60.0, 60.0], [80.0, 70.0]])
    adata = AnnData(np.ones((2, 1), dtype=np.float32), obsm={"spatial": xy})
    with pytest.warns(UserWarning, match=rf"0\.2734 by the argument `mpp`, {wrong} by the file's OME metadata"):
        bl.pp.crops(adata, path, size=16, mpp=0.2734)
    assert adata.uns["crops"]["library"]["um_per_px"] == 0.2734
    blank = bl.pp.blank(ref, spatial=xy, library_id="new")
    with pytest.warns(UserWarning, match="the scale of the image is unknown for 'new'"):
        bl.pp.crops(blank, path, size=16)
    with pytest.raises(ValueError, match=rf"\({wrong} by the file's OME metadata.*no microscope.*Pass `mpp=`"):
        bl.pp.grid(path, ref, um=100)
