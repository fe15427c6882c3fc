"""What a calibration says of each gene, in `var`: which can be read off an image, and the correlation to expect."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from bleep_sc import _keys
from bleep_sc._adata import as_text
from bleep_sc._untrusted import REMEDY
from bleep_sc.io._bundle import Part, names_from_bytes, names_to_bytes, pack, unpack

GENE_COLUMNS = "gene_columns"
"""The entry of a slim folder."""
_PARTS = {
    "genes": Part("uint8", ("characters of genes",)),
    "predictable": Part("uint8", ("genes",)),
    # infinity stands for NaN: a gene of which nothing is known
    **dict.fromkeys(("expected", "lower", "upper"), Part("float64", ("genes",), finite=False)),
}


def columns_to_bytes(var: pd.DataFrame, key: str, genes: np.ndarray) -> np.ndarray | None:
    """Write the columns that `calibrate` left in `var`, of a model's genes; None where one is not there."""
    names = _keys.of_calibrated_genes(key)
    rows = as_text(var.index).get_indexer(genes)
    if not set(names) <= set(var.columns) or (rows < 0).any():
        return None
    predictable, *numbers = (var[name].to_numpy()[rows] for name in names)
    arrays = {"genes": names_to_bytes(genes), "predictable": predictable.astype(np.uint8)}
    for name, values in zip(("expected", "lower", "upper"), numbers, strict=True):
        as_numbers = values.astype(np.float64)
        arrays[name] = np.where(np.isnan(as_numbers), np.inf, as_numbers)
    return pack(arrays, {})


def columns_from_bytes(stored: Any, genes: np.ndarray, *, key: str, where: str) -> Mapping[str, np.ndarray]:
    """Read the columns of `var`, which must be of the model's genes.

    Raises
    ------
    ValueError
        The bytes are damaged, or of other genes. The message names the part.
    """
    arrays, _ = unpack(stored, _PARTS, where=where)
    same = np.array_equal(names_from_bytes(arrays.pop("genes"), where=where), genes)
    if not same or len(arrays["predictable"]) != len(genes) or (arrays["predictable"] > 1).any():
        msg = f"{where}: its columns are damaged, or of other genes than the model's. {REMEDY}"
        raise ValueError(msg)
    values = [arrays["predictable"].astype(bool)]
    values += [np.where(np.isinf(arrays[name]), np.nan, arrays[name]) for name in ("expected", "lower", "upper")]
    return dict(zip(_keys.of_calibrated_genes(key), values, strict=True))
