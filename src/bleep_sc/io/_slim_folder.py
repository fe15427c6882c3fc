from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._checks import check_key_added
from bleep_sc._untrusted import REMEDY
from bleep_sc.io._folder import model_folder, read_folder
from bleep_sc.io._gene_columns import GENE_COLUMNS, columns_from_bytes


def read_slim_model(path: str | Path, *, key_added: str = _keys.MODEL) -> AnnData:
    """Read a slim model, which predicts without reference spots, from a folder.

    The result stands in the place of the reference in :func:`~bleep_sc.tl.impute`, :func:`~bleep_sc.tl.intervals`,
    :func:`~bleep_sc.pp.blank` and :func:`bleep_sc.report`. It holds no spot.

    The folder may come from anywhere. Both files are checked for size and content, and nothing in them is ever run.

    Parameters
    ----------
    path
        Folder that ``write_model(ref, path, slim=True)`` wrote.
    key_added
        Name of the model; :func:`~bleep_sc.tl.impute` takes it as `key`.

    Returns
    -------
    An AnnData of no spots and all genes of the model (0, n_vars), with the following fields:

    `.uns['bleep' | key_added]` : `dict`
        The model, marked as slim. If the reference was calibrated for it, also ``calibration``, ``coverage`` and
        ``scope``, as :func:`~bleep_sc.tl.calibrate` sets them. Patients and sections have numbers for names.
    `.var['bleep_predictable' | '{key_added}_predictable']` : bool
        Whether the image tells of the gene. This column and the next three are there if the reference had them.
    `.var['bleep_expected_pearson' | ...]`, `.var['..._lower']`, `.var['..._upper']` : float
        The correlation to expect, and its bounds.

    Raises
    ------
    FileNotFoundError
        The folder, or one of its two files, is not there.
    ValueError
        The folder holds a full model, which :func:`read_model` reads; or the files are damaged, are larger than any
        model, do not belong together, or are links.
    PermissionError
        You may not read a file.

    See Also
    --------
    write_model : Writes the folder.

    Examples
    --------
    >>> bl.io.write_model(ref, "shared", slim=True)  # doctest: +SKIP
    >>> ref = bl.io.read_slim_model("shared")  # doctest: +SKIP
    >>> bl.tl.impute(query, ref)  # doctest: +SKIP
    """
    check_key_added("key_added", key_added)
    folder = model_folder(path)
    stored, trust = read_folder(folder)
    where = f"{str(folder)!r}"
    if not stored.config.slim:
        msg = (
            f"{where} holds a full model, which needs reference spots of your own: "
            "`bleep_sc.io.read_model(adata, folder)`. For a slim one, its owner runs "
            "`bleep_sc.io.write_model(ref, folder, slim=True)`."
        )
        raise ValueError(msg)

    from bleep_sc.methods.registry import method_of_stored

    method = method_of_stored(stored.config.method, stored.config.model["kind"])
    if method is not None and method.retrieves:
        msg = f"{where}: the config calls the model slim, and it is of a kind that retrieves spots. {REMEDY}"
        raise ValueError(msg)
    columns: Mapping[str, np.ndarray] = {}
    if GENE_COLUMNS in trust:
        at = f"{where}: `trust.{GENE_COLUMNS}`"
        columns = columns_from_bytes(trust.pop(GENE_COLUMNS), stored.genes, key=key_added, where=at)
    var = pd.DataFrame(dict(columns), index=pd.Index(stored.genes.astype(object)))
    return AnnData(np.zeros((0, len(var)), dtype=np.float32), var=var, uns={key_added: {**stored.to_uns(), **trust}})
