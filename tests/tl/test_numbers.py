"""Half the digits, very large and very small numbers, nothing but ties: results are finite, or one error says why."""

import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from anndata import AnnData
from conftest import make_sections
from scipy import sparse

import bleep_sc as bl
from bleep_sc.models.nets.bleep import Bleep

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # of small sections and collapsed spaces: meant here

FITS: Mapping[str, dict[str, Any]] = {
    # epochs enough that neighbours are no matter of chance
    "default": {"image_key": "X_made", "max_epochs": 10, "members": 1, "hidden": 8},
    "paper": {"preset": "paper", "image_key": "X_made", "max_epochs": 2},
    "knn": {"method": "knn", "image_key": "X_made"},
    "ridge": {"method": "ridge", "image_key": "X_made", "alpha": 1.0},
    "coordinates": {"method": "coordinates", "alpha": 1.0},
    "mean": {"method": "mean"},
    "regressor": {"method": "regressor", "image_key": "X_made", "max_epochs": 2},
    "histogene": {"method": "histogene", "dim": 64, "depth": 1, "max_epochs": 1},
}
Change = Callable[[AnnData], None]


def sections(*names: str, seed: int = 0) -> AnnData:
    adata = make_sections(20, sections=names, size=8, seed=seed)
    adata.obs_names = [f"{names[0]}{i}" for i in range(adata.n_obs)]
    adata.obsm["X_made"] = adata.obsm["crops"].mean(axis=(1, 2)).astype(np.float32)
    return adata


def imputed(
    kind: str, change: Change, of_fit: Mapping[str, Any] | None = None, **of_impute: Any
) -> tuple[AnnData, AnnData]:
    """Reference and query, both changed, after `fit` and `impute`; everything in both is finite."""
    ref, query = sections("s1", "s2"), sections("q", seed=1)
    for adata in (ref, query):
        change(adata)
    bl.tl.fit(ref, **{**FITS[kind], **(of_fit or {})})
    bl.tl.impute(query, ref, **of_impute)
    assert_finite(ref, query)
    return ref, query


def assert_finite(*objects: AnnData) -> None:
    for adata in objects:
        for values in (*adata.obsm.values(), *(adata.layers[name] for name in adata.layers if name == "bleep")):
            assert np.isfinite(values).all()
    history = objects[0].uns["bleep"]["history"]
    assert all(np.isfinite(values).all() for values in history.values())


def as_it_is(adata: AnnData) -> None:
    pass


@cache
def plain(kind: str) -> np.ndarray:
    """The layer in float32, of ordinary numbers."""
    return imputed(kind, as_it_is)[1].layers["bleep"]


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


@pytest.mark.parametrize("kind", FITS)
def test_mixed_precision(kind: str) -> None:
    half = {"precision": "bf16-mixed"}
    ref, query = imputed(kind, as_it_is, half, **half)
    assert correlation(query.layers["bleep"], plain(kind)) > 0.99
    assert query.layers["bleep"].dtype == np.float32
    if kind in ("default", "paper", "knn"):
        bl.tl.embed(query, ref, **half)
        assert_finite(ref, query)


def scaled(factor: float) -> Change:
    def scale(adata: AnnData) -> None:
        adata.X = sparse.csr_matrix(adata.X.astype(np.float64) * factor)

    return scale


@pytest.mark.odd
@pytest.mark.parametrize("factor", [1e10, 1e-30])
@pytest.mark.parametrize("kind", FITS)
def test_huge_and_tiny_expression(kind: str, factor: float) -> None:
    ref, query = imputed(kind, scaled(factor))
    found, known = query.layers["bleep"] / factor, ref.X.toarray() / factor
    if kind in ("knn", "ridge", "coordinates", "mean"):  # do not depend on the units
        np.testing.assert_allclose(found, plain(kind), rtol=1e-5, atol=1e-5)
    elif kind in ("default", "paper"):  # means of profiles, or regressions on them
        assert (np.abs(found - known.mean(axis=0)) <= np.ptp(known, axis=0)).all()
    if kind == "default":  # which the published one, that reads expression as it is, says it cannot (it has collapsed)
        assert np.ptp(found, axis=0).max() > 0.01


