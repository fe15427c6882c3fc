"""Runs the command line in this process, on files of a tiny reference."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import tifffile
from anndata import AnnData
from conftest import make_sections

from bleep_sc._cli.main import main

UM_PER_PX = 100 / 16
"""Scale of the images, at which a crop of 100 µm has the 16 pixels of the reference's."""


class Ended(NamedTuple):
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    def refused(self, *parts: str) -> None:
        """It must have been refused on one line that holds these parts, with nothing on stdout."""
        assert self.code == 2, self.err
        assert self.out == ""
        lines = self.err.splitlines()
        errors = [line for line in lines if line.startswith("bleep-sc: error: ")]
        assert len(errors) == 1
        assert "Traceback" not in self.err
        for part in parts:
            assert part in errors[0]


Run = Callable[..., Ended]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """`run("fit", path, ...)`."""

    def run(*arguments: object) -> Ended:
        capsys.readouterr()
        code = main(list(map(str, arguments)))
        return Ended(code, *capsys.readouterr())

    return run


@pytest.fixture
def nothing_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test fails as soon as an AnnData is read."""

    def fail(path: str) -> AnnData:
        pytest.fail(f"{path} was read")

    monkeypatch.setattr("bleep_sc._cli.tissue.READERS", dict.fromkeys((".h5ad", ".zarr"), fail))


@pytest.fixture
def nothing_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test fails as soon as crops are cut."""
    monkeypatch.setattr("bleep_sc._cli.steps.cut_crops", lambda *_, **__: pytest.fail("crops were cut"))
    for command in ("fit", "impute"):
        monkeypatch.setattr(f"bleep_sc._cli.{command}.cut_crops", lambda *_, **__: pytest.fail("crops were cut"))


def paint(path: Path, *, seed: int = 0) -> Path:
    """A picture of 640 x 640 pixels: glass around a square of tissue that looks as the spots of the reference do."""
    crops = make_sections(36, sections=("x",), seed=seed).obsm["crops"]
    tissue = np.asarray(crops).reshape(6, 6, 16, 16, 3).swapaxes(1, 2).reshape(96, 96, 3)
    picture = np.full((192, 192, 3), 240, dtype=np.uint8)
    picture[48:144, 48:144] = tissue
    tifffile.imwrite(path, picture, photometric="rgb")
    return path


@pytest.fixture
def ref_file(calibrated_once: tuple[AnnData, AnnData], tmp_path: Path) -> Path:
    """A calibrated reference of four sections of three patients."""
    path = tmp_path / "ref.h5ad"
    calibrated_once[0].write_h5ad(path)
    return path


@pytest.fixture
def query_file(tmp_path: Path) -> Path:
    """Spots of two sections that were never imputed, with crops."""
    path = tmp_path / "query.h5ad"
    query = make_sections(30, sections=("q1", "q2"), seed=1)
    query.obs_names = [f"query{i}" for i in range(query.n_obs)]
    query.write_h5ad(path)
    return path
