from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from bleep_sc import _stats
from bleep_sc._stats import detected_fraction, extremes, gene_means, mean_variance, panels, section_rows


@pytest.fixture
def values() -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.poisson(rng.gamma(1, 2, size=700), size=(40, 700)).astype(np.float32)


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])
def test_moments_and_detection(values: np.ndarray, kind: type) -> None:
    mean, variance = mean_variance(kind(values))
    np.testing.assert_allclose(mean, values.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(variance, values.var(axis=0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(detected_fraction(kind(values)), (values > 0).mean(axis=0))


@pytest.mark.parametrize("kind", [np.asarray, np.asfortranarray, sparse.csr_matrix, sparse.csc_matrix])
def test_means_are_exact_in_any_number_of_parts(
    values: np.ndarray, kind: Callable[[np.ndarray], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Single precision, which the values have, would lose their last digits next to a large one."""
    values = np.concatenate([np.full((1, 700), 2.0**24), values]).astype(np.float32)
    expected = values.astype(np.float64).sum(axis=0) / 41
    for step in (1000, 7):
        monkeypatch.setattr(_stats, "row_blocks", lambda _, step=step: (slice(i, i + step) for i in range(0, 41, step)))
        np.testing.assert_array_equal(gene_means(kind(values)), expected)
        np.testing.assert_array_equal(mean_variance(kind(values))[0], expected)


@pytest.mark.parametrize("shape", [(1,), (10,), (5, 4), (23,)])
@pytest.mark.parametrize(
    "kind", [np.asarray, np.asfortranarray, lambda values: np.repeat(values, 2, axis=-1)[..., ::2]]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64])
def test_extremes_wherever_they_stand(
    shape: tuple[int, ...], kind: Callable[[np.ndarray], np.ndarray], dtype: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_stats, "_IN_CACHE", 5)
    for place in range(int(np.prod(shape))):
        values = np.full(shape, 2, dtype=dtype)
        for odd in (-3, 7, *([np.nan, -np.inf] if dtype != np.int64 else [])):
            values.flat[place] = odd
            expected = values.min(), values.max()
            np.testing.assert_array_equal(extremes(kind(values)), expected)


def test_sections() -> None:
    found = section_rows(np.array(["b", "a", "b"], dtype=object), 3)
    assert [(name, rows.tolist()) for name, rows in found] == [("a", [1]), ("b", [0, 2])]
    assert section_rows(None, 2)[0][1].tolist() == [0, 1]


def test_panels_are_best_first_and_variance_is_within_sections(values: np.ndarray) -> None:
    genes = np.array([f"g{i}" for i in range(700)])
    sections = np.repeat(["a", "b"], 20)
    values = values.copy()
    # high in one section and constant within each: a batch effect, not a pattern
    values[:, 0] = np.where(sections == "a", 0, 1000)
    chosen = panels(sparse.csr_matrix(values), genes, sections)
    assert chosen["HEG-50"][0] == "g0"
    assert "g0" not in chosen["HVG-200"]
    within = (values[:20].var(axis=0) + values[20:].var(axis=0)) / 2
    position = [int(gene[1:]) for gene in chosen["HVG-50"]]
    np.testing.assert_allclose(within[position], np.sort(np.delete(within, 0))[::-1][:50], rtol=1e-5)
    assert chosen["HVG-200"][:50].tolist() == chosen["HVG-50"].tolist()
    assert {name: len(found) for name, found in chosen.items()} == {"HEG-50": 50, "HVG-50": 50, "HVG-200": 200}
    assert len(panels(values[:, :7], genes[:7], None)["HVG-50"]) == 7
