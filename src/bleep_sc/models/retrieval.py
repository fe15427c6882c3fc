"""Which reference spots lie nearest, and the average of their expression."""

from typing import Literal

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torch.nn.functional import normalize

Weighting = Literal["mean", "distance", "softmax"]
_QUERY_BLOCK = 1024
_KEY_BLOCK = 16384


def nearest(
    query: np.ndarray,
    keys: np.ndarray,
    k: int,
    *,
    leave_out: np.ndarray | None = None,
    device: torch.device | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Find the k keys of highest cosine similarity, exactly, without the whole similarity matrix in memory.

    Parameters
    ----------
    query, keys
        Embeddings (n, d) and (m, d).
    k
        Number of neighbours, at most m.
    leave_out
        For each query the one key that it must not retrieve, -1 for none.

    Returns
    -------
    Rows of the keys int32 (n, k), best first, and float32 (n, k) distances 1 - cosine, ascending.
    """
    keys_unit = normalize(torch.from_numpy(keys).to(device).float())
    rows, distances = [], []
    for start in range(0, len(query), _QUERY_BLOCK):
        block = normalize(torch.from_numpy(query[start : start + _QUERY_BLOCK]).to(device).float())
        banned = None if leave_out is None else torch.from_numpy(leave_out[start : start + _QUERY_BLOCK]).to(device)
        similarity, found = _best_of_blocks(block, keys_unit, k, banned)
        rows.append(found.to(torch.int32).cpu().numpy())
        distances.append((1 - similarity).clamp(min=0).cpu().numpy())
    return np.concatenate(rows), np.concatenate(distances)


def _best_of_blocks(query: Tensor, keys: Tensor, k: int, banned: Tensor | None) -> tuple[Tensor, Tensor]:
    best = query.new_empty((len(query), 0))
    rows = torch.empty((len(query), 0), dtype=torch.long, device=query.device)
    for start in range(0, len(keys), _KEY_BLOCK):
        similarity = query @ keys[start : start + _KEY_BLOCK].T
        if banned is not None:
            own = (banned >= start) & (banned < start + similarity.shape[1])
            similarity[own.nonzero().squeeze(1), banned[own] - start] = -torch.inf
        here, at = similarity.topk(min(k, similarity.shape[1]), dim=1)
        best, rows = torch.cat([best, here], dim=1), torch.cat([rows, at + start], dim=1)
        best, order = best.topk(min(k, best.shape[1]), dim=1)
        rows = rows.gather(1, order)
    return best, rows


def nearest_approximately(
    query: np.ndarray, keys: np.ndarray, k: int, *, leave_out: np.ndarray | None = None, random_state: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Find most of the k nearest keys with pynndescent; arguments and result as in `nearest`."""
    from pynndescent import NNDescent

    extra = 0 if leave_out is None else 1
    index = NNDescent(keys, metric="cosine", n_neighbors=max(30, k + extra), random_state=random_state)
    rows, distances = index.query(query, k=k + extra)
    if leave_out is not None:
        keep = rows != leave_out[:, None]
        # where the banned key was not found, the farthest one goes instead
        keep[keep.all(axis=1), -1] = False
        rows, distances = rows[keep].reshape(-1, k), distances[keep].reshape(-1, k)
    return rows.astype(np.int32), np.maximum(distances, 0).astype(np.float32)


def neighbor_weights(distances: np.ndarray, weighting: Weighting, *, temperature: float = 0.1) -> np.ndarray:
    """Weights of the neighbours, each row summing to 1, float32 (n, k).

    ``"mean"`` weighs all alike (the paper's default), ``"distance"`` by the inverse of 1 - cosine, ``"softmax"`` by
    exp(cosine / `temperature`).
    """
    if weighting == "mean":
        weights = np.ones_like(distances, dtype=np.float64)
    elif weighting == "distance":
        weights = 1 / np.maximum(distances.astype(np.float64), 1e-6)
    else:
        # relative to the nearest, so that no exponential overflows
        weights = np.exp((distances[:, :1].astype(np.float64) - distances) / temperature)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def average_profiles(values: np.ndarray | sparse.csr_matrix, rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Average rows of `values` (m, n_genes), dense or CSR, to float32 (n, n_genes)."""
    n, k = rows.shape
    out = np.empty((n, values.shape[1]), dtype=np.float32)
    for start in range(0, n, _QUERY_BLOCK):
        part = slice(start, start + _QUERY_BLOCK)
        block = rows[part]
        mix = sparse.csr_matrix(
            (weights[part].ravel(), block.ravel(), np.arange(0, block.size + 1, k)), shape=(len(block), values.shape[0])
        )
        product = mix @ values
        out[part] = product.toarray() if sparse.issparse(product) else product
    return out
