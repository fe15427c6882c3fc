"""Read from an AnnData the matrices of expression that models learn from and average."""

from functools import partial
from typing import Any

import numpy as np
from anndata import AnnData
from scipy import sparse

from bleep_sc import _keys
from bleep_sc._adata import as_numbers, as_text
from bleep_sc._blocks import LazyRows, dense, is_lazy
from bleep_sc._checks import MAX_VALUE, MissingKeyError, check_in
from bleep_sc._logging import logger, warn
from bleep_sc._stats import Expression, extremes, looks_like_counts, rows_beyond


def path_of(name: str, layer: str | None) -> str:
    """Full name of `X` or a layer, as messages give it."""
    return f"{name}.X" if layer is None else f"{name}.layers[{layer!r}]"


def expression_values(adata: AnnData, layer: str | None, *, name: str) -> Any:
    """Return `X` or a layer in memory, as a NumPy array or CSR; refuse NaN."""
    values = _stored_values(adata, layer, name=name)
    if is_lazy(values):
        values = values.compute()
    elif hasattr(values, "to_memory"):  # backed
        values = values.to_memory()
    values = _in_order(sparse.csr_matrix(values)) if sparse.issparse(values) else np.asarray(values)
    _check_values(values, path_of(name, layer))
    # which no sparse matrix can hold
    return values.astype(np.float32) if values.dtype == np.float16 else values


def count_values(adata: AnnData, layer: str | None, *, name: str = "adata") -> sparse.csr_matrix:
    """Return counts of `X` or a layer as CSR; refuse values that are negative or no whole numbers."""
    values = expression_values(adata, layer, name=name)
    stored = values.data if sparse.issparse(values) else values
    path = path_of(name, layer)
    if stored.size and (stored.min() < 0 or not (stored == np.rint(stored)).all()):
        odd = stored[(stored < 0) | (stored != np.rint(stored))][0]
        msg = (
            f"`{path}` must hold raw counts, whole numbers from 0 up; found {odd:.6g}. Keep them before normalising: "
            "`adata.layers['counts'] = adata.X.copy()`."
        )
        raise ValueError(msg)
    return sparse.csr_matrix(values)


def reference_values(ref: AnnData, layer: str | None) -> Any:
    """Return `X` or a layer of a reference; dask arrays stay on disk, and are read and checked part by part."""
    values = _stored_values(ref, layer, name="ref")
    if not is_lazy(values):
        return expression_values(ref, layer, name="ref")
    path = path_of("ref", layer)
    _check_numeric(values.dtype, path)
    return LazyRows(values, check=partial(_check_values, path=path))


def _stored_values(adata: AnnData, layer: str | None, *, name: str) -> Any:
    if layer is not None:
        check_in(f"{name}.layers", layer, adata.layers.keys(), remedy="`layer=None` takes `X`.")
    values: Any = adata.X if layer is None else adata.layers[layer]
    path = path_of(name, layer)
    if adata.n_vars == 0:
        msg = f"`{name}` has no genes (n_vars = 0): expression is needed in `{path}`. Was it subset by a wrong mask?"
        raise ValueError(msg)
    if values is None:
        msg = f"`{path}` is empty: expression is needed there. A section without any can only be a query."
        raise MissingKeyError(msg)
    if tuple(values.shape) != adata.shape:
        msg = f"`{path}` must have the shape (n_obs, n_vars) = {adata.shape}, found {tuple(values.shape)}."
        raise ValueError(msg)
    return values


def _in_order(values: sparse.csr_matrix) -> sparse.csr_matrix:
    """Return a matrix that holds each value once and in order of genes.

    SciPy would do that itself when it computes, but in the user's own buffers.
    """
    if not values.has_canonical_format:
        values = values.copy()
        values.sum_duplicates()
    return values


def _check_values(values: Any, path: str) -> None:
    stored = values.data if sparse.issparse(values) else values
    _check_numeric(stored.dtype, path)
    if not stored.size or stored.dtype.kind == "b":
        return
    with np.errstate(invalid="ignore"):
        low, high = extremes(stored)
    if not np.isfinite(low) or not np.isfinite(high):
        msg = f"`{path}` holds NaN or infinite values. Remove or replace them first."
        raise ValueError(msg)
    if max(-low, high) > MAX_VALUE:
        msg = (
            f"`{path}` holds values as large as {max(-low, high):.3g}, which no expression has (at most "
            f"{MAX_VALUE:.0e}): the file or its units are damaged. Normalise the raw counts again "
            "(`sc.pp.normalize_total`, then `sc.pp.log1p`)."
        )
        raise ValueError(msg)


def _check_numeric(dtype: np.dtype, path: str) -> None:
    if dtype.kind not in "fiub":
        msg = f"`{path}` must hold numbers, found {dtype}."
        raise ValueError(msg)


def expression_input(
    adata: AnnData,
    *,
    layer: str | None,
    use_rep: str | None,
    mask_var: str | None,
    genes: np.ndarray | None = None,
    keep_sparse: bool = False,
    name: str = "adata",
) -> Expression:
    """Gather the expression input: a representation of `obsm`, or selected genes of `X` or a layer.

    With `genes`, exactly these are taken, in their order, as a stored model needs. With `keep_sparse` the input is CSR
    where it is stored sparse, else dense.
    """
    if use_rep is not None:
        return _representation(adata, use_rep, genes=genes, name=name)
    chosen = _positions(adata, genes, mask_var, name=name)
    values = expression_values(adata, layer, name=name)
    return _selected(adata, values, chosen, keep_sparse=keep_sparse, path=path_of(name, layer))


