"""Objects as ten readers make them, and broken ones: each function takes a sound AnnData and returns another."""

from collections.abc import Callable
from functools import partial

import dask.array as da
import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

Change = Callable[[AnnData], AnnData]


def _dense(adata: AnnData) -> np.ndarray:
    return adata.X.toarray() if sparse.issparse(adata.X) else np.asarray(adata.X)


def with_x(adata: AnnData, make: Callable[[np.ndarray], object]) -> AnnData:
    """The same with another matrix, made of the dense one."""
    adata = adata.copy()
    adata.X = make(_dense(adata))
    return adata


def _some(adata: AnnData, value: float, rows: slice, columns: slice) -> AnnData:
    x = _dense(adata).copy()
    x[rows, columns] = value
    return with_x(adata, lambda _: sparse.csr_matrix(x) if np.isfinite(value) else x)


def _named(adata: AnnData, axis: str, name: Callable[[int], object]) -> AnnData:
    adata = adata.copy()
    setattr(adata, f"{axis}_names", pd.Index([name(i) for i in range(adata.shape[axis == "var"])]))
    return adata


def _non_string(adata: AnnData, axis: str) -> AnnData:
    adata = adata.copy()
    frame = getattr(adata, axis)
    frame.index = pd.RangeIndex(len(frame))
    return adata


def _spatial_frame(adata: AnnData) -> AnnData:
    adata = adata.copy()
    adata.obsm["spatial"] = pd.DataFrame(adata.obsm["spatial"], index=adata.obs_names, columns=["x", "y"])
    return adata


def _spatial(adata: AnnData, change: Callable[[np.ndarray], np.ndarray]) -> AnnData:
    adata = adata.copy()
    adata.obsm["spatial"] = change(np.asarray(adata.obsm["spatial"], dtype=float))
    return adata


def _first(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(xy: np.ndarray) -> np.ndarray:
        xy = xy.copy()
        xy[0, 0] = value
        return xy

    return change


def _unused_levels(adata: AnnData) -> AnnData:
    adata = adata.copy()
    for name in adata.obs:
        if isinstance(adata.obs[name].dtype, pd.CategoricalDtype):
            adata.obs[name] = adata.obs[name].cat.add_categories(["nobody"])
    return adata


def _with_raw(adata: AnnData) -> AnnData:
    adata = adata.copy()
    adata.raw = adata[:, : max(1, adata.n_vars // 2)].copy()
    return adata


VALUES: dict[str, Change] = {
    "csr": partial(with_x, make=sparse.csr_matrix),
    "csc": partial(with_x, make=sparse.csc_matrix),
    "csr array": partial(with_x, make=sparse.csr_array),
    "dense": partial(with_x, make=lambda x: x),
    "dense by columns": partial(with_x, make=np.asfortranarray),
    "float64": partial(with_x, make=lambda x: x.astype(np.float64)),
    "float16": partial(with_x, make=lambda x: x.astype(np.float16)),
    "integer": partial(with_x, make=lambda x: x.astype(np.int64)),
    "boolean": partial(with_x, make=lambda x: x > 0),
    "dask": partial(with_x, make=lambda x: da.from_array(x, chunks=(7, -1))),
    "no matrix": partial(with_x, make=lambda _: None),
    "a zero spot": partial(_some, value=0, rows=slice(0, 1), columns=slice(None)),
    "a zero gene": partial(_some, value=0, rows=slice(None), columns=slice(0, 1)),
    "all zero": partial(_some, value=0, rows=slice(None), columns=slice(None)),
    "a NaN": partial(_some, value=np.nan, rows=slice(1, 2), columns=slice(1, 2)),
    "an infinity": partial(_some, value=np.inf, rows=slice(1, 2), columns=slice(1, 2)),
    "all NaN": partial(_some, value=np.nan, rows=slice(None), columns=slice(None)),
    "huge": partial(with_x, make=lambda x: x.astype(np.float64) * 1e30),
    "tiny": partial(with_x, make=lambda x: x.astype(np.float64) * 1e-30),
    "negative": partial(with_x, make=lambda x: -x),
}
"""What may stand in `X`."""

SHAPES: dict[str, Change] = {
    "no spots": lambda adata: adata[:0].copy(),
    "no genes": lambda adata: adata[:, :0].copy(),
    "one spot": lambda adata: adata[:1].copy(),
    "one gene": lambda adata: adata[:, :1].copy(),
    "a view": lambda adata: adata[: adata.n_obs - 1],
    "raw set": _with_raw,
}

NAMES: dict[str, Change] = {
    "genes of unicode": partial(_named, axis="var", name=lambda i: f"gén-β {i}"),
    "genes with a slash": partial(_named, axis="var", name=lambda i: f"HLA/A{i}"),
    "an empty gene name": partial(_named, axis="var", name=lambda i: "" if i == 0 else f"g{i}"),
    "genes twice": partial(_named, axis="var", name=lambda i: f"g{max(i, 1)}"),
    "spots twice": partial(_named, axis="obs", name=lambda i: f"spot{max(i, 1)}"),
    "numbered genes": partial(_non_string, axis="var"),
    "numbered spots": partial(_non_string, axis="obs"),
    "genes permuted": lambda adata: adata[:, ::-1].copy(),
    "unused levels": _unused_levels,
}

PLACES: dict[str, Change] = {
    "spatial as a table": _spatial_frame,
    "spatial of three columns": partial(_spatial, change=lambda xy: np.column_stack([xy, xy[:, 0]])),
    "spatial of integers": partial(_spatial, change=lambda xy: xy.astype(int)),
    "spatial with NaN": partial(_spatial, change=_first(np.nan)),
    "spatial with infinity": partial(_spatial, change=_first(np.inf)),
    "all spots at one place": partial(_spatial, change=np.zeros_like),
}

EVERY: dict[str, Change] = VALUES | SHAPES | NAMES | PLACES
