from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pytest
from anndata import AnnData
from matplotlib.collections import EllipseCollection

import bleep_sc as bl


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    yield
    plt.close("all")


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


def test_draws_the_values_of_one_section_at_their_places(drawn: AnnData) -> None:
    fig = bl.pl.imputed(drawn, ["b", "d"], library_key="section", library_id="s1", return_fig=True)
    panels = [ax for ax in fig.axes if ax.get_images()]
    assert [ax.get_title() for ax in panels] == [
        *("H&E", "b, measured", "b, imputed"),
        *("", "d, measured", "d, imputed"),
    ]
    spots = next(c for c in panels[5].collections if isinstance(c, EllipseCollection))
    np.testing.assert_allclose(spots.get_array(), drawn.layers["bleep"][:12, 3])
    np.testing.assert_allclose(spots.get_offsets(), drawn.obsm["spatial"][:12] * 0.1)
    np.testing.assert_allclose(spots.get_widths(), 6.0)


def test_without_truth_and_with_nan_and_score(drawn: AnnData) -> None:
    one = drawn[:12].copy()
    one.uns["spatial"] = {"s1": one.uns["spatial"]["s1"]}
    one.X = None
    one.layers["bleep"][:, 0] = np.nan
    one.var["bleep_pearson"] = [0.1, 0.25, 0.3, 0.4]
    fig = bl.pl.imputed(one, ["a", "b"], return_fig=True)
    titles = [ax.get_title() for ax in fig.axes if ax.get_images()]
    assert titles == ["H&E", "a, imputed (r = 0.10)", "", "b, imputed (r = 0.25)"]
    fig.canvas.draw()


def test_sections_are_those_that_crops_was_told(drawn: AnnData) -> None:
    drawn.uns["crops"] = {section: {"library_key": "section"} for section in ("s1", "s2")}
    fig = bl.pl.imputed(drawn, "a", library_id="s2", return_fig=True)
    spots = next(c for ax in fig.axes for c in ax.collections if isinstance(c, EllipseCollection))
    np.testing.assert_allclose(spots.get_offsets(), drawn.obsm["spatial"][12:] * 0.1)


def test_shows_unless_it_returns(drawn: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[bool] = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(True))
    arguments = {"library_key": "section", "library_id": "s1"}
    assert bl.pl.imputed(drawn, "a", **arguments) is None
    assert shown == [True]
    bl.pl.imputed(drawn, "a", show=False, **arguments)
    bl.pl.imputed(drawn, "a", return_fig=True, **arguments)
    assert shown == [True]


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
    del drawn.uns["spatial"]
    with pytest.raises(KeyError, match=r"uns\['spatial'\].*does not exist"):
        bl.pl.imputed(drawn, "a")
    del drawn.obsm["spatial"]


def test_bad_input(drawn: AnnData) -> None:
    with pytest.raises(ValueError, match=r"\['s1', 's2'\].*library_id"):
        bl.pl.imputed(drawn, "a")
    with pytest.raises(KeyError, match=r"layers\['x'\]"):
        bl.pl.imputed(drawn, "a", layer="x", library_id="s1")
    with pytest.raises(KeyError, match=r"var_names\['z'\]"):
        bl.pl.imputed(drawn, "z", library_id="s1")
    with pytest.raises(KeyError, match=r"images'\]\['lowres'\]"):
        bl.pl.imputed(drawn, "a", library_id="s1", library_key="section", img_key="lowres")
