import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pytest
from anndata import AnnData
from conftest import make_sections

import bleep_sc as bl


@pytest.fixture
def shifted() -> AnnData:
    adata = make_sections(60)
    values = adata.X.toarray()
    values[60:, :15] += 2
    adata.X = values
    return adata


def test_batches_come_together(shifted: AnnData, tmp_path: Path) -> None:
    bl.pp.harmonize(shifted, batch_key="section")
    corrected = shifted.obsm["X_harmony"]
    assert corrected.dtype == np.float32
    assert corrected.shape == shifted.shape

    def gap(values: np.ndarray) -> float:
        return float(np.abs(values[:60].mean(axis=0) - values[60:].mean(axis=0)).mean())

    assert gap(corrected) < gap(shifted.X) / 2
    assert list(shifted.uns["harmony"]["genes"]) == list(shifted.var_names)
    assert shifted.uns["harmony"]["batch_key"] == "section"
    shifted.write_h5ad(tmp_path / "h.h5ad")
    assert np.array_equal(ad.read_h5ad(tmp_path / "h.h5ad").obsm["X_harmony"], corrected)


def test_selected_genes_and_names(shifted: AnnData) -> None:
    shifted.var["highly_variable"] = np.arange(30) % 3 == 0
    bl.pp.harmonize(shifted, batch_key="section", key_added="h2")
    assert shifted.obsm["X_h2"].shape == (120, 10)
    assert list(shifted.uns["h2"]["genes"]) == list(shifted.var_names[::3])


def test_one_seed_one_result_and_nothing_leaks(shifted: AnnData) -> None:
    level = logging.getLogger("harmonypy").level
    other = shifted.copy()
    bl.pp.harmonize(shifted, batch_key="section")
    bl.pp.harmonize(other, batch_key="section")
    assert np.array_equal(shifted.obsm["X_harmony"], other.obsm["X_harmony"])
    assert logging.getLogger("harmonypy").level == level


@pytest.mark.filterwarnings("ignore:the model has nearly collapsed")
@pytest.mark.parametrize("preset", ["default", "paper"])
def test_fit_takes_it(preset: Any, shifted: AnnData) -> None:
    bl.pp.harmonize(shifted, batch_key="section")
    bl.tl.fit(shifted, preset=preset, use_rep="X_harmony", encoder="color", max_epochs=2, key_added="hm")
    assert list(shifted.uns["hm"]["genes"]) == list(shifted.var_names)


@pytest.mark.odd
def test_raw_counts_are_warned_of(shifted: AnnData) -> None:
    shifted.X = shifted.layers["counts"]
    with pytest.warns(UserWarning, match=r"adata\.X.*raw counts.*normalize_total.*log1p"):
        bl.pp.harmonize(shifted, batch_key="section")


def test_sixteen_spots_are_enough(shifted: AnnData) -> None:
    few = shifted[52:68].copy()
    bl.pp.harmonize(few, batch_key="section")
    assert np.isfinite(few.obsm["X_harmony"]).all()


SMALL: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
    "a batch of one spot": (lambda rows: np.where(rows, "A", "B"), r"1 of 2 batches .* the smallest 'B' with 1\."),
    "a batch of seven": (lambda rows: np.where(rows < 7, "B", "A"), r"1 of 2 batches have fewer than 8 spots, the sm"),
    "small ones among large": (lambda rows: np.minimum(rows // 3, 20), r"20 of 21 batches .* the smallest '0' with 3"),
    "barcodes": (lambda rows: rows, r"`adata\.obs\['batch'\]`: 120 of 120 batches .* with 1\..*whole sections or pat"),
}


@pytest.mark.odd
@pytest.mark.parametrize("case", SMALL)
def test_batches_of_next_to_no_spots_are_warned_of_once(case: str, shifted: AnnData) -> None:
    make, message = SMALL[case]
    shifted.obs["batch"] = make(np.arange(120)).astype(str)
    with pytest.warns(UserWarning, match=message) as caught:
        bl.pp.harmonize(shifted, batch_key="batch")
    assert len(caught) == 1
    assert np.isfinite(shifted.obsm["X_harmony"]).all()


@pytest.mark.odd
def test_bad_input(shifted: AnnData, unchanged: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    unchanged(shifted)
    with pytest.raises(KeyError, match=r"obs\['slide'\]"):
        bl.pp.harmonize(shifted, batch_key="slide")
    with pytest.raises(ValueError, match=r"view"):
        bl.pp.harmonize(shifted[:100], batch_key="section")
    with pytest.raises(ValueError, match=r"single batch"):
        bl.pp.harmonize(shifted[:50].copy(), batch_key="section")
    with pytest.raises(ValueError, match=r"8 spots; Harmony needs at least 16"):
        bl.pp.harmonize(shifted[56:64].copy(), batch_key="section")
    for value, message in ((np.nan, r"adata\.X.*NaN"), (-1.0, r"adata\.X.*negative.*sc\.pp\.log1p")):
        bad = shifted.copy()
        bad.X[3, 3] = value
        before = bad.copy()
        with pytest.raises(ValueError, match=message):
            bl.pp.harmonize(bad, batch_key="section")
        assert set(bad.obsm) == set(before.obsm)
        assert set(bad.uns) == set(before.uns)
    monkeypatch.setitem(sys.modules, "harmonypy", None)
    with pytest.raises(ImportError, match=r'pip install "harmonypy>=2\.1"'):
        bl.pp.harmonize(shifted, batch_key="section")
