from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import dask.array as da
import numpy as np
import pytest
from anndata import AnnData
from squidpy.im import ImageContainer

import bleep_sc as bl

pytestmark = [
    pytest.mark.filterwarnings("ignore:the scale of the image is unknown:UserWarning"),
]


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, size=(120, 150, 3), dtype=np.uint8)


def spots(*xy: tuple[float, float], **kwargs: Any) -> AnnData:
    adata = AnnData(np.ones((len(xy), 2), dtype=np.float32), obsm={"spatial": np.array(xy, dtype=np.float64)})
    adata.uns = kwargs
    return adata


def squidpy_crops(image: Any, centres: np.ndarray, size: int) -> np.ndarray:
    """squidpy's own crops, one by one: independent of our slicing."""
    out = []
    for x, y in np.rint(centres).astype(int):
        crop = image.crop_corner(int(y) - size // 2, int(x) - size // 2, size=size, cval=np.uint8(255))
        out.append(np.asarray(crop["image"].data)[:, :, 0, :])
    return np.stack(out)


PLACES = {
    "interior": (70.2, 55.7),
    "upper left": (3, 2),
    "upper right": (148, 1),
    "lower left": (0, 119),
    "lower right": (149, 119),
    "half way": (60.5, 61.5),
}


@pytest.mark.parametrize("size", [1, 2, 31, 32])
@pytest.mark.parametrize("place", PLACES)
def test_pixel_identical_to_squidpy(pixels: np.ndarray, place: str, size: int) -> None:
    adata, image = spots(PLACES[place]), ImageContainer(pixels)
    bl.pp.crops(adata, image, size=size)
    assert adata.obsm["crops"].dtype == np.uint8
    assert np.array_equal(adata.obsm["crops"], squidpy_crops(image, adata.obsm["spatial"], size))


def test_pixel_identical_to_squidpy_at_random(pixels: np.ndarray) -> None:
    rng = np.random.default_rng(1)
    image = ImageContainer(pixels)
    for _ in range(25):
        size = int(rng.integers(1, 90))
        adata = spots(*rng.uniform(0, [149, 119], size=(4, 2)))
        bl.pp.crops(adata, image, size=size)
        assert np.array_equal(adata.obsm["crops"], squidpy_crops(image, adata.obsm["spatial"], size))


def test_a_cropped_container_keeps_its_place(pixels: np.ndarray) -> None:
    whole = ImageContainer(pixels)
    part = whole.crop_corner(30, 40, size=(60, 70))
    adata = spots((75.0, 60.0), (60, 50))
    bl.pp.crops(adata, part, size=16)
    assert np.array_equal(adata.obsm["crops"], squidpy_crops(whole, adata.obsm["spatial"], 16))
    # near the part's own border, pixels beyond it are unknown: white
    adata.obsm["spatial"][:] = [(41, 31), (108, 88)]
    bl.pp.crops(adata, part, size=16)
    assert np.array_equal(adata.obsm["crops"], squidpy_crops(part, adata.obsm["spatial"] - [40, 30], 16))


def test_a_padded_crop_keeps_its_place(pixels: np.ndarray) -> None:
    whole = ImageContainer(pixels)
    part = whole.crop_corner(-10, -20, size=(60, 70), cval=np.uint8(255))
    adata = spots((20.0, 15.0))
    bl.pp.crops(adata, part, size=16)
    assert np.array_equal(adata.obsm["crops"], squidpy_crops(whole, adata.obsm["spatial"], 16))


def test_scale_of_the_container(pixels: np.ndarray) -> None:
    image = ImageContainer(pixels, scale=0.5)
    adata = spots((200.0, 100.0), (13.0, 230.0))
    bl.pp.crops(adata, image, size=20, mpp=0.25)
    assert np.array_equal(adata.obsm["crops"], squidpy_crops(image, adata.obsm["spatial"] / 2, 20))
    assert adata.uns["crops"]["library"]["size_um"] == pytest.approx(20 * 0.5)


def test_a_layer_and_a_plane_are_chosen(pixels: np.ndarray) -> None:
    stack = np.stack([pixels, 255 - pixels], axis=2)
    image = ImageContainer(stack, dims=("y", "x", "z", "channels"), library_id=["a", "b"], layer="he")
    adata = spots((50, 50), (60, 60))
    adata.obs["section"] = ["b", "a"]
    bl.pp.crops(adata, image, size=8, library_key="section")
    assert np.array_equal(adata.obsm["crops"][0], 255 - pixels[46:54, 46:54])
    assert np.array_equal(adata.obsm["crops"][1], pixels[56:64, 56:64])
    with pytest.raises(ValueError, match=r"no layer 'hires'.*'he'"):
        bl.pp.crops(adata, image, library_key="section", image_layer="hires")
    adata.obs["section"] = ["b", "c"]
    with pytest.raises(ValueError, match=r"none for 'c'"):
        bl.pp.crops(adata, image, library_key="section")


def test_several_layers_need_a_choice(pixels: np.ndarray) -> None:
    image = ImageContainer(pixels, layer="he")
    image.add_img(255 - pixels, layer="other")
    adata = spots((50, 50))
    with pytest.raises(ValueError, match=r"layers \['he', 'other'\].*image_layer"):
        bl.pp.crops(adata, image, size=4)
    bl.pp.crops(adata, image, size=4, image_layer="other")
    assert np.array_equal(adata.obsm["crops"][0], 255 - pixels[48:52, 48:52])


@pytest.mark.parametrize("corner", [(0, 0), (149, 0), (0, 119), (149, 119)])
@pytest.mark.parametrize("size", [40, 41])
def test_reflect_of_a_spot_on_the_corner(pixels: np.ndarray, corner: tuple[int, int], size: int) -> None:
    """Half of the crop is outside; on even sizes it mirrors one pixel more than it holds."""
    adata, (x, y) = spots(corner), corner
    bl.pp.crops(adata, ImageContainer(pixels), size=size, border="reflect")
    padded = np.pad(pixels, ((60, 60), (60, 60), (0, 0)), mode="reflect")
    assert np.array_equal(adata.obsm["crops"][0], padded[y + 40 : y + 40 + size, x + 40 : x + 40 + size])


def test_reflect_is_numpys(pixels: np.ndarray) -> None:
    adata = spots((3, 2), (148, 117), (70, 60))
    bl.pp.crops(adata, ImageContainer(pixels), size=41, border="reflect")
    padded = np.pad(pixels, ((60, 60), (60, 60), (0, 0)), mode="reflect")
    for crop, (x, y) in zip(adata.obsm["crops"], adata.obsm["spatial"].astype(int), strict=True):
        assert np.array_equal(crop, padded[y + 40 : y + 81, x + 40 : x + 81])
    assert adata.uns["crops"]["library"]["padded"] == 2


def test_micrometres_are_resampled_to_their_true_place() -> None:
    """On a ramp of brightness, a resampled pixel has the brightness of its place, whatever the fraction."""
    ramp = np.linspace(0, 255, 400)[None, :, None].repeat(400, axis=0).repeat(3, axis=2)
    image = ImageContainer(np.rint(ramp).astype(np.uint8))
    adata = spots((200.3, 190.0), (151.75, 201.0))
    bl.pp.crops(adata, image, size=10, um=33.3, mpp=0.5)
    width = 33.3 / 0.5
    for crop, (x, _) in zip(adata.obsm["crops"], adata.obsm["spatial"], strict=True):
        places = x + (np.arange(10) - 4.5) * width / 10
        assert np.abs(crop[5, :, 0] - places * 255 / 399).max() < 0.8
    record = adata.uns["crops"]["library"]
    assert record["size_um"] == pytest.approx(33.3)
    assert record["um_per_px"] == pytest.approx(3.33)


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_micrometres_are_exact_to_a_fraction_of_a_pixel(scale: float) -> None:
    """A ramp of four grey values a pixel: half a pixel aside would be two of them."""
    ramp = np.broadcast_to(4 * np.arange(64, dtype=np.uint8)[:, None, None], (64, 64, 3))
    adata = spots((31 / scale, 30.3 / scale))
    bl.pp.crops(adata, ImageContainer(ramp, scale=scale), size=10, um=20.6 / scale * 0.5, mpp=0.5)
    places = 30.3 + (np.arange(10) - 4.5) * 20.6 / 10
    assert np.abs(adata.obsm["crops"][0, :, 5, 1] - 4 * places).max() < 1


def test_resampling_does_not_alias() -> None:
    fine = (np.indices((300, 300)).sum(axis=0) % 2 * 255).astype(np.uint8)
    adata = spots((150, 150))
    bl.pp.crops(adata, ImageContainer(fine[..., None]), size=16, um=160, mpp=1)
    assert np.abs(adata.obsm["crops"].astype(int) - 127).max() < 8, "a fine checkerboard must become even grey"


def test_same_tissue_at_two_scales_looks_alike() -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    large = np.asarray(Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)).resize((800, 800)))
    small = np.asarray(Image.fromarray(large).resize((400, 400), Image.Resampling.BOX))
    one, two = spots((400, 300)), spots((200, 150))
    bl.pp.crops(one, ImageContainer(large), size=32, um=100, mpp=0.5)
    bl.pp.crops(two, ImageContainer(small), size=32, um=100, mpp=1.0)
    assert np.abs(one.obsm["crops"].astype(int) - two.obsm["crops"]).mean() < 3


