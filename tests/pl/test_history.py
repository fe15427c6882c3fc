from collections.abc import Callable
from functools import partial
from pathlib import Path

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pytest
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

import bleep_sc as bl


@pytest.fixture
def trained() -> AnnData:
    adata = AnnData(np.zeros((2, 2), dtype=np.float32))
    losses = {"train_loss": np.array([5.0, 4.0, 3.5, 3.4]), "validation_loss": np.array([6.0, 5.0, 4.5, 4.8])}
    adata.uns["bleep"] = {"history": {**losses, "best_epoch": np.array([2.0])}}
    return adata


def line(ax: Axes, label: str) -> Line2D:
    (found,) = (each for each in ax.get_lines() if each.get_label() == label)
    return found


def test_losses_by_epoch_and_the_one_kept(trained: AnnData, unchanged: Callable[..., None], tmp_path: Path) -> None:
    trained.write_h5ad(tmp_path / "ref.h5ad")
    trained = ad.read_h5ad(tmp_path / "ref.h5ad")
    unchanged(trained)
    (ax,) = bl.pl.history(trained, return_fig=True).axes
    for name in ("train", "validation"):
        np.testing.assert_allclose(line(ax, name).get_xdata(), [1, 2, 3, 4])
        np.testing.assert_allclose(line(ax, name).get_ydata(), trained.uns["bleep"]["history"][f"{name}_loss"])
    assert list(line(ax, "epoch 3, kept").get_xdata()) == [3, 3]
    rings = [each for each in ax.get_lines() if each.get_marker() == "o"]
    assert [(*ring.get_xdata(), *ring.get_ydata()) for ring in rings] == [(3, 4.5)]
    assert ax.get_title() == "Model 'bleep'"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["train", "validation", "epoch 3, kept"]


def test_without_validation_and_of_one_epoch(trained: AnnData) -> None:
    trained.uns["$a_1$"] = {
        "history": {"train_loss": np.array([2.0]), "validation_loss": np.empty(0), "best_epoch": np.array([0.0])}
    }
    with plt.style.context("dark_background"):
        fig = bl.pl.history(trained, key="$a_1$", return_fig=True)
        fig.canvas.draw()
    (ax,) = fig.axes
    assert line(ax, "train").get_marker() == ".", "one epoch is a point: a line would show nothing"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["train", "epoch 1, kept"]


def test_of_a_fitted_model(fitted: AnnData) -> None:
    (ax,) = bl.pl.history(fitted, return_fig=True).axes
    np.testing.assert_array_equal(line(ax, "train").get_ydata(), fitted.uns["bleep"]["history"]["train_loss"])


def test_shows_unless_it_returns_and_draws_into_axes(
    trained: AnnData, check_show: Callable[..., None], check_ax: Callable[..., None]
) -> None:
    check_show(partial(bl.pl.history, trained))
    check_ax(partial(bl.pl.history, trained))


@pytest.mark.odd
def test_bad_input(trained: AnnData, ref: AnnData) -> None:
    with pytest.raises(KeyError, match=r"adata\.uns\['x'\]\['history'\]` does not exist.*tl\.fit"):
        bl.pl.history(trained, key="x")
    trained.uns["query"] = {"params": {}}
    with pytest.raises(KeyError, match=r"A query does not hold the model"):
        bl.pl.history(trained, key="query")
    bl.tl.fit(ref, method="mean", key_added="floor")
    with pytest.raises(ValueError, match=r"'floor' has no epochs to draw: it was not trained by gradient descent"):
        bl.pl.history(ref, key="floor")
    assert not plt.get_fignums()
