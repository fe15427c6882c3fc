"""Where spots come to lie, against places worked out by hand: transformations, joins, regions, images."""

import logging
import warnings
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData, read_h5ad
from PIL import Image
from spatialdata.models import Image2DModel, Labels2DModel, PointsModel
from spatialdata.transformations import (
    Affine,
    Identity,
    MapAxis,
    Scale,
    Sequence,
    Translation,
    get_transformation_between_coordinate_systems,
)
from vendors.by_hand import HEIGHT, WIDTH, XY, affine, by_hand, circles_of, image_of, table_of
from vendors.tenx import says_where

import bleep_sc as bl
from bleep_sc._logging import logger

ANGLE = np.deg2rad(30)
COS, SIN = np.cos(ANGLE), np.sin(ANGLE)


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(logger, "propagate", True)
    caplog.set_level(logging.INFO, logger="bleep_sc")
    return caplog


def place(sdata: Any, **kwargs: Any) -> np.ndarray:
    return np.asarray(bl.io.from_spatialdata(sdata, **kwargs).obsm["spatial"])


# the shapes are moved; the image stays. Of each spot x and y the place is spelt out
MOVED: dict[str, tuple[Any, Any]] = {
    "nothing": (Identity(), lambda x, y: (x, y)),
    "shifted": (Translation([7, -3], axes=("x", "y")), lambda x, y: (x + 7, y - 3)),
    "shifted, y named first": (Translation([7, -3], axes=("y", "x")), lambda x, y: (x - 3, y + 7)),
    "scaled": (Scale([0.5, 0.5], axes=("x", "y")), lambda x, y: (x / 2, y / 2)),
    "swapped": (MapAxis({"x": "y", "y": "x"}), lambda x, y: (y, x)),
    "mirrored": (affine([[-1, 0, 240], [0, 1, 0], [0, 0, 1]]), lambda x, y: (240 - x, y)),
    "turned by 90": (affine([[0, -1, 200], [1, 0, 0], [0, 0, 1]]), lambda x, y: (200 - y, x)),
    "turned by 30": (affine([[COS, -SIN, 90], [SIN, COS, -20], [0, 0, 1]]),
                     lambda x, y: (COS * x - SIN * y + 90, SIN * x + COS * y - 20)),
    "y first": (Affine([[0, 1, 5], [1, 0, 9], [0, 0, 1]], input_axes=("y", "x"), output_axes=("y", "x")),
                lambda x, y: (y + 9, x + 5)),
    "one after the other": (Sequence([Scale([2, 2], axes=("x", "y")), Translation([-10, 4], axes=("x", "y"))]),
                            lambda x, y: (2 * x - 10, 2 * y + 4)),
}  # fmt: skip


@pytest.mark.parametrize("moved", MOVED)
def test_shapes_are_moved(moved: str) -> None:
    transformation, expected = MOVED[moved]
    sdata = by_hand(shapes={"spots": circles_of(XY, {"global": transformation})})
    assert np.allclose(place(sdata), [expected(x, y) for x, y in XY])


@pytest.mark.parametrize("moved", MOVED)
def test_images_are_moved(moved: str) -> None:
    """What moves a pixel of the image onto a spot finds the pixel back from the spot."""
    transformation, expected = MOVED[moved]
    spots = np.array([expected(x, y) for x, y in XY])
    images = {"he": image_of(says_where(HEIGHT, WIDTH), {"global": transformation})}
    sdata = by_hand(images=images, shapes={"spots": circles_of(spots)})
    assert np.allclose(place(sdata), XY)
    adata = bl.io.from_spatialdata(sdata)
    bl.pp.crops(adata, sdata["he"], size=8, mpp=1, check="off")
    assert adata.obsm["crops"][:, 4, 4, :2].tolist() == XY.astype(int).tolist()
    scale = {"scaled": 2, "one after the other": 0.5}.get(moved, 1)
    assert adata.uns["spatial"]["spots"]["scalefactors"]["spot_diameter_fullres"] == pytest.approx(10 * scale)


