from collections.abc import Callable
from functools import partial
from pathlib import Path

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_rgba

import bleep_sc as bl


@pytest.fixture
def aligned() -> AnnData:
    """What `tl.alignment` leaves, without any computing."""
    rng = np.random.default_rng(0)
    adata = AnnData(np.zeros((12, 2), dtype=np.float32))
    adata.obsm["X_bleep_alignment_image"] = rng.normal(size=(12, 2)).astype(np.float32)
    adata.obsm["X_bleep_alignment_expression"] = rng.normal(size=(12, 2)).astype(np.float32)
    adata.obs["section"] = pd.Categorical(["s1"] * 5 + ["s2"] * 6 + [None])
    adata.obs["bleep_pair_distance"] = np.linspace(0, 1, 12)
    adata.uns["bleep_alignment"] = {
        "pair_distance": 0.25,
        "other_distance": 0.9876,
        "recall": {"1": 0.125, "10": 0.75, "5": 0.5},
        "recall_by_chance": {"1": 1 / 12, "10": 10 / 12, "5": 5 / 12},
        "n_spots": 12,
        "in_sample": False,
        "params": {"layout": "umap"},
    }
    return adata


def points(ax: Axes) -> dict[str, PathCollection]:
    return {each.get_label(): each for each in ax.collections if isinstance(each, PathCollection)}


def headline(ax: Axes) -> str:
    return ax.get_title(loc="left").replace("\n", " ")


