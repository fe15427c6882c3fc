from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

import bleep_sc as bl


@pytest.fixture
def table() -> pd.DataFrame:
    rows = []
    for panel, shift in (("all", 0.0), ("HVG-50", 0.1)):
        for i, trained in enumerate(["bulb", "tumour", "all"]):
            for j, tested in enumerate(["bulb", "tumour"]):
                value = np.nan if (trained, tested) == ("all", "tumour") else 0.1 * i + 0.2 * j + shift
                verdict = "unlike the reference's tissue, or a fault" if (i, j) == (0, 1) else "like the reference"
                rows.append(
                    {"trained_on": trained, "tested_on": tested, "panel": panel, "value": value, "depth_free": -value}
                    | {"verdict": verdict, "n_shared_genes": 1234}
                )
    return pd.DataFrame(rows)


def texts(table: pd.DataFrame, **arguments: str) -> dict[str, str]:
    (ax,) = bl.pl.transfer_matrix(table, return_fig=True, **arguments).axes
    return {str(text.get_gid()): text.get_text() for text in ax.texts}


def test_each_cell_has_its_number_and_what_warns(table: pd.DataFrame) -> None:
    assert texts(table) == {
        **{"0,0": "0.10", "0,1": "0.30\ndo not", "1,0": "0.20", "1,1": "0.40", "2,0": "0.30", "2,1": "–"},
    }
    assert texts(table, panel="all", value="depth_free")["1,1"] == "−0.30"


def test_names_and_frames(table: pd.DataFrame) -> None:
    (ax,) = bl.pl.transfer_matrix(table, return_fig=True).axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["bulb", "tumour", "all\n(joint)"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["bulb", "tumour"]
    frames = [patch.get_xy() for patch in ax.patches if patch.get_gid() == "own"]
    np.testing.assert_allclose(np.round(frames), [[0, 0], [1, 1]])
    assert "1,234 genes" in ax.get_title(loc="left")
    assert "do not:" in ax.get_xlabel()
    assert "cannot be told" in ax.get_xlabel()


def test_shown_or_not(table: pd.DataFrame, check_show: Callable[..., None]) -> None:
    check_show(lambda **how: bl.pl.transfer_matrix(table, **how))


def test_into_axes(table: pd.DataFrame) -> None:
    import matplotlib.pyplot as plt

    fig, (left, right) = plt.subplots(1, 2)
    assert bl.pl.transfer_matrix(table, ax=right) is None
    assert right.images
    assert not left.images
    assert fig.axes == [left, right]


@pytest.mark.odd
def test_what_is_no_such_table(table: pd.DataFrame) -> None:
    with pytest.raises(TypeError, match="found dict"):
        bl.pl.transfer_matrix({})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"`table` is damaged.*bleep_sc\.tl\.transfer_matrix"):
        bl.pl.transfer_matrix(table.drop(columns="verdict"))
    with pytest.raises(ValueError, match="`panel` must be one of 'all', 'HVG-50'"):
        bl.pl.transfer_matrix(table, panel="HEG")
    with pytest.raises(ValueError, match="`value` must be one of"):
        bl.pl.transfer_matrix(table, value="cost")
