from collections.abc import Callable
from functools import partial
from itertools import pairwise

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
    assert titles(fig) == [
        *("H&E", "b, measured", "b, imputed", "b, imputed − measured"),
        *("", "d, measured", "d, imputed", "d, imputed − measured"),
    ]
    truth, prediction = drawn.X[:12, 3], drawn.layers["bleep"][:12, 3]
    for ax, values in zip(panels(fig)[5:], (truth, prediction, prediction - truth), strict=True):
        spots = spots_of(ax)
        np.testing.assert_allclose(spots.get_array(), values, rtol=1e-6)
        np.testing.assert_allclose(spots.get_offsets(), drawn.obsm["spatial"][:12] * 0.1)
        np.testing.assert_allclose(spots.get_widths(), 6.0)
        assert ax.get_images()[0].get_alpha() == 0.5
    assert panels(fig)[0].get_images()[0].get_alpha() in (None, 1)
    assert not panels(fig)[0].collections


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


def test_a_row_for_each_gene_and_section_with_its_own_spots_and_picture(drawn: AnnData) -> None:
    other = {"images": {"hires": np.full((50, 50, 3), 90, dtype=np.uint8)}, "scalefactors": {}}
    other["scalefactors"] = {"tissue_hires_scalef": 0.05, "spot_diameter_fullres": 40.0}
    drawn.uns["spatial"]["s2"] = other
    fig = bl.pl.imputed(drawn, ["a", "b"], library_key="section", size=2, return_fig=True)
    rows = np.array(panels(fig)).reshape(4, 4)
    assert [row[0].get_ylabel() for row in rows] == ["s1", "s2", "s1", "s2"]
    assert [row[1].get_title() for row in rows] == ["a, measured"] * 2 + ["b, measured"] * 2
    for row, (gene, section, scale, width, grey) in zip(
        rows,
        [
            (0, slice(0, 12), 0.1, 12, 200),
            (0, slice(12, 20), 0.05, 4, 90),
            (1, slice(0, 12), 0.1, 12, 200),
            (1, slice(12, 20), 0.05, 4, 90),
        ],
        strict=True,
    ):
        for ax in row:
            assert (ax.get_images()[0].get_array() == grey).all()
        np.testing.assert_allclose(spots_of(row[2]).get_array(), drawn.layers["bleep"][section, gene])
        np.testing.assert_allclose(spots_of(row[2]).get_offsets(), drawn.obsm["spatial"][section] * scale)
        np.testing.assert_allclose(spots_of(row[2]).get_widths(), width)
        low, high = np.sort(row[2].get_ylim())
        assert row[2].get_ylim() == (high, low), "y runs down"
    two = bl.pl.imputed(drawn, "a", library_key="section", library_id=["s2", "s1"], return_fig=True)
    assert [ax.get_ylabel() for ax in panels(two)[::4]] == ["s2", "s1"]


def test_without_truth_and_with_nan_and_score(drawn: AnnData) -> None:
    one = drawn[:12].copy()
    one.uns["spatial"] = {"s1": one.uns["spatial"]["s1"]}
    one.X = None
    one.layers["bleep"][:, 0] = np.nan
    one.layers["bleep"][3, 1] = np.nan
    one.var["bleep_pearson"] = [0.1, 0.25, 0.3, np.nan]
    fig = bl.pl.imputed(one, ["a", "b", "d"], return_fig=True)
    assert titles(fig) == ["H&E", "a, imputed: no values", "", "b, imputed (r = 0.25)", "", "d, imputed (r = –)"]
    assert len(fig.axes) - len(panels(fig)) == 2, "a panel without values has no colour bar"
    fig.canvas.draw()
    grey = to_rgba("0.7")
    assert [tuple(face) == grey for face in spots_of(panels(fig)[3]).get_facecolors()] == [n == 3 for n in range(12)]
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
