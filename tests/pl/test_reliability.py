from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.collections import EllipseCollection
from matplotlib.colors import to_hex

import bleep_sc as bl


@pytest.fixture
def judged() -> AnnData:
    rng = np.random.default_rng(0)
    adata = AnnData(obs=pd.DataFrame(index=[f"s{i}" for i in range(20)]))
    adata.obs["bleep_reliability"] = np.r_[0.01, 0.05, 0.2, 0.21, np.linspace(0.3, 1, 8), [0.001] * 6, 0.9, np.nan]
    adata.obsm["spatial"] = rng.uniform(0, 1000, size=(20, 2))
    adata.obs["section"] = ["s1"] * 12 + ["s2"] * 8
    factors = {"tissue_hires_scalef": 0.1, "spot_diameter_fullres": 60.0}
    library = {"images": {"hires": np.full((100, 100, 3), 200, dtype=np.uint8)}, "scalefactors": factors}
    adata.uns["spatial"] = {"s1": library, "s2": library}
    table = pd.DataFrame({"section": ["s1", "s2"], "verdict": ["like the reference", "unlike $it$"]})
    adata.uns["bleep"] = {"reliability": table}
    return adata


def colours(spots: EllipseCollection) -> list[str]:
    spots.figure.canvas.draw()
    return [to_hex(colour, keep_alpha=True) for colour in spots.get_facecolor()]


def test_a_panel_a_section_with_its_verdict_and_its_spots(judged: AnnData) -> None:
    fig = bl.pl.reliability(judged, library_key="section", return_fig=True)
    first, second = fig.axes
    assert first.get_title() == "s1\nlike the reference\n2 of 12 spots (17%) at p ≤ .05"
    assert second.get_title() == "s2\nunlike $it$\n6 of 7 spots (86%) at p ≤ .05"
    (spots,) = first.collections
    order = [np.flatnonzero((judged.obsm["spatial"][:12] * 0.1 == xy).all(axis=1))[0] for xy in spots.get_offsets()]
    by_spot = dict(zip(order, colours(spots), strict=True))
    assert [by_spot[spot] for spot in range(5)] == [
        *("#ffe000ff", "#00b3a4ff", "#c4f3eee0", "#ffffff00", "#ffffff00"),
    ]
    assert order[-1] == 0, "the most unlike lies above the others"
    assert first.get_images()
    assert [text.get_text() for text in fig.legends[0].get_texts()][1:3] == ["p ≤ .05", "p ≤ .2"]


def test_a_spot_without_a_value_is_grey(judged: AnnData) -> None:
    judged.obs.loc["s12", "bleep_reliability"] = 7.0
    fig = bl.pl.reliability(judged, library_key="section", library_id="s2", img_key=None, return_fig=True)
    (spots,) = fig.axes[0].collections
    assert colours(spots).count("#b2b2b2ff") == 2
    assert "5 of 6 spots" in fig.axes[0].get_title()


def test_one_section_without_a_name(judged: AnnData) -> None:
    del judged.uns["spatial"]
    judged.uns["bleep"]["reliability"] = pd.DataFrame({"section": [""], "verdict": ["like the reference"]})
    fig = bl.pl.reliability(judged, return_fig=True)
    assert fig.axes[0].get_title().startswith("like the reference\n8 of 19")


def test_what_is_missing_is_named(judged: AnnData) -> None:
    with pytest.raises(KeyError, match=r"adata\.obs\['mine_reliability'\].*bleep_sc\.tl\.impute"):
        bl.pl.reliability(judged, key="mine", library_key="section")
    judged.uns["bleep"] = {"reliability": 3}
    with pytest.raises(ValueError, match=r"adata\.uns\['bleep'\]\['reliability'\]` is damaged.*bleep_sc\.tl\.impute"):
        bl.pl.reliability(judged, library_key="section")
    judged.obs["bleep_reliability"] = "a"
    with pytest.raises(ValueError, match=r"adata\.obs\['bleep_reliability'\]` is damaged.*bleep_sc\.tl\.impute"):
        bl.pl.reliability(judged, library_key="section")


def test_verdicts_may_be_missing(judged: AnnData) -> None:
    del judged.uns["bleep"]
    fig = bl.pl.reliability(judged, library_key="section", return_fig=True)
    assert fig.axes[0].get_title() == "s1\n2 of 12 spots (17%) at p ≤ .05"


def test_it_is_shown_unless_it_is_returned(judged: AnnData, check_show: Callable[..., None]) -> None:
    check_show(partial(bl.pl.reliability, judged, library_key="section"))


def test_it_draws_what_impute_wrote(fitted: AnnData, query: AnnData) -> None:
    bl.tl.impute(query, fitted, k=5)
    fig = bl.pl.reliability(query, return_fig=True)
    assert fig.axes[0].get_title().startswith("q\nlike the reference\n")
