"""Many classifiers of one shape trained as one model: the seeds of a run, or the folds of a repeated cross-validation.

A step of one small LSTM is mostly the overhead of small operations; M of them in one batched product each share it. The
models share nothing else: loss, gradient and batch-norm statistics of each are those that it has on its own.

Letters in shapes: M models, B batch, T time steps, I input size, C channels, H hidden size, K classes, D directions.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from Classifier import PLACES, LSTMClassifier
from models.adversarial import normalize_samples
from models.proximal_solvers import ConjugateGradients, Identity
from ProxLSTM import ProxLSTMFunction

PADDING = -100  # a label that counts in no loss, as in `cross_entropy`
TOLERANCE = 3e-4


class ClassifierStack(nn.Module):
    def __init__(self, models: int, **arguments):
        super().__init__()
        self.arguments = {"models": models, **arguments}
        self.stacked = LSTMClassifier(**arguments)
        self.stack([self.stacked] * models)

    @classmethod
    def of(cls, models: list[LSTMClassifier]) -> "ClassifierStack":
        stack = cls(len(models), **models[0].arguments)
        stack.stack(models)
        return stack

    @torch.no_grad()
    def stack(self, models: list[LSTMClassifier]) -> None:
        states = [model.state_dict() for model in models]
        tensors = {name: torch.stack([state[name] for state in states]) for name in states[0]}
        for name, tensor in tensors.items():
            path, _, leaf = name.rpartition(".")
            owner = self.stacked.get_submodule(path)
            if leaf in owner._parameters:
                owner._parameters[leaf] = nn.Parameter(tensor)
            else:
                owner._buffers[leaf] = tensor

    def unstack(self) -> list[LSTMClassifier]:
        state = self.stacked.state_dict()
        arguments = {k: v for k, v in self.arguments.items() if k != "models"}
        models = []
        for m in range(self.arguments["models"]):
            model = LSTMClassifier(**arguments)
            model.load_state_dict({name: tensor[m] for name, tensor in state.items()})
            models.append(model.eval())
        return models

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.classify(*self.features(x, lengths))

    def features(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        model = self.stacked
        if self.training and model.noise:
            x = x + model.noise * torch.randn_like(x)
        if model.normalization == "l2":
            x = normalize(x, dim=3)
        else:
            x = (x - model.mean[:, None, None]) / model.std[:, None, None]
        if self.training and getattr(model, "offset", 0):
            x = x + model.offset * torch.randn_like(x[:, :, :1])
        x = self.regularize(x, lengths, "input")
        weight = model.convolution.weight  # (M, C, I, k)
        windows = x.unfold(2, weight.shape[3], 1)  # (M, B, T', I, k)
        shape = windows.shape[:3]
        v = torch.baddbmm(model.convolution.bias.unsqueeze(1), windows.reshape(len(x), -1, weight[0, 0].numel()), weight.flatten(2).mT)
        return torch.relu(v).view(*shape, -1), lengths - weight.shape[3] + 1

    def classify(self, v: Tensor, lengths: Tensor, perturbed=False) -> Tensor:
        model = self.stacked
        v = self.regularize(v, lengths, "convolution", perturbed)
        h = self.run_lstm(v, lengths)
        h = self.regularize(h.unsqueeze(2), torch.ones_like(lengths), "lstm", perturbed).squeeze(2)
        return torch.baddbmm(model.linear.bias.unsqueeze(1), h, model.linear.weight.mT)

    def run_lstm(self, v: Tensor, lengths: Tensor) -> Tensor:
        """(M, B, D H)"""
        lstm = self.stacked.lstm
        directions = 1 + lstm.bidirectional
        if directions == 2:
            steps = torch.arange(v.shape[2])
            back = (lengths.unsqueeze(2) - 1 - steps).clamp_min(0)
            v = torch.cat([v, v.gather(2, back.unsqueeze(3).expand_as(v))])
        names = ["l0", "l0_reverse"][:directions]
        w_ih, w_hh, b_ih, b_hh = (
            torch.cat([getattr(lstm, f"{kind}_{name}") for name in names]) for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        epsilon = self.stacked.epsilon if self.stacked.mode == "ProxLSTM" else 0.0
        outputs = run(v, w_ih, w_hh, b_ih + b_hh, epsilon).permute(1, 2, 0, 3)  # (G, B, T, H)
        last = (lengths.repeat(directions, 1) - 1)[..., None, None].expand(-1, -1, 1, outputs.shape[3])
        h = outputs.gather(2, last).squeeze(2)
        return torch.cat(h.chunk(directions), 2)

    def regularize(self, x: Tensor, lengths: Tensor, place: str, perturbed=False) -> Tensor:
        """x (M, B, T, F)"""
        norms = self.stacked.batch_norms
        if place in norms:
            norm = norms[place]
            counts = (torch.arange(x.shape[2]) < lengths.unsqueeze(2)).unsqueeze(3)  # (M, B, T, 1)
            if self.training:
                n = lengths.sum(1)[:, None, None, None]
                mean = (x * counts).sum((1, 2), keepdim=True) / n
                centred = (x - mean) * counts
                var = centred.square().sum((1, 2), keepdim=True) / n
                if not perturbed:
                    with torch.no_grad():
                        norm.running_mean.lerp_(mean.view_as(norm.running_mean), norm.momentum)
                        norm.running_var.lerp_((var * n / (n - 1)).view_as(norm.running_var), norm.momentum)
            else:
                mean, var = norm.running_mean[:, None, None], norm.running_var[:, None, None]
                centred = (x - mean) * counts
            scale = norm.weight[:, None, None] * (var + norm.eps).rsqrt()
            x = centred * scale + norm.bias[:, None, None]
        return self.stacked.dropout(x) if place in self.stacked.dropout_places else x

    def loss(self, x: Tensor, lengths: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Each model's mean cross-entropy (M,), logits (M, B, K)."""
        model = self.stacked
        v, lengths = self.features(x, lengths)
        logits = self.classify(v, lengths)
        losses = means(logits, labels)
        if model.mode != "AdvLSTM" or not self.training or not model.epsilon:
            return losses, logits
        (gradient,) = torch.autograd.grad(losses.sum(), v, retain_graph=True)
        r = normalize_samples(gradient.flatten(0, 1)).view_as(v)
        perturbed = self.classify(v + model.epsilon * r, lengths, perturbed=True)
        return (losses + means(perturbed, labels)) / 2, logits


def means(logits: Tensor, labels: Tensor) -> Tensor:
    losses = cross_entropy(logits.mT, labels, reduction="none", ignore_index=PADDING)
    return losses.sum(1) / (labels != PADDING).sum(1)


def run(v, w_ih, w_hh, bias, epsilon):
    groups, batch, steps, _ = v.shape
    x = v.permute(2, 0, 1, 3).reshape(steps * groups * batch, -1)
    state = x.new_zeros(groups * batch, w_hh.shape[2])

    def solver(weight):
        return ConjugateGradients(weight, TOLERANCE, 1000) if epsilon else Identity()

    h, _, _ = ProxLSTMFunction.apply(x, state, state, w_ih, w_hh, bias, epsilon, [groups * batch] * steps, False, solver)
    return h.view(steps, groups, batch, -1)
