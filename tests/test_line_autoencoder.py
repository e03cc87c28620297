"""The autoencoder whose forecast begins with a line."""

import pytest
import torch

from lstm_studies.models.line_autoencoder import LineAutoencoder, span_means
from lstm_studies.models.lstm_ae import LSTMAutoencoder
from lstm_studies.training import checkpoint


def test_means_of_the_last_steps_by_hand():
    x = torch.tensor([[[1.0, 0], [2, 0], [6, 3]]])
    assert span_means(x, (1, 2, 20)).tolist() == [[6, 3, 4, 1.5, 3, 1]]


def test_prediction_is_that_of_the_lstm_and_the_line():
    torch.manual_seed(0)
    model, plain = LineAutoencoder(1, 4, line_size=2, spans=(1, 2)), LSTMAutoencoder(1, 4, prediction_size=1)
    plain.load_state_dict({name: w for name, w in model.state_dict().items() if name in plain.state_dict()})
    x = torch.rand(3, 5, 2)
    assert torch.equal(model(x).prediction, plain(x[..., :1]).prediction)  # the line is 0 so far
    model.set_line(torch.tensor([1.0, 0, 0, -2]), 0.25)
    difference = model(x).prediction - plain(x[..., :1]).prediction
    expected = 0.25 + (x[:, -1, 0] - 0.5) - 2 * (x[:, -2:, 1].mean(1) - 0.5)
    assert (difference[:, :-1] == 0).all()
    torch.testing.assert_close(difference[:, -1, 0], expected)
    with pytest.raises(ValueError, match="lengths must be None"):
        model(x, [5, 4, 3])


def test_a_checkpoint_holds_the_line(tmp_path):
    model = LineAutoencoder(2, 4, line_size=2, spans=(1, 3))
    model.set_line(torch.arange(4.0), 0.5)
    checkpoint.save(tmp_path / "best.pt", {"model": checkpoint.describe(model), "epoch": 1})
    rebuilt = checkpoint.rebuild(tmp_path / "best.pt", LSTMAutoencoder, LineAutoencoder)
    x = torch.rand(2, 3, 2)
    assert torch.equal(rebuilt(x).prediction, model(x).prediction)
