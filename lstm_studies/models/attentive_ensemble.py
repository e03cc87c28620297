"""Many attentive LSTMs of one shape trained together: what `AttentiveLSTM.fit` does, in a third of the time.

The published models are so small that most of a training step on a processor is overhead of small operations and memory
traffic. Here K models are stacked, samples come last in every tensor (a row of 1,024 of them stays in the cache), one
product per step serves all gates, and the backward pass is written out. Every model keeps its own seed, order of
samples, perturbations and best epoch: up to rounding it becomes what `fit` would have made of it alone.

Letters in shapes: K models, B samples of a batch, N samples, T time steps, I features, U units, E = 2 U (U without
attention).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn.functional import softplus

from lstm_studies.models.adversarial import random_perturbation
from lstm_studies.models.attentive_lstm import AttentiveLSTM, check_samples
from lstm_studies.models.history import History

TOGETHER = 10  # models in one stack: more of them no longer share the processor's cache
SAME = ("units", "learning_rate", "attention", "hinge", "random_perturbations")  # arguments that a stack has in common


class Batch(NamedTuple):
    x: Tensor  # (T, K, I + 1, B); the last row of each step is 1, for the biases
    sign: Tensor  # (K, B), -1 or 1


# ---- network ---------------------------------------------------------------------------------------------------------


class MappedLSTM(Function):
    """Hidden states (T, K, U, B) of x (T, K, I + 1, B), with the mapping (K, I, I + 1) and the gates' weights
    (K, 4 U, I + 1 + U) of `network_weights`.

    z_t = [sigmoid(mapping x_t), 1, h_t-1] meets all weights of a step in one product. tanh(v) is 2 sigmoid(2 v) - 1,
    with the doubling left to the weights: PyTorch's sigmoid is several times as fast as its tanh on a processor.
    """

    @staticmethod
    def forward(x: Tensor, mapping: Tensor, weights: Tensor) -> tuple[Tensor, ...]:
        steps, models, rows, batch = x.shape
        units, features = weights.shape[1] // 4, rows - 1
        z = x.new_empty(steps + 1, models, rows + units, batch)
        z[:, :, features] = 1
        z[0, :, rows:] = 0
        gates = x.new_empty(steps, models, 4 * units, batch)
        cells, squashed, h = (x.new_empty(steps, models, units, batch) for _ in range(3))
        for t in range(steps):
            torch.sigmoid(torch.bmm(mapping, x[t]), out=z[t, :, :features])
            torch.bmm(weights, z[t], out=gates[t]).sigmoid_()
            i, f, g, o = split_gates(gates[t])
            g.mul_(2).sub_(1)
            torch.mul(i, g, out=cells[t])
            if t:
                cells[t].addcmul_(f, cells[t - 1])
            torch.add(cells[t], cells[t], out=squashed[t]).sigmoid_().mul_(2).sub_(1)  # tanh of the cell state
            torch.mul(o, squashed[t], out=h[t])
            z[t + 1, :, rows:] = h[t]
        return h, z, gates, cells, squashed

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: tuple) -> None:
        ctx.save_for_backward(*inputs, *output[1:])
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx, dh_outer: Tensor, *_) -> tuple[None, Tensor, Tensor]:
        x, mapping, weights, z, gates, cells, squashed = ctx.saved_tensors
        steps, rows = x.shape[0], x.shape[2]
        features = rows - 1
        dmapping, dweights = torch.zeros_like(mapping), torch.zeros_like(weights)
        dgates, dcell, dz = torch.empty_like(gates[0]), torch.zeros_like(cells[0]), None
        for t in reversed(range(steps)):
            i, f, g, o = split_gates(gates[t])
            di, df, dg, do = split_gates(dgates)
            dh = dh_outer[t] if dz is None else dh_outer[t] + dz[:, rows:]
            torch.mul(dh, squashed[t], out=do)
            through = dh * o
            dcell.add_(through).addcmul_(through.mul_(squashed[t]), squashed[t], value=-1)  # 1 - tanh^2
            torch.mul(dcell, g, out=di)
            torch.mul(dcell, i, out=dg)
            torch.mul(dcell, cells[t - 1], out=df) if t else df.zero_()
            dcell.mul_(f)
            for gate, value in ((di, i), (df, f), (do, o)):
                through_sigmoid(gate, value)
            dg.addcmul_(dg * g, g, value=-1).mul_(0.5)  # its weights are doubled
            dweights.baddbmm_(dgates, z[t].transpose(1, 2))
            dz = torch.bmm(weights.transpose(1, 2), dgates)
            dmapping.baddbmm_(through_sigmoid(dz[:, :features], z[t, :, :features]), x[t].transpose(1, 2))
        return None, dmapping, dweights


class AttentivePooling(Function):
    """e = [h_T, sum_t alpha_t h_t] (K, 2 U, B) of h (T, K, U, B), alpha = softmax_t(vector sigmoid(layer h + bias)).

    layer (K, U, U), bias (K, U, 1) and vector (K, 1, U) are those of `attention_weights`: eq. 3 of the paper with tanh
    written as a sigmoid, whose constant the softmax does not see.
    """

    @staticmethod
    def forward(h: Tensor, layer: Tensor, bias: Tensor, vector: Tensor) -> tuple[Tensor, ...]:
        steps, models, units, batch = h.shape
        hidden, scores = torch.empty_like(h), h.new_empty(steps, models, 1, batch)
        for t in range(steps):
            torch.bmm(layer, h[t], out=hidden[t]).add_(bias).sigmoid_()
            torch.bmm(vector, hidden[t], out=scores[t])
        alpha = torch.softmax(scores, 0)
        e = h.new_zeros(models, 2 * units, batch)
        e[:, :units] = h[-1]
        for t in range(steps):
            e[:, units:].addcmul_(alpha[t], h[t])
        return e, hidden, alpha

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: tuple) -> None:
        h, layer, _, vector = inputs
        ctx.save_for_backward(h, layer, vector, *output[1:])
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx, de: Tensor, *_) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        h, layer, vector, hidden, alpha = ctx.saved_tensors
        units = h.shape[2]
        dlast, dcontext = de[:, :units], de[:, units:]
        dscores = torch.stack([(dcontext * step).sum(1, keepdim=True) for step in h]).mul_(alpha)
        dscores.addcmul_(alpha, dscores.sum(0), value=-1)
        dh, dlayer, dvector = torch.empty_like(h), torch.zeros_like(layer), torch.zeros_like(vector)
        dbias = torch.zeros_like(vector.transpose(1, 2))
        for t in range(len(h)):
            dvector.baddbmm_(dscores[t], hidden[t].transpose(1, 2))
            dhidden = through_sigmoid(torch.bmm(vector.transpose(1, 2), dscores[t]), hidden[t])
            dlayer.baddbmm_(dhidden, h[t].transpose(1, 2))
            dbias += dhidden.sum(2, keepdim=True)
            torch.bmm(layer.transpose(1, 2), dhidden, out=dh[t]).addcmul_(alpha[t], dcontext)
        dh[-1] += dlast
        return dh, dlayer, dbias, dvector


def split_gates(gates: Tensor) -> tuple[Tensor, ...]:
    """Views (K, U, B) of gates (K, 4 U, B): input, forget, new values, output."""
    models, rows, batch = gates.shape
    return gates.view(models, 4, rows // 4, batch).unbind(1)


def through_sigmoid(gradient: Tensor, value: Tensor) -> Tensor:
    """The gradient before a sigmoid from that after it, in place."""
    return gradient.mul_(value).addcmul_(gradient, value, value=-1)


def network_weights(w: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Mapping (K, I, I + 1) and gates' weights (K, 4 U, I + 1 + U) of MappedLSTM from stacked state dicts."""
    mapping = 2 * torch.cat([w["mapping.weight"], w["mapping.bias"].unsqueeze(2)], 2)
    inner, outer, bias = w["lstm.weight_ih_l0"], w["lstm.weight_hh_l0"], w["lstm.bias_ih_l0"].unsqueeze(2)
    bias = bias - inner.sum(2, keepdim=True)  # W tanh(v) + b = 2 W sigmoid(2 v) + (b - W 1)
    weights = torch.cat([2 * inner, bias, outer], 2)
    doubled = torch.ones(4, 1, device=inner.device).index_fill_(0, torch.tensor(2, device=inner.device), 2.0)
    return mapping, weights * doubled.repeat_interleave(outer.shape[2], 0)


