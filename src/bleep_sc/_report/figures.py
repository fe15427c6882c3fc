"""The figures of `bl.pl` that stand in a report."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
from anndata import AnnData

from bleep_sc import _keys
from bleep_sc._adata import spatial_coordinates
from bleep_sc._report.asked import Asked
from bleep_sc._report.genes import is_calibrated
from bleep_sc._report.maps import name_of
from bleep_sc._report.pictures import of_figure
from bleep_sc._report.records import MEASURED, PREDICTED, Picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DPI = 84
_DPI_OF_SCORES = 110


@contextmanager
def plain_matplotlib() -> Iterator[None]:
    """A ``with`` block for figures on a white page: in matplotlib's own style, and with no window."""
    import matplotlib
    import matplotlib.pyplot as plt

    with plt.ioff(), matplotlib.rc_context(), warnings.catch_warnings():
        # of a name in a script that the font lacks: the text beside the figure has it
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        # of names so long that no room is left beside them
        warnings.filterwarnings("ignore", message="constrained_layout not applied")
        matplotlib.rcdefaults()
        before = set(plt.get_fignums())
        try:
            yield
        finally:
            for number in set(plt.get_fignums()) - before:  # one that an error left open
                plt.close(number)


def side_by_side(asked: Asked) -> Iterator[Picture]:
    """Draw the maps of all genes side by side, a figure for each slide."""
    from bleep_sc.pl import imputed

    small = _small(asked)
    for section in asked.sections:
        fig = imputed(
            small,
            list(asked.genes),
            layer=asked.layer,
            library_key=asked.library_key,
            library_id=section.name,
            img_key=asked.img_key,
            show=False,
            return_fig=True,
        )
        maps = "measured map, predicted map and their difference" if small.X is not None else "predicted map"
        alt = f"{name_of(section)}: H&E picture, {maps} of {', '.join(asked.genes)}."
        yield of_figure(cast("Figure", fig), alt, dpi=_DPI, kind="jpeg")


def of_predictable_genes(asked: Asked) -> Picture | None:
    """Draw the expected scores of all genes; None where nothing was calibrated."""
    from bleep_sc.pl import predictable_genes

    if asked.ref is None or not is_calibrated(asked):
        return None
    expected = np.asarray(asked.ref.var[_keys.expected_pearson(asked.key)], dtype=np.float64)
    if not np.isfinite(expected).any():
        return None
    fig = predictable_genes(asked.ref, key=asked.key, show=False, return_fig=True)
    alt = "Expected correlation of each gene in another section, best gene first, with its interval."
    return of_figure(cast("Figure", fig), alt, dpi=_DPI_OF_SCORES, kind="png")


def of_calibration(asked: Asked) -> Picture | None:
    """Draw how many measured values lay within the bounds on held-out tissue; None where nothing was calibrated."""
    from bleep_sc.pl import calibration

    if asked.ref is None or "coverage" not in asked.ref.uns.get(asked.key, {}):
        return None
    fig = calibration(asked.ref, key=asked.key, show=False, return_fig=True)
    alt = "Share of measured values that lay within the bounds, by level and by group of held-out tissue."
    return of_figure(cast("Figure", fig), alt, dpi=_DPI_OF_SCORES, kind="png")


def _small(asked: Asked) -> AnnData:
    """Make an AnnData of the chosen genes alone, in memory, with what `pl.imputed` reads."""
    query, genes = asked.query, list(asked.genes)
    obs = pd.DataFrame(index=[str(row) for row in range(query.n_obs)])
    if asked.library_key is not None:
        obs[asked.library_key] = np.asarray(query.obs[asked.library_key].astype(str))
    of_query: pd.DataFrame = query.var
    scores = [column for column in (_keys.pearson(asked.layer),) if column in of_query]
    obsm: dict[str, Any] = {_keys.SPATIAL: spatial_coordinates(query)}
    small = AnnData(
        asked.values.get(MEASURED.name),
        obs=obs,
        var=pd.DataFrame({column: of_query.loc[genes, column].to_numpy() for column in scores}, index=genes),
        obsm=obsm,
        layers={asked.layer: asked.values[PREDICTED.name]},
    )
    for name in (_keys.SPATIAL, _keys.scores(asked.layer)):
        if name in query.uns:
            small.uns[name] = query.uns[name]
    return small