@pytest.mark.odd
def test_unknown_scale_refuses_micrometres(pixels: np.ndarray, unchanged: Callable[..., None]) -> None:
    adata = spots((50, 50))
    unchanged(adata)
    with pytest.raises(ValueError, match=r"um=50.*unknown.*mpp="):
        bl.pp.crops(adata, ImageContainer(pixels), um=50)


def grey(p: np.ndarray) -> np.ndarray:
    return p[..., :1]


@pytest.mark.parametrize(
    ("turn", "expected"),
    [
        (grey, lambda p: grey(p).repeat(3, axis=2)),
        (lambda p: np.concatenate([p, np.full_like(grey(p), 255)], axis=2), lambda p: p),
        (lambda p: np.concatenate([p, np.zeros_like(grey(p))], axis=2), lambda p: np.full_like(p, 255)),
        (lambda p: (p / 255).astype(np.float32), lambda p: p),
        (lambda p: p.astype(np.uint16), lambda p: p),
    ],
    ids=["grey", "opaque RGBA", "transparent RGBA", "float", "uint16"],
)
def test_other_images_become_rgb(pixels: np.ndarray, turn: Callable[..., Any], expected: Callable[..., Any]) -> None:
    adata = spots((50, 50))
    bl.pp.crops(adata, ImageContainer(turn(pixels)), size=20)
    assert np.array_equal(adata.obsm["crops"][0], expected(pixels)[40:60, 40:60])


