"""Predictions of held-out parts know nothing of what they predict."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from anndata import AnnData
from conftest import make_sections
from scipy import sparse

import bleep_sc as bl
from bleep_sc.io._out_of_fold import from_uns
from bleep_sc.methods.hybrid import choose
from bleep_sc.methods.hybrid.blend import REGRESSIONS, Blend, HeldOutPart, choose_blend

pytestmark = pytest.mark.usefixtures("remembered_colours")

FIXED = Blend(
    (25,),
    [{"linear": (300, 6), "kernel": (1, 6)}],  # of five components, and of depth
    dict.fromkeys(("retrieval", "linear", "kernel"), 1 / 3),
    (1.0,),
)


def tissue(patients: str = "AABB") -> AnnData:
    adata = make_sections(32, sections=tuple(f"s{i}" for i in range(len(patients))))
    of_section = dict(zip([f"s{i}" for i in range(len(patients))], patients, strict=True))
    adata.obs["donor"] = adata.obs["section"].astype(str).map(of_section).to_numpy()
    return adata


def expression(adata: AnnData) -> np.ndarray:
    """Out-of-fold predictions of all genes (n_obs, n_genes)."""
    decoders = from_uns(adata.uns["bleep"], where="here")
    assert decoders is not None
    fold = adata.obs["bleep_fold"].to_numpy()
    return decoders.decode(adata.obsm["bleep_out_of_fold"], fold, np.arange(adata.n_vars))


@pytest.mark.parametrize("patient_key", ["donor", None])
@pytest.mark.slow
def test_a_section_knows_nothing_of_its_own_expression(
    patient_key: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With settings and mix fixed: bit for bit, while others do change."""
    monkeypatch.setattr(choose, "choose_blend", lambda parts, **_: (FIXED, 0.0))
    adata = tissue()
    bl.tl.fit(adata, max_epochs=2, patient_key=patient_key)
    before = expression(adata)
    own = (adata.obs["donor"] == "A" if patient_key else adata.obs["section"] == "s0").to_numpy()
    destroyed = adata.copy()
    values = destroyed.X.toarray()
    values[own] = np.random.default_rng(1).permutation(values[own].ravel()).reshape(values[own].shape)
    destroyed.X = sparse.csr_matrix(values)
    bl.tl.fit(destroyed, max_epochs=2, patient_key=patient_key)
    after = expression(destroyed)
    assert np.array_equal(before[own], after[own])
    assert (before[~own] != after[~own]).mean() > 0.5
    assert np.isfinite(before).all()


def test_whole_patients_are_left_out() -> None:
    adata = tissue()
    bl.tl.fit(adata, max_epochs=1, patient_key="donor")
    folds = adata.obs.groupby(["donor", "bleep_fold"], observed=True).size()
    assert list(folds.index) == [("A", 0), ("B", 1)]
    weights = {name: value for name, value in _chosen(adata).items() if name.startswith("weight")}
    assert weights["weight_linear"] >= 1 / 3 - 1e-9, "two patients: leaving one out chooses badly"
    assert sum(weights.values()) == pytest.approx(1)


def test_the_column_of_patients_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    adata = tissue("ABC")
    adata.obs["patient"] = adata.obs.pop("donor")
    bl.tl.fit(adata, max_epochs=1)
    assert adata.obs["bleep_fold"].nunique() == 3
    assert '"patient_key": "patient"' in adata.uns["bleep"]["config"]


def test_a_section_of_two_patients_is_refused(unchanged: Callable[..., None]) -> None:
    adata = tissue()
    adata.obs["donor"] = np.tile(["A", "B"], adata.n_obs // 2)
    unchanged(adata)
    with pytest.raises(ValueError, match=r"section 's0' holds spots of 2 patients"):
        bl.tl.fit(adata, patient_key="donor")
    with pytest.raises(KeyError, match=r"obs\['animal'\]"):
        bl.tl.fit(adata, patient_key="animal")


@pytest.mark.slow
def test_nothing_is_kept_of_folds_that_saw_the_section() -> None:
    """Random spots, or parts of the only section, lie beside spots that were trained on."""
    single = make_sections(64, sections=("s1",))
    bl.tl.fit(single, max_epochs=1)
    assert "bleep_out_of_fold" not in single.obsm
    assert "bleep_fold" not in single.obs
    adata = tissue()
    bl.tl.fit(adata, max_epochs=1, patient_key="donor")
    adata.obs["half"] = np.tile(["1", "2"], adata.n_obs // 2)
    bl.tl.fit(adata, max_epochs=1, validation_key="half")
    assert "bleep_out_of_fold" not in adata.obsm, "an earlier fit's would mislead"
    assert "bleep_fold" not in adata.obs
    assert "out_of_fold" not in adata.uns["bleep"]


def test_large_folds_say_on_how_many_spots_they_were_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "MOST_TO_CHOOSE_ON", 40)
    adata = tissue()
    bl.tl.fit(adata, max_epochs=1, patient_key="donor")
    decoders = from_uns(adata.uns["bleep"], where="here")
    assert decoders is not None
    assert decoders.trained_on == 40
    # chosen by some of the spots of a part, and all of them are predicted
    assert (adata.obs["donor"].value_counts() > 40).all()
    assert np.isfinite(adata.obsm["bleep_out_of_fold"]).all()
    assert (adata.obsm["bleep_out_of_fold"].std(axis=0) > 0).any()


@pytest.mark.parametrize("most", [4000, 40])
def test_it_is_the_blends_prediction(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Scores are those of the settings that were chosen, mixed by their weights, also of large parts."""
    monkeypatch.setattr(choose, "MOST_TO_CHOOSE_ON", most)
    monkeypatch.setattr(choose, "_PREDICTED_AT_ONCE", 7)
    seen: list[tuple[list[HeldOutPart], Blend]] = []

    def remember(parts: list[HeldOutPart], **how: Any) -> tuple[Blend, float]:
        blend, score = choose_blend(parts, **how)
        seen.append((parts, blend))
        return blend, score

    monkeypatch.setattr(choose, "choose_blend", remember)
    adata = tissue()
    bl.tl.fit(adata, max_epochs=1)
    ((parts, blend),) = seen
    for part in parts:
        regressed = (blend.weights[name] * part.regressed[0][name][blend.settings[0][name]] for name in REGRESSIONS)
        expected = blend.weights["retrieval"] * part.retrieved[1.0,][blend.neighbors] + sum(regressed)
        np.testing.assert_allclose(adata.obsm["bleep_out_of_fold"][part.rows], expected, rtol=1e-5, atol=1e-5)


def _chosen(adata: AnnData) -> dict[str, float]:
    chosen: dict[str, float] = json.loads(adata.uns["bleep"]["config"])["chosen"]
    return chosen
