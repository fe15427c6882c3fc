from collections.abc import Callable
from functools import partial

import pytest
from anndata import AnnData
from matplotlib.collections import EllipseCollection
from painted_lattice import tissue

import bleep_sc as bl


@pytest.fixture(scope="module")
def checked_once() -> AnnData:
    adata = tissue()
    with bl.settings.override(progress_bar=False, verbosity="error"):
        bl.pp.check_alignment(adata)
    return adata


@pytest.fixture
def checked(checked_once: AnnData) -> AnnData:
    return checked_once.copy()


def test_the_spots_lie_beside_the_scores(checked: AnnData, check_show: Callable[..., None]) -> None:
    fig = bl.pl.alignment_check(checked, return_fig=True)
    left, right = fig.axes
    (rings,) = [each for each in left.collections if isinstance(each, EllipseCollection)]
    assert (rings.get_offsets() == checked.obsm["spatial"] * 0.5).all()
    assert left.get_images()
    assert right.get_title() == "fits"
    table = checked.uns["alignment_check"]["a"]["table"]
    drawn = [line.get_xdata()[0] for line in right.get_lines() if line.get_marker() == "o"]
    assert drawn == pytest.approx(table["score"].tolist())
    names = [text.get_text() for text in right.get_yticklabels()]
    assert names[0] == "as given"
    assert names[-3:] == [f"shifted by {n} pitch{'es' * (n > 1)}, 8 directions" for n in (1, 2, 3)]
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["chance", "as given", "best other way"]
    check_show(partial(bl.pl.alignment_check, checked))


def test_what_could_not_be_told_says_why(checked: AnnData) -> None:
    few = checked[:20].copy()
    bl.pp.check_alignment(few)
    fig = bl.pl.alignment_check(few, img_key=None, return_fig=True)
    left, right = fig.axes
    assert not left.get_images()
    assert right.get_title() == "cannot tell"
    assert "20 spots" in right.texts[0].get_text().replace("\n", " ")


def test_sections_that_nothing_tells_apart_are_refused(checked: AnnData) -> None:
    checked.uns["alignment_check"]["b"] = checked.uns["alignment_check"]["a"]
    del checked.uns["spatial"]
    with pytest.raises(ValueError, match=r"\['a', 'b'\], but no column says which spot is of which.*`library_key`"):
        bl.pl.alignment_check(checked)


def test_the_one_library_that_was_checked_is_drawn(checked: AnnData) -> None:
    checked.uns["spatial"]["other"] = {"images": {}, "scalefactors": {}}
    bl.pp.check_alignment(checked, library_id="a")
    fig = bl.pl.alignment_check(checked, return_fig=True)
    assert fig.axes[0].get_title() == "a: spots as given"
    assert fig.axes[0].get_images()


def test_a_damaged_table_is_named(checked: AnnData) -> None:
    del checked.uns["alignment_check"]["a"]["table"]["kind"]
    with pytest.raises(
        ValueError, match=r"`adata\.uns\['alignment_check'\]\['a'\]` is damaged.*pp\.check_alignment` writes"
    ):
        bl.pl.alignment_check(checked)
