"""Many `LSTMClassifier`s of one shape trained as one: the seeds of a run, or the folds of a repeated cross-validation.

A training step of one small LSTM is to a good part the overhead of small operations: M of them take about a third less
time as batched products than one after another (benchmarks/bench_prox_lstm.py). The models share nothing else: loss,
gradients and batch-norm statistics of each are those that it has on its own (tests/test_classifier_stack.py).

Letters in shapes: M models, B batch, T time steps, I input size, C channels, H hidden size, K classes, D directions,
G = D M LSTMs.
"""

import functools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from Classifier import LSTMClassifier
from lstm_studies.models.adversarial import normalize_samples
from lstm_studies.models.proximal_solvers import ConjugateGradients
from ProxLSTM import TOLERANCES, ProxLSTMFunction


class ClassifierStack(nn.Module):
    """`models` classifiers with the same arguments; parameters and buffers have a first dimension M.

    The constructor makes M copies of one start; `of` takes over the classifiers that it is given.
    """

    def __init__(self, models: int, **arguments):
        super().__init__()
        self.arguments = {"models": models, **arguments}
        self.stacked = LSTMClassifier(**arguments)  # holds the settings and the names; its own forward is not used
        self.load([self.stacked] * models)

    @classmethod
    def of(cls, models: Sequence[LSTMClassifier]) -> "ClassifierStack":
        stack = cls(len(models), **models[0].arguments)
        stack.load(models)
        return stack

    @torch.no_grad()
    def load(self, models: Sequence[LSTMClassifier]) -> None:
        """Takes over the weights of M classifiers."""
        states = [model.state_dict() for model in models]
        for name in states[0]:
            path, _, leaf = name.rpartition(".")
            owner = self.stacked.get_submodule(path)
            tensor = torch.stack([state[name] for state in states])
            if leaf in owner._parameters:
                owner._parameters[leaf] = nn.Parameter(tensor)
            else:
                owner._buffers[leaf] = tensor

    def unstack(self) -> list[LSTMClassifier]:
        """The M classifiers, in evaluation mode."""
        arguments = {name: value for name, value in self.arguments.items() if name != "models"}
        state, models = self.stacked.state_dict(), []
        for m in range(self.arguments["models"]):
            model = LSTMClassifier(**arguments)
            model.load_state_dict({name: tensor[m] for name, tensor in state.items()})
            models.append(model.eval())
        return models

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Logits (M, B, K) of x (M, B, T, I), of which the first `lengths` (M, B) steps count."""
        return self.classify(*self.features(x, lengths))

    def loss(self, x: Tensor, lengths: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Each model's mean cross-entropy (M,), and logits (M, B, K) of the clean sequences, as `LSTMClassifier.loss`.

        Labels (M, B); those below 0 are left out.
        """
        model = self.stacked
        v, lengths = self.features(x, lengths)
        logits = self.classify(v, lengths)
        losses = mean_cross_entropies(logits, labels)
        if model.mode != "AdvLSTM" or not self.training or not model.epsilon:
            return losses, logits
        (gradient,) = torch.autograd.grad(losses.sum(), v, retain_graph=True)
        r = normalize_samples(gradient.flatten(0, 1)).view_as(v)
        perturbed = self.classify(v + model.epsilon * r, lengths, perturbed=True)
        return (losses + mean_cross_entropies(perturbed, labels)) / 2, logits

    def features(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """v (M, B, T', C), and how many of its steps count (M, B)."""
        model = self.stacked
        if self.training and model.noise:
            x = x + model.noise * torch.randn_like(x)
        x = normalize(x, dim=3) if model.normalization == "l2" else (x - by_model(model.mean)) / by_model(model.std)
        if self.training and model.offset:
            x = x + model.offset * torch.randn_like(x[:, :, :1])
        x = self.regularize(x, lengths, "input")
        weight, stride = model.convolution.weight, model.convolution.stride[0]  # (M, C, I, k)
        windows = x.unfold(2, weight.shape[3], stride)  # (M, B, T', I, k)
        v = linear(windows.reshape(len(x), -1, weight[0, 0].numel()), weight.flatten(2), model.convolution.bias)
        return torch.relu(v).view(*windows.shape[:3], -1), (lengths - weight.shape[3]) // stride + 1

    def classify(self, v: Tensor, lengths: Tensor, perturbed: bool = False) -> Tensor:
        """Logits (M, B, K) of v (M, B, T', C)."""
        v = self.regularize(v, lengths, "convolution", perturbed)
        h = self.last_states(v, lengths)
        h = self.regularize(h.unsqueeze(2), torch.ones_like(lengths), "lstm", perturbed).squeeze(2)
        return linear(h, self.stacked.linear.weight, self.stacked.linear.bias)

    def last_states(self, v: Tensor, lengths: Tensor) -> Tensor:
        """(M, B, D H): the LSTMs' states at each sequence's own end, in both directions if there are two."""
        lstm = self.stacked.lstm
        names = ["l0", "l0_reverse"] if lstm.bidirectional else ["l0"]
        if lstm.bidirectional:  # the second half of the LSTMs reads each sequence from its own end
            backwards = (lengths.unsqueeze(2) - 1 - torch.arange(v.shape[2], device=v.device)).clamp_min(0)
            v = torch.cat([v, v.gather(2, backwards.unsqueeze(3).expand_as(v))])
        w_ih, w_hh, b_ih, b_hh = (
            torch.cat([getattr(lstm, f"{kind}_{name}") for name in names])
            for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        if self.stacked.mode == "ProxLSTM" and self.stacked.epsilon:
            h = run_proximal(v, w_ih, w_hh, b_ih + b_hh, lstm)
        else:
            h = run_lstms(v, w_ih, w_hh, b_ih + b_hh)
        last = (lengths.repeat(len(names), 1) - 1)[..., None, None].expand(-1, -1, 1, h.shape[3])
        return torch.cat(h.gather(2, last).squeeze(2).chunk(len(names)), 2)

    def regularize(self, x: Tensor, lengths: Tensor, place: str, perturbed: bool = False) -> Tensor:
        """x (M, B, T, F) after the batch norm and the dropout of this place, if there are any."""
        if place in self.stacked.batch_norms:
            norm = self.stacked.batch_norms[place]
            counts = (torch.arange(x.shape[2], device=x.device) < lengths.unsqueeze(2)).unsqueeze(3)  # (M, B, T, 1)
            x = as_working(x)  # under autocast, too: sums of a whole batch are beyond bfloat16
            if self.training:
                n = lengths.sum(1)[:, None, None, None]
                mean = (x * counts).sum((1, 2), keepdim=True) / n
                centred = (x - mean) * counts
                variance = centred.square().sum((1, 2), keepdim=True) / n
                if not perturbed:
                    update_running(norm, mean.detach().flatten(1), (variance * n / (n - 1)).detach().flatten(1))
            else:
                variance = by_model(norm.running_var)
                centred = (x - by_model(norm.running_mean)) * counts
            x = centred * (by_model(norm.weight) * (variance + norm.eps).rsqrt()) + by_model(norm.bias)
        return self.stacked.dropout(x) if place in self.stacked.dropout_places else x


def update_running(norm: nn.BatchNorm1d, mean: Tensor, variance: Tensor) -> None:
    """Moves the running statistics of M batch norms towards those of a batch (M, F)."""
    norm.running_mean.lerp_(mean, norm.momentum)
    norm.running_var.lerp_(variance, norm.momentum)
    norm.num_batches_tracked += 1


def as_working(tensor: Tensor) -> Tensor:
    """In float32 at least."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def by_model(tensor: Tensor) -> Tensor:
    """(M, F) as (M, 1, 1, F), for sequences (M, B, T, F)."""
    return tensor[:, None, None]


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(M, N, K) of x (M, N, J), each by its own weight (M, K, J) and bias (M, K)."""
    return torch.baddbmm(bias.unsqueeze(1), x, weight.mT)


def mean_cross_entropies(logits: Tensor, labels: Tensor) -> Tensor:
    """(M,) of logits (M, B, K) and labels (M, B), of which those below 0 are left out."""
    counts = labels >= 0
    losses = cross_entropy(logits.mT, labels.clamp_min(0), reduction="none")
    return (losses * counts).sum(1) / counts.sum(1).clamp_min(1)  # 0 for a model that has none


def run_lstms(v: Tensor, w_ih: Tensor, w_hh: Tensor, bias: Tensor) -> Tensor:
    """h (G, B, T, H) of v (G, B, T, I), each of G LSTMs with its own weights (G, 4H, I) and (G, 4H, H)."""
    groups, batch, steps, _ = v.shape
    gates_v = linear(v.transpose(1, 2).reshape(groups, steps * batch, -1), w_ih, bias)
    h = c = v.new_zeros(groups, batch, w_hh.shape[2])
    outputs = []
    for gates in gates_v.view(groups, steps, batch, -1).unbind(1):
        i, f, g, o = torch.baddbmm(gates, h, w_hh.mT).chunk(4, 2)
        c = torch.addcmul(f.sigmoid() * c, i.sigmoid(), g.tanh())
        h = o.sigmoid() * c.tanh()
        outputs.append(h)
    return torch.stack(outputs, 2)


def run_proximal(v: Tensor, w_ih: Tensor, w_hh: Tensor, bias: Tensor, lstm: nn.Module) -> Tensor:
    """The same of proximal LSTMs with epsilon, tolerance and iterations of `lstm`, by conjugate gradients."""
    groups, batch, steps, _ = v.shape
    solver = functools.partial(
        ConjugateGradients,
        tolerance=lstm.tolerance or TOLERANCES[as_working(v).dtype],
        max_iterations=lstm.max_iterations,
    )
    sizes = [groups * batch] * steps
    with torch.autocast(v.device.type, enabled=False):
        v, w_ih, w_hh, bias = map(as_working, (v, w_ih, w_hh, bias))
        rows = v.permute(2, 0, 1, 3).reshape(steps * groups * batch, -1)
        state = v.new_zeros(groups * batch, w_hh.shape[2])
        h, _, _ = ProxLSTMFunction.apply(rows, state, state, w_ih, w_hh, bias, lstm.epsilon, sizes, False, solver)
    return h.view(steps, groups, batch, -1).permute(1, 2, 0, 3)
