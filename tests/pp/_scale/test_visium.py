from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bleep_sc.pp._scale.visium import visium_pitch


def visium(pitch: float = 100.0, *, rows: int = 12, columns: int = 20) -> tuple[pd.DataFrame, np.ndarray]:
    """A piece of a Visium slide: even columns in even rows, odd ones in odd rows."""
    row, column = np.array([(r, c) for r in range(rows) for c in range(r % 2, columns, 2)]).T
    xy = np.stack([column * pitch / 2, row * pitch * np.sqrt(3) / 2], axis=1)
    return pd.DataFrame({"array_row": row, "array_col": column}), xy


@pytest.mark.parametrize(("rows", "columns"), [(78, 128), (128, 224)], ids=["6.5 mm", "11 mm"])
def test_both_arrays_are_known(rows: int, columns: int) -> None:
    obs, xy = visium(329.0, rows=rows, columns=columns)
    turned = xy @ np.array([[0.8, -0.6], [0.6, 0.8]])
    assert visium_pitch(obs, turned) == pytest.approx(329)


def test_other_lattices_are_not_taken_for_visium() -> None:
    obs, xy = visium()
    stretched = xy * [1.05, 1.0]
    assert visium_pitch(obs, stretched) is None
    assert visium_pitch(obs.assign(array_row=obs["array_row"] + 120), xy) is None, "beyond 128 rows"
    row, column = np.indices((20, 20)).reshape(2, -1)
    square = pd.DataFrame({"array_row": row, "array_col": column})
    assert visium_pitch(square, np.stack([column, row], axis=1) * 100.0) is None
    narrow = visium(rows=2)
    assert visium_pitch(*narrow) is None, "no spot has all six neighbours"
    # a denser lattice under the array's: something lies nearer than the six neighbours
    assert visium_pitch(pd.concat([obs, obs[50:55]]), np.concatenate([xy, xy[50:55] + 1])) is None


def test_real_visium_slide_is_recognised(real_data: Path) -> None:
    path = real_data / "visium_layout" / "outs" / "spatial" / "tissue_positions_list.csv"
    names = ["barcode", "in_tissue", "array_row", "array_col", "y", "x"]
    obs = pd.read_csv(path, names=names)
    xy = obs[["x", "y"]].to_numpy(dtype=np.float64)
    pitch = visium_pitch(obs, xy)
    assert pitch is not None
    tissue = (obs["in_tissue"] == 1).to_numpy()
    assert visium_pitch(obs[tissue], xy[tissue]) == pytest.approx(pitch, rel=0.01)
