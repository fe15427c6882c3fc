"""Bins and cells summed on a lattice: against sums that a loop makes, and against numbers known beforehand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import squidpy as sq
from anndata import AnnData
from scipy import sparse

import bleep_sc as bl

UM_PER_PX = 0.5


def hd(rows: int = 28, columns: int = 35, *, side: float = 8.0, seed: int = 0, angle: float = 0.0) -> AnnData:
    """Bins as Space Ranger writes them: whole array, counts, µm per pixel."""
    row, column = (each.ravel() for each in np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"))
    rng = np.random.default_rng(seed)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    xy = np.stack([column + 0.5, row + 0.5], axis=1) * side / UM_PER_PX @ turn.T + [300, 200]
    adata = AnnData(
        sparse.csr_matrix(rng.poisson(0.5, size=(rows * columns, 12)).astype(np.float32)),
        obs=pd.DataFrame(
            {"array_row": row, "array_col": column, "in_tissue": 1, "patient": "A", "depth": rng.normal(size=row.size)},
            index=[f"s_{r}_{c}" for r, c in zip(row, column, strict=True)],
        ),
        var=pd.DataFrame({"gene_ids": [f"E{i}" for i in range(12)]}, index=[f"g{i}" for i in range(12)]),
        obsm={"spatial": xy},
    )
    factors = {"microns_per_pixel": UM_PER_PX, "bin_size_um": side, "spot_diameter_fullres": side / UM_PER_PX}
    adata.uns["spatial"] = {"hd": {"images": {}, "scalefactors": factors, "metadata": {"chemistry": "HD"}}}
    return adata


def test_whole_bins_are_summed_in_blocks() -> None:
    """Places of 56 µm hold 7 by 7 bins of 8 µm: their sums are those of a reshaped array."""
    adata = hd()
    pooled = bl.pp.pool(adata, um=56)
    blocks = adata.X.toarray().reshape(4, 7, 5, 7, 12).sum(axis=(1, 3)).reshape(20, 12)
    assert np.array_equal(pooled.X.toarray(), blocks)
    assert np.array_equal(pooled.layers["counts"].toarray(), blocks)
    assert (pooled.obs["n_pooled"] == 49).all()
    assert np.allclose(pooled.obs["tissue_share"], 1)
    expected = np.stack(np.meshgrid(np.arange(5) + 0.5, np.arange(4) + 0.5), axis=-1).reshape(-1, 2) * 112 + [300, 200]
    assert np.allclose(pooled.obsm["spatial"], expected)
    assert pooled.obs["array_row"].tolist() == np.repeat(range(4), 5).tolist()
    assert pooled.var.equals(adata.var)


@pytest.mark.parametrize("lattice", ["square", "hexagonal"])
@pytest.mark.parametrize("um", [20.0, 55.0])
@pytest.mark.parametrize("angle", [0.0, 0.3])
def test_each_bin_goes_to_the_nearest_place_and_none_is_lost(lattice: Any, um: float, angle: float) -> None:
    adata = hd(angle=angle)
    pooled = bl.pp.pool(adata, um=um, lattice=lattice)
    assert np.array_equal(np.asarray(pooled.X.sum(axis=0)), np.asarray(adata.X.sum(axis=0)))
    distance = np.linalg.norm(adata.obsm["spatial"][:, None] - pooled.obsm["spatial"][None], axis=2)
    own = pooled.obs_names.get_indexer(adata.obs["pool"].astype(str))
    assert (own >= 0).all()
    assert np.allclose(distance[np.arange(adata.n_obs), own], distance.min(axis=1), atol=1e-6)
    by_hand = np.zeros(pooled.shape)
    np.add.at(by_hand, own, adata.X.toarray())
    assert np.array_equal(pooled.X.toarray(), by_hand)
    assert np.array_equal(pooled.obs["n_pooled"], np.bincount(own))
    pitch = np.sort(np.linalg.norm(pooled.obsm["spatial"] - pooled.obsm["spatial"][:1], axis=1))[1]
    assert pitch == pytest.approx(um / UM_PER_PX)


def test_tissue_share_counts_bins_that_are_missing_or_off_tissue() -> None:
    adata = hd(14, 14)
    off = (adata.obs["array_row"] >= 7) & (adata.obs["array_col"] >= 7) & (adata.obs["array_col"] < 9)
    adata.obs.loc[off, "in_tissue"] = 0  # 14 of the last place's 49 bins
    missing = (adata.obs["array_row"] < 3) & (adata.obs["array_col"] < 7)  # 21 of the first's
    pooled = bl.pp.pool(adata[~missing].copy(), um=56)
    # the lattice begins at the first bin that is there: along rows still at 0
    assert pooled.obs["tissue_share"].tolist() == pytest.approx([28 / 49, 1, 1, 35 / 49])
    assert pooled.obs["n_pooled"].tolist() == [28, 49, 49, 49]
    assert pooled.obs["in_tissue"].tolist() == [1, 1, 1, 1]


def test_places_of_a_pitch_that_is_no_multiple_are_full_all_the_same() -> None:
    """55 µm holds 6 or 7 bins of 8 µm a side; full places have a share of 1 either way."""
    pooled = bl.pp.pool(hd(55, 55), um=55)
    assert set(pooled.obs["n_pooled"]) == {36, 42, 49}
    assert np.allclose(pooled.obs["tissue_share"], 1)


def test_the_image_and_what_is_alike_in_a_section_are_carried_over(tmp_path: Path) -> None:
    adata = hd()
    adata.uns["spatial"]["hd"]["images"]["hires"] = np.full((20, 30, 3), 255, dtype=np.uint8)
    adata.uns["spatial"]["hd"]["scalefactors"]["tissue_hires_scalef"] = 0.02
    pooled = bl.pp.pool(adata, um=56)
    library = pooled.uns["spatial"]["hd"]
    assert library["scalefactors"] == {
        "microns_per_pixel": UM_PER_PX,
        "spot_diameter_fullres": 112.0,
        "tissue_hires_scalef": 0.02,
    }
    assert library["metadata"] == {"chemistry": "HD"}
    assert (pooled.obs["patient"] == "A").all()
    assert "depth" not in pooled.obs
    assert adata.uns["spatial"]["hd"]["scalefactors"]["bin_size_um"] == 8
    pooled.write_h5ad(tmp_path / "pooled.h5ad")
    assert np.array_equal(ad.read_h5ad(tmp_path / "pooled.h5ad").X.toarray(), pooled.X.toarray())
    adata.write_h5ad(tmp_path / "bins.h5ad")
    sc.pl.spatial(pooled, color="g0", show=False)


def test_sections_have_lattices_of_their_own() -> None:
    both = ad.concat({"a": hd(seed=1), "b": hd(14, 14, seed=2)}, label="section", index_unique="-")
    both = both[np.random.default_rng(0).permutation(both.n_obs)].copy()
    pooled = bl.pp.pool(both, um=56, mpp={"a": 0.5, "b": 0.5}, library_key="section")
    alone = bl.pp.pool(hd(seed=1), um=56)
    assert pooled.obs["section"].value_counts().to_dict() == {"a": 20, "b": 4}
    of_a = pooled[pooled.obs["section"] == "a"]
    assert np.array_equal(of_a.X.toarray(), alone.X.toarray())
    assert np.allclose(of_a.obsm["spatial"], alone.obsm["spatial"])
    assert set(pooled.uns["spatial"]) == {"a", "b"}
    assert pooled.obs_names.is_unique


def test_cells_in_um_are_summed_too() -> None:
    rng = np.random.default_rng(0)
    cells = AnnData(rng.poisson(2, size=(900, 5)), obsm={"spatial": rng.uniform(10, 460, size=(900, 2))})
    pooled = bl.pp.pool(cells, um=50, mpp=1, key_added=None)
    assert pooled.X.sum() == cells.X.sum()
    assert "tissue_share" not in pooled.obs
    assert "pool" not in cells.obs
    low = cells.obsm["spatial"].min(axis=0)
    by_hand, _, _ = np.histogram2d(*(cells.obsm["spatial"] - low).T, bins=9, range=[(0, 450), (0, 450)])
    counted = np.zeros((9, 9))
    counted[pooled.obs["array_col"], pooled.obs["array_row"]] = pooled.obs["n_pooled"]
    assert np.array_equal(counted, by_hand)
    assert pooled.uns["spatial"]["library"]["scalefactors"]["spot_diameter_fullres"] == 50


def test_counts_come_from_their_layer_when_x_is_normalised() -> None:
    adata = hd()
    adata.layers["counts"] = adata.X.copy()
    adata.X = np.log1p(adata.X)
    pooled = bl.pp.pool(adata, um=56)
    assert pooled.X.sum() == adata.layers["counts"].sum()
    sc.pp.normalize_total(pooled)  # in place, which must not reach the layer
    assert pooled.layers["counts"].sum() == adata.layers["counts"].sum()
    del adata.layers["counts"]
    with pytest.raises(ValueError, match=r"`adata\.X` must hold raw counts, whole numbers.*found 0\.\d+"):
        bl.pp.pool(adata, um=56)


def test_small_integers_do_not_overflow() -> None:
    adata = hd()
    adata.X = sparse.csr_matrix(np.full(adata.shape, 200, dtype=np.uint8))
    assert (bl.pp.pool(adata, um=56).X.toarray() == 49 * 200).all()


def test_a_pooled_reference_is_cut_fitted_and_imputed() -> None:
    rng = np.random.default_rng(0)
    adata = hd(70, 70)
    image = sq.im.ImageContainer(rng.integers(60, 220, size=(1600, 1600, 3), dtype=np.uint8))
    pooled = bl.pp.pool(adata, um=56)
    sc.pp.normalize_total(pooled, target_sum=1e4)
    sc.pp.log1p(pooled)
    bl.pp.crops(pooled, image, um=56, size=16, check="off")
    assert pooled.uns["crops"]["hd"]["spot_diameters"] == pytest.approx(1)
    bl.tl.fit(pooled, method="ridge", alpha=1.0)
    bl.tl.impute(pooled, pooled)
    assert pooled.layers["bleep"].shape == pooled.shape


@pytest.mark.odd
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"um": 7.0}, r"`um=7`: the bins of 'hd' are 8 µm apart.*above 8 µm"),
        ({"um": 0}, r"`um`.*above 0"),
        ({"um": float("nan")}, r"`um`.*finite"),
        ({"lattice": "triangular"}, r"`lattice` must be one of 'square', 'hexagonal'"),
        ({"key_added": "spatial"}, r"`key_added='spatial'`"),
        ({"mpp": {"other": 1.0}}, r"`mpp` has no entry for any of \['hd'\]"),
        ({"library_id": "other"}, r"not in `adata\.uns\['spatial'\]`"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str, unchanged: Callable[..., None]) -> None:
    adata = hd()
    unchanged(adata)
    with pytest.raises(ValueError, match=message):
        bl.pp.pool(adata, **{"um": 56, **arguments})


@pytest.mark.odd
def test_a_column_of_the_user_is_not_lost(unchanged: Callable[..., None]) -> None:
    adata = hd()
    bl.pp.pool(adata, um=56)
    bl.pp.pool(adata, um=80)  # another call may write again
    assert adata.obs["pool"].nunique() < 100
    adata.obs["patient"] = pd.Categorical(["P_1"] * adata.n_obs)
    unchanged(adata)
    with pytest.raises(ValueError, match=r"`key_added='patient'`: `adata\.obs` has a column of that name"):
        bl.pp.pool(adata, um=56, key_added="patient")


@pytest.mark.odd
@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (lambda a: a.uns.clear(), ValueError, r"scale of 'library' is unknown.*`mpp=1` where the places are in µm"),
        (lambda a: a.obsm.clear(), KeyError, r"obsm\['spatial'\]"),
        (lambda a: setattr(a, "X", a.X * 0.5), ValueError, r"must hold raw counts.*found 0\.5"),
        (lambda a: setattr(a, "X", -a.X), ValueError, r"must hold raw counts.*found -"),
        (lambda a: a.obsm.update(spatial=a.obsm["spatial"] * np.nan), ValueError, r"NaN or infinite"),
    ],
)
def test_bad_objects(
    damage: Callable[[AnnData], Any], error: type[Exception], message: str, unchanged: Callable[..., None]
) -> None:
    adata = hd()
    damage(adata)
    unchanged(adata)
    with pytest.raises(error, match=message):
        bl.pp.pool(adata, um=56)


@pytest.mark.odd
def test_a_view_is_refused_only_where_it_would_be_written_to() -> None:
    view = hd()[:600]
    with pytest.raises(ValueError, match=r"`adata` is a view"):
        bl.pp.pool(view, um=56)
    assert bl.pp.pool(view, um=56, key_added=None).X.sum() == view.X.sum()


@pytest.mark.odd
def test_two_scales_that_contradict_each_other_are_named() -> None:
    with pytest.warns(UserWarning, match=r"0\.4 by the argument `mpp`, 0\.5 by `scalefactors\['microns_per_pixel'\]`"):
        bl.pp.pool(hd(), um=56, mpp=0.4)


@pytest.mark.odd
def test_one_bin_alone_and_bins_of_one_row() -> None:
    assert bl.pp.pool(hd(1, 1), um=56).n_obs == 1
    row = bl.pp.pool(hd(1, 21), um=56)
    assert row.X.sum() == hd(1, 21).X.sum()


@pytest.mark.odd
@pytest.mark.parametrize("far", [1e5, 1e9])
def test_a_bin_far_away_costs_no_more_than_a_place(far: float) -> None:
    adata = hd()
    adata.obsm["spatial"][0] = far
    pooled = bl.pp.pool(adata, um=56)
    assert pooled.X.sum() == adata.X.sum()
    assert pooled.n_obs <= 31
    assert pooled.obs["n_pooled"].min() == 1


@pytest.mark.odd
def test_sections_that_are_taken_for_one_are_never_summed(unchanged: Callable[..., None]) -> None:
    """After a concat without `uns`, bins of two tissues stand at the same places."""
    joined = ad.concat({"P1": hd(seed=1), "P2": hd(seed=2)}, label="sample", index_unique="-")
    unchanged(joined)
    with pytest.raises(ValueError, match=r"1960 of 1960 bins or cells of 'library' .*pass `library_key='sample'`\."):
        bl.pp.pool(joined, um=56, mpp=UM_PER_PX)
    with pytest.raises(ValueError, match=r"pass `library_key='sample'` in place of 'patient'"):
        bl.pp.pool(joined, um=56, mpp=UM_PER_PX, library_key="patient")
    pooled = bl.pp.pool(joined, um=56, mpp=UM_PER_PX, library_key="sample", key_added=None)
    alone = [bl.pp.pool(hd(seed=seed), um=56, key_added=None).X.toarray() for seed in (1, 2)]
    assert np.array_equal(pooled.X.toarray(), np.concatenate(alone))


@pytest.mark.odd
def test_sections_that_are_a_little_apart_are_never_summed_either(unchanged: Callable[..., None]) -> None:
    """No two bins stand at one place, but each row and column of the array is there twice."""
    second = hd(seed=2)
    second.obsm["spatial"] = second.obsm["spatial"] + 3.3
    joined = ad.concat({"P1": hd(seed=1), "P2": second}, label="sample", index_unique="-")
    unchanged(joined)
    with pytest.raises(
        ValueError, match=r"1960 of 1960 .* the same `array_row` and `array_col` .*`library_key='sample'`\."
    ):
        bl.pp.pool(joined, um=56, mpp=UM_PER_PX)


@pytest.mark.odd
@pytest.mark.parametrize("key_added", ["patient", "array_row", "in_tissue"])
def test_no_column_that_holds_something_else_is_replaced(key_added: str, unchanged: Callable[..., None]) -> None:
    adata = hd()
    unchanged(adata)
    with pytest.raises(ValueError, match=rf"`key_added='{key_added}'`: `adata\.obs` has a column of that name"):
        bl.pp.pool(adata, um=56, key_added=key_added, library_key="patient", mpp=UM_PER_PX)


def test_pooling_anew_replaces_the_places() -> None:
    adata = hd()
    bl.pp.pool(adata, um=56)
    pooled = bl.pp.pool(adata, um=112)
    assert set(adata.obs["pool"]) == set(pooled.obs_names)
