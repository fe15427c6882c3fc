from collections.abc import Callable
from functools import partial
from itertools import pairwise

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pytest
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from scipy import sparse

import bleep_sc as bl


@pytest.fixture
def drawn() -> AnnData:
    rng = np.random.default_rng(0)
    adata = AnnData(rng.poisson(3, size=(20, 4)).astype(np.float32))
    adata.var_names = ["a", "b", "c", "d"]
    adata.layers["bleep"] = rng.normal(size=(20, 4)).astype(np.float32)
    adata.obsm["spatial"] = rng.uniform(0, 1000, size=(20, 2))
    adata.obs["section"] = ["s1"] * 12 + ["s2"] * 8
    factors = {"tissue_hires_scalef": 0.1, "spot_diameter_fullres": 60.0}
    library = {"images": {"hires": np.full((100, 100, 3), 200, dtype=np.uint8)}, "scalefactors": factors}
    adata.uns["spatial"] = {"s1": library, "s2": library}
    return adata


def spots_of(ax: Axes) -> EllipseCollection:
    (spots,) = (each for each in ax.collections if isinstance(each, EllipseCollection))
    return spots


def panels(fig: Figure) -> list[Axes]:
    """All axes but the colour bars."""
    return [ax for ax in fig.axes if ax.get_label() != "<colorbar>"]


def titles(fig: Figure) -> list[str]:
    return [ax.get_title() for ax in panels(fig)]


def test_draws_the_values_of_one_section_at_their_places(drawn: AnnData) -> None:
    fig = bl.pl.imputed(drawn, ["b", "d"], library_key="section", library_id="s1", return_fig=True)
    assert titles(fig) == ["H&E", "b", "", "", "d", "", ""]
    assert [ax.get_ylabel() for ax in panels(fig)] == ["", "measured", "imputed", "imputed −\nmeasured", "", "", ""]
    truth, prediction = drawn.X[:12, 3], drawn.layers["bleep"][:12, 3]
    for ax, values in zip(panels(fig)[4:], (truth, prediction, prediction - truth), strict=True):
        spots = spots_of(ax)
        np.testing.assert_allclose(spots.get_array(), values, rtol=1e-6)
        np.testing.assert_allclose(spots.get_offsets(), drawn.obsm["spatial"][:12] * 0.1)
        np.testing.assert_allclose(spots.get_widths(), 6.0)
        assert ax.get_images()[0].get_alpha() == 0.5
    assert panels(fig)[0].get_images()[0].get_alpha() in (None, 1)
    assert not panels(fig)[0].collections
    one = bl.pl.imputed(drawn, "d", library_key="section", library_id="s1", return_fig=True)
    assert titles(one) == ["H&E", "d, measured", "d, imputed", "d, imputed − measured"]


def test_measured_and_imputed_share_a_scale_and_the_difference_is_centred(drawn: AnnData) -> None:
    arguments = {"library_key": "section", "return_fig": True}
    fig = bl.pl.imputed(drawn, "c", **arguments)
    truth, prediction = drawn.X[:, 2].astype(float), drawn.layers["bleep"][:, 2].astype(float)
    low = min(np.percentile(truth, 1), np.percentile(prediction, 1))
    high = max(np.percentile(truth, 99), np.percentile(prediction, 99))
    furthest = np.percentile(np.abs(prediction - truth), 99)
    for row in (panels(fig)[:4], panels(fig)[4:]):
        for ax in row[1:3]:
            np.testing.assert_allclose(spots_of(ax).get_clim(), (low, high))
        np.testing.assert_allclose(spots_of(row[3]).get_clim(), (-furthest, furthest))
        assert [spots_of(ax).get_cmap().name for ax in row[1:]] == ["viridis", "viridis", "RdBu_r"]
    assert len(fig.axes) - len(panels(fig)) == 4, "one colour bar for each scale of a row"
    own = bl.pl.imputed(drawn, "c", shared_scale=False, cmap="magma", difference_cmap="PiYG", **arguments)
    assert len(own.axes) - len(panels(own)) == 6
    for start, rows in ((0, slice(0, 12)), (4, slice(12, 20))):
        for ax, values in zip(panels(own)[start + 1 :], (truth[rows], prediction[rows]), strict=False):
            np.testing.assert_allclose(spots_of(ax).get_clim(), np.percentile(values, [1, 99]))
            assert spots_of(ax).get_cmap().name == "magma"
        np.testing.assert_allclose(spots_of(panels(own)[start + 3]).get_clim(), (-furthest, furthest))


