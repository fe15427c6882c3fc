import numpy as np
import torch
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics.pairwise import rbf_kernel

from bleep_sc.models.nets.kernel import KernelRegression, gaussian


def test_gaussian_is_the_radial_basis_function() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(11, 6)), rng.normal(size=(7, 6))
    ours = gaussian(torch.from_numpy(a), torch.from_numpy(b), torch.tensor(4.0))
    np.testing.assert_allclose(ours.numpy(), rbf_kernel(a, b, gamma=1 / 4), rtol=1e-10)


def test_gaussian_keeps_the_digits_of_small_distances() -> None:
    """Far from the origin and close together: the expanded square would cancel to nothing in float32."""
    a = torch.full((1, 300), 100.0)
    b = a + 1e-3
    square = 300 * float(b[0, 0].double() - a[0, 0].double()) ** 2
    np.testing.assert_allclose(gaussian(a, b, torch.tensor(square)).item(), np.exp(-1), rtol=1e-4)


def test_predicts_as_scikit_learn_does() -> None:
    rng = np.random.default_rng(0)
    x, new = rng.normal(size=(40, 6)), rng.normal(size=(9, 6))
    y = rng.normal(size=(40, 3))
    solved = KernelRidge(alpha=0.3, kernel="rbf", gamma=1 / 8).fit(x, y - y.mean(axis=0))
    model = KernelRegression(40, 6, 3)
    for tensor, values in (
        (model.landmarks, x),
        (model.coefficients, solved.dual_coef_),
        (model.mean, y.mean(axis=0)),
        (model.width, np.float64(8)),
    ):
        tensor.copy_(torch.as_tensor(values))
    found = model(torch.from_numpy(new).float())
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), solved.predict(new) + y.mean(axis=0), atol=1e-5)


def test_all_that_was_solved_is_stored() -> None:
    assert set(KernelRegression(4, 3, 2).state_dict()) == {"landmarks", "coefficients", "mean", "width"}
