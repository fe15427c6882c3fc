from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._adata import check_readable
from bleep_sc._checks import MissingKeyError
from bleep_sc.pl._figure import axes_for, errors_naming, finish, text_colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def history(
    adata: AnnData,
    *,
    key: str = _keys.MODEL,
    ax: "Axes | None" = None,
    show: bool | None = None,
    return_fig: bool = False,
) -> "Figure | None":
    """Draw the losses of a model by epoch, and the epoch whose weights were kept.

    Parameters
    ----------
    adata
        The reference that :func:`~bleep_sc.tl.fit` was run on.
    key
        Name of the model.
    ax
        Axes to draw into.
    show
        Whether to show the figure. ``None`` shows it unless it is returned, or drawn into `ax`.
    return_fig
        Return the figure.

    Returns
    -------
    ``None``, or the :class:`matplotlib.figure.Figure` if ``return_fig=True``.

    Raises
    ------
    KeyError
        No model with a history at `key`.
    ValueError
        The model was not trained by gradient descent, so there are no epochs.

    Notes
    -----
    Epochs are counted from 1. BLEEP's loss rises with the number of spots in a batch. So compare losses only between
    models with batches of the same size.

    Examples
    --------
    >>> bl.tl.fit(ref)  # doctest: +SKIP
    >>> bl.pl.history(ref)  # doctest: +SKIP
    """
    from matplotlib.ticker import MaxNLocator

    check_readable(adata)
    losses, best = _losses(adata, key)
    fig, ax_drawn = axes_for(ax, figsize=(5.0, 3.4))
    for name, loss in losses.items():
        epochs = np.arange(1, len(loss) + 1)
        ax_drawn.plot(epochs, loss, marker="." if len(loss) < 30 else "", label=name)
    kept = list(losses)[-1]
    ax_drawn.axvline(best + 1, ls="--", lw=1, color=text_colour(pale=True), zorder=0, label=f"epoch {best + 1}, kept")
    if best < len(losses[kept]):
        ax_drawn.plot([best + 1], [losses[kept][best]], "o", mfc="none", ms=9, color=text_colour(pale=False))
    ax_drawn.set(xlabel="Epoch", ylabel="Loss")
    ax_drawn.set_title(f"Model {key!r}", fontsize="medium", parse_math=False)
    ax_drawn.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax_drawn.legend()
    return finish(fig, show=show, return_fig=return_fig, ax=ax)


def _losses(adata: AnnData, key: str) -> tuple[dict[str, np.ndarray], int]:
    """Training loss by epoch, validation loss by epoch where there was any, and the best epoch, counted from 0."""
    entry = adata.uns.get(key)
    stored = entry.get("history") if isinstance(entry, Mapping) else None
    if not isinstance(stored, Mapping):
        msg = (
            f"`adata.uns[{key!r}]['history']` does not exist: `bleep_sc.tl.fit` writes it into the reference that it "
            "is run on. A query does not hold the model, nor its history."
        )
        raise MissingKeyError(msg)
    with errors_naming(f"adata.uns[{key!r}]['history']", writer="fit"):
        losses = {
            name: np.asarray(stored.get(f"{name}_loss", ()), dtype=np.float64).ravel()
            for name in ("train", "validation")
        }
    losses = {name: loss for name, loss in losses.items() if len(loss)}
    if not losses:
        msg = (
            f"the model {key!r} has no epochs to draw: it was not trained by gradient descent. Networks have "
            "some, such as `method='bleep'`; ridge, knn, coordinates, counts and mean have none."
        )
        raise ValueError(msg)
    with errors_naming(f"adata.uns[{key!r}]['history']", writer="fit"):
        best = int(np.ravel(stored["best_epoch"])[0])
        if best < 0:
            msg = f"the best epoch is {best}"
            raise ValueError(msg)
    return losses, best