@pytest.mark.slow
def test_a_row_for_each_section_and_a_column_for_each_gene(drawn: AnnData) -> None:
    other = {"images": {"hires": np.full((50, 50, 3), 90, dtype=np.uint8)}, "scalefactors": {}}
    other["scalefactors"] = {"tissue_hires_scalef": 0.05, "spot_diameter_fullres": 40.0}
    drawn.uns["spatial"]["s2"] = other
    fig = bl.pl.imputed(drawn, ["a", "b"], library_key="section", size=2, return_fig=True)
    fig.canvas.draw()
    pictures, genes = panels(fig)[::7], np.array([panels(fig)[1:7], panels(fig)[8:]]).reshape(2, 2, 3)
    assert [ax.get_ylabel() for ax in pictures] == ["s1", "s2"]
    assert [ax.get_title() for ax in genes[:, :, 0].flat] == ["a", "b"] * 2
    for ax, maps, section, scale, width, grey in zip(
        pictures, genes, (slice(0, 12), slice(12, 20)), (0.1, 0.05), (12, 4), (200, 90), strict=True
    ):
        for each in (ax, *maps.flat):
            assert (each.get_images()[0].get_array() == grey).all()
        for gene, (measured, imputed, difference) in enumerate(maps):
            np.testing.assert_allclose(spots_of(imputed).get_array(), drawn.layers["bleep"][section, gene])
            np.testing.assert_allclose(spots_of(imputed).get_offsets(), drawn.obsm["spatial"][section] * scale)
            np.testing.assert_allclose(spots_of(imputed).get_widths(), width)
            low, high = np.sort(imputed.get_ylim())
            assert imputed.get_ylim() == (high, low), "y runs down"
            boxes = [each.get_window_extent() for each in (measured, imputed, difference)]
            assert all(upper.y0 > lower.y1 for upper, lower in pairwise(boxes)), "below one another"
            np.testing.assert_allclose([box.x0 for box in boxes], boxes[0].x0, atol=1)
        left, right = (of_gene[0].get_window_extent() for of_gene in maps)
        assert ax.get_window_extent().x1 < left.x0 < left.x1 < right.x0
    two = bl.pl.imputed(drawn, "a", library_key="section", library_id=["s2", "s1"], return_fig=True)
    assert [ax.get_ylabel() for ax in panels(two)[::4]] == ["s2", "s1"]
    bare = bl.pl.imputed(drawn, ["a", "b"], library_key="section", img_key=None, return_fig=True)
    assert [ax.get_ylabel() for ax in panels(bare)[::6]] == ["s1\nmeasured", "s2\nmeasured"]


@pytest.mark.slow
def test_many_genes_go_on_below_in_lines_of_equal_length(drawn: AnnData) -> None:
    more = drawn.copy()
    more.var_names = list("efgh")
    drawn = ad.concat([drawn, more], axis="var", merge="first", uns_merge="first")
    arguments = {"library_key": "section", "library_id": "s1", "return_fig": True}
    fig = bl.pl.imputed(drawn, list("abcdefgh"), **arguments)
    fig.canvas.draw()
    columns = np.array(panels(fig)[1:]).reshape(8, 3)
    boxes = [ax.get_window_extent() for ax in columns[:, 0]]
    np.testing.assert_allclose([box.y0 for box in boxes[:4]], boxes[0].y0, atol=1)
    np.testing.assert_allclose([box.y0 for box in boxes[4:]], boxes[4].y0, atol=1)
    assert boxes[4].y1 < columns[0, 2].get_window_extent().y0
    assert [bool(ax.get_ylabel()) for ax in columns[:, 0]] == ([True] + [False] * 3) * 2
    assert len(bl.pl.imputed(drawn, list("abcdef"), **arguments).axes) == 1 + 6 * (3 + 2)


