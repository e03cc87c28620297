"""The attentive LSTM of Feng et al. with adversarial training on its last representation, and its attention as a layer.

"Enhancing stock movement prediction with adversarial training", IJCAI 2019; equation numbers are of that paper.

Letters in shapes: B samples of a batch, T time steps, I features, U units, E = 2 U (U without attention). Inside of the
network samples come last: a step is a few operations on rows of B numbers.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, softplus

from lstm_studies.models.adversarial import random_perturbation
from lstm_studies.models.arguments import constructor_arguments
from lstm_studies.models.samples_last_lstm import SamplesLastLSTM


class TemporalAttention(nn.Module):
    """Weighted sum of the hidden states of all steps (eq. 3): the attention of AttentiveLSTM for any recurrent network.

        a = sum_t alpha_t h_t,  alpha = softmax_t(u^T tanh(W h_t + b))

    W and b (`attention_layer`) and u (`attention_vector`) are named and initialised as in AttentiveLSTM.

    Args:
        units: U, values of a hidden state.
    """

    def __init__(self, units: int):
        super().__init__()
        self.attention_layer = nn.Linear(units, units)
        limit = (3 / units) ** 0.5
        self.attention_vector = nn.Parameter(torch.empty(units).uniform_(-limit, limit))
        nn.init.xavier_uniform_(self.attention_layer.weight)
        nn.init.zeros_(self.attention_layer.bias)

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """a (B, U) and alpha (B, T) of hidden states h (B, T, U), the output of nn.LSTM with `batch_first=True`."""
        a, alpha = attend(h.permute(2, 1, 0), self.attention_layer, self.attention_vector)
        return a.T, alpha.T


class AttentiveLSTM(nn.Module):
    """Feature mapping, LSTM, temporal attention and a linear head, trained with adversarial examples.

        m_t = tanh(W_m x_t + b_m)                                                       (eq. 1; as wide as x_t)
        h_1 .. h_T = LSTM(m_1 .. m_T)
        a = sum_t alpha_t h_t,  alpha = softmax_t(u^T tanh(W h_t + b))                  (eq. 3)
        e = [h_T, a] (h_T without attention),  score = w e + c; up if above 0           (eq. 4)

    The loss of a batch is mean l(score, y) + l2 / 2 (||w||^2 + c^2) + beta mean l(score of e + epsilon r, y), where l
    is the hinge loss max(0, 1 - y score) for y = -1 or 1 (or the cross-entropy) and r = g / ||g|| with g = dl/de of
    each sample, held constant (eq. 6 to 8), or a random direction of length 1. The penalty is the published code's
    (half the squares of the last layer, its bias included); eq. 5 and 8 have the squares of all parameters.

    With the hinge loss and this linear head, r = -y w / ||w|| where the margin is violated and 0 elsewhere: the
    adversarial loss of such a sample is a hinge loss with a margin of 1 + epsilon ||w|| instead of 1, no more.

    The number of features is taken from the first data (`build`, a call or `load_state_dict`).

    Args:
        units: U, of the LSTM and of the attention.
        epsilon: length of the perturbation. beta: weight of the loss on perturbed samples. 0 for either: no perturbed
            samples, bit for bit the plain model.
        learning_rate: of Adam, in `fit` of AdvALSTM.
        dropout: share of e that is set to 0 while training, or None; a perturbed sample has the same mask.
        l2: weight of the penalty on the head, or None.
        attention, hinge, adversarial_training: False leaves each out.
        random_perturbations: r is uniform on the sphere instead of along the gradient.

    Raises ValueError for arguments out of range.
    """

    def __init__(
        self,
        units: int,
        epsilon: float = 1e-3,
        beta: float = 5e-2,
        learning_rate: float = 1e-2,
        dropout: float | None = None,
        l2: float | None = None,
        attention: bool = True,
        hinge: bool = True,
        adversarial_training: bool = True,
        random_perturbations: bool = False,
    ):
        super().__init__()
        check_arguments(units, epsilon, beta, learning_rate, dropout or 0.0, l2 or 0.0)
        self.arguments = constructor_arguments(locals())
        self.units, self.epsilon, self.beta, self.learning_rate = units, epsilon, beta, learning_rate
        self.l2, self.hinge, self.random_perturbations = l2 or 0.0, hinge, random_perturbations
        self.perturbed = adversarial_training and epsilon > 0 and beta > 0
        self.attention = attention
        self.dropout = nn.Dropout(dropout or 0.0)
        self.features: int | None = None
        self.register_buffer("place", torch.empty(0), persistent=False)  # remembers `to` until there are weights

    def build(self, features: int) -> "AttentiveLSTM":
        """Makes the weights for `features` values per step, initialised as the published graph: Glorot's uniform
        distribution, biases 0, that of the forget gate 1. Returns the model."""
        units = self.units
        self.features = features
        self.mapping = nn.Linear(features, features)
        self.lstm = SamplesLastLSTM(features, units)
        self.head = nn.Linear(2 * units if self.attention else units, 1)
        layers = [self.mapping, self.head]
        if self.attention:
            self.attention_layer = nn.Linear(units, units)
            limit = (6 / (units + units)) ** 0.5
            self.attention_vector = nn.Parameter(torch.empty(units).uniform_(-limit, limit))
            layers.append(self.attention_layer)
        for layer in layers:
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        limit = (6 / (features + units + 4 * units)) ** 0.5  # of input and hidden weights as one matrix
        for name, parameter in self.lstm.named_parameters():
            nn.init.uniform_(parameter, -limit, limit) if "weight" in name else nn.init.zeros_(parameter)
        with torch.no_grad():
            self.lstm.bias_ih_l0[units : 2 * units] = 1
        self.lstm.bias_hh_l0.requires_grad_(False)  # the published LSTM has one bias
        return self.to(self.place)

    def load_state_dict(self, state_dict: Mapping[str, Tensor], *args, **kwargs):
        """Loads weights, building the layers first if needed."""
        if self.features is None and "mapping.weight" in state_dict:
            self.build(state_dict["mapping.weight"].shape[1])
        return super().load_state_dict(state_dict, *args, **kwargs)

    # ---- network -----------------------------------------------------------------------------------------------------

    def forward(self, x: Tensor) -> Tensor:
        """Scores (B,) of x (B, T, I): up where above 0."""
        return self.scores(self.represent(x))

    def represent(self, x: Tensor) -> Tensor:
        """e (B, E) of x (B, T, I), with dropout while training."""
        h = self.hidden_states(x)
        e = h[:, -1]
        if self.attention:
            e = torch.cat([e, attend(h, self.attention_layer, self.attention_vector)[0]])
        return self.dropout(e.T)

    def scores(self, e: Tensor) -> Tensor:
        """Scores (B,) of representations e (B, E)."""
        # as a product with e.T, the layout of `represent`, which the gradient then has too
        return torch.addmm(self.head.bias.unsqueeze(1), self.head.weight, e.T)[0]

    def hidden_states(self, x: Tensor) -> Tensor:
        """h (U, T, B) of x (B, T, I)."""
        if self.features is None:
            self.to(x.device).build(x.shape[2])
        x = x.permute(2, 1, 0)  # (I, T, B)
        return self.lstm(tanh_of(self.mapping, x.flatten(1)).view(x.shape))

    def weights_of_steps(self, h: Tensor) -> Tensor:
        """alpha (T, B), positive with sum 1 over the steps of h (U, T, B)."""
        return attend(h, self.attention_layer, self.attention_vector)[1]

    # ---- loss --------------------------------------------------------------------------------------------------------

    def losses(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Means over a batch x (B, T, I), y (B,) in {0, 1}: `loss` as in the head of the class, `clean` and
        `adversarial`, its first and last terms without their weights (0 if no samples are perturbed), `accuracy`."""
        sign = 2.0 * y - 1
        e = self.represent(x)
        score = self.scores(e)
        loss = clean = self.sample_losses(score, sign).mean()
        if self.l2:
            last_layer = torch.cat([self.head.weight[0], self.head.bias])
            loss = torch.add(loss, last_layer @ last_layer, alpha=self.l2 / 2)
        if self.perturbed:
            w, r = self.head.weight[0], self.perturbation(e, sign)  # under autocast, score and r may have other types
            perturbed = torch.addmv(score.to(w.dtype), r.to(w.dtype), w, alpha=self.epsilon)  # w (e + epsilon r) + c
            adversarial = self.sample_losses(perturbed, sign).mean()
            loss = torch.add(loss, adversarial, alpha=self.beta)
        else:
            adversarial = torch.zeros_like(clean)
        accuracy = ((score > 0) == (y > 0)).float().mean()
        return {"loss": loss, "clean": clean, "adversarial": adversarial, "accuracy": accuracy}

    def sample_losses(self, score: Tensor, sign: Tensor) -> Tensor:
        """(B,) of scores (B,) and signs (B,), -1 or 1."""
        margin = sign * score
        return torch.relu(1 - margin) if self.hinge else softplus(-margin)

    def perturbation(self, e: Tensor, sign: Tensor) -> Tensor:
        """r (B, E) for e (B, E): constant, of length 1, or 0 where the loss has no gradient.

        As the head is linear, g = dl/dscore w: without autograd, dl/dscore has the sign of -y.
        """
        if self.random_perturbations:
            return random_perturbation(e)
        with torch.no_grad():
            slopes = -sign.to(e.dtype)
            if self.hinge:
                slopes = slopes * (sign * self.scores(e) < 1)
            return slopes.unsqueeze(1) * normalize(self.head.weight)


