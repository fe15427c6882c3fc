"""Signs that image and spots do not belong together: what is wrong is named with what mends it."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from PIL import Image
from squidpy.im import ImageContainer

import bleep_sc as bl
from bleep_sc.pp._images.turn import TURNS
from bleep_sc.pp._signs.placements import NAMES_OF_TURNS

SIDE, FACTOR, PITCH = 640, 0.25, 20


def tissue() -> np.ndarray:
    """Stained tissue without any symmetry on glass (560, 640, 3)."""
    y, x = np.mgrid[:560, :SIDE]
    inside = ((x - 220) / 170) ** 2 + ((y - 200) / 120) ** 2 < 1
    inside |= ((x - 330) / 60) ** 2 + ((y - 330) / 150) ** 2 < 1
    shade = np.random.default_rng(0).integers(0, 70, size=(28, 32), dtype=np.uint8)
    shade = np.asarray(Image.fromarray(shade).resize((SIDE, 560), Image.Resampling.BICUBIC)).astype(int)
    colored = np.stack([215 - shade, 150 - shade, 195 - shade], axis=2)
    return np.where(inside[..., None], colored, 245).astype(np.uint8)


IMAGE = tissue()
GRID = np.stack(np.meshgrid(np.arange(10, SIDE, PITCH), np.arange(10, 560, PITCH)), axis=-1).reshape(-1, 2) * 1.0
XY = GRID[(IMAGE[GRID[:, 1].astype(int), GRID[:, 0].astype(int), 1] < 200)]


def section(xy: np.ndarray = XY, *, picture: bool = True) -> AnnData:
    adata = AnnData(np.ones((len(xy), 1), dtype=np.float32), obsm={"spatial": xy.copy()})
    hires = np.asarray(Image.fromarray(IMAGE).reduce(4))
    factors = {"tissue_hires_scalef": FACTOR, "spot_diameter_fullres": 12.0, "microns_per_pixel": 5.0}
    adata.uns["spatial"] = {"lib": {"images": {"hires": hires} if picture else {}, "scalefactors": factors}}
    return adata


def found(adata: AnnData, image: Any, **how: Any) -> pd.DataFrame:
    """Cut with the findings that must be warned of, exactly."""
    with pytest.warns(UserWarning, match="image, scale and spots may not belong together") as warned:
        bl.pp.crops(adata, image, **{"size": 16} | how)
    assert len(warned) == 1
    findings = adata.uns["crops"]["lib"]["findings"]
    for _, finding in findings.iterrows():
        assert f"'lib': {finding['found']} {finding['remedy']}" in str(warned[0].message)
    return findings


def box(pixels: np.ndarray, **how: Any) -> ImageContainer:
    return ImageContainer(np.ascontiguousarray(pixels), **how)


@pytest.mark.parametrize("picture", [True, False])
def test_what_is_right_is_silent(picture: bool) -> None:  # noqa: FBT001
    adata = section(picture=picture)
    bl.pp.crops(adata, box(IMAGE), size=16)
    assert adata.uns["crops"]["lib"]["findings"].empty


@pytest.mark.parametrize("number", NAMES_OF_TURNS)
def test_a_turned_image_is_named_and_turned_back(number: int) -> None:
    """The line of the remedy is run: the crops then are those of the right image."""
    turn = TURNS[number]
    undone = {6: TURNS[8], 8: TURNS[6]}.get(number, turn)
    image = np.pad(IMAGE, ((0, 80), (0, 0), (0, 0)), constant_values=245)  # square, so that the size tells nothing
    adata = section()
    adata.uns["spatial"]["lib"]["images"]["hires"] = np.asarray(Image.fromarray(image).reduce(4))
    findings = found(adata, box(undone.upright(image)))
    assert findings["sign"].tolist() == ["look"]
    assert f"if the image is {NAMES_OF_TURNS[number]} (1.00)" in findings["found"].iloc[0]
    (line,) = re.findall(r"ascontiguousarray\((.*)\)\)`", findings["remedy"].iloc[0])
    mended = eval(line, {"numpy": np, "image": undone.upright(image)})  # noqa: S307 - as a user would
    assert np.array_equal(mended, image)


@pytest.mark.parametrize("picture", [True, False])
@pytest.mark.parametrize("number", NAMES_OF_TURNS)
def test_turned_places_are_named_and_put_right(number: int, picture: bool) -> None:  # noqa: FBT001
    """The line of the remedy is run: the places then are the right ones."""
    turn = TURNS[number]
    size = np.array([SIDE, 560])
    wrong = {6: TURNS[8], 8: TURNS[6]}.get(number, turn).place(XY, size)
    if not ((wrong >= 0) & (wrong < size)).all():
        pytest.skip("the error about spots outside the image speaks of it")
    adata = section(wrong, picture=picture)
    findings = found(adata, box(IMAGE))
    assert findings["sign"].tolist() == ["tissue"]
    assert NAMES_OF_TURNS[number] in findings["found"].iloc[0]
    (line,) = re.findall(r"`(.*?)`", findings["remedy"].iloc[0])
    exec(line, {"adata": adata})  # noqa: S102 - as a user would
    np.testing.assert_allclose(adata.obsm["spatial"], XY)


def half(image: np.ndarray) -> np.ndarray:
    small = np.asarray(Image.fromarray(image).reduce(2))
    return np.pad(small, ((0, 560 - len(small)), (0, SIDE - small.shape[1]), (0, 0)), constant_values=245)


WRONG: dict[str, tuple[Callable[[], AnnData], Callable[[], Any], str, str, str]] = {
    "the image of another section": (
        section,
        lambda: box(np.roll(IMAGE, (150, 120), axis=(0, 1))),
        "look",
        "do not look like the hires picture",
        "Pass the image of 'lib'",
    ),
    "half the size on a canvas of the same": (
        section,
        lambda: box(half(IMAGE)),
        "look",
        "do not look",
        "at its full size",
    ),
    "places in pixels of the hires picture": (
        lambda: section(XY * FACTOR),
        lambda: box(IMAGE),
        "tissue",
        r"as pixels of a smaller picture \(`tissue_hires_scalef` 0\.25\)",
        r"`adata\.obsm\['spatial'\] = adata\.obsm\['spatial'\] / 0\.25`",
    ),
    "places in micrometres": (
        lambda: section(XY / 2),
        lambda: box(IMAGE),
        "tissue",
        r"as micrometres \(0\.5 µm per pixel by the argument `mpp`\)",
        r"/ 0\.5`",
    ),
    "a larger image": (
        section,
        lambda: box(np.asarray(Image.fromarray(IMAGE).resize((2 * SIDE, 1120)))),
        "size",
        "1280 x 1120 full-resolution pixels in size.*should be about 640 x 560",
        r"enlarged 2 times.*scale=2\)`; if it was cropped",
    ),
    "an image turned by 90°": (section, lambda: box(np.rot90(IMAGE)[:, :]), "size", "560 x 640", "turned by 90°"),
    "a cropped image": (section, lambda: box(IMAGE[:, :520]), "size", "520 x 560", "cropped, or of another section"),
    "inverted colours": (section, lambda: box(255 - IMAGE), "look", "do not look like", "Pass the image"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named(case: str) -> None:
    make, image, sign, seen, remedy = WRONG[case]
    adata = make()
    if case == "an image turned by 90°":
        adata.obsm["spatial"] = adata.obsm["spatial"][:, ::-1].copy()
    if case == "places in micrometres":
        del adata.uns["spatial"]["lib"]["scalefactors"]["microns_per_pixel"]
    findings = found(adata, image(), mpp=0.5 if case == "places in micrometres" else None)
    assert findings["sign"].tolist() == [sign], findings
    assert re.search(seen, findings["found"].iloc[0])
    assert re.search(remedy, findings["remedy"].iloc[0])


def test_the_size_of_a_recorded_factor_is_named() -> None:
    adata = section(XY[(XY < 260).all(axis=1)])
    small = np.asarray(Image.fromarray(IMAGE).reduce(2))
    adata.uns["spatial"]["lib"]["scalefactors"]["regist_target_img_scalef"] = 0.5
    findings = found(adata, box(small))
    assert "`regist_target_img_scalef`" in findings["remedy"].iloc[0]
    bl.pp.crops(adata, box(small, scale=0.5), size=8)
    assert adata.uns["crops"]["lib"]["findings"].empty


def test_a_fluorescence_image_is_dark() -> None:
    adata = section(picture=False)
    findings = found(adata, box(np.clip(245 - IMAGE.astype(int), 0, 40).astype(np.uint8)))
    assert findings["sign"].tolist() == ["dark"]


@pytest.mark.parametrize("mpp", [0.25, None])
def test_places_of_a_spatialdata_table_in_micrometres(mpp: float | None) -> None:
    """No picture shows the tissue, and no pixel is read."""
    adata = section(XY / 4, picture=False)
    adata.uns["spatialdata_attrs"] = {"region": "cells", "region_key": "region", "instance_key": "cell_id"}
    del adata.uns["spatial"]["lib"]["scalefactors"]["microns_per_pixel"]
    with pytest.warns(UserWarning) as warned:
        bl.pp.crops(adata, box(IMAGE), size=16, mpp=mpp, lazy=True)
    findings = adata.uns["crops"]["lib"]["findings"]
    assert findings["sign"].tolist() == ["units"]
    assert findings["found"].iloc[0] in str(warned[-1].message)
    if mpp:
        (line,) = re.findall(r"`(.*?)`", findings["remedy"].iloc[0])
        exec(line, {"adata": adata})  # noqa: S102 - as a user would
        np.testing.assert_allclose(adata.obsm["spatial"], XY)
        bl.pp.crops(adata, box(IMAGE), size=16, mpp=mpp, lazy=True)
        assert adata.uns["crops"]["lib"]["findings"].empty


@pytest.mark.parametrize("column", ["section", None])
def test_two_sections_cut_from_one_image(column: str | None) -> None:
    both = ad.concat({"A": section(), "B": section()}, label=column, uns_merge="first", index_unique="-")
    findings = found(both, box(IMAGE))
    assert findings["sign"].tolist() == ["places"]
    n = 2 * len(XY)
    assert f"{n} of {n} spots stand at the same place" in findings["found"].iloc[0]
    assert ("library_key='section'" if column else "library_key=...") in findings["remedy"].iloc[0]


@pytest.mark.parametrize("how", ["row and column", "instance"])
def test_two_sections_whose_places_differ_are_seen_too(how: str) -> None:
    """Two slides that were laid out by one lattice, or two samples that call their cells alike."""
    samples = {"A": section(), "B": section(XY + np.array([3, 5]))}
    for number, sample in enumerate(samples.values()):
        sample.obs["share"] = [0.25, 0.5 + number] * (len(XY) // 2) + [0.125] * (len(XY) % 2)
        if how == "row and column":
            sample.obs["array_row"], sample.obs["array_col"] = XY.astype(int).T[::-1]
        else:
            sample.obs["region"], sample.obs["cell"] = (
                "cells",
                [f"c{i}" for i in range(len(XY) * number, len(XY) * (number + 1))],
            )
            sample.uns["spatialdata_attrs"] = {"region": "cells", "region_key": "region", "instance_key": "cell"}
    if how == "instance":  # ids of many cells fall together now and then
        samples["B"].obs.loc["7", "cell"] = "c3"
    both = ad.concat(samples, uns_merge="first", index_unique="-", label="sample")
    findings = found(both, box(IMAGE))
    assert findings["sign"].tolist() == ["places"]
    begin = f"{2 * len(XY)} of {2 * len(XY)} spots have the same `array_row` and `array_col` as another one"
    if how == "instance":
        begin = f"2 of {2 * len(XY)} spots have the same `region` and `cell` as another one"
    assert findings["found"].iloc[0].startswith(begin)
    assert "pass `library_key='sample'`" in findings["remedy"].iloc[0]
    del both.obs["sample"]
    assert "library_key=..." in found(both, box(IMAGE))["remedy"].iloc[0]  # a measured share tells nothing apart


@pytest.mark.odd
def test_positions_that_tell_nothing_are_no_sign_of_two_sections() -> None:
    for row, column in ((0, 0), (np.arange(len(XY)), 0), (np.nan, np.nan)):
        adata = section()
        adata.obs["array_row"], adata.obs["array_col"] = row, column
        bl.pp.crops(adata, box(IMAGE), size=16)
        assert adata.uns["crops"]["lib"]["findings"].empty


@pytest.mark.parametrize("pyramid", [True, False])
def test_pooled_places_in_micrometres(pyramid: bool, tmp_path: Path) -> None:  # noqa: FBT001
    """`pool(mpp=1)` records the scale of the places: crops of another image would be too wide, and in a wrong place."""
    import tifffile

    rng = np.random.default_rng(0)
    cells = AnnData(rng.poisson(2, size=(500, 3)), obsm={"spatial": rng.uniform(20, 130, size=(500, 2))})
    pooled = bl.pp.pool(cells, um=15, mpp=1)
    with tifffile.TiffWriter(tmp_path / "image.tif") as file:
        file.write(IMAGE, photometric="rgb", subifds=int(pyramid))
        if pyramid:
            file.write(IMAGE[::2, ::2], photometric="rgb", subfiletype=1)
    right = pooled.obsm["spatial"] / 0.25
    with pytest.warns(UserWarning, match="exactly 1 µm per pixel is recorded, as `bl.pp.pool"):
        bl.pp.crops(pooled, tmp_path / "image.tif", um=15, size=16, lazy=True)
    findings = pooled.uns["crops"]["library"]["findings"]
    assert findings["sign"].tolist() == ["units"]
    (line,) = re.findall(r"`(.*?)`", findings["remedy"].iloc[0])
    exec(line.replace("...", "0.25"), {"adata": pooled})  # noqa: S102 - as a user would
    np.testing.assert_allclose(pooled.obsm["spatial"], right)
    bl.pp.crops(pooled, tmp_path / "image.tif", um=15, size=16, lazy=True)
    record = pooled.uns["crops"]["library"]
    assert record["findings"].empty
    assert (record["size_um"], record["spot_diameters"]) == (pytest.approx(15), pytest.approx(1))


def test_pooled_places_in_micrometres_on_a_file_that_says_its_scale(tmp_path: Path) -> None:
    import tifffile

    rng = np.random.default_rng(0)
    cells = AnnData(rng.poisson(2, size=(500, 3)), obsm={"spatial": rng.uniform(20, 130, size=(500, 2))})
    pooled = bl.pp.pool(cells, um=15, mpp=1)
    tifffile.imwrite(
        tmp_path / "i.tif", IMAGE, photometric="rgb", resolution=(40_000, 40_000), resolutionunit="CENTIMETER"
    )
    with pytest.warns(UserWarning, match="two values of µm per pixel contradict each other"):
        bl.pp.crops(pooled, tmp_path / "i.tif", um=15, size=16, lazy=True)
    findings = pooled.uns["crops"]["library"]["findings"]
    assert findings["sign"].tolist() == ["scale"]
    _, line = re.findall(r"`(.*?)`", findings["remedy"].iloc[0].replace("`bl.pp.pool(..., mpp=1)`", ""))
    exec(line, {"adata": pooled})  # noqa: S102 - as a user would
    bl.pp.crops(pooled, tmp_path / "i.tif", um=15, size=16, lazy=True)
    assert pooled.uns["crops"]["library"]["findings"].empty
    assert pooled.obsm["spatial"].max() > 400


@pytest.mark.slow
def test_places_of_half_precision() -> None:
    adata = AnnData(np.ones((40, 1), dtype=np.float32))
    adata.obsm["spatial"] = np.random.default_rng(0).uniform(5000, 6000, size=(40, 2)).astype(np.float16)
    adata.uns["spatial"] = {"lib": {"scalefactors": {"microns_per_pixel": 1.0}}}
    findings = found(adata, box(np.full((6100, 6100, 3), 200, dtype=np.uint8)))
    assert findings["sign"].tolist() == ["precision"]
    assert "its steps are of 4 pixels: places are up to 2 px off" in findings["found"].iloc[0]
    adata.obsm["spatial"] = (adata.obsm["spatial"] / 4).astype(np.float16)
    bl.pp.crops(adata, box(np.full((2000, 2000, 3), 200, dtype=np.uint8)), size=8)


def test_check_raises_before_anything_is_stored_or_is_off(unchanged: Callable[..., None]) -> None:
    adata, shrunk = section(), section(XY * FACTOR)
    unchanged(adata)
    with pytest.raises(ValueError, match=r"may not belong together\.\n'lib': .* spots lie on tissue"):
        bl.pp.crops(shrunk, box(IMAGE), size=16, check="raise")
    with pytest.raises(ValueError, match="the crops do not look like"):
        bl.pp.crops(adata, box(half(IMAGE)), size=16, check="raise")
    copy = bl.pp.crops(adata, box(half(IMAGE)), size=16, check="off", copy=True)
    assert copy is not None
    assert copy.uns["crops"]["lib"]["findings"].empty


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Writing zarr v2 data will no longer be the default:UserWarning")
@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_findings_are_stored_with_the_object(suffix: str, tmp_path: Path) -> None:
    adata = section(XY * FACTOR)
    findings = found(adata, box(IMAGE))
    right = section()
    bl.pp.crops(right, box(IMAGE), size=16)
    for name, each, expected in (("wrong", adata, findings), ("right", right, findings[:0])):
        path = tmp_path / f"{name}.{suffix}"
        if suffix == "h5ad":
            each.write_h5ad(path)
            back = ad.read_h5ad(path)
        else:
            each.write_zarr(path)
            back = ad.read_zarr(path)
        stored = back.uns["crops"]["lib"]["findings"]
        assert list(stored.columns) == ["sign", "found", "remedy"]
        assert stored.astype(object).to_numpy().tolist() == expected.to_numpy().tolist()


def test_the_line_moves_only_the_section_that_is_wrong() -> None:
    parts = {"A": section(XY[:, ::-1]), "B": section()}
    parts["A"] = section(np.stack([SIDE - 1 - XY[:, 0], XY[:, 1]], axis=1))
    both = ad.concat(parts, label="section", index_unique="-")
    both.uns["spatial"] = {name: part.uns["spatial"]["lib"] for name, part in parts.items()}
    how: dict[str, Any] = {"image": dict.fromkeys("AB", box(IMAGE)), "library_key": "section", "size": 16}
    with pytest.warns(UserWarning, match="'A': .* mirrored left to right") as warned:
        bl.pp.crops(both, **how)
    (line,) = re.findall(r"right: `(.*?)`", str(warned[0].message))
    exec(line, {"adata": both})  # noqa: S102 - as a user would
    np.testing.assert_allclose(both.obsm["spatial"], np.concatenate([XY, XY]))
    bl.pp.crops(both, check="raise", **how)


@pytest.mark.parametrize("names", [("x", "y"), ("pxl_row", "pxl_col")])
def test_the_line_mends_a_table_too(names: tuple[str, str]) -> None:
    wrong = np.stack([SIDE - 1 - XY[:, 0], XY[:, 1]], axis=1)
    adata = section()
    adata.obsm["spatial"] = pd.DataFrame(wrong if names[0] == "x" else wrong[:, ::-1], adata.obs_names, list(names))
    findings = found(adata, box(IMAGE))
    (line,) = re.findall(r"`(.*?)`", findings["remedy"].iloc[0])
    exec(line, {"adata": adata})  # noqa: S102 - as a user would
    np.testing.assert_allclose(adata.obsm["spatial"], XY)


def pen(side: float) -> np.ndarray:
    """Blue ink in a corner of glass."""
    image = IMAGE.copy()
    image[-28:, -int(side * SIDE) :] = (20, 40, 200)
    return image


def with_picture(adata: AnnData, hires: np.ndarray, **factors: float) -> AnnData:
    library = adata.uns["spatial"]["lib"]
    library["images"]["hires"] = hires
    library["scalefactors"].update(factors)
    return adata


def tissue_in_a_corner() -> tuple[AnnData, Any]:
    """Spots over all of a slide of which a biopsy covers a few percent, as an unfiltered matrix has them."""
    image = np.full((2000, 2400, 3), 245, dtype=np.uint8)
    image[30:170, 60:220] = np.asarray(Image.fromarray(IMAGE).reduce(4))
    grid = np.stack(np.meshgrid(np.arange(10, 2390, 20.0), np.arange(10, 1990, 20.0)), axis=-1).reshape(-1, 2)
    return section(grid, picture=False), box(image)


GOOD: dict[str, Callable[[], tuple[AnnData, Any]]] = {
    "ink of a pen": lambda: (with_picture(section(), np.asarray(Image.fromarray(pen(0.3)).reduce(4))), box(pen(0.3))),
    "ink and no picture": lambda: (section(picture=False), box(pen(0.1))),
    "a strip of the section": lambda: (section(XY[XY[:, 0] < 150]), box(IMAGE)),
    "a strip and no picture": lambda: (section(XY[XY[:, 1] > 330], picture=False), box(IMAGE)),
    "spots over a slide with a small biopsy": tissue_in_a_corner,
    "a crop from the corner": lambda: (section(XY[(XY < 390).all(axis=1)]), box(IMAGE).crop_corner(0, 0, size=400)),
    "NaN in the picture": lambda: (with_picture(section(), np.full((140, 160, 3), np.nan)), box(IMAGE)),
    "cells on whole pixels": lambda: (
        section(np.random.default_rng(0).integers(0, [SIDE, 560], size=(9000, 2)).astype(float), picture=False),
        box(IMAGE),
    ),
    "in_tissue in words": lambda: (with_words(section()), box(IMAGE)),
}


def with_words(adata: AnnData) -> AnnData:
    adata.obs["in_tissue"] = "in"
    return adata


@pytest.mark.parametrize("case", GOOD)
def test_odd_but_right(case: str) -> None:
    adata, image = GOOD[case]()
    bl.pp.crops(adata, image, size=16, check="raise")
    assert all(record["findings"].empty for record in adata.uns["crops"].values())


def test_in_tissue_in_words_does_not_silence_the_sign() -> None:
    wrong = np.stack([SIDE - 1 - XY[:, 0], XY[:, 1]], axis=1)
    assert found(with_words(section(wrong)), box(IMAGE))["sign"].tolist() == ["tissue"]


def test_a_mirrored_image_of_another_scale_keeps_it() -> None:
    image = np.ascontiguousarray(np.fliplr(np.asarray(Image.fromarray(IMAGE).reduce(2))))
    findings = found(section(), box(image, scale=0.5), size=8)
    (line,) = re.findall(r"`squidpy\.im\.(.*?)`", findings["remedy"].iloc[0])
    mended = eval(line, {"numpy": np, "image": image, "ImageContainer": ImageContainer})  # noqa: S307 - as a user would
    bl.pp.crops(section(), mended, size=8, check="raise")


def test_an_object_on_disk_is_checked_too(tmp_path: Path) -> None:
    """As `read_lazy` opens it, with `obs` on disk."""
    adata = section()
    adata.obs["in_tissue"], adata.obs["array_row"], adata.obs["array_col"] = 1, np.arange(len(XY)), 0
    adata.write_h5ad(tmp_path / "a.h5ad")
    lazy = ad.experimental.read_lazy(tmp_path / "a.h5ad")
    bl.pp.crops(lazy, box(IMAGE), size=16)
    assert lazy.uns["crops"]["lib"]["findings"].empty


def test_few_spots_and_one_colour_tell_nothing() -> None:
    """A sign that cannot tell stays silent."""
    few = section(XY[:20] * FACTOR)
    bl.pp.crops(few, box(IMAGE), size=16)
    plain = section(XY * FACTOR)
    plain.uns["spatial"]["lib"]["images"]["hires"] = np.full((140, 160, 3), 240, dtype=np.uint8)
    bl.pp.crops(plain, box(np.full_like(IMAGE, 240)), size=16)
    for adata in (few, plain):
        assert adata.uns["crops"]["lib"]["findings"].empty


SECTIONS = [f"her2st/C{i}" for i in range(2, 7)] + ["her2st_b/B4", "mob1k_layers/Rep11", "mob1k_layers/Rep12"]
SECTIONS += [f"mob2k/{name}" for name in ("MOB1", "MOB2", "MOB3", "MOB4", "MOB1_all_spots")]


QUICK = ("mob2k/MOB1", "mob1k_layers/Rep12")


@pytest.mark.parametrize(
    ("name", "um"),
    [
        pytest.param(name, um, marks=[] if name in QUICK and um else pytest.mark.slow)
        for um in (None, 100.0)
        for name in SECTIONS
    ],
)
def test_no_false_alarm_on_real_sections(name: str, um: float | None, real_data: Path) -> None:
    """Warnings are errors here."""
    adata = ad.read_h5ad(real_data / f"{name}.h5ad")
    image = real_data / f"{name.replace('_all_spots', '')}.jpg"
    bl.pp.crops(adata, image, um=um, mpp=float(adata.uns["source"]["um_per_px"]), check="raise")
    assert all(record["findings"].empty for record in adata.uns["crops"].values())


def array(*, pitch: float = 20.0, diameters: float = 1.8) -> AnnData:
    """Spots of an array with their rows and columns, which stand all over the tissue, and no hires picture."""
    adata = section(picture=False)
    adata.obs["array_row"], adata.obs["array_col"] = (XY.astype(int) // PITCH).T[::-1]
    adata.uns["spatial"]["lib"]["scalefactors"] = {"spot_diameter_fullres": pitch / diameters}
    return adata


WIDE = "a crop of 100 µm has only {} pixels of the image along its side"
APART = "neighbouring spots are {} µm apart, where arrays have 100 to 200 µm"


@pytest.mark.parametrize(
    ("mpp", "said"),
    [
        (50, f"{WIDE.format(2)} and {APART.format(1000)}"),
        (14, WIDE.format(7.1)),
        (31, f"{WIDE.format(3.2)} and {APART.format(620)}"),
    ],
)
def test_a_scale_that_is_wrong_by_a_factor(mpp: float, said: str) -> None:
    """Spots stand 20 pixels apart."""
    findings = found(array(), box(IMAGE), mpp=mpp, um=100)
    assert findings["sign"].tolist() == ["pixel_size"]
    assert findings["found"].iloc[0] == f"with {mpp:g} µm per pixel (the argument `mpp`), {said}."
    assert "Pass `mpp=`" in findings["remedy"].iloc[0]


def without_rows(adata: AnnData) -> AnnData:
    del adata.obs["array_row"]
    return adata


def shifted_rows(adata: AnnData) -> AnnData:
    adata.obs["array_row"] += 400
    return adata


SOUND: dict[str, tuple[Callable[[], AnnData], dict[str, Any]]] = {
    "Visium": (array, {"mpp": 5, "um": 100}),
    "an array of 200 µm": (array, {"mpp": 10, "um": 100}),
    "an array of 143 µm": (lambda: array(diameters=1.4), {"mpp": 7.15, "um": 100}),
    "bins of 8 µm, which touch": (lambda: array(diameters=1), {"mpp": 0.4, "um": 8}),
    "bins of 2 µm in narrow crops": (lambda: array(diameters=1), {"mpp": 0.1, "um": 2}),
    "a part of bins of 8 µm": (lambda: array(diameters=2**0.5), {"mpp": 0.57, "um": 100}),
    "bins far from the corner": (lambda: shifted_rows(array()), {"mpp": 0.4, "um": 56}),
    "cells, which have no row": (lambda: without_rows(array()), {"mpp": 0.5, "um": 56}),
    "a part of the spots": (lambda: array()[::7].copy(), {"mpp": 10, "um": 100}),
    "a few spots": (lambda: array()[:20].copy(), {"mpp": 0.5, "um": 100}),
    "narrow crops that were asked for": (array, {"mpp": 5, "um": 15}),
    "few pixels that were asked for": (array, {"mpp": 5, "size": 4}),
    "no scale at all": (lambda: without_rows(array()), {}),
}


@pytest.mark.filterwarnings("ignore:the scale of the image is unknown:UserWarning")
@pytest.mark.parametrize("case", SOUND)
def test_a_scale_that_may_be_right_is_silent(case: str) -> None:
    make, how = SOUND[case]
    bl.pp.crops(make(), box(IMAGE), check="raise", **{"size": 16} | how)


@pytest.mark.parametrize("um", [100, 1000])
def test_grids_and_pooled_places_of_any_pitch_are_silent(um: float) -> None:
    """Spots of a slide that was laid by a grid, and bins summed on a lattice, stand as far apart as the user says."""
    image = np.kron(IMAGE, np.ones((2, 2, 1), dtype=np.uint8))
    grid = bl.pp.grid(box(image), array(), um=um, mpp=um / 30, lattice="square", library_id="new")
    bl.pp.crops(grid, box(image), um=um, size=16, check="raise")
    bins = array(diameters=1)
    pooled = bl.pp.pool(bins, um=um, mpp=um / 60)
    bl.pp.crops(pooled, box(IMAGE), um=um, size=16, check="raise")


@pytest.mark.parametrize("mpp", [5, {"A": 5, "B": 10}])
def test_the_scale_is_logged_in_words(mpp: Any, log: pytest.LogCaptureFixture) -> None:
    both = ad.concat({"A": array(), "B": array()}, label="section", index_unique="-")
    with log.at_level("INFO", logger="bleep_sc"):
        bl.pp.crops(both, dict.fromkeys("AB", box(IMAGE)), library_key="section", um=100, size=16, mpp=mpp)
    lines = [line for line in log.messages if "pixels of the image wide" in line]
    a = "crop is 20 pixels of the image wide (100 µm), and spots are 100 µm apart"
    b = "crop is 10 pixels of the image wide (100 µm), and spots are 200 µm apart"
    assert lines == [f"A {a}." if mpp == 5 else f"'A': a {a}; 'B': a {b}."]