def test_one_small_picture_of_a_section_serves_all_its_maps(drawn: AnnData) -> None:
    """Its pixels are means of blocks, stand where the blocks stood, and are at least as many as the figure shows."""
    factors = {"tissue_hires_scalef": 2.0, "spot_diameter_fullres": 60.0}
    image = np.arange(2000 * 2000 * 3, dtype=np.uint32).reshape(2000, 2000, 3) // 50_000 % 251
    drawn.uns["spatial"]["s1"] = {"images": {"hires": image.astype(np.uint8)}, "scalefactors": factors}
    arguments = {"library_key": "section", "library_id": "s1", "return_fig": True}
    fig = bl.pl.imputed(drawn, ["a", "b"], **arguments)
    fig.canvas.draw()
    pictures = [ax.get_images()[0] for ax in panels(fig)]
    assert len(pictures) == 7
    small = pictures[0].get_array()
    for each in pictures:
        assert np.shares_memory(each.get_array(), small) or np.array_equal(each.get_array(), small)
        assert each.get_extent() == pictures[0].get_extent()
    shown = panels(fig)[0].get_window_extent().width
    assert shown <= small.shape[1] < image.shape[1] / 2
    left, right, bottom, top = pictures[0].get_extent()
    block = (right - left) / small.shape[1]
    assert block == (bottom - top) / small.shape[0] == int(block) > 1
    block, rows, columns = int(block), int(top + 0.5), int(left + 0.5)
    for row, column in ((0, 0), (17, 40), (small.shape[0] - 1, small.shape[1] - 1)):
        y, x = rows + row * block, columns + column * block
        expected = image[y : y + block, x : x + block].mean(axis=(0, 1))
        np.testing.assert_allclose(small[row, column], expected, atol=0.5)
    with plt.rc_context({"savefig.dpi": 400}):
        finer = panels(bl.pl.imputed(drawn, ["a", "b"], **arguments))[0].get_images()[0].get_array()
    assert finer.shape[1] > 1.5 * small.shape[1]


@pytest.mark.odd
@pytest.mark.parametrize("kind", ["grey", "grey of floats", "RGB of floats", "RGBA", "black or white"])
def test_pictures_of_any_kind_are_made_small(drawn: AnnData, kind: str) -> None:
    image = {
        "grey": np.full((1500, 1500), 200, dtype=np.uint8),
        "grey of floats": np.full((1500, 1500), 0.8),
        "RGB of floats": np.full((1500, 1500, 3), 0.8, dtype=np.float32),
        "RGBA": np.full((1500, 1500, 4), 200, dtype=np.uint8),
        "black or white": np.full((1500, 1500), True),
    }[kind]
    factors = {"tissue_hires_scalef": 1.4, "spot_diameter_fullres": 60.0}
    drawn.uns["spatial"]["s1"] = {"images": {"hires": image}, "scalefactors": factors}
    arguments = {"library_key": "section", "library_id": "s1", "return_fig": True}
    with plt.style.context("dark_background"):
        fig = bl.pl.imputed(drawn, ["a", "b"], **arguments)
        fig.canvas.draw()
    picture = panels(fig)[0].get_images()[0]
    assert picture.get_array().shape[0] < 1500
    np.testing.assert_allclose(np.asarray(picture.get_array(), dtype=float), image.flat[0], atol=0.01)
    if image.ndim == 2:
        np.testing.assert_allclose(
            picture.cmap(picture.norm(image.flat[0]))[:3], image.flat[0] / picture.norm.vmax, atol=0.01
        )


def test_without_truth_and_with_nan_and_score(drawn: AnnData) -> None:
    one = drawn[:12].copy()
    one.uns["spatial"] = {"s1": one.uns["spatial"]["s1"]}
    one.X = None
    one.layers["bleep"][:, 0] = np.nan
    one.layers["bleep"][3, 1] = np.nan
    one.var["bleep_pearson"] = [0.1, 0.25, 0.3, np.nan]
    fig = bl.pl.imputed(one, ["a", "b", "d"], return_fig=True)
    assert titles(fig) == ["H&E", "a\nr = 0.10", "b\nr = 0.25", "d\nr = –"]
    assert [ax.get_xlabel() for ax in panels(fig)] == ["", "no values", "", ""]
    assert len(fig.axes) - len(panels(fig)) == 2, "a panel without values has no colour bar"
    fig.canvas.draw()
    grey = to_rgba("0.7")
    assert [tuple(face) == grey for face in spots_of(panels(fig)[2]).get_facecolors()] == [n == 3 for n in range(12)]
    one.uns["bleep_scores"] = {"n_sections": 4}
    assert titles(bl.pl.imputed(one, "b", return_fig=True))[1] == "b, imputed (mean r = 0.25)"


