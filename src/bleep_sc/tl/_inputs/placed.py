"""Knows the rows that a model placed in its space by their fingerprints, whatever their order and number."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._blocks import LazyRows, row_blocks, rows_at
from bleep_sc._logging import warn
from bleep_sc.io._reference_record import PLACED

_ROWS_OF_LAZY = 64
_STEP = np.uint64(0x9E3779B97F4A7C15)
_SPACES = {"image": _keys.image_embedding, "expression": _keys.expression_embedding, "components": _keys.components}
"""The key of `obsm` of each part of a model's space."""


def fingerprints_of(embeddings: Mapping[str, Any], key: str, model: str) -> dict[str, np.ndarray]:
    """Compute the fingerprints of placed rows, by the one name that follows from them.

    Parameters
    ----------
    embeddings
        The placed rows by field of `obsm`, float32 (n_obs, dim); None where the model has no such field.
    key
        Name of the model.
    model
        The checksum of its weights.
    """
    rows = {space: embeddings.get(of(key)) for space, of in _SPACES.items()}
    found = [_fingerprints(placed, f"{model}/{space}") for space, placed in rows.items() if placed is not None]
    together = np.unique(np.concatenate(found))
    return {f"{int(together.sum(dtype=np.uint64)):016x}": together}


def record_placed(adata: AnnData, embeddings: Mapping[str, Any], key: str, model: str) -> None:
    """Add the fingerprints of placed rows to `uns[key]`, beside a model or without one.

    Earlier ones are forgotten where all that `obsm` holds was placed again. An entry of another kind is left alone, and
    so is a model without a record, of which only some fields were placed again: nothing is known of the others.
    """
    entry = adata.uns.get(key, {})
    if not isinstance(entry, Mapping):
        return
    left = [field for field in (of(key) for of in _SPACES.values()) if field in adata.obsm and field not in embeddings]
    earlier = entry.get(PLACED) if left else {}
    if isinstance(earlier, Mapping) and (earlier or not left):
        adata.uns[key] = {**entry, PLACED: {**earlier, **fingerprints_of(embeddings, key, model)}}


def warn_of_strange_rows(placed: Mapping[str, Any], known: np.ndarray, *, key: str, model: str) -> bool:
    """Warn where rows are not those that the model placed, and tell whether there are any.

    Of a lazy array some rows are looked at, spread over it.

    Parameters
    ----------
    placed
        The rows by field of `obsm`, in memory or lazy; None where a field is not read.
    known
        The fingerprints of all rows that the model placed.
    key
        Name of the model.
    model
        The checksum of its weights.
    """
    for space, of in _SPACES.items():
        rows = placed.get(of(key))
        if rows is None:
            continue
        looked_at = rows
        if isinstance(rows, LazyRows):
            some = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _ROWS_OF_LAZY)).astype(int))
            looked_at = np.asarray(rows_at(rows, some), dtype=np.float32)
        strange = np.flatnonzero(~_among(_fingerprints(looked_at, f"{model}/{space}"), known))
        if len(strange) and not _is_half_precision(looked_at[strange[:_ROWS_OF_LAZY]]):
            warn(
                f"`ref.obsm[{of(key)!r}]` is not what the model {key!r} makes of `ref` ({len(strange)} of "
                f"{len(looked_at)} rows{' looked at' if len(looked_at) < len(rows) else ''}): it is of another model, "
                "as after a concat of references that were fitted apart, or was changed since. Place all spots again "
                f"with `bleep_sc.tl.embed(ref, key={key!r})`."
            )
            return True
    return False


def _fingerprints(rows: np.ndarray, salt: str) -> np.ndarray:
    """Compute a number of each row from its bytes, uint64 (n,); the salt makes other numbers of the same rows.

    It is a sum of products with odd factors, modulo 2**64: rows that differ in one value never have the same.
    """
    start = np.frombuffer(hashlib.sha256(salt.encode()).digest()[:8], dtype="<u8").astype(np.uint64)
    factors = _scrambled(start + _STEP * np.arange(1, rows.shape[1] + 1, dtype=np.uint64)) | np.uint64(1)
    out = np.empty(len(rows), dtype=np.uint64)
    for part in row_blocks(rows):
        bits = np.ascontiguousarray(rows[part], dtype="<f4").view("<u4")
        out[part] = np.einsum("ij,j->i", bits, factors)  # which makes no copy of all bits as the longer type
    return _scrambled(out)


def _among(numbers: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Tell which numbers are known, as `np.isin` does in four times as long (n,)."""
    if not len(known):
        return np.zeros(len(numbers), dtype=bool)
    known = np.sort(known)
    return np.asarray(known.take(np.searchsorted(known, numbers), mode="clip") == numbers)


def _scrambled(numbers: np.ndarray) -> np.ndarray:
    """Mix the bits of each number, as the generator SplitMix64 does; no two numbers become the same."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def _is_half_precision(rows: np.ndarray) -> bool:
    """Tell whether rows were rounded to float16, to save space: then nothing can be told by their bytes."""
    with np.errstate(over="ignore"):
        return np.array_equal(rows.astype(np.float16).astype(np.float32), rows)