def test_by_way_of_a_third_system() -> None:
    """Neither is at home in the system that both share; the scale of spots is that between the two.

    spatialdata's own way from one element to the other leads there too.
    """
    to_um = {"global": Identity(), "um": affine([[0, 0.3, 4], [0.3, 0, 9], [0, 0, 1]])}
    of_spots = {"um": affine([[0, -0.6, 80], [0.6, 0, 6], [0, 0, 1]])}
    sdata = by_hand(
        images={"he": image_of(says_where(HEIGHT, WIDTH), to_um)},
        shapes={"spots": circles_of(XY / 4, of_spots)},
    )
    um = np.column_stack([80 - 0.6 * XY[:, 1] / 4, 6 + 0.6 * XY[:, 0] / 4])
    assert np.allclose(place(sdata), np.column_stack([(um[:, 1] - 9) / 0.3, (um[:, 0] - 4) / 0.3]))
    onto = get_transformation_between_coordinate_systems(sdata, sdata["spots"], sdata["he"])
    matrix = onto.to_affine_matrix(("x", "y"), ("x", "y"))
    assert np.allclose(place(sdata), XY / 4 @ matrix[:2, :2].T + matrix[:2, 2])
    library = bl.io.from_spatialdata(sdata).uns["spatial"]["spots"]
    assert library["scalefactors"]["spot_diameter_fullres"] == pytest.approx(2 * 10)
    assert library["metadata"]["coordinate_system"] == "um"


@pytest.mark.parametrize("stretch", [1.0009, 1.0011, 0.9])
def test_no_similarity_is_refused_with_the_number(stretch: float) -> None:
    turned = np.array([[COS, -SIN], [SIN, COS]]) @ np.diag([2.0, 2.0 * stretch])
    matrix = np.eye(3)
    matrix[:2, :2] = turned
    sdata = by_hand(shapes={"spots": circles_of(XY / 3, {"global": affine(matrix)})})
    if 0.999 < stretch < 1.001:
        assert np.allclose(place(sdata), XY / 3 @ turned.T)
        return
    with pytest.raises(ValueError, match=rf"stretches one direction {max(stretch, 1 / stretch):.4f}.*'global'"):
        place(sdata)


def test_several_systems() -> None:
    same = {"a": Identity(), "b": Scale([3, 3], axes=("x", "y"))}
    sdata = by_hand(images={"he": image_of(says_where(HEIGHT, WIDTH), same)}, shapes={"spots": circles_of(XY, same)})
    assert np.allclose(place(sdata), XY)  # both say the same
    other = {"a": Identity(), "b": Translation([40, 0], axes=("x", "y"))}
    sdata = by_hand(images={"he": image_of(says_where(HEIGHT, WIDTH), same)}, shapes={"spots": circles_of(XY, other)})
    with pytest.raises(ValueError, match=r"in 2 ways.*\['a', 'b'\]: up to .* pixels apart.*coordinate_system='a'"):
        place(sdata)
    assert np.allclose(place(sdata, coordinate_system="a"), XY)
    assert np.allclose(place(sdata, coordinate_system={"spots": "b"}), (XY + np.array([40, 0])) / 3)
    with pytest.raises(ValueError, match=r"coordinate_system='global'` is not one that both have.*\['a', 'b'\]"):
        place(sdata, coordinate_system="global")
    sdata = by_hand(shapes={"spots": circles_of(XY, other)})
    with pytest.raises(ValueError, match=r"no H&E image shares a coordinate system with `sdata.shapes\['spots'\]`"):
        place(sdata)
    with pytest.raises(ValueError, match=r"share no coordinate system.*\['a', 'b'\].*\['global'\]"):
        place(sdata, image="he")
    pixels = says_where(HEIGHT, WIDTH)
    images = {"he": image_of(pixels, {"a": Identity()}), "later": image_of(pixels, {"b": Identity()})}
    sdata = by_hand(images=images, shapes={"spots": circles_of(XY, other)})
    with pytest.raises(ValueError, match=r"the images \['he', 'later'\] all share"):
        place(sdata)
    assert np.allclose(place(sdata, coordinate_system="b"), XY + np.array([40, 0]))


