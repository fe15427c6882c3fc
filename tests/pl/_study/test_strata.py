from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import bleep_sc as bl


@pytest.fixture
def adata() -> AnnData:
    adata = AnnData(np.zeros((2, 2)))
    nothing = np.nan
    rows = [
        {"by": "expression", "stratum": f"{i} of 3", "from": i, "to": i + 1, "value": 0.1 * i, "ceiling": 0.3 * i}
        | {"low": 0.1 * i - 0.05, "high": 0.1 * i + 0.05, "interval_over": "patients", "n_genes": 50}
        for i in (1, 2, 3)
    ]
    rows += [{"by": "morphology", "stratum": "1 of 3", "note": "cannot be told: a fold trains on one section"}]
    rows += [
        {"by": "gene set", "stratum": f"SET_{i}$x", "programme": 0.1 * i, "programme_chance": 0.2, "n_genes": 10 + i}
        | {"qvalue": 0.01 if i > 3 else 0.5, "value": 0.1}
        for i in range(1, 6)
    ]
    rows += [{"by": "gene set", "stratum": "few", "programme": nothing, "note": "too few"}]
    table = pd.DataFrame(rows).assign(scope="across patients")
    table["note"] = table["note"].fillna("")
    table["interval_over"] = table["interval_over"].fillna("")
    adata.uns["gene_strata"] = {"table": table}
    return adata


def test_a_bar_for_each_stratum_and_its_ceiling(adata: AnnData) -> None:
    (ax,) = bl.pl.predictable_genes(adata, by="expression", return_fig=True).axes
    np.testing.assert_allclose([bar.get_height() for bar in ax.patches], [0.1, 0.2, 0.3])
    ends = {each.get_label(): [path.vertices for path in each.get_paths()] for each in ax.collections}
    np.testing.assert_allclose([line[0, 1] for line in ends["noise ceiling"]], [0.3, 0.6, 0.9])
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1 to\n2", "2 to\n3", "3 to\n4"]
    assert "interval over patients" in " ".join(ax.get_xlabel().split())
    assert ax.get_title(loc="left") == "Genes by expression (across patients)"


def test_the_best_sets_beside_random_ones(adata: AnnData) -> None:
    (ax,) = bl.pl.predictable_genes(adata, by="gene set", n_genes=3, return_fig=True).axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["SET 5$x (15)", "SET 4$x (14)", "SET 3$x (13)"]
    drawn = {line.get_label(): line.get_xdata() for line in ax.get_lines()}
    np.testing.assert_allclose(drawn["above them (q ≤ 0.1)"], [0.5, 0.4])
    np.testing.assert_allclose(drawn["not shown to be"], [0.3])
    np.testing.assert_allclose(drawn["random sets of like genes"], [0.2] * 3)
    assert "Best 3 of 5 sets; 1 with too few" in " ".join(ax.get_xlabel().split())


def test_shown_or_into_axes(adata: AnnData, check_show: Callable[..., None], check_ax: Callable[..., None]) -> None:
    check_show(lambda **how: bl.pl.predictable_genes(adata, by="expression", **how))


def test_into_axes(adata: AnnData, check_ax: Callable[..., None]) -> None:
    check_ax(lambda **how: bl.pl.predictable_genes(adata, by="gene set", **how))


@pytest.mark.odd
def test_what_cannot_be_drawn(adata: AnnData) -> None:
    with pytest.raises(ValueError, match=r"`by='morphology'`: there is nothing to draw.*a fold trains on one section"):
        bl.pl.predictable_genes(adata, by="morphology")
    with pytest.raises(ValueError, match=r"`by='autocorrelation'`.*was not asked for it"):
        bl.pl.predictable_genes(adata, by="autocorrelation")
    with pytest.raises(ValueError, match="`by` must be one of"):
        bl.pl.predictable_genes(adata, by="length")
    with pytest.raises(KeyError, match=r"ref\.uns\['other'\]` does not exist"):
        bl.pl.predictable_genes(adata, by="expression", key="other")
    with pytest.raises(KeyError, match="calibrate"):
        bl.pl.predictable_genes(adata)
    adata.uns["gene_strata"] = {"table": 3}
    with pytest.raises(ValueError, match=r"is damaged.*bleep_sc\.tl\.gene_strata"):
        bl.pl.predictable_genes(adata, by="expression")
