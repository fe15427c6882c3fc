"""Shares of tissue, and polygons drawn as masks, against areas worked out by hand and by shapely."""

import json
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
from shapely.geometry import MultiPolygon, Point, Polygon, box, mapping
from shapely.ops import unary_union

from bleep_sc.pp._tissue.mask import TissueMask
from bleep_sc.pp._tissue.polygons import PolygonError, polygons_in_geojson, polygons_of, rasterised

ONE = np.array([1.0, 1.0])


def test_shares_are_areas() -> None:
    """The left 30 pixels of a mask are tissue; squares of 20 pixels stand across its edge, and off the slide."""
    is_tissue = np.zeros((50, 100), dtype=bool)
    is_tissue[:, :30] = True
    mask = TissueMask(is_tissue, ONE)
    xy = np.array([[15.0, 25], [30, 25], [33.25, 25], [60, 25], [0, 25], [0, 0], [20, 50]])
    assert mask.share(xy, 20).tolist() == pytest.approx([1, 0.5, 0.3375, 0, 0.5, 0.25, 0.5])


def test_shares_do_not_depend_on_how_fine_the_mask_is() -> None:
    is_tissue = np.random.default_rng(0).uniform(size=(12, 17)) < 0.5
    finer = np.kron(is_tissue, np.ones((6, 4))).astype(bool)
    xy = np.random.default_rng(1).uniform(-5, 180, size=(200, 2))
    coarse = TissueMask(is_tissue, np.array([0.1, 0.1])).share(xy, 33.3)
    assert np.allclose(TissueMask(finer, np.array([0.4, 0.6])).share(xy, 33.3), coarse)
    squares = unary_union([box(j * 10, i * 10, j * 10 + 10, i * 10 + 10) for i, j in np.argwhere(is_tissue)])
    by_hand = [Point(at).buffer(33.3 / 2, cap_style="square").intersection(squares).area / 33.3**2 for at in xy[:8]]
    assert np.allclose(coarse[:8], by_hand)


def test_polygons_are_drawn_with_their_holes_at_any_scale() -> None:
    donut = Polygon(Point(500, 400).buffer(200).exterior, [Point(500, 400).buffer(80).exterior])
    drawn = rasterised([(donut, True)], (200, 250), np.array([0.25, 0.25]))
    assert drawn.sum() * 16 == pytest.approx(donut.area, rel=0.01)
    assert not drawn[100, 125]
    assert drawn[100, 125 + 35]
    cut = rasterised([(box(500, 0, 1000, 800), False), (donut, True)], (200, 250), np.array([0.25, 0.25]))
    assert cut.sum() == pytest.approx(drawn.sum() / 2, rel=0.02)


def test_a_square_covers_its_own_pixels() -> None:
    drawn = rasterised([(box(10, 20, 30, 25), True)], (40, 50), ONE)
    expected = np.zeros((40, 50), dtype=bool)
    expected[20:25, 10:30] = True
    assert np.array_equal(drawn, expected)


def test_polygons_come_from_what_lazyslide_and_geopandas_hold() -> None:
    both = MultiPolygon([box(0, 0, 10, 10), box(20, 20, 30, 30)])
    frame = gpd.GeoDataFrame({"tissue_id": [0, 1]}, geometry=[both, box(40, 0, 50, 5)])
    for given in (frame, frame.geometry, list(frame.geometry), both):
        areas = sorted(shape.area for shape, is_tissue in polygons_of(given) if is_tissue)
        assert areas == ([50, 100, 100] if given is not both else [100, 100])


def feature(shape: Any, **properties: Any) -> dict[str, Any]:
    return {"type": "Feature", "geometry": mapping(shape), "properties": properties}


def test_regions_of_qupath_are_read_and_its_cells_are_not(tmp_path: Path) -> None:
    features = [
        feature(box(0, 0, 100, 100), objectType="annotation", classification={"name": "Tissue"}),
        feature(box(10, 10, 20, 20), objectType="annotation", classification={"name": "Ignore*"}),
        feature(box(500, 500, 510, 510), objectType="cell"),
        feature(Point(3, 3), objectType="annotation"),
        {"type": "Feature", "geometry": None, "properties": {}},
    ]
    for number, content in enumerate([{"type": "FeatureCollection", "features": features}, features]):
        path = tmp_path / f"{number}.geojson"
        path.write_text(json.dumps(content))
        found = polygons_in_geojson(path)
        assert [(shape.area, is_tissue) for shape, is_tissue in found] == [(10_000, True), (100, False)]


def test_a_bare_geometry_is_read(tmp_path: Path) -> None:
    for shape in (mapping(box(0, 0, 5, 5)), {"type": "GeometryCollection", "geometries": [mapping(box(0, 0, 5, 5))]}):
        (tmp_path / "a.json").write_text(json.dumps(shape))
        assert [part.area for part, _ in polygons_in_geojson(tmp_path / "a.json")] == [25]


@pytest.mark.odd
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("no json", r"is no GeoJSON .*File > Export objects as GeoJSON"),
        (b"\x1f\x8b\x08\x00zipped", r"is no GeoJSON"),
        ("[" * 100_000, r"is no GeoJSON"),
        ("[]", r"holds no polygon of tissue"),
        ('{"type": "FeatureCollection", "features": 3}', r"holds no polygon"),
        (json.dumps(feature(Point(1, 1))), r"holds no polygon"),
        ('{"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1]]]}}', r"geometry that cannot be read"),
        ('{"geometry": {"type": "Polygon", "coordinates": "x"}}', r"geometry that cannot be read"),
        ('{"geometry": {"type": "Blob", "coordinates": []}}', r"geometry that cannot be read"),
        ('{"type":"Polygon","coordinates":[[[0,0],[NaN,1],[1,1],[0,0]]]}', r"NaN or infinite|cannot be read"),
    ],
)
def test_files_that_hold_no_regions(tmp_path: Path, content: str | bytes, message: str) -> None:
    path = tmp_path / "bad.geojson"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(PolygonError, match=message):
        polygons_in_geojson(path)
