import numpy as np
import pytest
import scanpy as sc
from scipy import sparse
from skimage.metrics import structural_similarity

from bleep_sc.metrics import morans_i, spot_graph, ssim


def section(n_rows: int, n_columns: int, *, holes: float, n_genes: int = 4) -> tuple[np.ndarray, ...]:
    """Grid, truth and prediction of spots on a lattice with holes."""
    rng = np.random.default_rng(n_rows)
    grid = np.argwhere(rng.uniform(size=(n_rows, n_columns)) >= holes)
    grid = np.vstack([[[0, 0], [n_rows - 1, n_columns - 1]], grid])
    grid = np.unique(grid, axis=0)[rng.permutation(len(np.unique(grid, axis=0)))]
    truth = rng.gamma(1, size=(len(grid), n_genes))
    return grid, truth, truth + rng.normal(0.5, 0.7, size=truth.shape)


@pytest.mark.parametrize(
    ("n_rows", "n_columns", "holes", "width"),
    [(12, 15, 0.0, 7), (20, 11, 0.4, 7), (7, 9, 0.2, 7), (6, 30, 0.2, 5), (5, 5, 0.3, 5), (4, 9, 0.1, 3), (3, 8, 0, 3)],
)
def test_ssim_equals_the_full_map_of_skimage(n_rows: int, n_columns: int, holes: float, width: int) -> None:
    grid, truth, prediction = section(n_rows, n_columns, holes=holes)
    found = ssim(truth, prediction, grid)
    for gene in range(truth.shape[1]):
        maps = []
        for values in (truth[:, gene], prediction[:, gene]):
            image = np.full((n_rows, n_columns), values.mean())
            image[grid[:, 0], grid[:, 1]] = values
            maps.append(image)
        _, full = structural_similarity(*maps, win_size=width, data_range=np.ptp(truth[:, gene]), full=True)
        assert found[gene] == pytest.approx(full[grid[:, 0], grid[:, 1]].mean(), abs=1e-10)


def test_ssim_of_what_has_no_score() -> None:
    grid, truth, prediction = section(8, 8, holes=0.2)
    np.testing.assert_allclose(ssim(truth, truth, grid), 1)
    truth[:, 0] = 2
    prediction[0, 1] = np.nan
    prediction[:, 2] = 0.5
    score = ssim(truth, prediction, grid)
    assert np.isnan(score[:2]).all()
    assert 0 < score[2] < score[3]
    line = np.stack([np.zeros(10, dtype=int), np.arange(10)], axis=1)
    assert np.isnan(ssim(np.eye(10), np.eye(10), line)).all()
    two = np.argwhere(np.ones((2, 5)))
    assert np.isnan(ssim(np.eye(10), np.eye(10), two)).all()


def test_morans_i_equals_scanpy() -> None:
    rng = np.random.default_rng(0)
    xy = rng.uniform(size=(60, 2))
    values = np.stack([xy[:, 0], rng.normal(size=60), xy.sum(axis=1) ** 2, rng.poisson(1, size=60)], axis=1)
    graph = spot_graph(xy)
    np.testing.assert_allclose(morans_i(values, graph), sc.metrics.morans_i(graph, values.T))
    assert morans_i(values, graph)[0] > 0.7
    assert abs(morans_i(values, graph)[1]) < 0.2


def test_morans_i_of_any_weights() -> None:
    """Also those that differ between the two directions, or that a spot has to itself."""
    rng = np.random.default_rng(0)
    graph = sparse.random(50, 50, density=0.2, rng=rng, format="csr")
    values = rng.gamma(1, size=(50, 6)).astype(np.float32)
    np.testing.assert_allclose(morans_i(values, graph), sc.metrics.morans_i(graph, values.T), rtol=1e-5)


def test_morans_i_by_hand() -> None:
    # four spots in a row, neighbours one step apart: z = -1.5, -.5, .5, 1.5; 4/6 * 2 * (.75 - .25 + .75) / 5
    chain = sparse.csr_matrix(np.eye(4, k=1) + np.eye(4, k=-1))
    values = np.array([[1.0, 7], [2, 7], [3, 7], [4, 7]])
    np.testing.assert_allclose(morans_i(values, chain), [1 / 3, np.nan])


def test_spot_graph_is_symmetric_and_binary() -> None:
    xy = np.array([[0, 0], [1, 0], [2.1, 0], [10, 0]])
    expected = np.array([[0, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 1], [0, 0, 1, 0]])
    np.testing.assert_array_equal(spot_graph(xy, n_neighbors=1).toarray(), expected)
    np.testing.assert_array_equal(spot_graph(xy).toarray(), 1 - np.eye(4))
    lattice = np.argwhere(np.ones((9, 9))).astype(float)
    graph = spot_graph(lattice)
    assert (graph != graph.T).nnz == 0
    assert set(graph.data) == {1.0}
    assert graph.diagonal().sum() == 0
    assert graph.sum(axis=1).min() >= 6
    # of the four diagonal neighbours in second place all are taken: a choice would hang on the order of the spots
    assert graph.sum(axis=1)[40, 0] == 8
    order = np.random.default_rng(0).permutation(81)
    assert (spot_graph(lattice[order]) != graph[order][:, order]).nnz == 0
