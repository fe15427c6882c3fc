from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from bleep_sc.pp._scale import microns_per_pixel, visium_pitch


def visium(pitch: float = 100.0, *, rows: int = 12, columns: int = 20) -> tuple[pd.DataFrame, np.ndarray]:
    """A piece of a Visium slide: even columns in even rows, odd ones in odd rows."""
    row, column = np.array([(r, c) for r in range(rows) for c in range(r % 2, columns, 2)]).T
    xy = np.stack([column * pitch / 2, row * pitch * np.sqrt(3) / 2], axis=1)
    return pd.DataFrame({"array_row": row, "array_col": column}), xy


def test_visium_lattice_tells_the_scale() -> None:
    obs, xy = visium(329.0)
    turned = xy @ np.array([[0.8, -0.6], [0.6, 0.8]])
    mpp = microns_per_pixel("lib", mpp=None, scalefactors={}, obs=obs, xy=turned)
    assert mpp == pytest.approx(100 / 329)


def test_order_of_sources() -> None:
    obs, xy = visium(200.0)
    recorded = {"microns_per_pixel": 0.3}
    assert microns_per_pixel("lib", mpp=0.7, scalefactors=recorded, obs=obs, xy=xy) == 0.7
    assert microns_per_pixel("lib", mpp={"lib": 0.6}, scalefactors=recorded, obs=obs, xy=xy) == 0.6
    assert microns_per_pixel("lib", mpp={"other": 0.6}, scalefactors=recorded, obs=obs, xy=xy) == 0.3
    assert microns_per_pixel("lib", mpp=None, scalefactors={}, obs=obs, xy=xy) == 0.5
    assert np.isnan(microns_per_pixel("lib", mpp=None, scalefactors={}, obs=obs.iloc[:, :1], xy=xy))


def test_other_lattices_are_not_taken_for_visium() -> None:
    obs, xy = visium()
    stretched = xy * [1.05, 1.0]
    assert visium_pitch(obs, stretched) is None
    assert visium_pitch(obs.assign(array_row=obs["array_row"] + 70), xy) is None, "beyond 78 rows"
    row, column = np.indices((20, 20)).reshape(2, -1)
    square = pd.DataFrame({"array_row": row, "array_col": column})
    assert visium_pitch(square, np.stack([column, row], axis=1) * 100.0) is None
    narrow = visium(rows=2)
    assert visium_pitch(*narrow) is None, "no spot has all six neighbours"
    # a denser lattice under the array's: something lies nearer than the six neighbours
    assert visium_pitch(pd.concat([obs, obs[50:55]]), np.concatenate([xy, xy[50:55] + 1])) is None


@pytest.mark.parametrize("section", ["her2st/C2", "her2st/C6", "mob2k/MOB1", "mob2k/MOB3"])
def test_first_generation_arrays_stay_unknown(real_data: Path, section: str) -> None:
    adata = ad.read_h5ad(real_data / f"{section}.h5ad")
    factors = adata.uns["spatial"][section.split("/")[1]]["scalefactors"]
    assert np.isnan(microns_per_pixel("x", mpp=None, scalefactors=factors, obs=adata.obs, xy=adata.obsm["spatial"]))


def test_real_visium_slide_is_recognised(real_data: Path) -> None:
    path = real_data / "visium_layout" / "outs" / "spatial" / "tissue_positions_list.csv"
    names = ["barcode", "in_tissue", "array_row", "array_col", "y", "x"]
    obs = pd.read_csv(path, names=names)
    xy = obs[["x", "y"]].to_numpy(dtype=np.float64)
    pitch = visium_pitch(obs, xy)
    assert pitch is not None
    tissue = (obs["in_tissue"] == 1).to_numpy()
    assert visium_pitch(obs[tissue], xy[tissue]) == pytest.approx(pitch, rel=0.01)
