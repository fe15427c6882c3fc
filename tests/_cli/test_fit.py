"""`bleep-sc fit` does what the functions do, and refuses before long work what they could not."""

from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pytest
from anndata import AnnData
from conftest import make_sections

import bleep_sc as bl

from .conftest import UM_PER_PX, Run, paint


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    """Two measured sections with crops, not yet trained on."""
    path = tmp_path / "measured.h5ad"
    make_sections(30).write_h5ad(path)
    return path


@pytest.fixture
def without_crops(tmp_path: Path) -> Path:
    """The same with places on a painted picture each, and no crops."""
    adata = make_sections(30)
    del adata.obsm["crops"], adata.uns["crops"]
    adata.obsm["spatial"] = np.random.default_rng(0).uniform(56, 136, size=(adata.n_obs, 2))
    adata.write_h5ad(tmp_path / "places.h5ad")
    for name in ("s1", "s2"):
        paint(tmp_path / f"{name}=H&E.tif", seed=int(name[1]))
    return tmp_path / "places.h5ad"


def words_of(how: dict[str, Any]) -> list[str]:
    return [word for name, value in how.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def fitted_by_python(path: Path, **how: Any) -> AnnData:
    adata = ad.read_h5ad(path)
    bl.tl.fit(adata, **how)
    return adata


def same_model(one: AnnData, other: AnnData, key: str = "bleep") -> bool:
    return np.asarray(one.uns[key]["model"]).tobytes() == np.asarray(other.uns[key]["model"]).tobytes()


@pytest.mark.slow
@pytest.mark.usefixtures("remembered_colours")
def test_it_is_the_model_of_python(run: Run, measured: Path, tmp_path: Path) -> None:
    out = tmp_path / "ref.h5ad"
    drawn: dict[str, Any] = {"method": "regressor", "encoder": "color", "max_epochs": 1}
    ended = run("fit", measured, *words_of(drawn), "--seed", 7, "--out", out)
    assert (ended.code, ended.out) == (0, f"{out}\n"), ended.err
    ref = ad.read_h5ad(out)
    assert "crops" in ref.obsm
    assert same_model(ref, fitted_by_python(measured, **drawn, random_state=7))
    assert not same_model(ref, fitted_by_python(measured, **drawn))


def test_what_is_given_and_nothing_else_is_handed_to_the_functions(
    run: Run, measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed: list[tuple[str, dict[str, Any]]] = []
    for name in ("fit", "calibrate"):
        monkeypatch.setattr(f"bleep_sc.tl.{name}", lambda _, name=name, **how: handed.append((name, how)))
    out = ("--out", tmp_path / "ref.h5ad", "--overwrite")
    assert run("fit", measured, *out).code == 0
    words = ("--seed", 7, "--device", "cpu", "--encoder", "color", "--weights", "none", "--key", "m")
    assert run("fit", measured, *words, "--calibrate", *out).code == 0
    assert run("fit", measured, "--encoder", "color", "resnet18", "--preset", "best", *out).code == 0
    seeded = {"random_state": 7, "device": "cpu"}
    assert handed == [
        ("fit", {}),
        ("fit", {"encoder": "color", "weights": None, "key_added": "m", **seeded}),
        ("calibrate", {"key": "m", **seeded}),
        ("fit", {"encoder": ("color", "resnet18"), "preset": "best"}),
    ]


@pytest.mark.slow
def test_all_that_is_given_reaches_the_model(run: Run, measured: Path, tmp_path: Path) -> None:
    out = tmp_path / "ref.zarr"
    words = ("--method", "ridge", "--key", "r", "--library-key", "section", "--drop-crops", "--device", "cpu")
    ended = run("fit", measured, *words, "--select-genes", "--n-top-genes", 9, "--out", out)
    assert ended.code == 0, ended.err
    ref = ad.read_zarr(out)
    assert "crops" not in ref.obsm
    python = ad.read_h5ad(measured)
    bl.pp.select_genes(python, batch_key="section", n_top_genes=9)
    bl.tl.fit(python, method="ridge", library_key="section", key_added="r")
    assert ref.var["highly_variable"].tolist() == python.var["highly_variable"].tolist()
    assert same_model(ref, python, "r")


def test_crops_are_cut_from_the_image_of_each_section(run: Run, without_crops: Path, tmp_path: Path) -> None:
    out = tmp_path / "ref.h5ad"
    images = {name: str(tmp_path / f"{name}=H&E.tif") for name in ("s1", "s2")}
    of_sections = [f"{name}={file}" for name, file in images.items()]
    ended = run(
        "fit", without_crops, "--library-key", "section", "--image", *of_sections,
        "--um", 100, "--size", 16, "--mpp", f"s1={UM_PER_PX}", f"s2={UM_PER_PX / 2}", "--method", "mean", "--out", out,
    )  # fmt: skip
    assert ended.code == 0, ended.err
    ref, python = ad.read_h5ad(out), ad.read_h5ad(without_crops)
    mpp = {"s1": UM_PER_PX, "s2": UM_PER_PX / 2}
    bl.pp.crops(python, images, um=100, size=16, mpp=mpp, library_key="section")
    np.testing.assert_array_equal(ref.obsm["crops"], python.obsm["crops"])


@pytest.mark.usefixtures("remembered_colours")
def test_it_calibrates(run: Run, measured: Path, tmp_path: Path) -> None:
    ended = run("fit", measured, "--max-epochs", 2, "--calibrate", "--out", tmp_path / "ref.h5ad")
    assert ended.code == 0, ended.err
    ref = ad.read_h5ad(tmp_path / "ref.h5ad")
    assert "calibration" in ref.uns["bleep"]
    assert "bleep_expected_pearson" in ref.var


@pytest.mark.usefixtures("nothing_read")
def test_options_that_a_method_lacks_are_refused_before_reading(run: Run, measured: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "ref.h5ad")
    run("fit", measured, "--method", "mean", "--encoder", "color", *out).refused("--method mean has no --encoder")
    run("fit", measured, "--method", "ridge", "--preset", "paper", *out).refused("--preset paper")
    run("fit", measured, "--calibrate", "--method", "ridge", *out).refused("--calibrate", "Add --cross-fit")
    run("fit", measured, "--cross-fit", *out).refused("--cross-fit", "--calibrate is not given")
    run("fit", measured, "--device", "tpu9", *out).refused("--device tpu9 cannot be used here")
    run("fit", measured, "--seed", -1, *out).refused("--seed must be an integer of at least 0, found -1")
    run("fit", measured, "--encoder", "color", "resnet5", *out).refused("--encoder must be", "found 'resnet5'")
    run("fit", measured, "--weights", "gone.safetensors", *out).refused("--weights gone.safetensors", "no such file")
    run("fit", measured, "--key", "crops", *out).refused("--key crops")
    run("fit", measured, "--n-top-genes", 9, *out).refused("--n-top-genes", "--select-genes is not given")
    run("fit", tmp_path / "measured.rds", *out).refused("REF", "measured.rds", "must be an AnnData", ".h5ad or .zarr")
    run("fit", tmp_path / "mesaured.h5ad", *out).refused("REF", "mesaured.h5ad", "there is no such file")


@pytest.mark.usefixtures("nothing_cut")
def test_names_that_the_file_lacks_are_refused_before_cutting(run: Run, without_crops: Path, tmp_path: Path) -> None:
    words, out = ("fit", without_crops), ("--out", tmp_path / "ref.h5ad")
    run(*words, *out).refused("places.h5ad", "obsm['crops']", "--image")
    run(*words, "--um", 100, *out).refused("error: --image is missing: --um is", "--image FILE", "--image-key")
    image = ("--image", tmp_path / "s1=H&E.tif")
    run(*words, *image, "--patient-key", "donor", *out).refused("--patient-key donor", "obs['donor']", "section")
    run(*words, *image, "--image-key", "X_uni", *out).refused("--image-key")
    both = ("--library-key", "section", "--image")
    s1, s2 = (f"{name}={tmp_path / name}=H&E.tif" for name in ("s1", "s2"))
    run(*words, *both, tmp_path / "s1=H&E.tif", *out).refused("2 sections", "--image s1=FILE s2=FILE")
    run(*words, "--image", s1, s2, "--calibrate", *out).refused(
        "--image s1=", "obs['section']", "--library-key section."
    )
    run(*words, *image, "--calibrate", *out).refused("counts as one section without --library-key")
    run(*words, *both, s1, *out).refused("'s2'", "--image s2=FILE")
    run(*words, *both, s1, s1, *out).refused("'s1'", "twice")
    run(*words, *both, s1, f"s3={tmp_path}", *out).refused("--image s3=", "'s1', 's2'")
    run(*words, *both, s1, "s2=gone.tif", *out).refused("--image gone.tif", "there is no such file")
    run(*words, *both, s1, s2, "--mpp", "s1=fine", *out).refused("--mpp", "must be a number", "'fine'")


@pytest.mark.odd
def test_a_damaged_file_is_said_to_be(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.h5ad").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    (tmp_path / "bad.zarr").mkdir()
    for name in ("bad.h5ad", "bad.zarr"):
        run("fit", tmp_path / name, "--out", tmp_path / "ref.h5ad").refused(name, "cannot be read as an AnnData")


@pytest.mark.usefixtures("nothing_cut")
def test_what_cannot_be_calibrated_is_refused_before_training(
    run: Run, measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bleep_sc.tl.fit", lambda *_, **__: pytest.fail("it was trained"))
    adata, words = ad.read_h5ad(measured), ("fit", measured, "--calibrate", "--out", tmp_path / "ref.h5ad")
    adata[adata.obs["section"] == "s1"].copy().write_h5ad(measured)
    run(*words).refused("--calibrate", "one section", "--library-key")
    adata.layers["scaled"] = adata.X.toarray() * np.linspace(0.5, 1, adata.n_obs)[:, None]
    adata.write_h5ad(measured)
    run(*words, "--layer", "scaled").refused("`ref.layers['scaled']` is not log1p(T · counts / total)")
    del adata.layers["counts"]
    adata.write_h5ad(measured)
    run(*words).refused("`ref.layers['counts']` does not exist", "measured.h5ad")


@pytest.mark.slow
@pytest.mark.usefixtures("remembered_colours")
def test_other_methods_are_calibrated_by_folds_that_are_trained_anew(run: Run, measured: Path, tmp_path: Path) -> None:
    out = tmp_path / "ref.h5ad"
    ended = run("fit", measured, "--method", "ridge", "--calibrate", "--cross-fit", "--out", out)
    assert ended.code == 0, ended.err
    assert "calibration" in ad.read_h5ad(out).uns["bleep"]


def test_what_the_function_refuses_is_bad_input(run: Run, measured: Path, tmp_path: Path) -> None:
    out = tmp_path / "ref.h5ad"
    run("fit", measured, "--method", "regressor", "--encoder", "color", "--max-epochs", 0, "--out", out).refused(
        "--max-epochs must be an integer of at least 1, found 0"
    )
    adata = ad.read_h5ad(measured)
    adata[:9].copy().write_h5ad(measured)
    run("fit", measured, "--out", out).refused("`adata` has 9 spots; at least 16", "measured.h5ad")