@pytest.mark.odd
@pytest.mark.parametrize(
    ("turn", "message"),
    [
        (lambda p: p.astype(np.uint16) * 256, r"uint16 with values from .*0 to 255 is expected"),
        (lambda p: p.astype(np.float32), r"floats from .*0 to 1 is expected"),
        (lambda p: p[..., :2], r"2 channels"),
    ],
    ids=["uint16", "float", "channels"],
)
def test_images_of_unknown_range_are_refused(
    pixels: np.ndarray, turn: Callable[..., Any], message: str, unchanged: Callable[..., None]
) -> None:
    adata = spots((50, 50))
    unchanged(adata)
    with pytest.raises(ValueError, match=message):
        bl.pp.crops(adata, ImageContainer(turn(pixels)), size=20)


def test_paths(pixels: np.ndarray, tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(pixels).save(tmp_path / "slide.png")
    by_path, by_string = spots((50, 50)), spots((50, 50))
    bl.pp.crops(by_path, tmp_path / "slide.png", size=20)
    bl.pp.crops(by_string, {"library": str(tmp_path / "slide.png")}, size=20)
    assert np.array_equal(by_path.obsm["crops"][0], pixels[40:60, 40:60])
    assert np.array_equal(by_path.obsm["crops"], by_string.obsm["crops"])
    assert by_path.uns["crops"]["library"]["source"] == "slide.png"
    with pytest.raises(FileNotFoundError, match=r"no file"):
        bl.pp.crops(by_path, tmp_path / "other.png")


@pytest.mark.odd
@pytest.mark.parametrize("name", ["slide.svs", "slide.tif", "slide.png"])
def test_files_that_are_no_images_are_named(name: str, tmp_path: Path, unchanged: Callable[..., None]) -> None:
    (tmp_path / name).write_text("<html>not found</html>")
    adata = spots((50, 50))
    unchanged(adata)
    with pytest.raises(ValueError, match=rf"`image`.*{name}.*could not be read as an image.*TIFF"):
        bl.pp.crops(adata, tmp_path / name)


@pytest.mark.odd
@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_a_damaged_file_is_named(
    pixels: np.ndarray, suffix: str, tmp_path: Path, unchanged: Callable[..., None]
) -> None:
    from PIL import Image

    path = tmp_path / f"slide.{suffix}"
    Image.fromarray(pixels).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    adata = spots((50, 110))
    unchanged(adata)
    with pytest.raises(ValueError, match=r"image of 'library'.*cut short or damaged"):
        bl.pp.crops(adata, path)


def test_libraries_may_be_numbers(pixels: np.ndarray) -> None:
    adata = spots((50, 50), (60, 60))
    adata.obs["section"] = [1, 2]
    bl.pp.crops(
        adata,
        {1: ImageContainer(pixels), 2: ImageContainer(255 - pixels)},
        library_key="section",
        size=8,
        mpp={1: 1, 2: 1},
    )
    assert np.array_equal(adata.obsm["crops"][1], 255 - pixels[56:64, 56:64])
    assert set(adata.uns["crops"]) == {"1", "2"}


def test_without_an_image_the_recorded_file_then_the_hires_image(pixels: np.ndarray, tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(pixels).save(tmp_path / "slide.png")
    library: dict[str, Any] = {
        "images": {"hires": pixels[::2, ::2]},
        "scalefactors": {"tissue_hires_scalef": 0.5, "spot_diameter_fullres": 12.0},
        "metadata": {"source_image_path": str(tmp_path / "slide.png")},
    }
    adata = spots((50, 50), spatial={"lib": library})
    bl.pp.crops(adata, size=20)
    assert np.array_equal(adata.obsm["crops"][0], pixels[40:60, 40:60])
    assert adata.uns["crops"]["lib"]["spot_diameters"] == pytest.approx(20 / 12)
    library["metadata"]["source_image_path"] = "gone.png"
    with pytest.warns(UserWarning, match=r"hires image.*6\.0 pixels wide.*gone\.png"):
        bl.pp.crops(adata, size=20)
    assert np.array_equal(adata.obsm["crops"][0], pixels[::2, ::2][15:35, 15:35])
    assert adata.uns["crops"]["lib"]["spot_diameters"] == pytest.approx(40 / 12)
    del library["images"]
    with pytest.raises(ValueError, match=r"no `image` was given for 'lib'"):
        bl.pp.crops(adata, size=20)


@pytest.fixture
def two(pixels: np.ndarray) -> tuple[AnnData, dict[str, Any]]:
    rng = np.random.default_rng(2)
    adata = spots(*rng.uniform(0, 119, size=(300, 2)))
    adata.obs["section"] = rng.choice(["a", "b"], size=300)
    return adata, {"a": ImageContainer(pixels), "b": ImageContainer(255 - pixels)}


def test_several_sections(two: tuple[AnnData, dict[str, Any]], pixels: np.ndarray, tmp_path: Path) -> None:
    adata, images = two
    bl.pp.crops(adata, images, size=9, library_key="section", mpp={"a": 0.5})
    for library, image in images.items():
        here = (adata.obs["section"] == library).to_numpy()
        assert np.array_equal(adata.obsm["crops"][here], squidpy_crops(image, adata.obsm["spatial"][here], 9))
    assert adata.uns["crops"]["a"]["size_um"] == pytest.approx(4.5)
    assert np.isnan(adata.uns["crops"]["b"]["size_um"])
    adata.write_h5ad(tmp_path / "a.h5ad")
    back = ad.read_h5ad(tmp_path / "a.h5ad")
    assert np.array_equal(back.obsm["crops"], adata.obsm["crops"])
    assert set(back.uns["crops"]["a"]) == set(adata.uns["crops"]["a"])


@pytest.mark.parametrize("um", [None, 30.0])
def test_lazy_equals_eager(two: tuple[AnnData, dict[str, Any]], um: float | None, tmp_path: Path) -> None:
    adata, images = two
    lazy = adata.copy()
    arguments: dict[str, Any] = {"size": 12, "library_key": "section", "um": um, "mpp": 0.5}
    bl.pp.crops(adata, images, **arguments)
    bl.pp.crops(lazy, images, lazy=True, **arguments)
    assert isinstance(lazy.obsm["crops"], da.Array)
    assert lazy.obsm["crops"].numblocks[0] > 1
    assert np.array_equal(lazy.obsm["crops"].compute(), adata.obsm["crops"])
    rows = np.array([250, 3, 140])
    assert np.array_equal(np.asarray(lazy.obsm["crops"][rows]), adata.obsm["crops"][rows])
    assert str(lazy.uns["crops"]) == str(adata.uns["crops"])
    lazy.write_h5ad(tmp_path / "lazy.h5ad")
    assert np.array_equal(ad.read_h5ad(tmp_path / "lazy.h5ad").obsm["crops"], adata.obsm["crops"])


def test_a_lazy_image_is_read_where_it_is_touched(pixels: np.ndarray) -> None:
    read = []

    def block(x: np.ndarray, block_info: Any = None) -> np.ndarray:
        read.append(block_info[0]["chunk-location"])
        return x

    image = da.from_array(pixels, chunks=(40, 50, 3)).map_blocks(block, dtype=np.uint8, meta=pixels[:0, :0])
    adata = spots((20, 20), (30, 25))
    lazy = ImageContainer(image)
    read.clear()
    bl.pp.crops(adata, lazy, size=10)
    assert np.array_equal(adata.obsm["crops"][0], pixels[15:25, 15:25])
    assert len(read) == 1


@pytest.mark.parametrize("um", [None, 12.5])
def test_a_file_is_read_once_for_all_spots(pixels: np.ndarray, um: float | None) -> None:
    read = []

    def block(x: np.ndarray, block_info: Any = None) -> np.ndarray:
        read.append(block_info[0]["chunk-location"])
        return x

    image = ImageContainer(da.from_array(pixels, chunks=-1).map_blocks(block, dtype=np.uint8, meta=pixels[:0, :0]))
    adata = spots(*np.random.default_rng(3).uniform(0, 119, size=(600, 2)))
    read.clear()
    bl.pp.crops(adata, image, size=8, um=um, mpp=0.5)
    assert len(read) == 1


def test_progress_bar_counts_spots(pixels: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    adata = spots((50, 50), (60, 60))
    bl.pp.crops(adata, ImageContainer(pixels), size=8)
    assert "Cutting" not in capsys.readouterr().err
    bl.pp.crops(adata, ImageContainer(pixels), size=8, progress_bar=True)
    assert "Cutting crops of 'library'" in capsys.readouterr().err


def test_records_are_plain_numbers_of_this_object_only(pixels: np.ndarray) -> None:
    adata = spots((50, 50), crops={"gone": {"size": 3}})
    bl.pp.crops(adata, ImageContainer(pixels), size=np.int64(8), mpp=0.5, key_added="crops")
    assert adata.uns["crops"]["library"].pop("findings").empty
    assert adata.uns["crops"] == {
        "library": {
            "size": 8,
            "size_um": 4.0,
            "um_per_px": 0.5,
            "spot_diameters": pytest.approx(np.nan, nan_ok=True),
            "source": "ImageContainer",
            "level_scale": 1.0,
            "border": "white",
            "padded": 0,
            "missing_tiles": 0,
            "library_key": "",
            "spatial_key": "spatial",
        }
    }
    assert type(adata.uns["crops"]["library"]["size"]) is int


@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("rescaled", [1.0, 0.5])
def test_a_cropped_container_of_another_scale(pixels: np.ndarray, scale: float, rescaled: float) -> None:
    """A crop of a scaled container, itself made smaller, knows its place in the section."""
    whole = ImageContainer(pixels, scale=scale)
    part = whole.crop_corner(30, 40, size=(60, 70), scale=rescaled)
    # pixel (20, 10) of the part
    adata = spots(((20 / rescaled + 40) / scale, (10 / rescaled + 30) / scale))
    bl.pp.crops(adata, part, size=5)
    assert np.array_equal(adata.obsm["crops"][0], part["image"].values[8:13, 18:23, 0])


def test_records_survive_concat(pixels: np.ndarray) -> None:
    parts = {}
    for name in ("a", "b"):
        parts[name] = spots((50, 50), (60, 60), spatial={name: {"scalefactors": {"spot_diameter_fullres": 8.0}}})
        bl.pp.crops(parts[name], ImageContainer(pixels), size=16)
    both = ad.concat(parts, uns_merge="unique", index_unique="-")
    assert set(both.uns["crops"]) == {"a", "b"}
    assert both.obsm["crops"].shape == (4, 16, 16, 3)
    assert both.uns["crops"]["b"]["spot_diameters"] == 2.0


def break_coordinates(adata: AnnData, xy: Any) -> None:
    adata.obsm["spatial"] = xy


BAD: dict[str, tuple[Callable[[AnnData], Any], dict[str, Any], type[Exception], str]] = {
    "no coordinates": (lambda a: a.obsm.pop("spatial"), {}, KeyError, r"obsm\['spatial'\].*does not exist"),
    "NaN": (lambda a: break_coordinates(a, np.full((2, 2), np.nan)), {}, ValueError, r"NaN.*2 of 2 spots"),
    "three columns": (lambda a: break_coordinates(a, np.ones((2, 3))), {}, ValueError, r"\(2, 3\)"),
    "several libraries": (
        lambda a: a.uns.update(spatial={"a": {}, "b": {}}),
        {},
        ValueError,
        r"2 libraries.*library_key",
    ),
    "column": (lambda a: None, {"library_key": "slide"}, KeyError, r"obs\['slide'\]"),
    "size": (lambda a: None, {"size": 0}, ValueError, r"`size`.*at least 1.*0"),
    "float size": (lambda a: None, {"size": 22.4}, ValueError, r"`size`.*integer"),
    "border": (lambda a: None, {"border": "black"}, ValueError, r"`border`.*'white', 'reflect'.*'black'"),
    "um": (lambda a: None, {"um": -1}, ValueError, r"`um`.*above 0"),
    "mpp": (lambda a: None, {"mpp": 0}, ValueError, r"`mpp`.*above 0"),
    "mpp of others": (lambda a: None, {"mpp": {"C6": 0.5}}, ValueError, r"`mpp`.*\['library'\].*\['C6'\]"),
    "empty": (lambda a: a._inplace_subset_obs([]), {}, ValueError, r"no spots"),
    "names twice": (
        lambda a: setattr(a, "obs_names", ["a", "a"]),
        {},
        ValueError,
        r"obs_names.*'a'.*obs_names_make_unique.*index_unique",
    ),
    "image type": (
        lambda a: None,
        {"image": np.ones((5, 5, 3))},
        TypeError,
        r"image of SpatialData or a path",
    ),
    "missing image": (
        lambda a: a.obs.insert(0, "section", ["a", "b"]),
        {"image": {"a": "x.png"}, "library_key": "section"},
        ValueError,
        r"no entry for \['b'\].*Every section needs its image",
    ),
    "images without library_key": (
        lambda a: None,
        {"image": {"a": "x.png", "b": "y.png"}},
        ValueError,
        r"no entry for \['library'\]; it has \['a', 'b'\].*library_key",
    ),
    "library_id": (
        lambda a: a.uns.update(spatial={"a": {}}),
        {"library_id": "c"},
        ValueError,
        r"library_id='c'.*\['a'\]",
    ),
    "library_id and library_key": (
        lambda a: None,
        {"library_id": "c", "library_key": "section"},
        ValueError,
        r"`library_key`.*or `library_id`.*not both",
    ),
}


@pytest.mark.odd
@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case: str, pixels: np.ndarray, unchanged: Callable[..., None]) -> None:
    damage, arguments, error, message = BAD[case]
    adata = spots((50, 50), (60, 60))
    damage(adata)
    unchanged(adata)
    with pytest.raises(error, match=message):
        bl.pp.crops(adata, **{"image": ImageContainer(pixels), **arguments})


@pytest.mark.odd
def test_one_image_for_two_sections_is_refused(two: tuple[AnnData, dict[str, Any]]) -> None:
    adata, images = two
    with pytest.raises(ValueError, match=r"one `image` for 2 sections.*mapping"):
        bl.pp.crops(adata, images["a"], library_key="section")


def test_views_are_refused_and_copies_returned(pixels: np.ndarray, unchanged: Callable[..., None]) -> None:
    adata = spots((50, 50), (60, 60))
    unchanged(adata)
    with pytest.raises(ValueError, match=r"view.*adata\.copy\(\)"):
        bl.pp.crops(adata[:1], ImageContainer(pixels))
    changed = bl.pp.crops(adata, ImageContainer(pixels), size=8, copy=True)
    assert changed is not None
    assert changed.obsm["crops"].shape == (2, 8, 8, 3)


def test_unknown_scale_is_warned_of_once(two: tuple[AnnData, dict[str, Any]]) -> None:
    import warnings

    adata, images = two
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        bl.pp.crops(adata, images, size=8, library_key="section")
        bl.pp.crops(adata, images, size=8, library_key="section", mpp={"a": 0.5})
        bl.pp.crops(adata, images, size=8, library_key="section", mpp=0.5)
    said = [str(w.message).split(",")[0] for w in found]
    assert said == ["the scale of the image is unknown for 'a'", "the scale of the image is unknown for 'b'"]
    assert "for 'a', 'b', so" in str(found[0].message)
    assert found[0].filename == __file__, "the warning must point at the caller"


def test_recorded_scale_is_taken(pixels: np.ndarray) -> None:
    adata = spots(
        (50, 50), spatial={"lib": {"scalefactors": {"microns_per_pixel": 0.5, "spot_diameter_fullres": 20.0}}}
    )
    bl.pp.crops(adata, ImageContainer(pixels), size=8, um=10)
    record = adata.uns["crops"]["lib"]
    assert (record["size_um"], record["um_per_px"], record["spot_diameters"]) == (10.0, 1.25, 1.0)


@pytest.mark.slow
def test_real_section_by_path_and_by_nothing(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`source_image_path` is found from the folder that holds the image, and from no other."""
    by_path = ad.read_h5ad(real_data / "mob2k" / "MOB2.h5ad")[::40].copy()
    by_nothing = by_path.copy()
    bl.pp.crops(by_path, real_data / "mob2k" / "MOB2.jpg", size=64)
    image = ImageContainer(str(real_data / "mob2k" / "MOB2.jpg"))
    assert np.array_equal(by_path.obsm["crops"], squidpy_crops(image, by_path.obsm["spatial"], 64))
    assert np.isnan(by_path.uns["crops"]["MOB2"]["um_per_px"]), "the pitch of this array must not be guessed"
    monkeypatch.chdir(real_data / "mob2k")
    bl.pp.crops(by_nothing, size=64)
    assert np.array_equal(by_path.obsm["crops"], by_nothing.obsm["crops"])
    monkeypatch.chdir(real_data)
    with pytest.warns(UserWarning, match=r"hires image.*9\.5 pixels wide.*no file 'MOB2\.jpg'"):
        bl.pp.crops(by_nothing, size=64)
    assert by_nothing.uns["crops"]["MOB2"]["source"] == "hires image"


@pytest.mark.slow
def test_real_section(real_data: Path) -> None:
    adata = ad.read_h5ad(real_data / "mob2k" / "MOB1.h5ad")
    image = ImageContainer(str(real_data / "mob2k" / "MOB1.jpg"))
    bl.pp.crops(adata, image, size=33)
    assert np.array_equal(adata.obsm["crops"][::40], squidpy_crops(image, adata.obsm["spatial"][::40], 33))
