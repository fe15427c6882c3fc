import logging

import numpy as np
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._adata import check_adata, section_of_spots
from bleep_sc._all_or_nothing import all_or_nothing
from bleep_sc._checks import MAX_SEED, check_int, check_key, check_key_added
from bleep_sc._expression import expression_input
from bleep_sc._logging import logger, warn
from bleep_sc._side_effects import on_allowed_cores

_FEWEST_TO_CLUSTER = 16
"""Fewest spots. With fewer, harmonypy would make no cluster: it makes one for every 30 spots."""
_FEWEST_IN_BATCH = 8
"""Fewest spots of a batch whose shift is told from the spots themselves: half of what Harmony needs in all."""
_MOST_ITER = 10_000
"""Largest `max_iter` that is accepted. Harmony stops earlier, once its rounds change little."""


@on_allowed_cores()
def harmonize(
    adata: AnnData,
    *,
    batch_key: str,
    mask_var: str | None = None,
    layer: str | None = None,
    max_iter: int = 10,
    random_state: int = 0,
    key_added: str = "harmony",
    copy: bool = False,
) -> AnnData | None:
    """Correct expression for batches with Harmony, gene by gene, as BLEEP's preprocessing does.

    Harmony is run directly on the matrix of spots × selected genes, not on principal components. Pass the result to
    :func:`~bleep_sc.tl.fit` with ``use_rep="X_harmony"``. Correct only the sections of the reference. A section that
    you want to predict and score must not take part.

    Parameters
    ----------
    adata
        Spots of several sections with log-normalised expression.
    batch_key
        Column of `obs` with each spot's section or batch.
    mask_var
        Boolean column of `var` with the genes to correct. ``None`` takes ``"highly_variable"`` if that exists, else all
        genes.
    layer
        Layer with the expression; ``None`` is `adata.X`.
    max_iter
        Largest number of Harmony's iterations; 10 is Harmony's default.
    random_state
        Seed of Harmony's clustering.
    key_added
        Name of the result in `uns`. In `obsm` it is preceded by ``X_``.
    copy
        Return a changed copy instead of changing `adata`.

    Returns
    -------
    ``None``, or the changed copy if ``copy=True``. Sets the following fields:

    `adata.obsm['X_harmony' | 'X_{key_added}']` : :class:`numpy.ndarray` (float32, (n_obs, n_selected))
        Corrected log-expression; it can be negative.
    `adata.uns['harmony' | key_added]` : `dict`
        ``genes`` (names of the columns), ``batch_key`` and ``params``.

    Raises
    ------
    ImportError
        harmonypy is not installed, for example on Windows.
    KeyError
        No such column or layer.
    ValueError
        A single batch, fewer than 16 spots, no selected gene, NaN or negative expression, a view.

    Notes
    -----
    harmonypy is licensed under GPL-3; it is imported only here.
    """
    check_adata(adata, copy=copy)
    check_key("batch_key", batch_key)
    check_key_added("key_added", key_added, allowed="harmony")
    max_iter = check_int("max_iter", max_iter, maximum=_MOST_ITER)
    random_state = check_int("random_state", random_state, minimum=0, maximum=MAX_SEED)
    batches = section_of_spots(adata, batch_key)
    names, sizes = np.unique(np.asarray(batches, dtype=str), return_counts=True)
    n_batches = len(names)
    if n_batches < 2:
        msg = f"`adata.obs[{batch_key!r}]` holds a single batch: there is nothing to correct."
        raise ValueError(msg)
    if adata.n_obs < _FEWEST_TO_CLUSTER:
        msg = f"`adata` has {adata.n_obs} spots; Harmony needs at least {_FEWEST_TO_CLUSTER} to make clusters of."
        raise ValueError(msg)
    expression = expression_input(adata, layer=layer, use_rep=None, mask_var=mask_var)
    _warn_of_small_batches(names, sizes, batch_key)
    matrix = expression.matrix.astype(np.float64)
    corrected = _run_harmony(matrix, np.asarray(batches), max_iter=max_iter, random_state=random_state)
    logger.info("Harmony corrected %d genes of %d spots over %d batches.", matrix.shape[1], adata.n_obs, n_batches)
    adata = adata.copy() if copy else adata
    with all_or_nothing(adata):
        adata.obsm[_keys.representation(key_added)] = corrected
        adata.uns[key_added] = {
            "genes": expression.genes.astype(object),
            "batch_key": batch_key,
            "params": {"max_iter": max_iter, "random_state": random_state, "layer": "X" if layer is None else layer},
        }
    return adata if copy else None


def _warn_of_small_batches(names: np.ndarray, sizes: np.ndarray, batch_key: str) -> None:
    """Warn of batches of next to no spots: each is moved to where the others are, whatever it holds."""
    small = int((sizes < _FEWEST_IN_BATCH).sum())
    if not small:
        return
    smallest = sizes.argmin()
    warn(
        f"`adata.obs[{batch_key!r}]`: {small} of {len(names)} batches have fewer than {_FEWEST_IN_BATCH} spots, the "
        f"smallest {str(names[smallest])!r} with {sizes[smallest]}. Harmony cannot tell what is batch and what is "
        "tissue in so few, and takes both out. Pass a column of whole sections or patients as `batch_key`, or leave "
        "these spots out."
    )


def _run_harmony(matrix: np.ndarray, batches: np.ndarray, *, max_iter: int, random_state: int) -> np.ndarray:
    try:
        import harmonypy
    except ImportError as err:
        msg = (
            'batch correction needs harmonypy: `pip install "harmonypy>=2.1"` (GPL-3; there are no builds for '
            "Windows). Everything else works without it, on log-normalised expression as it is."
        )
        raise ImportError(msg) from err
    import pandas as pd

    # harmonypy gives its logger a handler at import and reports each round through it
    log = logging.getLogger("harmonypy")
    level = log.level
    log.setLevel(logging.WARNING)
    state = np.random.get_state()  # noqa: NPY002
    try:
        result = harmonypy.run_harmony(
            matrix,
            pd.DataFrame({"batch": batches.astype(str)}),
            "batch",
            max_iter_harmony=max_iter,
            random_state=random_state,
            verbose=False,
        )
    finally:
        np.random.set_state(state)  # noqa: NPY002
        log.setLevel(level)
    corrected = np.asarray(result.Z_corr)
    if corrected.shape != matrix.shape:  # harmonypy before 0.1 gave genes × spots
        msg = f"harmonypy returned the shape {corrected.shape} for {matrix.shape}; version 2.1 or later is needed."
        raise RuntimeError(msg)
    return corrected.astype(np.float32)