def training_expression(
    adata: AnnData, *, layer: str | None, use_rep: str | None, mask_var: str | None, keep_sparse: bool
) -> tuple[Expression, Expression]:
    """Gather the expression input, and the values of all genes, of one reading of `X` or a layer."""
    names = adata.var_names.to_numpy().astype(str)
    if use_rep is not None:
        chosen = _representation(adata, use_rep, genes=None, name="adata")
        return chosen, Expression(expression_values(adata, layer, name="adata"), names)
    positions = _positions(adata, None, mask_var, name="adata")
    values = expression_values(adata, layer, name="adata")
    chosen = _selected(adata, values, positions, keep_sparse=keep_sparse, path=path_of("adata", layer))
    return chosen, Expression(values, names)


def _positions(adata: AnnData, genes: np.ndarray | None, mask_var: str | None, *, name: str) -> np.ndarray:
    """Positions of the named genes, else of those that a column of `var` selects."""
    if genes is None:
        return chosen_genes(adata, mask_var, name=name)
    positions = as_text(adata.var_names).get_indexer(genes)
    if (positions < 0).any():
        absent = genes[positions < 0]
        msg = f"`{name}` lacks {len(absent)} of the {len(genes)} genes that the model reads, such as {absent[0]!r}."
        raise ValueError(msg)
    return np.asarray(positions)


def _selected(adata: AnnData, values: Any, positions: np.ndarray, *, keep_sparse: bool, path: str) -> Expression:
    """Take some genes of log-normalised expression: float32, dense unless they are to stay sparse."""
    values = values[:, positions]
    matrix: Any = (values if keep_sparse else dense(values)).astype(np.float32, copy=False)
    stored = matrix.data if sparse.issparse(matrix) else matrix
    if (stored < 0).any():
        msg = (
            f"`{path}` has negative values, found {stored.min():.3g}: log-normalised expression is expected "
            "(`sc.pp.normalize_total`, then `sc.pp.log1p`, no scaling). Batch-corrected expression goes in by "
            "`use_rep='X_harmony'`, made by `bleep_sc.pp.harmonize`."
        )
        raise ValueError(msg)
    warn_if_counts(matrix, path)
    return Expression(matrix, adata.var_names[positions].to_numpy().astype(str))


def warn_if_counts(values: Any, path: str) -> None:
    """Warn where raw counts stand in place of log-normalised expression, and say how to normalise."""
    if looks_like_counts(values):
        warn(
            f"`{path}` looks like raw counts (integers up to {values.max():.0f}), but log-normalised expression is "
            "expected: keep the counts by `adata.layers['counts'] = adata.X.copy()`, then "
            "`sc.pp.normalize_total(adata, target_sum=1e4)` and `sc.pp.log1p(adata)`."
        )


def chosen_genes(adata: AnnData, mask_var: str | None, *, name: str) -> np.ndarray:
    """Positions of the genes that a boolean column of `var` selects; None is "highly_variable" if there, else all."""
    if mask_var is None:
        if _keys.HIGHLY_VARIABLE not in adata.var:
            logger.info(
                "All %d genes are used: `%s.var` has no column 'highly_variable' (`pp.select_genes` makes it).",
                adata.n_vars,
                name,
            )
            return np.arange(adata.n_vars)
        mask_var = _keys.HIGHLY_VARIABLE
    check_in(f"{name}.var", mask_var, adata.var.columns, remedy="`mask_var` names a boolean column of `var`.")
    mask = adata.var[mask_var].to_numpy()
    if mask.dtype != bool:
        msg = f"`{name}.var[{mask_var!r}]` must be boolean, found {mask.dtype}."
        raise ValueError(msg)
    if not mask.any():
        msg = f"`{name}.var[{mask_var!r}]` selects no gene. Run `bleep_sc.pp.select_genes({name})`."
        raise ValueError(msg)
    return np.flatnonzero(mask)


def _representation(adata: AnnData, use_rep: str, *, genes: np.ndarray | None, name: str) -> Expression:
    check_in(f"{name}.obsm", use_rep, adata.obsm.keys(), remedy="`bleep_sc.pp.harmonize` makes `obsm['X_harmony']`.")
    path = f"{name}.obsm[{use_rep!r}]"
    matrix = as_numbers(adata.obsm[use_rep], path=path, remedy="A dense array with a column a value is expected.")
    if matrix.ndim != 2 or not matrix.shape[1] or rows_beyond(matrix, MAX_VALUE).any():
        msg = f"`{path}` must have one or more columns of finite numbers, found the shape {matrix.shape}" + (
            "." if matrix.ndim != 2 or not matrix.shape[1] else f" with NaN, or values above {MAX_VALUE:.0e}."
        )
        raise ValueError(msg)
    record = adata.uns.get(use_rep.removeprefix("X_"))
    names = record.get("genes") if isinstance(record, dict) else None
    if names is None or len(names) != matrix.shape[1]:
        names = [f"{use_rep}_{i}" for i in range(matrix.shape[1])]
    names = np.asarray(names, dtype=object).astype(str)
    if genes is not None and not np.array_equal(names, genes):
        msg = f"`{path}` has other columns than the model was trained on: {len(names)}, not the model's {len(genes)}."
        raise ValueError(msg)
    return Expression(matrix, names)


def lacks_expression(adata: AnnData, layer: str | None, use_rep: str | None, genes: Any) -> str:
    """Say why a model cannot read the expression of these spots; empty where it can."""
    if use_rep is not None:
        return "" if use_rep in adata.obsm else f"`adata.obsm[{use_rep!r}]` does not exist"
    if layer is not None and layer not in adata.layers:
        return f"`adata.layers[{layer!r}]` does not exist"
    if layer is None and adata.X is None:
        return "`adata.X` is empty"
    missing = (as_text(adata.var_names).get_indexer(genes) < 0).sum()
    return f"`adata` lacks {missing} of the {len(genes)} genes that the model reads" if missing else ""
