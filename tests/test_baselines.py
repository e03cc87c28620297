"""The mean and principal components, by hand."""

import pytest
import torch

from lstm_studies.evaluation.baselines import fit_pca, mse, reconstruction_baselines

# On the line through (1, 2) with direction (3, 4) / 5, at -2, -1, 0, 1, 2 times 5.
LINE = torch.tensor([[-5.0, -6.0], [-2.0, -2.0], [1.0, 2.0], [4.0, 6.0], [7.0, 10.0]])


def test_line_by_hand():
    pca = fit_pca(LINE, 1)
    torch.testing.assert_close(pca.mean, torch.tensor([1.0, 2.0], dtype=torch.float64))
    direction = pca.components[:, 0] * pca.components[0, 0].sign()
    torch.testing.assert_close(direction, torch.tensor([0.6, 0.8], dtype=torch.float64))
    torch.testing.assert_close(pca.reconstruct(LINE), LINE.double(), rtol=0, atol=1e-12)
    # (-3, 5) = mean + 5 * (-4, 3) / 5: at a right angle to the line, so its nearest point is the mean
    torch.testing.assert_close(
        pca.reconstruct(torch.tensor([[-3.0, 5.0], [0.0, 9.0]])),
        torch.tensor([[1.0, 2.0], [1 + 0.6 * 5, 2 + 0.8 * 5]], dtype=torch.float64),
    )


def test_baselines_by_hand():
    test = torch.tensor([[-3.0, 5.0], [4.0, 6.0]])
    found = reconstruction_baselines(LINE, test, 1)
    # squared distances to the line 25 and 0, to the mean 25 and 25, over 4 values
    assert found == pytest.approx({"pca_mse": 25 / 4, "mean_mse": 50 / 4})
    assert all(type(value) is float for value in found.values())
    assert mse(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 4.0])) == 2.5


def data(size=30, values=6):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(size, values, generator=generator) @ torch.randn(values, values, generator=generator) + 3


def test_full_rank_is_exact():
    x = data()
    assert mse(fit_pca(x, 6).reconstruct(x), x) < 1e-24
    assert mse(fit_pca(x, 5).reconstruct(x), x) > 1e-6


@pytest.mark.parametrize("code_size", [1, 3, 5])
def test_error_is_the_discarded_variance(code_size):
    x = data().double()
    variances = torch.linalg.svdvals(x - x.mean(0)).square()  # descending; another way than that of the module
    pca = fit_pca(x, code_size)
    assert mse(pca.reconstruct(x), x) * x.numel() == pytest.approx(variances[code_size:].sum().item(), rel=1e-9)
    torch.testing.assert_close(pca.components.T @ pca.components, torch.eye(code_size, dtype=torch.float64))
    along = ((x - pca.mean) @ pca.components).square().sum(0)
    torch.testing.assert_close(along, variances[:code_size])  # the largest first


def test_code_larger_than_the_data():
    x = data()
    pca = fit_pca(x, 50)
    assert pca.components.shape == (6, 6) and mse(pca.reconstruct(x), x) < 1e-24


def test_fewer_rows_than_values():
    x = data()[:3]
    assert mse(fit_pca(x, 2).reconstruct(x), x) < 1e-20 < mse(fit_pca(x, 1).reconstruct(x), x)


def test_shapes_are_kept():
    x = data().view(30, 2, 3)
    pca = fit_pca(x, 2)
    assert pca.reconstruct(x).shape == (30, 2, 3)
    torch.testing.assert_close(pca.reconstruct(x).flatten(1), fit_pca(x.flatten(1), 2).reconstruct(x.flatten(1)))
    found = reconstruction_baselines(x, x, 2)
    assert found["pca_mse"] < found["mean_mse"]
    assert found["mean_mse"] == pytest.approx(x.flatten(1).var(0, correction=0).mean().item(), rel=1e-5)


def test_training_data_only():
    """The mean and the components are those of the training part, also for a test part that lies elsewhere."""
    x = data()
    assert reconstruction_baselines(x, x + 10, 6)["mean_mse"] > 50
    assert reconstruction_baselines(x, x + 10, 6)["pca_mse"] < 1e-20