@pytest.mark.parametrize(
    ("index", "instances"),
    [
        ([10, 11, 12, 13], [12, 10, 13, 11]),
        ([10, 11, 12, 13], ["12", "10", "13", "11"]),
        (["c10", "c11", "c12", "c13"], ["c12", "c10", "c13", "c11"]),
        (["10", "11", "12", "13"], [12, 10, 13, 11]),
        (["c10", "c11", "c12", "c13"], pd.Categorical(["c12", "c10", "c13", "c11"])),
        ([10, 11, 12, 13], pd.array([12, 10, 13, 11], dtype="Int64")),
        (np.array([10, 11, 12, 13], dtype="uint32"), np.array([12, 10, 13, 11], dtype="int64")),
    ],
)
def test_rows_are_joined_by_instance(index: Any, instances: Any) -> None:
    sdata = by_hand(shapes={"spots": circles_of(XY, index=pd.Index(index))})
    sdata["table"].obs["spot"] = pd.Series(instances, index=sdata["table"].obs_names)
    assert np.allclose(place(sdata), XY[[2, 0, 3, 1]])


def test_instances_without_a_shape_are_left_out_and_counted(log: pytest.LogCaptureFixture) -> None:
    sdata = by_hand(tables={"table": table_of(["spots"] * 4, [3, 99, 0, 98])})
    with pytest.warns(UserWarning, match=r"2 of 4 rows of `sdata.tables\['table'\]`.*`sdata.shapes\['spots'\]`.*99"):
        adata = bl.io.from_spatialdata(sdata)
    assert list(adata.obs_names) == ["row0", "row2"]
    assert np.array_equal(adata.X, [[0, 1], [4, 5]])
    assert np.allclose(adata.obsm["spatial"], XY[[3, 0]])
    assert "2 of 4 shapes of sdata.shapes['spots'] have no row." in log.text
    assert sdata["table"].n_obs == 4


def test_shapes_with_holes_and_of_several_parts() -> None:
    """The centre of an area, not the mean of its corners."""
    from geopandas import GeoDataFrame
    from shapely import MultiPolygon, Polygon, box
    from spatialdata.models import ShapesModel

    shapes = [
        Polygon([(0, 0), (90, 0), (90, 30), (60, 30), (60, 1), (0, 1)]),
        MultiPolygon([box(0, 0, 10, 10), box(90, 0, 100, 10)]),
        box(100, 100, 140, 120) - box(100, 100, 120, 120),
        Polygon([(0, 0), (60, 0), (0, 60)]),
    ]
    sdata = by_hand(shapes={"spots": ShapesModel.parse(GeoDataFrame(geometry=shapes))})
    first = (np.array([30, 0.5]) * 60 + np.array([75, 15]) * 900) / 960
    assert np.allclose(place(sdata), [first, [50, 5], [130, 110], [20, 20]])


def test_a_library_for_each_region() -> None:
    """Two sections with an image each; the rows of the table are mixed."""
    shifted = XY + np.array([0, 10])
    sdata = by_hand(
        images={
            "A_full_image": image_of(says_where(HEIGHT, WIDTH), {"A": Identity()}),
            "A_hires_image": image_of(says_where(HEIGHT, WIDTH)[::2, ::2], {"A": Scale([2, 2], axes=("x", "y"))}),
            "B_full_image": image_of(255 - says_where(HEIGHT, WIDTH), {"B": Translation([5, 0], axes=("x", "y"))}),
        },
        shapes={"A": circles_of(XY, {"A": Identity()}), "B": circles_of(shifted, {"B": Identity()})},
        tables={"table": table_of(["A", "B", "B", "A", "B"], [2, 0, 3, 1, 1])},
    )
    adata = bl.io.from_spatialdata(sdata)
    assert adata.obs["library_id"].tolist() == ["A", "B", "B", "A", "B"]
    a, b = XY, shifted - np.array([5, 0])
    assert np.allclose(adata.obsm["spatial"], [a[2], b[0], b[3], a[1], b[1]])
    assert {name: entry["metadata"]["image"] for name, entry in adata.uns["spatial"].items()} == {
        "A": "A_full_image",
        "B": "B_full_image",
    }
    images = {"A": sdata["A_full_image"], "B": sdata["B_full_image"]}
    bl.pp.crops(adata, images, size=8, library_key="library_id", mpp=1, check="off")
    x, y = np.rint(adata.obsm["spatial"]).astype(int).T
    of_b = adata.obs["library_id"] == "B"
    assert adata.obsm["crops"][:, 4, 4, 0].tolist() == np.where(of_b, 255 - x, x).tolist()
    assert adata.obsm["crops"][:, 4, 4, 1].tolist() == np.where(of_b, 255 - y, y).tolist()
    with pytest.raises(ValueError, match=r"`image` names the regions \['A'\], and the table annotates \['A', 'B'\]"):
        bl.io.from_spatialdata(sdata, image={"A": "A_full_image"})
    chosen = {"B": "B_full_image", "A": "A_hires_image"}
    with pytest.warns(UserWarning, match="the small picture 'A_hires_image' is taken as the image of 'A'"):
        named = bl.io.from_spatialdata(sdata, image=chosen, library_key="slide")
    assert np.allclose(named.obsm["spatial"][0], a[2] / 2)
    assert named.obs["slide"].tolist() == adata.obs["library_id"].tolist()


