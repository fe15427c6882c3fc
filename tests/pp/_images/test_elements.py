"""Image elements of SpatialData and OME-Zarr: the right pixels, the right level, or one error that says why not."""

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr
from anndata import AnnData
from spatialdata.models import Labels2DModel
from vendors.by_hand import HEIGHT, WIDTH, XY, by_hand, image_of
from vendors.tenx import says_where
from xarray import DataArray, DataTree

import bleep_sc as bl

EXPECTED = [[int(x), int(y), 77] for x, y in XY]


def spots() -> AnnData:
    return AnnData(np.ones((len(XY), 2), "float32"), obsm={"spatial": XY.copy()})


def middles(image: Any, **kwargs: Any) -> Any:
    adata = spots()
    bl.pp.crops(adata, image, size=8, mpp=1, check="off", **kwargs)
    return np.asarray(adata.obsm["crops"])[:, 4, 4].tolist()


def opaque(pixels: np.ndarray) -> np.ndarray:
    return np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])


PIXELS = says_where(HEIGHT, WIDTH)
KINDS: dict[str, Any] = {
    "one scale": lambda: image_of(PIXELS),
    "several scales": lambda: image_of(PIXELS, scale_factors=[2, 2]),
    "in chunks": lambda: image_of(PIXELS, chunks=(1, 50, 60)),
    "named": lambda: image_of(PIXELS, c_coords=["r", "g", "b"]),
    "named otherwise": lambda: image_of(PIXELS, c_coords=["Red", "Green", "Blue"]),
    "blue first": lambda: image_of(PIXELS[..., ::-1], c_coords=["b", "g", "r"], scale_factors=[2]),
    "opaque": lambda: image_of(opaque(PIXELS)),
    "opacity first": lambda: image_of(opaque(PIXELS)[..., [3, 0, 1, 2]], c_coords=["a", "r", "g", "b"]),
    "floats": lambda: image_of(PIXELS / 255),
    "y x c": lambda: DataArray(PIXELS, dims=("y", "x", "c")),
    "x y c": lambda: DataArray(da.from_array(PIXELS.swapaxes(0, 1), chunks=(40, 40, 1)), dims=("x", "y", "c")),
    "levels in disorder": lambda: DataTree.from_dict(
        {name: DataArray(each, dims=("y", "x", "c"), name="image").to_dataset()
         for name, each in (("scale1", PIXELS[::2, ::2]), ("scale0", PIXELS))}),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lazy", [False, True])
def test_crops_of_any_kind_of_element(kind: str, lazy: bool) -> None:  # noqa: FBT001
    assert middles(KINDS[kind](), lazy=lazy) == EXPECTED


def test_transparent_pixels_are_laid_on_white() -> None:
    rgba = opaque(PIXELS)
    rgba[..., 3] = 0
    assert middles(image_of(rgba, c_coords=["r", "g", "b", "a"])) == [[255] * 3] * 4


def test_an_image_for_each_section() -> None:
    adata = spots()
    adata.obs["section"] = ["a", "b", "a", "b"]
    images = {"a": image_of(PIXELS, scale_factors=[2]), "b": image_of(255 - PIXELS)}
    bl.pp.crops(adata, images, size=8, library_key="section", mpp=1, check="off")
    expected = [pixel if i % 2 == 0 else [255 - value for value in pixel] for i, pixel in enumerate(EXPECTED)]
    assert adata.obsm["crops"][:, 4, 4].tolist() == expected
    # a DataTree is a Mapping, but none from section to image
    with pytest.raises(ValueError, match="one `image` for 2 sections: pass a mapping"):
        bl.pp.crops(adata, images["a"], size=8, library_key="section", mpp=1)


def test_the_level_that_suffices_is_read() -> None:
    """Each level has a colour of its own here, so that crops tell which one they are from."""
    levels = {
        f"scale{n}": DataArray(
            da.full((3, 240 >> n, 320 >> n), 10 + n, dtype=np.uint8), dims=("c", "y", "x"), name="image"
        ).to_dataset()
        for n in range(3)
    }
    image = DataTree.from_dict(levels)
    for um, level in ((20.0, 0), (39.0, 0), (40.0, 1), (79.0, 1), (80.0, 2), (90.0, 2)):
        adata = spots()
        bl.pp.crops(adata, image, um=um, size=20, mpp=1, check="off", border="reflect")
        assert (adata.obsm["crops"] == 10 + level).all()
        assert adata.uns["crops"]["library"]["level_scale"] == 1 / 2**level


def test_pixels_of_a_level_lie_where_those_they_average_lie() -> None:
    adata, level = spots(), image_of(PIXELS, scale_factors=[2])
    bl.pp.crops(adata, level, um=40, size=20, mpp=1, check="off")
    from_level = adata.obsm["crops"].astype(int)
    bl.pp.crops(adata, image_of(PIXELS), um=40, size=20, mpp=1, check="off")
    inside = slice(6, 14)
    assert np.abs(from_level - adata.obsm["crops"])[:, inside, inside].max() <= 1


def test_only_the_chunks_under_spots_are_computed() -> None:
    read: list[Any] = []

    def note(block: np.ndarray, block_info: Any = None) -> np.ndarray:
        read.append(block_info[0]["chunk-location"][1:])
        return block

    array = da.from_array(PIXELS.transpose(2, 0, 1), chunks=(1, 50, 50)).map_blocks(note, dtype=np.uint8)
    read.clear()
    assert middles(DataArray(array, dims=("c", "y", "x"))) == EXPECTED
    corners = (XY[:, None] + np.array([[-4, -4], [3, 3], [-4, 3], [3, -4]])).reshape(-1, 2)
    assert set(read) == {(int(y) // 50, int(x) // 50) for x, y in corners}


def test_a_slide_is_made_from_an_element() -> None:
    slide = bl.pp.blank(spots(), spatial=XY, library_id="new", image=KINDS["blue first"](), spot_diameter=5)
    hires = slide.uns["spatial"]["new"]["images"]["hires"]
    assert hires[20, 100].tolist() == [100, 20, 77]


def write_ome(path: Path, *, version: int, axes: Any, pixels: np.ndarray, names: list[str] | None = None) -> Path:
    """Write an OME-Zarr folder by hand, as software other than spatialdata does."""
    group = zarr.create_group(path, zarr_format=version)
    group.create_array("0", data=pixels)
    attributes: dict[str, Any] = {"multiscales": [{"axes": axes, "datasets": [{"path": "0"}]}]}
    if axes is None:
        del attributes["multiscales"][0]["axes"]
    if names:
        attributes["omero"] = {"channels": [{"label": name} for name in names]}
    group.attrs.update({"ome": attributes} if version == 3 else attributes)
    return path


@pytest.mark.parametrize("version", [2, 3])
def test_ome_zarr_of_others(version: int, tmp_path: Path) -> None:
    flat = PIXELS.transpose(2, 0, 1)
    cyx = [{"name": name, "type": "space"} for name in "cyx"]
    assert middles(write_ome(tmp_path / "a", version=version, axes=cyx, pixels=flat)) == EXPECTED
    oldest = write_ome(tmp_path / "b", version=version, axes=None, pixels=flat[None, :, None])
    assert middles(str(oldest)) == EXPECTED
    named = write_ome(tmp_path / "c", version=version, axes=cyx, pixels=flat[::-1], names=["Blue", "Green", "Red"])
    assert middles(named) == EXPECTED
    stack = write_ome(tmp_path / "d", version=version, axes=list("zcyx"), pixels=np.stack([flat, flat]))
    with pytest.raises(ValueError, match=r"has the axes z, c, y, x \(2 x 3 x 210 x 250\).*Choose a single plane"):
        middles(stack)


@pytest.mark.parametrize("unit", ["micrometer", "nanometer", None])
def test_ome_zarr_says_its_scale(unit: str | None, tmp_path: Path) -> None:
    """The levels stand in disorder; the scale is that of the finest, by that of all levels."""
    group = zarr.create_group(tmp_path / "a.zarr", zarr_format=2)
    flat, of_um = PIXELS.transpose(2, 0, 1), 1000 if unit == "nanometer" else 1
    group.create_array("small", data=flat[:, ::2, ::2])
    group.create_array("full", data=flat)
    axes = [{"name": "c"}, *({"name": name, "type": "space"} | ({"unit": unit} if unit else {}) for name in "yx")]
    datasets = [
        {"path": path, "coordinateTransformations": [{"type": "scale", "scale": [1, size, size]}]}
        for path, size in (("small", 0.5 * of_um), ("full", 0.25 * of_um))
    ]
    of_all = [{"type": "scale", "scale": [1, 2, 2]}]
    group.attrs["multiscales"] = [{"axes": axes, "datasets": datasets, "coordinateTransformations": of_all}]
    assert middles(tmp_path / "a.zarr") == EXPECTED
    adata = spots()
    if unit is None:
        bl.pp.crops(adata, tmp_path / "a.zarr", um=4, size=8, mpp=0.25, check="warn")
        return
    with pytest.warns(UserWarning, match=r"0\.25 by the argument `mpp`, 0\.5 by the file's OME-Zarr metadata"):
        bl.pp.crops(adata, tmp_path / "a.zarr", um=4, size=8, mpp=0.25)
    slide = bl.pp.blank(spots(), spatial=XY, library_id="new", spot_diameter=5)
    slide.uns["spatial"]["new"]["metadata"]["spot_diameter_from"] = "lattice"
    bl.pp.crops(slide, tmp_path / "a.zarr", um=4, size=8)
    assert slide.uns["crops"]["new"]["um_per_px"] == 0.5


@pytest.mark.odd
@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (lambda: image_of(PIXELS.astype(np.uint16)), ValueError, "`image` holds uint16, whose white is not known"),
        (lambda: image_of(PIXELS, c_coords=["DAPI", "CD45", "18S"]), ValueError, "has the channels 'DAPI', 'CD45'"),
        (lambda: image_of(PIXELS, c_coords=["r", "g", "x"]), ValueError, "has the channels 'r', 'g', 'x'"),
        (lambda: image_of(PIXELS[..., :2], c_coords=["r", "g"]), ValueError, "has the channels 'r', 'g'"),
        (lambda: image_of(PIXELS[..., :2]), ValueError, "`image` has 2 channels"),
        (lambda: image_of(2.0 * PIXELS), ValueError, "holds floats from"),
        (lambda: Labels2DModel.parse(np.zeros((20, 30), int), dims=("y", "x")), ValueError, "looks like labels"),
        (lambda: DataArray(np.zeros((2, 3, 9, 9), np.uint8), dims=list("zcyx")), ValueError, "Choose a single plane"),
        (lambda: DataTree(), ValueError, "a DataTree of 0 groups"),
        (lambda: by_hand(), TypeError, r"is a whole SpatialData object. Pass one of its images, 'he': `sdata\[NAME\]`"),
        (lambda: PIXELS, TypeError, r"an image of SpatialData or a path, found ndarray.*sq.im.ImageContainer\(array\)"),
    ],
)  # fmt: skip
def test_what_is_no_image_of_a_section(image: Any, error: type[Exception], message: str) -> None:
    adata = spots()
    with pytest.raises(error, match=message):
        bl.pp.crops(adata, image(), size=8, mpp=1)
    assert not adata.uns
    assert list(adata.obsm) == ["spatial"]


@pytest.mark.odd
def test_arguments_that_choose_within_an_image() -> None:
    with pytest.raises(ValueError, match="`series=1` chooses one of the images in a TIFF"):
        middles(image_of(PIXELS), series=1)
    with pytest.raises(ValueError, match="`image` has no layer 'he'"):
        middles(image_of(PIXELS), image_layer="he")


@pytest.mark.odd
def test_folders_that_are_no_image(tmp_path: Path) -> None:
    import warnings

    with warnings.catch_warnings(action="ignore"):
        by_hand().write(tmp_path / "s.zarr")
    with pytest.raises(ValueError, match=r"'s.zarr' is a SpatialData store with the images \['he'\].*s.zarr/images/he"):
        middles(tmp_path / "s.zarr")
    with pytest.raises(ValueError, match="could not be read as an image"):
        middles(tmp_path / "s.zarr" / "shapes" / "spots")
    with pytest.raises(
        ValueError, match=r"'images' is a folder of images.*Pass one of them by its path, such as 'images/he'"
    ):
        middles(tmp_path / "s.zarr" / "images")
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "a.tif").touch()
    with pytest.raises(ValueError, match=r"^`image`: '.*scans' is a folder; pass the image file in it\.$"):
        middles(tmp_path / "scans")
    no_image = pytest.raises(ValueError, match=r"could not be read as an image \(it holds no image\)")
    with warnings.catch_warnings(action="ignore"), no_image:  # a warning of it would be another error
        middles(tmp_path / "s.zarr" / "shapes")
    for content in ("{", "[]", '{"multiscales": [{}]}', '{"multiscales": [{"datasets": [{"path": "gone"}]}]}'):
        (tmp_path / "odd").mkdir(exist_ok=True)
        (tmp_path / "odd" / ".zattrs").write_text(content)
        with pytest.raises(ValueError, match="could not be read as an image"):
            middles(tmp_path / "odd")