def legend(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_points_of_both_kinds_and_what_was_measured(
    aligned: AnnData, unchanged: Callable[..., None], tmp_path: Path
) -> None:
    aligned.write_h5ad(tmp_path / "aligned.h5ad")
    aligned = ad.read_h5ad(tmp_path / "aligned.h5ad")
    unchanged(aligned)
    (ax,) = bl.pl.alignment(aligned, return_fig=True).axes
    found = points(ax)
    assert list(found) == ["image", "expression"]
    for number, (kind, drawn) in enumerate(found.items()):
        np.testing.assert_allclose(drawn.get_offsets(), aligned.obsm[f"X_bleep_alignment_{kind}"])
        np.testing.assert_allclose(drawn.get_facecolors(), [to_rgba(f"C{number}")])
    assert legend(ax) == ["image", "expression"]
    assert ax.get_ylabel() == "UMAP 2"
    assert ax.get_xlabel().split("\n") == [
        "UMAP 1",
        "Distance of image to own expression 0.250, to that of others 0.988",
        "Own expression among the 1, 5, 10 nearest: 12.5, 50.0, 75.0 %",
        "By chance: 8.3, 41.7, 83.3 %",
        "12 spots",
    ]
    assert not any(isinstance(each, LineCollection) for each in ax.collections)


def test_in_sample_is_said_and_recall_may_be_missing(aligned: AnnData) -> None:
    aligned.uns["bleep_alignment"] |= {"in_sample": True, "recall": {}, "params": {"layout": "tsne"}}
    (ax,) = bl.pl.alignment(aligned, return_fig=True).axes
    assert ax.get_xlabel().split("\n") == [
        "t-SNE 1",
        "Distance of image to own expression 0.250, to that of others 0.988",
        "12 spots, in-sample: the model was trained on them",
    ]
    assert headline(ax) == (
        "On training spots, images lie at distance 0.25 from their own expression, and at 0.99 from that of others."
    )


@pytest.mark.parametrize(
    ("recall", "chance", "said"),
    [
        (
            {"1": 0.02, "12": 0.3},
            {"1": 0.01, "12": 0.12},
            "2.5 times as often as by chance: 30.0 % have it among the 12 nearest",
        ),
        (
            {"1": 0.26, "100": 1.0},
            {"1": 0.02, "100": 1.0},
            "13 times as often as by chance: 26.0 % have it as the nearest",
        ),
        ({"10": 0.75}, {"10": 10 / 12}, "no more often than by chance: 75.0 % have it among the 10 nearest"),
        ({"10": 0.0}, {"10": 0.1}, "no more often than by chance: 0.0 % have it among the 10 nearest"),
    ],
)
def test_the_headline_compares_with_chance(
    aligned: AnnData, recall: dict[str, float], chance: dict[str, float], said: str
) -> None:
    aligned.uns["bleep_alignment"] |= {"recall": recall, "recall_by_chance": chance}
    (ax,) = bl.pl.alignment(aligned, return_fig=True).axes
    assert headline(ax) == f"Images find their own expression {said}."


def test_lines_join_each_spots_two_points(aligned: AnnData) -> None:
    (ax,) = bl.pl.alignment(aligned, lines=True, return_fig=True).axes
    (lines,) = (each for each in ax.collections if isinstance(each, LineCollection))
    expected = np.stack([aligned.obsm[f"X_bleep_alignment_{kind}"] for kind in ("image", "expression")], axis=1)
    np.testing.assert_allclose(lines.get_segments(), expected)
    assert lines.get_zorder() < points(ax)["image"].get_zorder()


def test_colours_by_category(aligned: AnnData) -> None:
    (ax,) = bl.pl.alignment(aligned, color="section", return_fig=True).axes
    expected = [to_rgba("C0")] * 5 + [to_rgba("C1")] * 6 + [to_rgba("0.7")]
    for drawn in points(ax).values():
        np.testing.assert_allclose(drawn.get_facecolors(), expected)
    first, second = (drawn.get_paths()[0].vertices.shape for drawn in points(ax).values())
    assert first != second, "images and expression have markers of their own"
    assert legend(ax) == ["image", "expression", "s1", "s2"]
    assert ax.get_legend().get_title().get_text() == "section"
    aligned.uns["section_colors"] = np.array(["#ff0000", "#00ff00"], dtype=object)
    (ax,) = bl.pl.alignment(aligned, color="section", return_fig=True).axes
    np.testing.assert_allclose(points(ax)["image"].get_facecolors()[[0, 5]], [to_rgba("red"), to_rgba("lime")])
    (ax,) = bl.pl.alignment(aligned, color="section", palette=["blue", "black"], return_fig=True).axes
    np.testing.assert_allclose(points(ax)["image"].get_facecolors()[[0, 5]], [to_rgba("blue"), to_rgba("black")])
    (ax,) = bl.pl.alignment(aligned, color="section", palette="viridis", return_fig=True).axes
    ends = plt.get_cmap("viridis")([0.0, 1.0])
    np.testing.assert_allclose(points(ax)["image"].get_facecolors()[[0, 5]], ends, atol=0.01)
    aligned.obs["nothing"] = pd.Categorical([None] * 12)
    assert legend(bl.pl.alignment(aligned, color="nothing", return_fig=True).axes[0]) == ["image", "expression"]


def test_colours_by_number(aligned: AnnData) -> None:
    aligned.obs.loc[aligned.obs_names[3], "bleep_pair_distance"] = np.nan
    fig = bl.pl.alignment(aligned, color="bleep_pair_distance", cmap="magma", return_fig=True)
    ax, bar = fig.axes
    assert bar.get_ylabel() == "bleep_pair_distance"
    fig.canvas.draw()
    for drawn in points(ax).values():
        np.testing.assert_allclose(drawn.get_array(), aligned.obs["bleep_pair_distance"])
        assert drawn.get_cmap().name == "magma"
        np.testing.assert_allclose(drawn.get_facecolors()[3], to_rgba("0.7"))


def test_many_long_categories_leave_room_for_the_plot(aligned: AnnData) -> None:
    adata = ad.concat([aligned] * 4, index_unique="-", uns_merge="first")
    adata.obs["many"] = [f"a_patient_of_a_long_name_$1$_{i}" for i in range(adata.n_obs)]
    with plt.style.context("dark_background"):
        fig = bl.pl.alignment(adata, color="many", lines=True, return_fig=True)
        fig.canvas.draw()
    (ax,) = fig.axes
    assert len(legend(ax)) == 50
    box = ax.get_legend().get_window_extent()
    assert box.x1 <= fig.bbox.x1
    assert box.y0 >= 0
    assert ax.get_window_extent().width > 250
    assert len({tuple(face) for face in points(ax)["image"].get_facecolors()}) == 48


def test_shows_unless_it_returns_and_draws_into_axes(
    aligned: AnnData, check_show: Callable[..., None], check_ax: Callable[..., None]
) -> None:
    check_show(partial(bl.pl.alignment, aligned))
    check_ax(partial(bl.pl.alignment, aligned))


@pytest.mark.odd
def test_bad_input(aligned: AnnData) -> None:
    with pytest.raises(KeyError, match=r"uns\['x_alignment'\].*tl\.alignment"):
        bl.pl.alignment(aligned, key="x")
    with pytest.raises(KeyError, match=r"adata\.obs\['x'\]"):
        bl.pl.alignment(aligned, color="x")
    with pytest.raises(ValueError, match=r"`palette` has 1 colours, `adata\.obs\['section'\]` has 2"):
        bl.pl.alignment(aligned, color="section", palette=["red"])
    del aligned.obsm["X_bleep_alignment_image"]
    with pytest.raises(KeyError, match=r"obsm\['X_bleep_alignment_image'\]"):
        bl.pl.alignment(aligned)
    assert not plt.get_fignums()
