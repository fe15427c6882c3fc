import numpy as np
import pytest
from scipy import stats

from bleep_sc.metrics.predictable import combine_sections, expected_pearson


def test_sections_of_a_patient_count_once_and_patients_add_up() -> None:
    z = np.array([[2.0, 0.0, -1.0], [4.0, 0.0, 1.0], [3.0, 0.0, 2.0]])
    alone = combine_sections(z, np.array(["a", "a", "a"]))
    np.testing.assert_allclose(alone.z, [3, 0, 2 / 3])
    two = combine_sections(z, np.array(["b", "a", "b"]))
    # what two patients say of each other counts once
    np.testing.assert_allclose(two.z, [(2.5 + 4) / 2, 0, 1.5 / 2])
    np.testing.assert_allclose(two.pvalue[[0, 2]], stats.norm.sf(two.z[[0, 2]]))
    # of a gene of which nothing is known, nothing is tested
    assert two.pvalue[1] == two.qvalue[1] == 1
    np.testing.assert_allclose(two.qvalue[[0, 2]], stats.false_discovery_control(two.pvalue[[0, 2]]))


@pytest.mark.parametrize("n_patients", [2, 3, 6])
def test_false_finds_stay_within_the_promise(n_patients: int) -> None:
    """Each pair of patients has one score, which counts in both: what each is predicted by is what the other taught."""
    rng = np.random.default_rng(0)
    shares, power, level = [], [], []
    for _ in range(50):
        pair = rng.normal(size=(n_patients, n_patients, 400))
        pair = (pair + pair.transpose(1, 0, 2)) / np.sqrt(2)
        pair[np.arange(n_patients), np.arange(n_patients)] = 0
        z = pair.sum(axis=1) / np.sqrt(n_patients - 1)
        z[:, :100] += 3
        evidence = combine_sections(z, np.arange(n_patients))
        found = evidence.qvalue <= 0.1
        shares.append(found[100:].sum() / max(found.sum(), 1))
        power.append(found[:100].mean())
        level.append((evidence.pvalue[100:] < 0.05).mean())
    assert np.mean(level) == pytest.approx(0.05, abs=0.01)
    assert np.mean(shares) < 0.1
    assert np.mean(power) > 0.7


def test_one_patient_is_not_halved() -> None:
    assert combine_sections(np.array([[1.0], [3.0]]), np.array(["a", "a"])).z[0] == 2


def test_nothing_known_of_any_gene() -> None:
    assert (combine_sections(np.zeros((2, 3)), np.array(["a", "b"])).qvalue == 1).all()


def test_expected_is_the_mean_over_groups() -> None:
    r = np.array([[0.1, np.nan, 0.5], [0.3, np.nan, np.nan], [0.8, np.nan, 0.1]])
    expected = expected_pearson(r, np.array(["a", "a", "b"]))
    np.testing.assert_allclose(expected.mean, [0.5, np.nan, 0.3])
    assert np.isnan(expected.lower[1])
    assert np.isnan(expected.upper[1])
    # sections of the only patient are groups of their own
    np.testing.assert_allclose(expected_pearson(r, np.array(["a"] * 3)).mean, [0.4, np.nan, 0.3])


def test_one_section_has_no_interval() -> None:
    expected = expected_pearson(np.array([[0.1, 0.5]]), np.array(["a"]))
    np.testing.assert_array_equal(expected.mean, [0.1, 0.5])
    assert np.isnan(expected.lower).all()
    assert np.isnan(expected.upper).all()


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_interval_holds_a_section_that_was_not_seen(level: float) -> None:
    """Genes whose noise follows their height: one width for all would miss the middle of the level at both ends."""
    rng = np.random.default_rng(0)
    true = rng.beta(1.5, 3, size=1500)
    r = np.tanh(np.arctanh(true) + rng.normal(size=(6, 1500)) * (0.03 + 0.3 * true))
    expected = expected_pearson(r[:5], np.arange(5), level=level)
    inside = (expected.lower <= r[5]) & (r[5] <= expected.upper)
    assert inside.mean() == pytest.approx(level, abs=0.06)
    order = np.argsort(expected.mean)
    for part in np.array_split(order, 5):
        assert inside[part].mean() == pytest.approx(level, abs=0.1)
    assert (expected.lower <= expected.mean).all()
    assert (expected.mean <= expected.upper).all()
    width = expected.upper - expected.lower
    assert width[order[-300:]].mean() > 1.5 * width[order[:300]].mean()


def test_interval_of_another_patient_is_wider_than_that_of_another_section() -> None:
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(4), 3)
    r = np.clip(0.3 + 0.15 * rng.normal(size=(4, 500))[patient] + 0.02 * rng.normal(size=(12, 500)), -0.99, 0.99)
    across = expected_pearson(r, patient)
    within = expected_pearson(r[:3], patient[:3])
    assert np.mean(across.upper - across.lower) > 3 * np.mean(within.upper - within.lower)
    new = np.clip(0.3 + 0.15 * rng.normal(size=500), -0.99, 0.99)
    assert ((across.lower <= new) & (new <= across.upper)).mean() > 0.84


def test_order_of_sections_and_genes_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    r, groups = np.clip(0.3 + 0.2 * rng.normal(size=(5, 200)), -1, 1), np.array(["b", "a", "c", "a", "b"])
    sections, genes = rng.permutation(5), rng.permutation(200)
    whole = expected_pearson(r, groups)
    again = expected_pearson(r[sections][:, genes], groups[sections])
    np.testing.assert_allclose(again, np.array(whole)[:, genes])


@pytest.mark.odd
def test_bad_input() -> None:
    with pytest.raises(ValueError, match="`z` must have a row for each section"):
        combine_sections(np.zeros((2, 3)), np.array(["a"]))
    with pytest.raises(ValueError, match="`z` holds NaN"):
        combine_sections(np.full((1, 3), np.nan), np.array(["a"]))
    with pytest.raises(ValueError, match="`r` must hold correlations"):
        expected_pearson(np.full((2, 3), 7.0), np.array(["a", "b"]))
    with pytest.raises(ValueError, match="`r` must have a row"):
        expected_pearson(np.zeros(3), np.array(["a", "b"]))
    for level in (0, 1, 90, "high"):
        with pytest.raises(ValueError, match="`level`"):
            expected_pearson(np.zeros((2, 3)), np.array(["a", "b"]), level=level)  # type: ignore[arg-type]
