"""A layer goes back into SpatialData, and annotates what its spots were taken from."""

import re
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import spatialdata as sd
from anndata import AnnData
from spatialdata.models import ShapesModel, TableModel
from spatialdata.transformations import get_transformation
from vendors.by_hand import HEIGHT, WIDTH, XY, affine, by_hand, circles_of, image_of, table_of
from vendors.tenx import says_where

import bleep_sc as bl


@pytest.fixture
def sdata() -> sd.SpatialData:
    """Two regions, of which the table names some instances."""
    shapes = {"A": circles_of(XY), "B": circles_of(XY, index=pd.Index([13, 12, 11, 10]))}
    return by_hand(shapes=shapes, tables={"table": table_of(["A", "B", "A", "B"], [0, 11, 3, 13])})


@pytest.fixture
def query(sdata: sd.SpatialData) -> AnnData:
    adata = bl.io.from_spatialdata(sdata)
    adata.layers["bleep"] = adata.X + np.float32(0.5)
    adata.obs["bleep_reliability"] = [0.1, 0.2, 0.3, 0.4]
    adata.obsm["crops"] = np.zeros((4, 8, 8, 3), np.uint8)
    return adata


def test_rows_find_their_shapes(sdata: sd.SpatialData, query: AnnData) -> None:
    query = query[[3, 0, 1]].copy()
    bl.io.to_spatialdata(sdata, query)
    table = sdata["bleep"]
    TableModel.validate(table)
    assert sorted(table.uns["spatialdata_attrs"]["region"]) == ["A", "B"]
    assert np.array_equal(table.X, query.layers["bleep"])
    assert list(table.obs["bleep_reliability"]) == [0.4, 0.1, 0.2]
    assert list(table.obsm) == ["spatial"]
    assert not table.layers
    of_b, of_a = (
        sd.get_values("1", sdata=sdata, element_name=name, table_name="bleep")["1"].to_dict() for name in "BA"
    )
    assert of_b == {13: 7.5, 11: 3.5}
    assert of_a == {0: 1.5}


def test_it_is_drawn(sdata: sd.SpatialData, query: AnnData) -> None:
    import matplotlib.pyplot as plt
    import spatialdata_plot  # noqa: F401 - its import adds `.pl`

    only = query[query.obs["region"] == "B"].copy()
    bl.io.to_spatialdata(sdata, only)
    fig, ax = plt.subplots()
    sdata.pl.render_images("he").pl.render_shapes("B", color="1", table_name="bleep").pl.show(ax=ax)
    assert ax.collections
    plt.close(fig)


def test_one_region_of_two_is_named_alone(sdata: sd.SpatialData, query: AnnData) -> None:
    bl.io.to_spatialdata(sdata, query[query.obs["region"] == "B"].copy(), table="only_B")
    assert sdata["only_B"].uns["spatialdata_attrs"]["region"] == "B"
    assert list(sdata["only_B"].obs["region"].cat.categories) == ["B"]


@pytest.mark.parametrize("kind", ["category", "str", "Int64", "float"])
def test_instances_of_any_type(kind: str) -> None:
    sdata = by_hand()
    adata = bl.io.from_spatialdata(sdata)
    adata.layers["bleep"] = adata.X
    adata.obs["spot"] = adata.obs["spot"].astype(kind)
    bl.io.to_spatialdata(sdata, adata)
    assert sdata["bleep"].obs["spot"].tolist() == [0, 1, 2, 3]
    values = sd.get_values("1", sdata=sdata, element_name="spots", table_name="bleep")["1"]
    assert values.to_dict() == {0: 1, 1: 3, 2: 5, 3: 7}
    again = bl.io.from_spatialdata(sdata, table="bleep", library_key="library")
    assert np.allclose(again.obsm["spatial"], XY)


def test_instances_with_text_for_names() -> None:
    names = ["w", "x", "y", "z"]
    sdata = by_hand(
        shapes={"spots": circles_of(XY, index=pd.Index(names))}, tables={"table": table_of(["spots"] * 4, names[::-1])}
    )
    bl.io.to_spatialdata(sdata, bl.io.from_spatialdata(sdata), layer=None)
    values = sd.get_values("1", sdata=sdata, element_name="spots", table_name="bleep")["1"]
    assert values.to_dict() == {"z": 1, "y": 3, "x": 5, "w": 7}


def test_other_layers_and_lazy_ones(sdata: sd.SpatialData, query: AnnData) -> None:
    query.layers["lazy"] = da.from_array(query.layers["bleep"], chunks=2)
    bl.io.to_spatialdata(sdata, query, layer="lazy", table="lazy")
    bl.io.to_spatialdata(sdata, query, layer=None, table="counts")
    assert np.array_equal(sdata["lazy"].X.compute(), query.layers["bleep"])
    assert np.array_equal(sdata["counts"].X, query.X)
    query.layers["lazy"] = query.layers["bleep"] + 1
    bl.io.to_spatialdata(sdata, query, layer="lazy", table="lazy", overwrite=True)
    assert np.array_equal(sdata["lazy"].X, query.layers["bleep"] + 1)
    assert "spatialdata_attrs" in query.uns