def test_nan_genes_beside_the_truth(drawn: AnnData) -> None:
    drawn.layers["bleep"][:, 0] = np.nan
    fig = bl.pl.imputed(drawn, "a", library_key="section", library_id="s1", return_fig=True)
    assert titles(fig)[1:] == ["a, measured", "a, imputed: no values", "a, difference: no values"]
    np.testing.assert_allclose(spots_of(panels(fig)[1]).get_clim(), np.percentile(drawn.X[:, 0][:12], [1, 99]))
    assert len(fig.axes) - len(panels(fig)) == 1


def test_where_nothing_differs_all_is_the_colour_of_0(drawn: AnnData) -> None:
    drawn.layers["bleep"] = drawn.X.copy()
    fig = bl.pl.imputed(drawn, "a", library_key="section", library_id="s1", return_fig=True)
    spots = spots_of(panels(fig)[3])
    low, high = spots.get_clim()
    assert low == -high < 0
    assert not np.any(spots.get_array())


def test_sections_without_a_picture_are_drawn_as_spots(drawn: AnnData, log: pytest.LogCaptureFixture) -> None:
    drawn.uns["spatial"]["s2"] = {"scalefactors": {"spot_diameter_fullres": 60.0}}
    fig = bl.pl.imputed(drawn, "a", library_key="section", return_fig=True)
    assert "Drawn without a picture: `adata.uns['spatial']` has none of 's2'." in log.text
    first, second = panels(fig)[:4], panels(fig)[4:]
    assert first[0].get_images()
    assert not second[0].axison
    assert [ax.get_ylabel() for ax in (first[0], second[1])] == ["s1", "s2"]
    assert not second[2].get_images()
    np.testing.assert_allclose(spots_of(second[2]).get_offsets(), drawn.obsm["spatial"][12:])
    np.testing.assert_allclose(spots_of(second[2]).get_widths(), 60)
    log.clear()
    without = bl.pl.imputed(drawn, "a", library_key="section", img_key=None, return_fig=True)
    assert titles(without)[:3] == ["a, measured", "a, imputed", "a, imputed − measured"]
    assert not log.text

    del drawn.uns["spatial"]
    drawn.obsm["spatial"] = np.stack([np.arange(20) * 50.0, np.zeros(20)], axis=1)
    fig = bl.pl.imputed(drawn, "a", return_fig=True)
    assert len(panels(fig)) == 3
    np.testing.assert_allclose(spots_of(panels(fig)[0]).get_widths(), 40)
    assert panels(fig)[0].yaxis_inverted()
    bl.pl.imputed(drawn[:1], "a", return_fig=True).canvas.draw()


def test_reads_sparse_lazy_and_views(drawn: AnnData, unchanged: Callable[..., None]) -> None:
    dask = pytest.importorskip("dask.array")
    expected = drawn.X[:12, 1].copy()
    for convert in (sparse.csr_matrix, sparse.csc_matrix, dask.from_array):
        other = drawn.copy()
        other.X, other.layers["bleep"] = convert(drawn.X), convert(drawn.layers["bleep"])
        unchanged(other)
        fig = bl.pl.imputed(other[:12], "b", library_key="section", return_fig=True)
        np.testing.assert_allclose(spots_of(panels(fig)[1]).get_array(), expected)


@pytest.mark.odd
def test_counts_beside_normalised_values_are_warned_of(drawn: AnnData) -> None:
    drawn.layers["counts"] = drawn.X * 20
    arguments = {"library_key": "section", "return_fig": True}
    with pytest.warns(UserWarning, match=r"`adata\.layers\['counts'\]` looks like raw counts"):
        bl.pl.imputed(drawn, "a", truth="counts", **arguments)


