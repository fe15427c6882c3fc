import hashlib
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
from anndata import AnnData

import bleep_sc as bl
from bleep_sc._stats import section_rows
from bleep_sc.metrics import pearson


@pytest.fixture(scope="module")
def tissue() -> AnnData:
    return bl.datasets.toy(n_spots=80)


@pytest.mark.slow
def test_is_ready_for_fit(tissue: AnnData, tmp_path: Path) -> None:
    assert tissue.obs["patient"].nunique() == 3
    assert tissue.obs["section"].nunique() == 6
    assert tissue.obs_names.is_unique
    assert tissue.obsm["crops"].shape == (tissue.n_obs, 64, 64, 3)
    assert tissue.obsm["crops"].dtype == np.uint8
    totals = np.expm1(tissue.X.toarray().astype(np.float64)).sum(axis=1)
    np.testing.assert_allclose(totals, 1e4, rtol=1e-4)
    counts = tissue.layers["counts"].toarray()
    assert (counts == np.rint(counts)).all()
    assert tissue.var["image_linked"].sum() == 200
    tissue.write_h5ad(tmp_path / "toy.h5ad")
    back = ad.read_h5ad(tmp_path / "toy.h5ad")
    assert np.array_equal(back.obsm["crops"], tissue.obsm["crops"])


@pytest.mark.slow
def test_crops_are_those_of_pp_crops() -> None:
    adata, images = bl.datasets.toy(n_patients=1, n_spots=60, return_images=True)
    painted, records = adata.obsm.pop("crops"), adata.uns.pop("crops")
    bl.pp.crops(adata, images, size=64, library_key="section")
    assert np.array_equal(painted, adata.obsm["crops"])
    for library, record in adata.uns["crops"].items():
        assert record.pop("findings").equals(records[library].pop("findings"))
    assert adata.uns["crops"] == records


@pytest.mark.slow
def test_one_seed_one_tissue() -> None:
    first, again, other = (bl.datasets.toy(n_patients=1, n_sections=1, n_spots=30, random_state=s) for s in (1, 1, 2))
    assert np.array_equal(first.obsm["crops"], again.obsm["crops"])
    assert (first.X != again.X).nnz == 0
    assert first.shape != other.shape or (first.X != other.X).nnz > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "digests"),
    [
        ({"n_patients": 2, "random_state": 0}, ("d00a91fb4acff763", "fe51e159e4481912")),
        ({"n_patients": 1, "random_state": 3}, ("8d3a74f2ee4c463c", "d9df12652f5b221c")),
    ],
)
def test_without_a_shift_it_is_the_tissue_it_always_was(arguments: dict[str, int], digests: tuple[str, str]) -> None:
    """Counts and crops to the last bit as before there was such an argument."""
    adata = bl.datasets.toy(**arguments, n_sections=1, n_spots=40, n_genes=30, patient_shift=0.0)
    arrays = (adata.layers["counts"].toarray(), adata.obsm["crops"])
    assert tuple(hashlib.sha256(array.tobytes()).hexdigest()[:16] for array in arrays) == digests


@pytest.fixture(scope="module")
def shifted() -> AnnData:
    return bl.datasets.toy(n_patients=2, n_spots=80, patient_shift=1)


@pytest.mark.slow
def test_a_shift_moves_patients_apart_and_not_their_sections(shifted: AnnData) -> None:
    plain = bl.datasets.toy(n_patients=2, n_spots=80)
    measured = {}
    for label, adata in (("plain", plain), ("shifted", shifted)):
        rows = dict(section_rows(adata.obs["section"].astype(str).to_numpy(), adata.n_obs))
        counts = adata.layers["counts"].toarray()
        color = {name: adata.obsm["crops"][r].mean(axis=(0, 1, 2)) for name, r in rows.items()}
        depth = {name: np.median(counts[r].sum(axis=1)) for name, r in rows.items()}
        level = {name: np.log(counts[r].sum(axis=0) + 1) - np.log(counts[r].sum()) for name, r in rows.items()}
        measured[label] = color, depth, level
    color, depth, level = measured["shifted"]
    for apart, alike in ((("P1_A", "P2_A"), ("P1_A", "P1_B")), (("P1_B", "P2_B"), ("P2_A", "P2_B"))):
        for what, least in ((color, 4), (level, 3)):
            far, near = (np.abs(what[a] - what[b]).mean() for a, b in (apart, alike))
            assert far > least * near
    assert depth["P1_A"] / depth["P2_A"] == pytest.approx(5, rel=0.25)
    assert depth["P1_A"] == pytest.approx(measured["plain"][1]["P1_A"], rel=0.15)
    assert depth["P2_A"] == pytest.approx(depth["P2_B"], rel=0.15)