@pytest.mark.odd
@pytest.mark.parametrize("exponent", [33, -60])
def test_the_units_of_expression_change_nothing(exponent: int) -> None:
    """Powers of two, so that nothing is rounded in which two blends could come to differ."""
    found = imputed("default", scaled(2.0**exponent))[1].layers["bleep"] / 2.0**exponent
    np.testing.assert_allclose(found, plain("default"), rtol=1e-5, atol=1e-5)


def constant_images(adata: AnnData) -> None:
    adata.obsm["X_made"][:] = 3
    adata.obsm["crops"][:] = 200


def constant_genes(adata: AnnData) -> None:
    adata.X = sparse.csr_matrix(np.ones(adata.shape, dtype=np.float32))


def every_other_gene_constant(adata: AnnData) -> None:
    values = adata.X.toarray()
    values[:, ::2] = 5
    adata.X = sparse.csr_matrix(values)


def all_tied(adata: AnnData) -> None:
    constant_images(adata)
    constant_genes(adata)
    adata.obsm["spatial"][:] = 7


TIES: Mapping[str, Change] = {
    change.__name__: change for change in (constant_images, every_other_gene_constant, all_tied)
}


@pytest.mark.odd
@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("kind", FITS)
def test_nothing_but_ties(kind: str, ties: str) -> None:
    ref, query = imputed(kind, TIES[ties])
    found, known = query.layers["bleep"], ref.X.toarray()
    if kind in ("regressor", "histogene"):  # networks have yet to learn even what is constant
        return
    constant = np.ptp(known, axis=0) == 0
    np.testing.assert_allclose(found[:, constant], np.tile(known[0, constant], (len(found), 1)), atol=1e-5)
    if ties == "constant_images" and kind != "coordinates":
        assert np.ptp(found, axis=0).max() < 1e-5, "spots that look alike are predicted alike"