def test_long_names_are_broken_and_do_not_meet(drawn: AnnData) -> None:
    drawn.var_names = ["ENSG00000141736_a_long_name_$x_1$_of_a_gene", "b", "c", "d"]
    with plt.style.context("dark_background"):
        fig = bl.pl.imputed(drawn, drawn.var_names[0], library_key="section", library_id="s1", return_fig=True)
        fig.canvas.draw()
    boxes = [ax.title.get_window_extent() for ax in panels(fig)[1:]]
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))
    assert boxes[-1].y1 <= fig.bbox.y1
    assert "".join(titles(fig)[1].split()) == f"{drawn.var_names[0]},measured"


@pytest.mark.slow
def test_long_names_of_several_genes_do_not_meet(drawn: AnnData) -> None:
    drawn.var_names = [f"ENSG00000141736_a_long_name_$x_{n}$_of_a_gene" for n in range(4)]
    with plt.style.context("dark_background"):
        fig = bl.pl.imputed(drawn, drawn.var_names[:3], library_key="section", return_fig=True)
        fig.canvas.draw()
    tops = [ax for ax in panels(fig) if ax.get_title().startswith("ENSG")]
    assert len(tops) == 6
    boxes = [ax.title.get_window_extent() for ax in tops]
    assert all(left.x1 < right.x0 for row in (boxes[:3], boxes[3:]) for left, right in pairwise(row))
    assert all(box.x1 <= fig.bbox.x1 and box.y1 <= fig.bbox.y1 for box in boxes)


def test_sections_are_those_that_crops_was_told(drawn: AnnData) -> None:
    drawn.uns["crops"] = {section: {"library_key": "section"} for section in ("s1", "s2")}
    fig = bl.pl.imputed(drawn, "a", library_id="s2", return_fig=True)
    np.testing.assert_allclose(spots_of(panels(fig)[1]).get_offsets(), drawn.obsm["spatial"][12:] * 0.1)


def test_shows_unless_it_returns(drawn: AnnData, check_show: Callable[..., None]) -> None:
    check_show(partial(bl.pl.imputed, drawn, "a", library_key="section"))


@pytest.mark.odd
def test_what_is_needed_to_draw_is_named(drawn: AnnData) -> None:
    arguments = {"library_key": "section", "library_id": "s1"}
    with pytest.raises(ValueError, match=r"`genes` names none"):
        bl.pl.imputed(drawn, [], **arguments)
    with pytest.raises(ValueError, match=r"`size`.*above 0"):
        bl.pl.imputed(drawn, "a", size=0, **arguments)
    for name in ("spot_diameter_fullres", "tissue_hires_scalef"):
        del drawn.uns["spatial"]["s1"]["scalefactors"][name]
        with pytest.raises(KeyError, match=rf"uns\['spatial'\]\['s1'\]\['scalefactors'\]\['{name}'\]"):
            bl.pl.imputed(drawn, "a", **arguments)
    del drawn.obsm["spatial"]
    with pytest.raises(KeyError, match=r"obsm\['spatial'\]"):
        bl.pl.imputed(drawn, "a", **arguments)


@pytest.mark.odd
def test_bad_input(drawn: AnnData) -> None:
    for chosen in (None, "s1"):  # of one section by name all spots would be drawn, those of the other too
        with pytest.raises(ValueError, match=r"\['s1', 's2'\].*library_key"):
            bl.pl.imputed(drawn, "a", library_id=chosen)
    with pytest.raises(KeyError, match=r"uns\['spatial'\]\['s3'\].*'s1', 's2'"):
        bl.pl.imputed(drawn, "a", library_key="section", library_id=["s1", "s3"])
    with pytest.raises(ValueError, match=r"`library_id` names none"):
        bl.pl.imputed(drawn, "a", library_key="section", library_id=[])
    with pytest.raises(KeyError, match=r"layers\['x'\]"):
        bl.pl.imputed(drawn, "a", layer="x", library_id="s1")
    with pytest.raises(KeyError, match=r"var_names\['z'\]"):
        bl.pl.imputed(drawn, "z", library_id="s1")
    with pytest.raises(KeyError, match=r"images'\]\['lowres'\]"):
        bl.pl.imputed(drawn, "a", library_id="s1", library_key="section", img_key="lowres")
