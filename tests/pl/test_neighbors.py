from collections.abc import Callable
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pytest
from anndata import AnnData
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import bleep_sc as bl


@pytest.fixture
def pair() -> tuple[AnnData, AnnData]:
    """A query of 3 spots imputed from 6 by their 4 nearest, without any model."""
    rng = np.random.default_rng(0)
    ref = AnnData(rng.uniform(1, 4, size=(6, 3)).astype(np.float32))
    ref.obs_names, ref.var_names = [f"r{i}" for i in range(6)], ["a", "b", "c"]
    ref.obsm["crops"] = np.full((6, 8, 8, 3), 10, dtype=np.uint8) * np.arange(6, dtype=np.uint8)[:, None, None, None]
    query = AnnData(rng.uniform(1, 4, size=(3, 3)).astype(np.float32))
    query.obs_names, query.var_names = ["q0", "q1", "q2"], ["a", "b", "c"]
    query.obsm["crops"] = np.full((3, 8, 8, 3), 200, dtype=np.uint8)
    query.obsm["crops"][1] = 250
    rows = np.array([[0, 1, 2, 3], [5, 3, 0, 1], [2, 4, 1, 0]], dtype=np.int32)
    query.obsm["bleep_neighbors"] = rows
    query.obsm["bleep_distances"] = np.tile(np.array([0.1, 0.2, 0.3, 0.4], dtype=np.float32), (3, 1))
    query.layers["bleep"] = ref.X[rows].mean(axis=1)
    query.uns["bleep"] = {
        "params": {"layer": "X"},
        "reference_names": ref.obs_names.to_numpy().astype(object),
        "reference_library": np.array(["A", "A", "A", "B", "B", "B"], dtype=object),
    }
    return query, ref


def rows_of(fig: Figure, n_columns: int) -> np.ndarray:
    axes = [ax for ax in fig.axes if ax.get_label() != "<colorbar>"]
    return np.array(axes).reshape(-1, n_columns)


def shade_of(ax: Axes) -> int:
    (value,) = np.unique(ax.get_images()[0].get_array())
    return int(value)


def texts(ax: Axes) -> list[str]:
    return [text.get_text() for text in sorted(ax.texts, key=lambda text: text.get_position()[1])]


def test_crops_distances_and_sections_of_the_right_spots(pair: tuple[AnnData, AnnData], unchanged: Callable) -> None:
    query, ref = pair
    unchanged(query, ref)
    fig = bl.pl.neighbors(query, ref, spot="q1", n_neighbors=3, return_fig=True)
    (row,) = rows_of(fig, 4)
    assert [shade_of(ax) for ax in row] == [250, 50, 30, 0]
    assert [ax.get_title() for ax in row] == [
        "q1\nmean of 4",
        *("distance 0.100\nB", "distance 0.200\nB", "distance 0.300\nA"),
    ]


def test_values_are_those_that_were_averaged(pair: tuple[AnnData, AnnData]) -> None:
    query, ref = pair
    ref.layers["other"] = ref.X + 10
    query.layers["bleep"] = query.layers["bleep"] + 10
    query.uns["bleep"]["params"]["layer"] = "other"
    fig = bl.pl.neighbors(query, ref, spot=["q2", "q0"], genes=["c", "a"], cmap="magma", return_fig=True)
    rows = rows_of(fig, 5)
    assert len(rows) == 4
    assert rows[1][0].get_yticklabels()[0].get_text() == "c"
    cases = ((rows[1], 2, [2, 4, 1, 0]), (rows[3], 0, [0, 1, 2, 3]))
    everything = [ref.layers["other"][found][:, [2, 0]] for _, _, found in cases]
    everything.append(query.layers["bleep"][[2, 0]][:, [2, 0]])
    low, high = (edge([edge(values) for values in everything]) for edge in (np.min, np.max))
    for strips, spot, found in cases:
        imputed, measured = query.layers["bleep"][spot], query.X[spot]
        assert texts(strips[0]) == [f"{imputed[gene]:.3g} ({measured[gene]:.2f})" for gene in (2, 0)]
        profiles = ref.layers["other"][found][:, [2, 0]]
        for strip, profile in zip(strips[1:], profiles, strict=True):
            assert texts(strip) == [f"{value:.3g}" if value >= 10 else f"{value:.2f}" for value in profile]
        values = np.vstack([imputed[[2, 0]], profiles])
        scaled = (values - low) / (high - low)
        for column, strip in enumerate(strips):
            expected = colormaps["magma"](scaled[column].astype(float))
            np.testing.assert_allclose(strip.get_images()[0].get_array()[:, 0], expected, atol=0.01)
    assert rows[1][0].get_xlabel() == "imputed (measured)"
    assert rows[1][1].get_xlabel() == "measured"


def test_a_query_without_expression_and_a_gene_without_values(pair: tuple[AnnData, AnnData]) -> None:
    query, ref = pair
    query.X = None
    query.layers["bleep"][:, 1] = np.nan
    fig = bl.pl.neighbors(query, ref, spot="q0", genes=["a", "b"], n_neighbors=1, return_fig=True)
    _, strips = rows_of(fig, 2)
    assert texts(strips[0]) == [f"{query.layers['bleep'][0, 0]:.2f}", "–"]
    assert strips[0].get_xlabel() == "imputed"
    np.testing.assert_allclose(strips[0].get_images()[0].get_array()[1, 0], [0.7, 0.7, 0.7, 1])
    fig.canvas.draw()


