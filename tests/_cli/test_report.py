"""`bleep-sc report` writes what `bl.report` does."""

from pathlib import Path
from typing import Any

import pytest
from anndata import AnnData

from .conftest import Run


@pytest.fixture
def imputed_file(calibrated_once: tuple[AnnData, AnnData], tmp_path: Path) -> Path:
    path = tmp_path / "imputed.h5ad"
    calibrated_once[1].write_h5ad(path)
    return path


def test_arguments_reach_the_function(
    run: Run, imputed_file: Path, ref_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []

    def report(query: AnnData, ref: AnnData | None, **how: Any) -> Path:
        asked.append({"n": query.n_obs, "ref": ref is not None, **how})
        return Path(how["path"])

    monkeypatch.setattr("bleep_sc._report.report", report)
    out = tmp_path / "page.html"
    assert run("report", imputed_file, "--out", out)[:2] == (0, f"{out}\n")
    words = ("--ref", ref_file, "--genes", "g1", "g2", "--title", "Slide 1", "--library-id", "D1")
    assert run("report", imputed_file, *words, "--out", out).code == 0
    assert asked == [
        {"n": 60, "ref": False, "path": out},
        {"n": 60, "ref": True, "path": out, "genes": ["g1", "g2"], "title": "Slide 1", "library_id": ["D1"]},
    ]


def test_what_the_report_refuses(run: Run, imputed_file: Path, ref_file: Path, tmp_path: Path) -> None:
    words, out = ("report", imputed_file), ("--out", tmp_path / "page.html")
    run(*words, "--genes", "g1", "none", *out).refused("none")
    run(*words, "--layer", "other", *out).refused("`query.layers['other']` does not exist", "imputed.h5ad")
    run("report", ref_file, *out).refused(
        "`query.layers['bleep']` does not exist", "`bleep-sc impute` makes", "ref.h5ad"
    )
    run(*words, "--genes", "G1", *out).refused("--genes: `query.var_names['G1']` does not exist. Did you mean 'g1'?")
    run(*words, "--ref", imputed_file, *out).refused(
        "--ref", "imputed.h5ad: holds no model", "`bleep-sc fit` makes one"
    )
    assert not out[1].exists()


@pytest.mark.slow
def test_a_report_is_written(run: Run, imputed_file: Path, ref_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    ended = run("report", imputed_file, "--ref", ref_file, "--genes", "g1", "--out", out)
    assert (ended.code, ended.out) == (0, f"{out}\n"), ended.err
    assert "g1" in out.read_text(encoding="utf-8")