def attend(h: Tensor, layer: nn.Linear, vector: Tensor) -> tuple[Tensor, Tensor]:
    """a (U, B) and alpha (T, B) of hidden states h (U, T, B): eq. 3 with the weights W and b of `layer` and u."""
    scores = vector @ tanh_of(layer, h.flatten(1))  # (T B,)
    alpha = torch.softmax(scores.view(h.shape[1:]), 0)
    return (alpha * h).sum(1), alpha


def tanh_of(layer: nn.Linear, x: Tensor) -> Tensor:
    """tanh(W x + b) for the columns of x (I, N), as 2 sigmoid(2 (W x + b)) - 1: on some processors PyTorch's sigmoid is
    ten times as fast as its tanh."""
    return 2 * torch.sigmoid(torch.addmm(layer.bias.unsqueeze(1), layer.weight, x, beta=2, alpha=2)) - 1


def check_arguments(units: int, epsilon: float, beta: float, learning_rate: float, dropout: float, l2: float) -> None:
    if units < 1:
        raise ValueError(f"units must be at least 1, not {units}")
    for name, value in (("epsilon", epsilon), ("beta", beta), ("l2", l2)):
        if not 0 <= value < float("inf"):
            raise ValueError(f"{name} must be a number of at least 0, not {value}")
    if not 0 < learning_rate < float("inf"):
        raise ValueError(f"learning_rate must be a number above 0, not {learning_rate}")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be a share from 0 to below 1, not {dropout}")