def change(what: str) -> Any:
    def made(adata: AnnData) -> None:
        if what == "instance":
            adata.obs["spot"] = [0, 11, 3, 99]
        elif what == "twice":
            adata.obs["spot"] = [0, 11, 0, 10]
        elif what == "region":
            adata.obs["region"] = pd.Categorical(["A", "B", "A", "C"])
        elif what == "elsewhere":
            adata.obs["region"] = pd.Categorical(["A", "C", "A", "C"])
            adata.uns["spatialdata_attrs"]["region"] = ["A", "C"]
        elif what == "nothing":
            del adata.uns["spatialdata_attrs"]
        elif what == "column":
            del adata.obs["region"]
        elif what == "layer":
            del adata.layers["bleep"]
        elif what == "X":
            adata.X = None

    return made


@pytest.mark.odd
@pytest.mark.parametrize(
    ("what", "kwargs", "error", "message"),
    [
        (
            "instance",
            {},
            ValueError,
            r"1 of 2 rows name no instance of `sdata.shapes\['B'\]`, such as 99; .* 13, 12, 11, ...",
        ),
        ("twice", {}, ValueError, r"1 of 2 rows of 'A' name an instance that another row has named, such as 0"),
        ("region", {}, ValueError, r"obs\['region'\]` names other regions"),
        ("elsewhere", {}, ValueError, r"annotates 'C', and `sdata` has the shapes \['A', 'B'\]"),
        ("nothing", {}, ValueError, "annotates no element.*from_spatialdata` keeps"),
        ("column", {}, KeyError, r"`adata.obs\['region'\]` does not exist"),
        ("layer", {}, KeyError, r"`adata.layers\['bleep'\]` does not exist.*bl.tl.impute"),
        ("X", {"layer": None}, KeyError, "takes `adata.X`, and there is none"),
        ("", {"table": "table"}, ValueError, r"`sdata.tables` has 'table' already.*overwrite=True"),
        ("", {"table": "Table"}, ValueError, r"`sdata.tables` has 'table' already"),
        ("", {"table": "he"}, ValueError, r"`sdata.images` has 'he' already. Name the new table otherwise.$"),
        ("", {"table": "he", "overwrite": True}, ValueError, r"`sdata.images` has 'he' already"),
        ("", {"table": "a/b"}, ValueError, "can be no name in SpatialData"),
        ("", {"table": "../b"}, ValueError, "can be no name in SpatialData"),
        ("", {"table": "__b"}, ValueError, "can be no name in SpatialData"),
        ("", {"table": ""}, ValueError, "can be no name in SpatialData"),
        ("", {"table": 3}, TypeError, "`table` must be a name"),
    ],
)
def test_bad_input(
    sdata: sd.SpatialData, query: AnnData, what: str, kwargs: Any, error: type[Exception], message: str
) -> None:
    change(what)(query)
    with pytest.raises(error, match=message):
        bl.io.to_spatialdata(sdata, query, **kwargs)
    assert list(sdata.tables) == ["table"]


def test_a_slide_without_spots_as_the_page_shows() -> None:
    turned = {"global": affine([[0, -2, 500], [2, 0, 10], [0, 0, 1]])}
    sdata = by_hand(images={"he": image_of(says_where(HEIGHT, WIDTH), turned)}, shapes={}, tables={})
    ref = AnnData(np.ones((2, 2), "float32"))
    slide = bl.pp.blank(ref, spatial=XY, library_id="P3", image=sdata["he"], spot_diameter=10)
    slide.layers["bleep"] = np.ones(slide.shape, "float32")
    with pytest.raises(ValueError, match=r"annotates no element.*make shapes of them first"):
        bl.io.to_spatialdata(sdata, slide)
    place = get_transformation(sdata["he"], get_all=True)
    sdata["spots"] = ShapesModel.parse(slide.obsm["spatial"], geometry=0, radius=5, transformations=place)
    slide.obs["region"], slide.obs["spot"] = "spots", range(slide.n_obs)
    slide.uns["spatialdata_attrs"] = {"region": "spots", "region_key": "region", "instance_key": "spot"}
    bl.io.to_spatialdata(sdata, slide)
    assert np.allclose(bl.io.from_spatialdata(sdata, table="bleep").obsm["spatial"], XY)


def test_pooled_places_become_shapes_by_the_line_of_the_message() -> None:
    """The image lies turned in `sdata`, and the shapes must lie on it."""
    place = affine([[0, -2, 500], [2, 0, 10], [0, 0, 1]])
    images = {"he": image_of(says_where(HEIGHT, WIDTH), {"global": place})}
    sdata = by_hand(images=images, shapes={"spots": circles_of(XY)})
    pooled = bl.pp.pool(bl.io.from_spatialdata(sdata), um=60, mpp=1)
    with pytest.raises(ValueError, match=r"annotates no element.*places of `bl\.pp\.pool`") as error:
        bl.io.to_spatialdata(sdata, pooled, layer="counts")
    (line,) = re.findall(r"Make shapes of them first: `(.*)`\.", str(error.value))
    exec(line, {"sdata": sdata, "adata": pooled})  # noqa: S102 - as a user would
    bl.io.to_spatialdata(sdata, pooled, layer="counts")
    assert np.array_equal(sdata["bleep"].X.toarray(), pooled.X.toarray())
    again = bl.io.from_spatialdata(sdata, table="bleep", library_key="library")
    np.testing.assert_allclose(again.obsm["spatial"], pooled.obsm["spatial"])
    assert again.uns["spatial"]["places"]["scalefactors"]["spot_diameter_fullres"] == pytest.approx(60)