def test_after_imputing_and_with_lazy_crops(fitted: AnnData, query: AnnData) -> None:
    dask = pytest.importorskip("dask.array")
    bl.tl.impute(query, fitted, k=5)
    nearest = query.obsm["bleep_neighbors"][7]
    expected = [query.obsm["crops"][7], *fitted.obsm["crops"][nearest]]
    for adata in (query, fitted):
        adata.obsm["crops"] = dask.from_array(adata.obsm["crops"], chunks=(10, -1, -1, -1))
    fig = bl.pl.neighbors(query, fitted, spot="query7", genes="g1", return_fig=True)
    patches, strips = rows_of(fig, 6)
    for ax, crop in zip(patches, expected, strict=True):
        np.testing.assert_array_equal(ax.get_images()[0].get_array(), crop)
    sections = fitted.obs["section"].to_numpy()[nearest]
    assert [ax.get_title().split("\n")[1] for ax in patches[1:]] == list(sections)
    profiles = fitted[nearest, "g1"].X.toarray().ravel()
    assert [texts(ax) for ax in strips[1:]] == [[f"{value:.2f}"] for value in profiles]
    imputed, measured = query[7, "g1"].layers["bleep"].item(), query[7, "g1"].X.toarray().item()
    assert texts(strips[0]) == [f"{imputed:.2f} ({measured:.2f})"]


def test_says_how_much_of_the_values_the_neighbours_explain(pair: tuple[AnnData, AnnData]) -> None:
    query, ref = pair
    params = query.uns["bleep"]["params"]
    params["weighting"] = "softmax"
    (first, *_) = bl.pl.neighbors(query, ref, spot="q0", return_fig=True).axes
    assert first.get_title() == "q0\nweighted mean of 4"
    params["weights"] = {"kernel": 0.5, "linear": 0.25, "retrieval": 0.25}
    (first, *_) = bl.pl.neighbors(query, ref, spot="q0", return_fig=True).axes
    assert first.get_title() == "q0\n25% weighted mean\nof 4\n75% regression"


def test_long_names_stay_inside(pair: tuple[AnnData, AnnData]) -> None:
    query, ref = pair
    names = ["ENSG00000141736_a_very_long_gene_name", "b", "c"]
    query.var_names = ref.var_names = names
    query.obs_names = ["a_sample_of_a_long_name_AAACAACGAATAGTTC-1", "q1", "q2"]
    with plt.style.context("dark_background"):
        fig = bl.pl.neighbors(query, ref, spot=query.obs_names[0], genes=names[:1], return_fig=True)
        fig.canvas.draw()
    patches, strips = rows_of(fig, 5)
    label = strips[0].get_yticklabels()[0].get_window_extent()
    assert label.x0 >= 0
    boxes = [ax.title.get_window_extent() for ax in patches]
    assert boxes[0].x1 < boxes[1].x0
    assert boxes[0].y1 <= fig.bbox.y1


def test_shows_unless_it_returns(pair: tuple[AnnData, AnnData], check_show: Callable[..., None]) -> None:
    check_show(partial(bl.pl.neighbors, *pair, spot="q0"))


@pytest.mark.odd
def test_bad_input(pair: tuple[AnnData, AnnData]) -> None:
    query, ref = pair
    with pytest.raises(KeyError, match=r"adata\.obs_names\['x'\]"):
        bl.pl.neighbors(query, ref, spot="x")
    with pytest.raises(ValueError, match=r"`spot` names none"):
        bl.pl.neighbors(query, ref, spot=[])
    with pytest.raises(KeyError, match=r"adata\.var_names\['z'\]"):
        bl.pl.neighbors(query, ref, spot="q0", genes="z")
    with pytest.raises(ValueError, match=r"`n_neighbors`.*at least 1"):
        bl.pl.neighbors(query, ref, spot="q0", n_neighbors=0)
    with pytest.raises(KeyError, match=r"obsm\['ridge_neighbors'\].*tl\.impute.*retrieve"):
        bl.pl.neighbors(query, ref, spot="q0", key="ridge")
    with pytest.raises(ValueError, match=r"`ref` is not the reference.*of the 6 spots.*'r0', 6 are.*ref\[adata\.uns"):
        bl.pl.neighbors(query, ref[::-1], spot="q0")
    mended = ref[::-1][query.uns["bleep"]["reference_names"]]
    assert bl.pl.neighbors(query, mended, spot="q0", return_fig=True) is not None
    with pytest.raises(ValueError, match=r"5 are among the 5 of `ref`.*tl\.impute"):
        bl.pl.neighbors(query, ref[1:], spot="q0")
    for adata, name in ((query, "adata"), (ref, "ref")):
        crops = adata.obsm["crops"]
        adata.obsm["crops"] = np.zeros((adata.n_obs, 5))
        with pytest.raises(ValueError, match=rf"`{name}\.obsm\['crops'\]` must hold crops.*\({adata.n_obs}, 5\)"):
            bl.pl.neighbors(query, ref, spot="q0")
        del adata.obsm["crops"]
        with pytest.raises(KeyError, match=rf"`{name}\.obsm\['crops'\]` does not exist.*pp\.crops\({name}"):
            bl.pl.neighbors(query, ref, spot="q0")
        adata.obsm["crops"] = crops
    with pytest.raises(TypeError, match="`ref` must be an AnnData"):
        bl.pl.neighbors(query, None, spot="q0")