def test_the_only_image_that_fits_is_taken() -> None:
    pixels = says_where(HEIGHT, WIDTH)
    images = {
        "he": image_of(pixels),
        "if_image": image_of(pixels),
        "elsewhere": image_of(pixels, {"other": Identity()}),
        "five": Image2DModel.parse(np.zeros((5, 20, 30), np.uint8), dims=("c", "y", "x")),
        "stains": image_of(pixels, c_coords=["DAPI", "CD45", "18S"]),
        "sixteen": image_of(pixels.astype(np.uint16)),
    }
    assert bl.io.from_spatialdata(by_hand(images=images)).uns["spatial"]["spots"]["metadata"]["image"] == "he"
    with pytest.raises(ValueError, match=r"the images \['he', 'again'\] all share .* `image='he'`"):
        place(by_hand(images={**images, "again": image_of(pixels)}))
    for name, reason in {
        "five": "has 5 channels",
        "stains": "'DAPI', 'CD45', '18S'.*set_channel_names",
        "sixteen": "holds uint16.*uint8",
        "if_image": "immunofluorescence",
        "elsewhere": "share no coordinate system",
    }.items():
        with pytest.raises(ValueError, match=reason):
            place(by_hand(images=images), image=name)


def test_the_scale_is_left_out_where_nobody_knows_it(log: pytest.LogCaptureFixture) -> None:
    adata = bl.io.from_spatialdata(by_hand())
    assert "microns_per_pixel" not in adata.uns["spatial"]["spots"]["scalefactors"]
    assert "The µm per pixel of 'spots' cannot be told" in log.text
    with pytest.raises(ValueError, match=r"scale of 'spots' is unknown. Pass `mpp=`"):
        bl.pp.crops(adata, by_hand()["he"], um=20)


def test_what_xenium_calls_its_cells_does_not_make_them_micrometres() -> None:
    """Other software has cell_boundaries in pixels: there they are wider than the table says."""
    table = table_of(["cell_boundaries"] * 4, np.arange(4))
    table.obs["transcript_counts"], table.obs["cell_area"] = 9, np.pi * (5 * 0.2125) ** 2
    shapes = {"cell_boundaries": circles_of(XY, {"global": Scale([0.5, 0.5], axes=("x", "y"))})}
    adata = bl.io.from_spatialdata(by_hand(shapes=shapes, tables={"table": table}))
    assert "microns_per_pixel" not in adata.uns["spatial"]["cell_boundaries"]["scalefactors"]
    table.obs["cell_area"] = np.pi * 5**2
    with pytest.warns(UserWarning, match="'he' has no alignment"):
        adata = bl.io.from_spatialdata(by_hand(shapes=shapes, tables={"table": table}))
    assert adata.uns["spatial"]["cell_boundaries"]["scalefactors"]["microns_per_pixel"] == pytest.approx(2)


def labels() -> Any:
    return Labels2DModel.parse(np.arange(6).reshape(2, 3), dims=("y", "x"))


