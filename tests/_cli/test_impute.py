"""`bleep-sc impute` does what the functions do, and refuses before an image is read what they could not."""

import warnings
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pytest

import bleep_sc as bl

from .conftest import UM_PER_PX, Run, paint


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    return paint(tmp_path / "slide.tif")


CUT = ("--um", 100, "--size", 16)
LAID = (*CUT, "--mpp", UM_PER_PX, "--pitch", 100)


@pytest.mark.slow
def test_an_image_becomes_what_python_makes_of_it(run: Run, slide: Path, ref_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    ended = run("impute", slide, "--ref", ref_file, *LAID, "--lattice", "square", "--out", out)
    assert (ended.code, ended.out) == (0, f"{out}\n"), ended.err
    imputed, ref = ad.read_zarr(out), ad.read_h5ad(ref_file)
    python = bl.pp.grid(slide, ref, um=100, mpp=UM_PER_PX, lattice="square")
    bl.pp.crops(python, um=100, size=16)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        bl.tl.impute(python, ref)
    ours = [warning for warning in told if warning.category is UserWarning]  # a newer pandas has others
    assert ended.err.count("bleep-sc: warning: ") == len(ours)
    assert imputed.n_obs == python.n_obs > 10
    np.testing.assert_array_equal(imputed.obsm["crops"], python.obsm["crops"])
    np.testing.assert_array_equal(imputed.layers["bleep"], python.layers["bleep"])
    assert imputed.obs["bleep_reliability"].tolist() == python.obs["bleep_reliability"].tolist()


def test_spots_with_crops_genes_bounds_and_a_report(
    run: Run, query_file: Path, ref_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports: list[dict[str, Any]] = []
    monkeypatch.setattr("bleep_sc._report.report", lambda query, ref, **how: reports.append({"query": query, **how}))
    out, page = tmp_path / "out.h5ad", tmp_path / "page.html"
    ended = run(
        "impute", query_file, "--ref", ref_file, "--genes", "g3", "g1", "g3", "--intervals", 0.8, "--key-added", "new",
        "--predict", "hybrid", "--report", page, "--report-genes", "g1", "--drop-crops", "--out", out,
    )  # fmt: skip
    assert (ended.code, ended.out) == (0, f"{out}\n"), ended.err
    imputed, python, ref = ad.read_h5ad(out), ad.read_h5ad(query_file), ad.read_h5ad(ref_file)
    bl.tl.impute(python, ref, predict="hybrid", key_added="new")
    bl.tl.intervals(python, ref, level=0.8, layer="new", key_added="new")
    python = python[:, ["g3", "g1"]]
    assert imputed.var_names.tolist() == ["g3", "g1"]
    for layer in ("new", "new_lower", "new_upper"):
        np.testing.assert_allclose(imputed.layers[layer], python.layers[layer], rtol=1e-5, atol=1e-6)
    assert "crops" not in imputed.obsm
    (report,) = reports
    assert "crops" in report["query"].obsm
    assert {name: report[name] for name in ("path", "genes", "layer", "key")} == {
        "path": page,
        "genes": ["g1"],
        "layer": "new",
        "key": "bleep",
    }


def test_spots_get_crops_of_the_image_of_each_section(
    run: Run, query_file: Path, ref_file: Path, tmp_path: Path
) -> None:
    query = ad.read_h5ad(query_file)
    del query.obsm["crops"], query.uns["crops"]
    query.obsm["spatial"] = np.random.default_rng(0).uniform(56, 136, size=(query.n_obs, 2))
    query.write_h5ad(query_file)
    images = {name: str(paint(tmp_path / f"{name}.tif", seed=int(name[1]))) for name in ("q1", "q2")}
    ended = run(
        "impute", query_file, "--ref", ref_file, "--library-key", "section", "--image",
        *(f"{name}={path}" for name, path in images.items()), *CUT, "--mpp", UM_PER_PX, "--out", tmp_path / "out.h5ad",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    bl.pp.crops(query, images, um=100, size=16, mpp=UM_PER_PX, library_key="section")
    imputed = ad.read_h5ad(tmp_path / "out.h5ad")
    np.testing.assert_array_equal(imputed.obsm["crops"], query.obsm["crops"])
    assert np.isfinite(imputed.layers["bleep"]).all()


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_cut")
def test_what_does_not_fit_the_reference_is_refused_before_cutting(
    run: Run, slide: Path, ref_file: Path, tmp_path: Path
) -> None:
    words, out = ("impute", slide, "--ref", ref_file), ("--out", tmp_path / "out.h5ad")
    run(*words, *LAID, "--genes", "g1", "G2", *out).refused("--genes G2", "ref.h5ad. Did you mean 'g2'?")
    run(*words, *LAID, "--genes", "g1", "g1x", *out).refused("--genes g1x", "Did you mean 'g1'", "There are 30 genes")
    run(*words, *LAID, "--report-genes", "g1", *out).refused("--report-genes", "--report is not given")
    page = ("--report", tmp_path / "page.html", "--report-genes", "g2")
    run(*words, *LAID, "--genes", "g1", *page, *out).refused("--report-genes g2", "--genes")
    many = ("--report-genes", *(f"g{i}" for i in range(13)))
    run(*words, *LAID, *page[:2], *many, *out).refused("--report-genes", "at most 12", "found 13")
    run(*words, *LAID, "--k", 1000, *out).refused("--k 1000", "240 spots")
    run(*words, *LAID, "--k", 0, *out).refused("--k must be an integer of at least 1, found 0")
    run(*words, *LAID, "--key-added", "a/b", *out).refused("--key-added", "'a/b'")
    other = ("--predict", "retrieval", "--intervals", 0.9)
    run(*words, *LAID, *other, *out).refused("--predict retrieval", "calibrated with hybrid", "--intervals")
    run(*words, *LAID, "--key", "other", *out).refused("holds no model in uns['other']", "ref.h5ad", "pass --key bleep")
    run(*words, *LAID, "--layer", "raw", *out).refused("--layer raw", "counts")
    run(*words, *LAID, "--intervals", 90, *out).refused("--intervals must be between 0 and 1")
    run(*words, *LAID, "--image", slide, *out).refused("--image", "is an image itself")
    run(*words, *LAID, "--library-key", "section", *out).refused("--library-key", "is an image")
    run(*words, *LAID, "--mask", "gone.geojson", *out).refused("--mask gone.geojson", "there is no such file")
    run(*words, *LAID, "--mpp", "1", "2", *out).refused("--mpp 1 2", "must be one number")
    run("impute", "gone.svs", "--ref", ref_file, *out).refused("SLIDE gone.svs", "there is no such file")
    run("impute", slide, "--ref", "gone.h5ad", *out).refused("--ref gone.h5ad", "there is no such file")


@pytest.mark.usefixtures("nothing_cut")
def test_crops_of_another_width_are_refused_before_cutting(
    run: Run, slide: Path, ref_file: Path, tmp_path: Path
) -> None:
    words, out = ("impute", slide, "--ref", ref_file), ("--out", tmp_path / "out.h5ad")
    scale = ("--mpp", UM_PER_PX, "--pitch", 100)
    run(*words, *scale, "--um", 50, "--size", 16, *out).refused("--um", "of 50 µm", "of 100 µm", "--size 16 --um 100")
    run(*words, *scale, "--um", 100, *out).refused("224 pixels", "16 pixels", "--size 16")
    # without --um a pixel is a pixel: 16 of them show half of what the reference's do
    run(*words, "--mpp", UM_PER_PX / 2, "--pitch", 50, "--size", 16, *out).refused("of 50 µm", "--um 100")


def test_what_the_grid_refuses_is_spelt_with_its_own_option(
    run: Run, slide: Path, ref_file: Path, tmp_path: Path
) -> None:
    words = ("impute", slide, "--ref", ref_file, *CUT, "--out", tmp_path / "out.h5ad")
    run(*words, "--pitch", 100).refused("SLIDE", "--mpp")
    run(*words, "--mpp", 1).refused("--pitch is needed")


def test_options_without_effect_are_refused(run: Run, query_file: Path, ref_file: Path, tmp_path: Path) -> None:
    words, out = ("impute", query_file, "--ref", ref_file), ("--out", tmp_path / "out.h5ad")
    run(*words, "--pitch", 100, *out).refused("--pitch", "has no effect", "query.h5ad")
    run(*words, "--um", 100, *out).refused("--um", "has no effect", "--image")
    run(*words, "--image-key", "X_uni", *out).refused("obsm['X_uni']", "--image")


@pytest.mark.usefixtures("nothing_cut")
def test_the_option_that_is_missing_is_named_first(run: Run, query_file: Path, ref_file: Path, tmp_path: Path) -> None:
    query = ad.read_h5ad(query_file)
    del query.obsm["crops"], query.uns["crops"]
    query.write_h5ad(query_file)
    words = ("impute", query_file, "--ref", ref_file, "--out", tmp_path / "out.h5ad")
    ended = run(*words, "--um", 100)
    ended.refused(
        "error: --image is missing: --um is of crops that are cut from an image", "obsm['crops']", "--image FILE"
    )
    assert "eave it out" not in ended.err
    images = [f"{name}={paint(tmp_path / f'{name}.tif')}" for name in ("q1", "q2")]
    run(*words, "--image", *images).refused("--image q1=", "obs['section']", "Pass --library-key section.")
    run(*words, "--image", images[0]).refused("Pass --library-key section.")
    run("impute", query_file, "--ref", query_file, *words[-2:]).refused(
        "query.h5ad: holds no model", "`bleep-sc fit` makes"
    )


@pytest.mark.odd
def test_a_folder_is_no_image(run: Run, query_file: Path, ref_file: Path, tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    words, out = (
        ("--ref", ref_file, *CUT, "--mpp", 1, "--out", tmp_path / "out.h5ad"),
        "scans' is a folder; pass the image",
    )
    run("impute", tmp_path / "scans", *words, "--pitch", 100).refused("error: SLIDE: ", out)
    run(
        "impute",
        query_file,
        *words,
        "--library-key",
        "section",
        "--image",
        f"q1={tmp_path / 'scans'}",
        f"q2={ref_file}",
    ).refused(out)


def test_bounds_need_a_calibrated_model(run: Run, slide: Path, ref_file: Path, tmp_path: Path) -> None:
    ref = ad.read_h5ad(ref_file)
    del ref.uns["bleep"]["calibration"]
    ref.write_h5ad(ref_file)
    ended = run("impute", slide, "--ref", ref_file, *LAID, "--intervals", 0.9, "--out", tmp_path / "out.h5ad")
    ended.refused("--intervals", "ref.h5ad is not calibrated", "--calibrate")


def test_a_model_is_a_folder(run: Run, slide: Path, ref_file: Path, tmp_path: Path) -> None:
    words, out = ("impute", slide), ("--out", tmp_path / "out.h5ad")
    run(*words, "--model", "gone", *LAID, *out).refused("--model gone", "there is no such file")
    run(*words, "--model", ref_file, *LAID, *out).refused("--model", "is a file", "--ref")


def test_a_slim_model_predicts_without_its_reference(run: Run, slide: Path, ref_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    with pytest.warns(UserWarning, match="written without intervals"):  # those of the hybrid are not its own
        bl.io.write_model(ad.read_h5ad(ref_file), folder, slim=True)
    words = ("impute", slide, "--model", folder, *CUT, "--mpp", UM_PER_PX)
    run(*words, "--out", tmp_path / "no.h5ad").refused("--pitch")
    ended = run(*words, "--pitch", 100, "--lattice", "square", "--out", tmp_path / "out.h5ad")
    assert ended.code == 0, ended.err
    imputed, slim = ad.read_h5ad(tmp_path / "out.h5ad"), bl.io.read_slim_model(folder)
    python = bl.pp.grid(slide, slim, um=100, mpp=UM_PER_PX, lattice="square")
    bl.pp.crops(python, um=100, size=16)
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        bl.tl.impute(python, slim)
    np.testing.assert_array_equal(imputed.layers["bleep"], python.layers["bleep"])
    assert imputed.n_obs > 10
    named = run(*words, "--pitch", 100, "--key", "mine", "--out", tmp_path / "named.h5ad")
    assert named.code == 0, named.err
    assert "mine" in ad.read_h5ad(tmp_path / "named.h5ad").layers
