import numpy as np
import pytest
from scipy import sparse

from bleep_sc.metrics import gene_gene


def naive(truth: np.ndarray, prediction: np.ndarray) -> float:
    upper = np.triu_indices(truth.shape[1], 1)
    return float(np.corrcoef(np.corrcoef(truth.T)[upper], np.corrcoef(prediction.T)[upper])[0, 1])


def linked(n_obs: int, n_genes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n_genes)
    truth = rng.normal(size=(n_obs, 5)) @ rng.normal(size=(5, n_genes)) + rng.normal(size=(n_obs, n_genes))
    return truth, truth + rng.normal(0, 2, size=truth.shape)


# more spots than genes, more genes than spots, and several blocks of genes
@pytest.mark.parametrize(("n_obs", "n_genes"), [(50, 20), (20, 50), (30, 2500)])
def test_equals_the_upper_triangles(n_obs: int, n_genes: int) -> None:
    truth, prediction = linked(n_obs, n_genes)
    expected = naive(truth, prediction)
    assert 0.1 < expected < 0.95
    assert gene_gene(truth, prediction) == pytest.approx(expected, abs=1e-5)
    assert gene_gene(sparse.csr_matrix(truth), prediction) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("n_obs", "n_genes"), [(50, 20), (20, 50)])
def test_genes_that_do_not_vary_are_left_out(n_obs: int, n_genes: int) -> None:
    truth, prediction = linked(n_obs, n_genes)
    truth[:, 3] = 1
    prediction[:, 5] = 0.1
    prediction[2, 7] = np.nan
    kept = np.setdiff1d(np.arange(n_genes), [3, 5, 7])
    assert gene_gene(truth, prediction) == pytest.approx(naive(truth[:, kept], prediction[:, kept]), abs=1e-5)


@pytest.mark.parametrize(("n_obs", "n_genes"), [(50, 20), (20, 50)])
def test_no_structure(n_obs: int, n_genes: int) -> None:
    truth, _ = linked(n_obs, n_genes)
    assert gene_gene(truth, np.ones_like(truth)) == 0
    alike = np.repeat(truth[:, :1], n_genes, axis=1) * np.arange(1, n_genes + 1)
    assert gene_gene(truth, alike) == 0
    assert np.isnan(gene_gene(alike, truth))
    assert np.isnan(gene_gene(truth[:, :2], truth[:, :2]))
    assert gene_gene(truth, truth) == pytest.approx(1)