@pytest.mark.odd
@pytest.mark.parametrize(
    ("parts", "change", "error", "message"),
    [
        ({"tables": {}}, None, ValueError, "holds no table"),
        ({"images": {}}, None, ValueError, r"no H&E image shares.*There are no images.*fullres_image_file"),
        ({"shapes": {}}, None, ValueError, r"annotates 'spots', but there are only the shapes \[\]"),
        ({"tables": {"table": table_of(["spots"] * 4, list("abcd"))}}, None, ValueError,
         r"\['spot'\]` names no instance of `sdata.shapes\['spots'\]`: it holds 'a', 'b', 'c', ..., .* called 0, 1, 2"),
        ({"shapes": {"spots": circles_of(XY, index=pd.Index([1, 1, 2, 3]))}}, None, ValueError,
         r"several shapes with the index '1'"),
        ({"labels": {"spots": labels()}, "shapes": {}}, None, ValueError, r"Make shapes.*to_circles\(sdata\['spots'\]"),
        ({"points": {"spots": PointsModel.parse(pd.DataFrame(XY, columns=["x", "y"]))}, "shapes": {}}, None, ValueError,
         r"sdata.points\['spots'\]`, and no shapes"),
        ({}, lambda t: t.uns.pop("spatialdata_attrs"), ValueError, r"annotates no element.*set_table_annotates"),
        ({}, lambda t: t.uns["spatialdata_attrs"].update(region_key=None), ValueError, "lacks region_key"),
        ({}, lambda t: t.uns["spatialdata_attrs"].update(instance_key="cell"), KeyError, r"obs\['cell'\]"),
        ({}, lambda t: t.uns["spatialdata_attrs"].update(region="cells"), ValueError, r"no row of the regions.*cells"),
        ({}, lambda t: t.obs.insert(0, "library_id", "slide 7"), ValueError, "holds something else"),
        ({"shapes": {"spots": circles_of(XY, {"global": affine([[1, 2, 0], [2, 4, 0], [0, 0, 1]])})}}, None, ValueError,
         "cannot be inverted"),
    ],
)  # fmt: skip
def test_bad_input(parts: dict[str, Any], change: Any, error: type[Exception], message: str) -> None:
    with warnings.catch_warnings(action="ignore"):
        sdata = by_hand(**parts)
    if change is not None:
        change(sdata.tables["table"])
    with pytest.raises(error, match=message):
        bl.io.from_spatialdata(sdata, image=None)