def test_a_shift_keeps_what_look_and_expression_have_to_do_with_each_other(shifted: AnnData) -> None:
    values, linked = shifted.X.toarray(), shifted.var["image_linked"].to_numpy()
    names = shifted.obs["section"].astype(str).to_numpy()
    regions = np.stack([shifted.obs["region"] == region for region in shifted.obs["region"].cat.categories], axis=1)
    scores = []
    for section, other in (("P1_A", "P2_A"), ("P1_B", "P2_B")):
        mine, theirs = names == section, names == other
        weight = regions[mine].astype(float)
        means = weight.T @ values[mine] / np.maximum(weight.sum(axis=0), 1)[:, None]
        scores.append(pearson(values[theirs], regions[theirs] @ means))
    mean = np.nanmean(scores, axis=0)
    assert mean[linked].mean() > 0.25
    assert abs(mean[~linked].mean()) < 0.05


def test_depth_knows_nothing_of_the_region(tissue: AnnData) -> None:
    depth = np.log(np.asarray(tissue.layers["counts"].sum(axis=1)).ravel())
    by_region = [depth[(tissue.obs["region"] == r).to_numpy()] for r in tissue.obs["region"].cat.categories]
    from scipy.stats import f_oneway

    assert f_oneway(*by_region).pvalue > 0.001
    assert max(abs(d.mean() - depth.mean()) for d in by_region) < 0.1


def cross_patient(tissue: AnnData, features: np.ndarray) -> tuple[float, float]:
    """Ridge from features, trained on two patients: Pearson on the third for linked and for hidden genes."""
    values = tissue.X.toarray()
    test = (tissue.obs["patient"] == "P3").to_numpy()
    scaled = (features - features[~test].mean(axis=0)) / (features[~test].std(axis=0) + 1e-9)
    x, y = scaled[~test], values[~test] - values[~test].mean(axis=0)
    weights = np.linalg.solve(x.T @ x + 100 * np.eye(x.shape[1]), x.T @ y)
    scores = [
        pearson(values[rows], scaled[rows] @ weights)
        for rows in (np.flatnonzero(tissue.obs["section"] == s) for s in ("P3_A", "P3_B"))
    ]
    linked = tissue.var["image_linked"].to_numpy()
    mean = np.mean(scores, axis=0)
    return float(mean[linked].mean()), float(mean[~linked].mean())


@pytest.mark.slow
def test_texture_tells_what_colour_cannot(tissue: AnnData) -> None:
    from bleep_sc.models.encoders.color import color_features

    colour, _ = cross_patient(tissue, tissue.obsm["crops"].mean(axis=(1, 2)))
    texture, hidden = cross_patient(tissue, color_features(tissue.obsm["crops"]))
    assert colour < 0.3
    assert texture > 0.6
    assert abs(hidden) < 0.05


def test_draws_in_scanpy(tissue: AnnData) -> None:
    import matplotlib.pyplot as plt
    import scanpy as sc

    one = tissue[tissue.obs["section"] == "P2_B"].copy()
    with pytest.warns(FutureWarning, match=r"spatial"):
        sc.pl.spatial(one, library_id="P2_B", color="GENE001", show=False)
    assert plt.gca().images[0].get_array().shape[0] == 600
    plt.close("all")


@pytest.mark.odd
@pytest.mark.parametrize("argument", ["n_patients", "n_sections", "n_spots", "n_genes"])
def test_arguments_are_checked(argument: str, unchanged: Callable[..., None]) -> None:
    with pytest.raises(ValueError, match=argument):
        bl.datasets.toy(**{argument: 0})


@pytest.mark.odd
def test_the_shift_is_checked() -> None:
    for wrong in (-0.1, "1", np.nan):
        with pytest.raises(ValueError, match=f"`patient_shift` must be a finite number of at least 0, found {wrong!r}"):
            bl.datasets.toy(patient_shift=wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`patient_shift` must be from 0 to 3: beyond that slides are black; found 4"):
        bl.datasets.toy(patient_shift=4)
