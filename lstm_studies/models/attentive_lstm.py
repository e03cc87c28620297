"""The attentive LSTM of Feng et al. with adversarial training on its last representation.

"Enhancing stock movement prediction with adversarial training", IJCAI 2019; equation numbers are of that paper.

Letters in shapes: B samples of a batch, N samples, T time steps, I features, U units, E = 2 U (U without attention).
"""

import copy
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from lstm_studies.models.adversarial import compute_perturbation, random_perturbation
from lstm_studies.models.history import History, check_split, check_training, epoch_end


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

    The number of features is taken from the first data (`build`, `fit`, a call or `load_state_dict`).

    Args:
        units: U, of the LSTM and of the attention.
        epsilon: length of the perturbation. beta: weight of the loss on perturbed samples. 0 for either: no perturbed
            samples, bit for bit the plain model.
        learning_rate: of Adam, in `fit`.
        dropout: share of e that is set to 0 while training, or None; a perturbed sample has the same mask.
        l2: weight of the penalty on the head, or None.
        attention, hinge, adversarial_training: False leaves each out.
        random_perturbations: r is uniform on the sphere instead of along the gradient.
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
        self.arguments = {
            "units": units,
            "epsilon": epsilon,
            "beta": beta,
            "learning_rate": learning_rate,
            "dropout": dropout,
            "l2": l2,
            "attention": attention,
            "hinge": hinge,
            "adversarial_training": adversarial_training,
            "random_perturbations": random_perturbations,
        }
        self.units, self.epsilon, self.beta, self.learning_rate = units, epsilon, beta, learning_rate
        self.l2, self.hinge, self.random_perturbations = l2 or 0.0, hinge, random_perturbations
        self.perturbed = adversarial_training and epsilon > 0 and beta > 0
        self.attention = attention
        self.dropout = nn.Dropout(dropout or 0.0)
        self.features: int | None = None
        self.history = History()
        self.best_epoch = 0
        self.stop_training = False  # set by a callback: the last epoch was the last one
        self.register_buffer("place", torch.empty(0), persistent=False)  # remembers `to` until there are weights

    def build(self, features: int) -> "AttentiveLSTM":
        """Makes the weights for `features` values per step, initialised as the published graph: Glorot's uniform
        distribution, biases 0, that of the forget gate 1. Returns the model."""
        units = self.units
        self.features = features
        self.mapping = nn.Linear(features, features)
        self.lstm = nn.LSTM(features, units, batch_first=True)
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
        """As of nn.Module; a model without weights is built for those that are loaded."""
        if self.features is None and "mapping.weight" in state_dict:
            self.build(state_dict["mapping.weight"].shape[1])
        return super().load_state_dict(state_dict, *args, **kwargs)

    # ---- network -----------------------------------------------------------------------------------------------------

    def forward(self, x: Tensor) -> Tensor:
        """Scores (B,) of x (B, T, I): up where above 0."""
        return self.score(self.represent(x))

    def represent(self, x: Tensor) -> Tensor:
        """e (B, E) of x (B, T, I), with dropout while training."""
        h = self.hidden_states(x)
        e = h[:, -1]
        if self.attention:
            alpha = self.weights_of_steps(h)
            e = torch.cat([e, (alpha.unsqueeze(2) * h).sum(1)], 1)
        return self.dropout(e)

    def score(self, e: Tensor) -> Tensor:
        """Scores (B,) of representations e (B, E)."""
        return self.head(e).squeeze(1)

    def hidden_states(self, x: Tensor) -> Tensor:
        """h (B, T, U) of x (B, T, I)."""
        if self.features is None:
            self.to(x.device).build(x.shape[2])
        return self.lstm(torch.tanh(self.mapping(x)))[0]

    def weights_of_steps(self, h: Tensor) -> Tensor:
        """alpha (B, T), positive with sum 1 over the steps of h (B, T, U)."""
        return torch.softmax(torch.tanh(self.attention_layer(h)) @ self.attention_vector, 1)

    # ---- loss --------------------------------------------------------------------------------------------------------

    def losses(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Means over a batch x (B, T, I), y (B,) in {0, 1}: `loss` as in the head of the class, `clean` and
        `adversarial`, its first and last terms without their weights (0 if no samples are perturbed), `accuracy`."""
        sign = 2.0 * y - 1
        e = self.represent(x)
        score = self.score(e)
        clean = self.sample_losses(score, sign).mean()
        loss = clean
        if self.l2:
            loss = loss + self.l2 / 2 * (self.head.weight.square().sum() + self.head.bias.square().sum())
        adversarial = torch.zeros_like(clean)
        if self.perturbed:
            perturbed = e + self.epsilon * self.perturbation(e, sign)
            adversarial = self.sample_losses(self.score(perturbed), sign).mean()
            loss = loss + self.beta * adversarial
        accuracy = ((score > 0) == (y > 0)).float().mean()
        return {"loss": loss, "clean": clean, "adversarial": adversarial, "accuracy": accuracy}

    def sample_losses(self, score: Tensor, sign: Tensor) -> Tensor:
        """(B,) of scores (B,) and signs (B,), -1 or 1."""
        margin = sign * score
        return torch.relu(1 - margin) if self.hinge else softplus(-margin)

    def perturbation(self, e: Tensor, sign: Tensor) -> Tensor:
        """r (B, E) for e (B, E): constant, of length 1, or 0 where the loss has no gradient."""
        if self.random_perturbations:
            return random_perturbation(e)
        with torch.enable_grad():
            e = e.detach().requires_grad_()
            return compute_perturbation(self.sample_losses(self.score(e), sign).sum(), e)

    # ---- training and prediction -------------------------------------------------------------------------------------

    def fit(
        self,
        X,
        y,
        validation_data: tuple | None = None,
        epochs: int = 150,
        batch_size: int = 1024,
        seed: int = 0,
        *,
        validation_split: float = 0.0,
        callbacks: Iterable = (),
        verbose: int = 1,
        shuffle: bool = True,
    ) -> History:
        """Trains with Adam and keeps the epoch of the best validation accuracy (the last one without validation data).

        This short loop stands beside that of the scripts, since the class works without folders, settings and files.

        A model that has weights goes on from them; `history` gets the returned object and `best_epoch` the number, from
        1, of the epoch whose weights are kept. The generators of PyTorch are left as they were.

        Args:
            X: (N, T, I), an array or tensor of finite numbers. y: (N,), 0 or 1, with the hinge loss too.
            validation_data: (X, y) of the same kind.
            validation_split: share of the samples, the last ones, that validate instead of training.
            callbacks: functions called as f(epoch, logs) after each epoch, epoch from 0, or objects with a method
                `on_epoch_end` of that form, which may have `set_model`. One that sets `model.stop_training` ends it.
            verbose: 0 leaves `show`, which a subclass may fill, out.
            shuffle: False keeps the order of the samples.

        Raises:
            ValueError: shapes, labels, values or arguments are not as said.
            FloatingPointError: the loss is not finite.
        """
        x, y = check_samples(X, y, self.features)
        held_out = None if validation_data is None else check_samples(*validation_data, x.shape[2])
        check_training(epochs, batch_size, validation_split, held_out is not None)
        if validation_split:
            first = check_split(len(x), validation_split)
            x, y, held_out = x[:first], y[:first], (x[first:], y[first:])
        told = [epoch_end(callback, self) for callback in callbacks]
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            if self.features is None:
                self.build(x.shape[2])
            optimizer = torch.optim.Adam(self.parameters(), lr=self.learning_rate, fused=True)
            self.history, self.best_epoch, self.stop_training = History(), 0, False
            best_score, best = -1.0, self.state_dict()
            x, y = x.to(self.head.weight), y.to(self.head.weight.device)
            for epoch in range(epochs):
                row = self.train_epoch(optimizer, x, y, batch_size, shuffle)
                row |= {} if held_out is None else self.validate(*held_out)
                score = row.get("val_accuracy", float(epoch))  # without validation data the last epoch is the best one
                if score > best_score:
                    best_score, best, self.best_epoch = score, copy.deepcopy(self.state_dict()), epoch + 1
                self.history.add(row)
                if verbose:
                    self.show(epoch + 1, epochs, row)
                for tell in told:
                    tell(epoch, row)
                if self.stop_training:
                    break
        self.load_state_dict(best)
        self.eval()
        return self.history

    def show(self, epoch: int, epochs: int, row: Mapping[str, float]) -> None:
        """Tells the progress of `fit` after an epoch, from 1. A model prints nothing: AdvALSTM does."""

    def train_epoch(
        self, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, batch_size: int, shuffle: bool = True
    ) -> dict[str, float]:
        """One pass over x (N, T, I), y (N,) in random order; the means of `losses`."""
        self.train()
        sums: dict[str, float] = {}
        order = torch.randperm(len(x)) if shuffle else torch.arange(len(x))
        for indices in order.to(x.device).split(batch_size):
            means = self.losses(x[indices], y[indices])
            if not torch.isfinite(means["loss"]):
                raise FloatingPointError(f"the loss is {means['loss'].item()}, learning rate {self.learning_rate:g}")
            optimizer.zero_grad()
            means["loss"].backward()
            optimizer.step()
            for name, value in means.items():
                sums[name] = sums.get(name, 0.0) + value.item() * len(indices)
        return {name: total / len(x) for name, total in sums.items()}

    def validate(self, x: Tensor, y: Tensor) -> dict[str, float]:
        """`val_loss` of the unperturbed samples, without the penalty, and `val_accuracy`."""
        score = self.decision_function(x)
        loss = self.sample_losses(score, 2.0 * y - 1).mean().item()
        return {"val_loss": loss, "val_accuracy": ((score > 0) == (y > 0)).double().mean().item()}

    def decision_function(self, X, batch_size: int = 4096) -> Tensor:
        """Scores (N,) of X (N, T, I): the further from 0, the surer; up where above 0. Raises ValueError."""
        if self.features is None:
            raise ValueError("the model has no weights yet: call fit, build or load_state_dict first")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        return self.in_batches(self.forward, check_inputs(X, self.features), batch_size)

    def predict(self, X, batch_size: int = 4096) -> Tensor:
        """Classes (N,) of X (N, T, I), int64: 1 up, 0 down. Raises ValueError."""
        return (self.decision_function(X, batch_size) > 0).long()

    def attention_weights(self, X) -> Tensor:
        """alpha (N, T) of X (N, T, I). Raises ValueError, also for a model without attention."""
        if self.features is None or not self.attention:
            raise ValueError("attention weights are those of a model with attention=True that has weights")
        return self.in_batches(lambda x: self.weights_of_steps(self.hidden_states(x)), check_inputs(X, self.features))

    def perturbed_scores(self, X, y, epsilon: float | None = None) -> Tensor:
        """Scores (N,) of X (N, T, I), y (N,) with each representation moved by `epsilon` (the model's own by default)
        as in training. Raises ValueError."""
        x, y = check_samples(X, y, self.features)
        length, device = self.epsilon if epsilon is None else epsilon, self.head.weight.device
        e = self.in_batches(self.represent, x).to(device)
        with torch.no_grad():
            return self.score(e + length * self.perturbation(e, 2.0 * y.to(device) - 1)).cpu()

    @torch.no_grad()
    def in_batches(self, function: Callable[[Tensor], Tensor], x: Tensor, size: int = 4096) -> Tensor:
        """`function` of x (N, ...) in evaluation mode, `size` samples at a time, on the CPU."""
        training = self.training
        self.eval()
        result = torch.cat([function(part.to(self.head.weight)).cpu() for part in x.split(size)])
        self.train(training)
        return result


# ---- checks ----------------------------------------------------------------------------------------------------------


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


def check_inputs(X, features: int | None) -> Tensor:
    """X as a float32 tensor (N, T, I)."""
    x = torch.as_tensor(X, dtype=torch.float32)
    if x.dim() != 3 or not x.numel():
        raise ValueError(f"X must be (samples, steps, features) of at least one each, not of shape {tuple(x.shape)}")
    if features is not None and x.shape[2] != features:
        raise ValueError(f"X must have {features} features, as the model has, not {x.shape[2]}")
    if not torch.isfinite(x).all():
        raise ValueError(f"X must be finite; {int((~torch.isfinite(x)).sum())} of its {x.numel()} values are not")
    return x


def check_samples(X, y, features: int | None) -> tuple[Tensor, Tensor]:
    """X as a float32 tensor (N, T, I), y as an int64 tensor (N,) of 0 and 1."""
    x, y = check_inputs(X, features), torch.as_tensor(y)
    if y.shape != x.shape[:1]:
        raise ValueError(f"y must be ({len(x)},), one label per sample, not of shape {tuple(y.shape)}")
    other = y[(y != 0) & (y != 1)]
    if len(other):
        raise ValueError(f"y must be 0 (down) or 1 (up) only, also with the hinge loss; found {other[0].item()}")
    return x, y.long()