@pytest.mark.odd
@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"table": "spots"}, ValueError, r"'spots'`: there is no such table. The tables are \['table'\]"),
        ({"image": "spots"}, ValueError, r"'spots'`: there is no such image. The images are 'he'"),
        ({"image": 3}, TypeError, "`image` must be a name, or a mapping from region to name, found 3"),
        ({"coordinate_system": ["global"]}, TypeError, "`coordinate_system` must be a name"),
        ({"library_key": "a/b"}, ValueError, "`library_key` must be a name"),
    ],
)
def test_odd_arguments(kwargs: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        bl.io.from_spatialdata(by_hand(), **kwargs)


@pytest.mark.odd
def test_what_is_no_spatialdata() -> None:
    for other in (by_hand()["table"], None, {"table": 1}):
        with pytest.raises(TypeError, match="must be a SpatialData object or the path"):
            bl.io.from_spatialdata(other)  # type: ignore[arg-type]


@pytest.mark.odd
def test_rows_of_no_region_are_left_out_and_counted() -> None:
    sdata = by_hand()
    sdata["table"].obs["region"] = sdata["table"].obs["region"].cat.add_categories(["gone"])
    sdata["table"].obs.iloc[1, 0] = "gone"
    with pytest.warns(UserWarning, match=r"1 of 4 rows of `sdata.tables\['table'\]` are of no region"):
        assert np.allclose(place(sdata), XY[[0, 2, 3]])


@pytest.mark.slow
def test_real_section_whose_image_is_stored_turned(real_data: Path) -> None:
    """The crops are those of the file, turned, to the last pixel; nothing seems wrong with them."""
    section = read_h5ad(real_data / "mob2k" / "MOB1.h5ad")
    file = next(path for path in (real_data / "mob2k").glob("MOB1.*") if path.suffix != ".h5ad")
    pixels = np.asarray(Image.open(file).convert("RGB"))
    height, width = pixels.shape[:2]
    stored = pixels.swapaxes(0, 1)[::-1, ::-1]
    to_px = {"px": affine([[0, -1, width], [-1, 0, height], [0, 0, 1]])}
    xy = np.rint(np.asarray(section.obsm["spatial"], dtype=float))
    n = len(xy)
    sdata = by_hand(
        images={"he": image_of(stored, to_px, scale_factors=[2, 2], chunks=(1, 512, 512))},
        shapes={"spots": circles_of(xy / 2, {"px": Scale([2, 2], axes=("x", "y"))})},
        tables={"table": table_of(["spots"] * n, np.arange(n))},
    )
    adata = bl.io.from_spatialdata(sdata)
    bl.pp.crops(adata, sdata["he"], size=64, mpp=1)
    assert len(adata.uns["crops"]["spots"]["findings"]) == 0
    straight = AnnData(obs=section.obs, obsm={"spatial": xy})
    bl.pp.crops(straight, file, size=64, mpp=1, check="off")
    assert np.array_equal(adata.obsm["crops"].swapaxes(1, 2)[:, ::-1, ::-1], straight.obsm["crops"])


def test_samples_whose_regions_have_one_name_are_joined(tmp_path: Path) -> None:
    """As all samples of Xenium; each is cut from its own image, and goes back to where it came from."""
    images = [says_where(HEIGHT, WIDTH), says_where(HEIGHT, WIDTH)[:, :, ::-1].copy()]
    sources = [by_hand(images={"he": image_of(image)}) for image in images]
    parts = [bl.io.from_spatialdata(sdata, library_id=name) for sdata, name in zip(sources, "ab", strict=True)]
    joined = ad.concat(parts, index_unique="-", uns_merge="unique")
    joined.write_h5ad(tmp_path / "joined.h5ad")
    joined = ad.read_h5ad(tmp_path / "joined.h5ad")
    given = {name: sdata["he"] for sdata, name in zip(sources, "ab", strict=True)}
    bl.pp.crops(joined, given, size=8, mpp=1, library_key="library_id")
    for name, part, image in zip("ab", parts, images, strict=True):
        assert part.obs["library_id"].tolist() == [name] * len(XY)
        assert list(part.uns["spatial"]) == [name]
        rows = (joined.obs["library_id"] == name).to_numpy()
        x, y = XY[0].astype(int)
        assert np.array_equal(joined.obsm["crops"][rows][0], image[y - 4 : y + 4, x - 4 : x + 4])
    bl.io.to_spatialdata(sources[1], joined[joined.obs["library_id"] == "b"], layer=None)
    assert sources[1]["bleep"].obs["spot"].tolist() == list(range(len(XY)))


@pytest.mark.odd
def test_names_of_libraries() -> None:
    two = by_hand(
        shapes={"one": circles_of(XY), "two": circles_of(XY)},
        tables={"table": table_of(["one"] * 2 + ["two"] * 2, [0, 1, 0, 1])},
    )
    adata = bl.io.from_spatialdata(two, library_id={"one": "a", "two": "b"})
    assert adata.obs["library_id"].tolist() == ["a", "a", "b", "b"]
    assert list(adata.uns["spatial"]) == ["a", "b"]
    with pytest.raises(ValueError, match=r"`library_id='a'` gives one name to several of the regions \['one', 'two'\]"):
        bl.io.from_spatialdata(two, library_id="a")
    with pytest.raises(ValueError, match="`library_id` holds 'a/b'"):
        bl.io.from_spatialdata(by_hand(), library_id="a/b")
    with pytest.raises(TypeError, match="`library_id` must be a name"):
        bl.io.from_spatialdata(by_hand(), library_id=3)  # type: ignore[arg-type]


@pytest.mark.odd
def test_several_images_of_several_regions_are_asked_for_by_region() -> None:
    """One name would be taken for all regions, and lay the second on the image of the first."""
    shapes = {"a": circles_of(XY), "b": circles_of(XY)}
    images = {name: image_of(says_where(HEIGHT, WIDTH)) for name in ("he_a", "he_b")}
    one = by_hand(images=images)
    with pytest.raises(ValueError, match=r"Say which one is the H&E image, such as `image='he_a'`\."):
        bl.io.from_spatialdata(one)
    two = by_hand(images=images, shapes=shapes, tables={"table": table_of(["a", "b"], [0, 1])})
    with pytest.raises(ValueError, match=r"H&E image of each region, such as `image=\{'a': \.\.\., 'b': \.\.\.\}`\."):
        bl.io.from_spatialdata(two)
    adata = bl.io.from_spatialdata(two, image={"a": "he_a", "b": "he_b"})
    assert [adata.uns["spatial"][region]["metadata"]["image"] for region in "ab"] == ["he_a", "he_b"]