def attention_weights(w: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """layer, bias and vector of AttentivePooling from stacked state dicts."""
    layer, bias, vector = (w[f"attention_{name}"] for name in ("layer.weight", "layer.bias", "vector"))
    return 2 * layer, 2 * bias.unsqueeze(2), 2 * vector.unsqueeze(1)


def represent(w: dict[str, Tensor], x: Tensor) -> Tensor:
    """e (K, E, B) of x (T, K, I + 1, B)."""
    h = MappedLSTM.apply(x, *network_weights(w))[0]
    return AttentivePooling.apply(h, *attention_weights(w))[0] if "attention_vector" in w else h[-1]


def score(w: dict[str, Tensor], e: Tensor) -> Tensor:
    """Scores (K, B) of representations e (K, E, B)."""
    return torch.baddbmm(w["head.bias"].unsqueeze(2), w["head.weight"], e).squeeze(1)


# ---- training --------------------------------------------------------------------------------------------------------


class Ensemble:
    """A stack of models while it trains: their weights together, each one's generator, history and best epoch."""

    def __init__(self, models: Sequence[AttentiveLSTM], features: int, seeds: Sequence[int]):
        self.models, first = models, models[0]
        self.generators = [built(model, features, seed) for model, seed in zip(models, seeds, strict=True)]
        states = [model.state_dict() for model in models]
        self.weights = {name: torch.stack([state[name] for state in states]) for name in states[0]}
        trained = [self.weights[name].requires_grad_() for name, p in first.named_parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(trained, lr=first.learning_rate, fused=True)
        device = trained[0].device
        self.epsilon, self.l2 = (
            torch.tensor([getattr(m, name) for m in models], device=device) for name in ("epsilon", "l2")
        )
        self.beta = torch.tensor([m.beta if m.perturbed else 0.0 for m in models], device=device)
        self.hinge, self.random, self.device = first.hinge, first.random_perturbations, device
        self.histories = [History() for _ in models]
        self.best = [(-1.0, 0, {}) for _ in models]  # validation accuracy, epoch, weights

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """(K,) each: `loss`, `clean`, `adversarial` and `accuracy`, as of `AttentiveLSTM.losses`."""
        w, head = self.weights, self.weights["head.weight"]
        e = represent(w, batch.x)
        scores = score(w, e)
        clean = self.sample_losses(scores, batch.sign).mean(1)
        loss = clean + self.l2 / 2 * (head.square().sum((1, 2)) + w["head.bias"].square().sum(1))
        adversarial = torch.zeros_like(clean)
        if self.beta.any():
            perturbed = e + self.epsilon[:, None, None] * self.perturbation(e, scores, batch.sign)
            adversarial = self.sample_losses(score(w, perturbed), batch.sign).mean(1)
            loss = loss + self.beta * adversarial
        accuracy = ((scores > 0) == (batch.sign > 0)).float().mean(1)
        return {"loss": loss, "clean": clean, "adversarial": adversarial, "accuracy": accuracy}

    def sample_losses(self, scores: Tensor, sign: Tensor) -> Tensor:
        margin = sign * scores
        return torch.relu(1 - margin) if self.hinge else softplus(-margin)

    @torch.no_grad()
    def perturbation(self, e: Tensor, scores: Tensor, sign: Tensor) -> Tensor:
        """r (K, E, B), constant. The gradient at e is that of a linear head: -y w / ||w|| where the loss has one."""
        if self.random:
            own = [random_perturbation(part.T.cpu(), generator=g) for part, g in zip(e, self.generators, strict=True)]
            return torch.stack(own).transpose(1, 2).to(e.device)
        w = self.weights["head.weight"]
        direction = -sign * (sign * scores < 1) if self.hinge else -sign
        return direction.unsqueeze(1) * (w / torch.linalg.vector_norm(w, dim=2, keepdim=True)).transpose(1, 2)

    def train_epoch(self, samples: Tensor, sign: Tensor, batch_size: int) -> list[dict[str, float]]:
        """One pass over samples (N, T, I + 1) and signs (N,), in an order of each model's own; the means of each."""
        order = torch.stack([torch.randperm(len(samples), generator=g) for g in self.generators]).to(self.device)
        sums: dict[str, Tensor] = {}
        for indices in order.split(batch_size, 1):
            losses = self.losses(gathered(samples, sign, indices))
            if not torch.isfinite(losses["loss"]).all():
                raise FloatingPointError(f"a loss is not finite: {losses['loss'].tolist()}")
            self.optimizer.zero_grad()
            losses["loss"].sum().backward()
            self.optimizer.step()
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value.detach().double() * indices.shape[1]
        return [
            {name: (total[k] / len(samples)).item() for name, total in sums.items()} for k in range(len(self.models))
        ]

    def train_and_choose(self, samples: tuple[Tensor, Tensor], batch_size: int, validation: tuple | None) -> None:
        """An epoch; keeps each model's weights if it is its best one on validation samples, or if there are none."""
        rows, epoch = self.train_epoch(*samples, batch_size), len(self.histories[0].epoch) + 1
        for row, accuracy in zip(rows, [] if validation is None else self.accuracies(*validation), strict=False):
            row["val_accuracy"] = accuracy
        for k, row in enumerate(rows):
            self.histories[k].add(row)
            score = row.get("val_accuracy", float(epoch))
            if score > self.best[k][0]:
                state = {name: value[k].detach().clone() for name, value in self.weights.items()}
                self.best[k] = (score, epoch, state)

    @torch.no_grad()
    def accuracies(self, samples: Tensor, sign: Tensor, size: int = 1024) -> list[float]:
        """Each model's share of samples (N, T, I + 1) whose score has the sign (N,)."""
        models = len(self.models)
        parts = [p.permute(1, 2, 0).unsqueeze(1).expand(-1, models, -1, -1) for p in samples.split(size)]
        up = torch.cat([score(self.weights, represent(self.weights, part)) > 0 for part in parts], 1)  # (K, N)
        return (up == (sign > 0)).double().mean(1).tolist()

    def hand_back(self) -> None:
        """Gives every model its best weights, its history and its best epoch."""
        for model, history, (_, epoch, state) in zip(self.models, self.histories, self.best, strict=True):
            model.load_state_dict(state)
            model.history, model.best_epoch = history, epoch
            model.eval()


def fit_together(
    models: Sequence[AttentiveLSTM],
    X,
    y,
    validation_data: tuple | None = None,
    epochs: int = 150,
    batch_size: int = 1024,
    seeds: Sequence[int] | None = None,
    progress: Callable[[int, list[History]], None] | None = None,
) -> None:
    """Trains every model as `model.fit(X, y, validation_data, epochs, batch_size, seed)` would, up to rounding.

    Args:
        models: AttentiveLSTMs that differ at most in weights, epsilon, beta, l2 and adversarial_training.
        seeds: one per model; 0, 1, 2, ... by default.
        progress: called after each epoch with the number of its first model and the histories of the models that train
            together.

    Raises:
        ValueError: the models differ in more than that, or have dropout; shapes, labels or values are not as in `fit`.
        FloatingPointError: the loss of a model is not finite.
    """
    check_alike(models)
    seeds = range(len(models)) if seeds is None else seeds
    x, y = check_samples(X, y, models[0].features)
    held_out = None if validation_data is None else check_samples(*validation_data, x.shape[2])
    for start in range(0, len(models), TOGETHER):
        stack = Ensemble(models[start : start + TOGETHER], x.shape[2], seeds[start : start + TOGETHER])
        samples = prepared(x, y, stack.device)
        validation = None if held_out is None else prepared(*held_out, stack.device)
        for _ in range(epochs):
            stack.train_and_choose(samples, batch_size, validation)
            if progress is not None:
                progress(start, stack.histories)
        stack.hand_back()


def check_alike(models: Sequence[AttentiveLSTM]) -> None:
    if not models:
        raise ValueError("models must be at least one AttentiveLSTM")
    for name in SAME:
        values = {model.arguments[name] for model in models}
        if len(values) > 1:
            raise ValueError(f"models that train together must have one {name}, not {sorted(values)}")
    if any(model.dropout.p for model in models):
        raise ValueError("models that train together must have no dropout")


def built(model: AttentiveLSTM, features: int, seed: int) -> torch.Generator:
    """The generator that `fit` would draw from after it has made the weights, which a model without any gets here."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if model.features is None:
            model.build(features)
        generator = torch.Generator()
        generator.set_state(torch.get_rng_state())
    return generator


def prepared(x: Tensor, y: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Samples (N, T, I + 1) with a last feature of 1 for the biases, and signs (N,) of -1 or 1."""
    samples = torch.cat([x, torch.ones(*x.shape[:2], 1)], 2)
    return samples.to(device), (2.0 * y - 1).to(device)


def gathered(samples: Tensor, sign: Tensor, indices: Tensor) -> Batch:
    """The batch of the samples `indices` (K, B)."""
    rows = samples.flatten(1).index_select(0, indices.flatten()).view(*indices.shape, *samples.shape[1:])
    return Batch(rows.permute(2, 0, 3, 1).contiguous(), sign[indices])