@pytest.mark.odd
@pytest.mark.parametrize("value", [0.0, 1e10])
@pytest.mark.parametrize("weighting", ["mean", "distance", "softmax"])
def test_constant_embeddings(value: float, weighting: str) -> None:
    ref, query = sections("s1", "s2"), sections("q", seed=1)
    bl.tl.fit(ref, **FITS["paper"])
    ref.obsm["X_bleep_expression"][:] = value
    bl.tl.impute(query, ref, k=5, weighting=weighting)
    assert_finite(ref, query)
    np.testing.assert_array_equal(query.obsm["bleep_neighbors"], np.tile(np.arange(5), (20, 1)))
    np.testing.assert_allclose(
        query.layers["bleep"], np.tile(ref.X[:5].toarray().mean(axis=0), (20, 1)), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("kind", FITS)
def test_a_single_section(kind: str) -> None:
    def one(adata: AnnData) -> None:
        adata.obs["section"] = "s1"

    imputed(kind, one)


@pytest.mark.odd
@pytest.mark.parametrize("temperature", [1e-30, *(pytest.param(t, marks=pytest.mark.slow) for t in (1e-3, 1e3)), 1e30])
@pytest.mark.parametrize("precision", ["32", "bf16-mixed"])
@pytest.mark.parametrize("kind", ["default", "paper"])
def test_temperatures_of_the_loss(kind: str, precision: str, temperature: float) -> None:
    imputed(kind, as_it_is, {"temperature": temperature, "precision": precision}, precision=precision)


@pytest.mark.odd
@pytest.mark.parametrize("temperature", [1e-300, 1e-3, 1e300])
@pytest.mark.parametrize("weighting", ["distance", "softmax"])
@pytest.mark.parametrize("change", [as_it_is, all_tied])
def test_temperatures_of_the_average(change: Change, weighting: str, temperature: float) -> None:
    ref, query = imputed("knn", change, None, weighting=weighting, temperature=temperature, k=7)
    rows = query.obsm["bleep_neighbors"]
    known = ref.X.toarray()[rows]
    assert (query.layers["bleep"] >= known.min(axis=1) - 1e-5).all()
    assert (query.layers["bleep"] <= known.max(axis=1) + 1e-5).all()
    if weighting == "softmax" and temperature == 1e300:
        np.testing.assert_allclose(query.layers["bleep"], known.mean(axis=1), rtol=1e-5, atol=1e-5)


DIVERGING: Mapping[str, dict[str, Any]] = {
    "paper": {**FITS["paper"], "lr": 1e5, "max_epochs": 5},
    "regressor": {**FITS["regressor"], "lr": 1e15, "max_epochs": 5},
    "default": {**FITS["default"], "lr": 1e15, "max_epochs": 5},
    "no validation": {**FITS["paper"], "lr": 1e20, "max_epochs": 5, "validation_share": 0.0},
}
HOPELESS = ("no validation",)
"""No weights were better than the first ones."""


@pytest.mark.odd
@pytest.mark.parametrize("resumable", [False, True])
@pytest.mark.parametrize("name", DIVERGING)
def test_a_learning_rate_that_diverges(
    name: str, *, resumable: bool, unchanged: Callable[..., None], tmp_path: Path
) -> None:
    """The error says at which epoch and how to get the weights before, and so it is."""
    arguments = DIVERGING[name] | ({"checkpoint_dir": tmp_path / "checkpoints"} if resumable else {})
    ref = sections("s1", "s2")
    unchanged(ref)
    with pytest.raises(FloatingPointError, match=r"became .*training diverged\. Lower `lr`") as caught:
        bl.tl.fit(ref, **arguments)
    message = str(caught.value)
    assert "None" not in message
    assert "precision" not in message, "it is not to blame"
    told = re.search(r"the same call with `max_epochs=(\d+)`", message)
    assert bool(told) == (name not in HOPELESS)
    if told is None:
        return
    validated = name in ("paper", "regressor")
    assert ("at once from the checkpoints" in message) == (resumable and validated)
    assert ("and another `checkpoint_dir`" in message) == (resumable and not validated)
    if resumable and not validated:
        arguments["checkpoint_dir"] = tmp_path / "another"
    again = sections("s1", "s2")
    bl.tl.fit(again, **(arguments | {"max_epochs": int(told[1])}))
    history = again.uns["bleep"]["history"]
    assert history["best_epoch"].tolist() == [int(told[1]) - 1]
    assert np.isfinite(history["train_loss"]).all()
    query = sections("q", seed=1)
    bl.tl.impute(query, again)
    assert_finite(again, query)


@pytest.mark.odd
@pytest.mark.parametrize(
    ("precision", "remedy"), [("32", ""), ("bf16-mixed", ", or pass `precision='32'` in place of")]
)
def test_weights_that_no_loss_shows(precision: str, remedy: str, unchanged: Callable[..., None]) -> None:
    """A loss is that of the weights before the step: after the last one nothing would have told."""
    ref = sections("s1", "s2")
    unchanged(ref)
    arguments = {"lr": 1e38, "max_epochs": 1, "validation_share": 0.0, "precision": precision}
    with pytest.raises(FloatingPointError, match=rf"weights became NaN or infinite.*at epoch 1: .*has one{remedy}"):
        bl.tl.fit(ref, **(FITS["regressor"] | arguments))


@pytest.mark.parametrize("resumable", [False, True])
def test_without_validation_the_lowest_training_loss_counts(
    resumable: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
    unchanged: Callable[..., None],
    tmp_path: Path,
) -> None:
    factors = iter([1.0, 0.5, 0.2, 0.4, np.nan])
    loss = Bleep.loss
    arguments: dict[str, Any] = {**FITS["paper"], "max_epochs": 9, "validation_share": 0.0}
    ref = sections("s1", "s2")
    unchanged(ref)
    with monkeypatch.context() as patch, pytest.raises(FloatingPointError) as caught:
        patch.setattr(Bleep, "loss", lambda self, batch: loss(self, batch) * next(factors))
        bl.tl.fit(ref, **arguments, checkpoint_dir=tmp_path / "one" if resumable else None)
    # with one batch an epoch the third loss is that of the weights after the second
    elsewhere = " and another `checkpoint_dir`" if resumable else ""
    told = f"The training loss was lowest after epoch 2: the same call with `max_epochs=2`{elsewhere} gives the weights"
    assert told in str(caught.value)
    bl.tl.fit(ref.copy(), **(arguments | {"max_epochs": 2}), checkpoint_dir=tmp_path / "two" if resumable else None)
