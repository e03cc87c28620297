"""Classifiers on sequences that were attacked, made noisy, cut short or had steps removed, and why they are sensitive.

M trained `LSTMClassifier`s and a batch (x (N, T, I), lengths (N,), labels (N,)) give which sequences are right, (M, N);
for several sizes of a perturbation (R, M, N). Perturbations of x are measured in each feature's standard deviation over
the training data, those of v, the input of the LSTM, in its own units.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from Classifier import LSTMClassifier, mean_and_deviation
from lstm_studies.models.adversarial import find_perturbation, random_perturbation
from lstm_studies.models.lengths import is_step, reversed_within
from lstm_studies.models.recurrence import lstm_step
from ProxLSTM import proximal_map

RADII = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4)  # L2 norms of a perturbation, as shares of that of the sequence
RADII_OF_SEVERAL_STEPS = (0.0, 0.05, 0.1, 0.2, 0.3)
STEPS, STARTS = 20, 2  # of projected gradient ascent; the first start is no perturbation, the others are random
NOISES = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3)  # standard deviations of noise
SHARES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)  # of the steps of an utterance
MISSING = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
CERTIFIED = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)  # L2 norms of a perturbation of x
DRAWS, DRAWN_STD, CONFIDENCE = 100, 0.5, 0.999  # of the noise under which a radius is certified
Models = Sequence[LSTMClassifier]
Batch = tuple[Tensor, Tensor, Tensor]


class Scale(NamedTuple):
    """What perturbations are measured in, the same for all models."""

    x: Tensor  # (I,): standard deviation of each feature
    x_norms: Tensor  # (N,): L2 norms of the sequences x, each feature less its mean and divided by its deviation
    v_norms: Tensor  # (N,): L2 norms of v, means over some models


@torch.no_grad()
def scale_of(training_steps: Tensor, batch: Batch, models: Models) -> Scale:
    """Of all steps (S, I) of the training data, and of the models that perturbations of v are measured by."""
    x, lengths, _ = batch
    mean, std = mean_and_deviation(training_steps)
    x = ((x - mean) / std).masked_fill(~is_step(x, lengths).unsqueeze(2), 0.0)
    return Scale(std, norms(x), torch.stack([norms(features(model, batch)[0]) for model in models]).mean(0))


def all_tests(
    models: Models, batch: Batch, scale: Scale, seed: int, slow_ones: bool = True
) -> dict[str, tuple[tuple[float, ...], Tensor]]:
    """Each test by name: the sizes of its perturbation (R,), and what is right (R, M, N).

    The slow ones are the attacks of several steps and the certified radii: minutes with a ProxLSTM.
    """
    tests = {}
    attacks = [("", RADII, 1)] + [(f"_{STEPS}_steps", RADII_OF_SEVERAL_STEPS, STEPS)] * slow_ones
    for where in ("x", "v"):
        for name, radii, steps in attacks:
            right = [right_under_attack(model, batch, scale, where, radii, steps, seed) for model in models]
            tests[f"attack_{where}{name}"] = radii, torch.stack(right, 1)
        right = [right_under_noise(models, batch, scale, where, size, seed) for size in NOISES]
        tests[f"noise_{where}"] = NOISES, torch.stack(right)
    tests["first_share"] = SHARES, torch.stack([right_cut_short(models, batch, share) for share in SHARES])
    if slow_ones:
        certified = [certified_right(model, batch, scale, seed) for model in models]
        tests["certified"] = CERTIFIED, torch.stack(certified, 1)
    missing = [right_with_steps_missing(models, batch, share, seed) for share in MISSING]
    return tests | {"missing_share": (MISSING, torch.stack(missing))}


def cross_validated(models: Sequence[tuple[LSTMClassifier, Batch]]) -> float | None:
    """The mean of `area` under attacks on x of several steps, each model on the sequences beside it; None without any.

    Norms are measured in the deviations of these sequences.
    """
    areas = []
    for model, batch in models:
        steps = torch.cat([x[:length] for x, length in zip(*batch[:2], strict=True)])
        right = right_under_attack(model, batch, scale_of(steps, batch, [model]), "x", RADII_OF_SEVERAL_STEPS, STEPS, 0)
        areas.append(area(RADII_OF_SEVERAL_STEPS, right))
    return torch.cat(areas).mean().item() if areas else None


def area(sizes: Sequence[float], right: Tensor) -> Tensor:
    """(M, N): the mean of what is right (R, M, N) over the range of sizes, by the trapezoid rule."""
    x = torch.tensor(sizes, dtype=torch.float64)
    return torch.trapezoid(right.double(), x, dim=0) / (x[-1] - x[0])


def accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """The share of right classes, of logits (..., N, K) and labels (N,)."""
    return (logits.argmax(-1) == labels).double().mean(-1)


@torch.no_grad()
def right_of(models: Models, batch: Batch) -> Tensor:
    x, lengths, labels = batch
    return torch.stack([model(x, lengths).argmax(1) == labels for model in models])


def norms(x: Tensor) -> Tensor:
    """(N,) of (N, ...)."""
    return torch.linalg.vector_norm(x.flatten(1), dim=1)


def features(model: LSTMClassifier, batch: Batch) -> tuple[Tensor, Tensor]:
    """v, zero after each sequence's end, which no LSTM sees and which does not count in a norm; and the lengths."""
    v, lengths = model.features(*batch[:2])
    return v.masked_fill(~is_step(v, lengths).unsqueeze(2), 0.0), lengths


def answers(model: LSTMClassifier, batch: Batch, scale: Scale, where: str) -> tuple[Callable, Tensor, Tensor]:
    """logits(perturbation (B, ...), indices (B,)) of the perturbed sequences x or v; a perturbation of all that is
    zero; and how many of its steps count (N,).
    """
    x, lengths, _ = batch
    if where == "x":
        return lambda p, chosen: model(x[chosen] + scale.x * p, lengths[chosen]), torch.zeros_like(x), lengths
    with torch.no_grad():
        v, left = features(model, batch)
    return lambda p, chosen: model.classify(v[chosen] + p, left[chosen]), torch.zeros_like(v), left


def right_under_attack(
    model: LSTMClassifier, batch: Batch, scale: Scale, where: str, radii: Sequence[float], steps: int, seed: int
) -> Tensor:
    """(R, N): right whatever perturbation of x or v is tried, of norms up to `radii` (increasing) times that of the
    sequence in `scale`; by gradient ascent on the loss.

    Every model is attacked by its own gradient. One step goes along the gradient; several steps have STARTS starts.
    """
    labels, budget = batch[2], scale.x_norms if where == "x" else scale.v_norms
    logits, unperturbed, lengths = answers(model, batch, scale, where)
    generator, rows = torch.Generator().manual_seed(seed), []
    right = torch.ones(len(labels), dtype=torch.bool)
    for radius in radii:
        for start in range(STARTS if steps > 1 and radius else 1):
            if not len(chosen := right.nonzero().flatten()):
                break
            p, reach = unperturbed[chosen], radius * budget[chosen]
            if radius:
                random = random_perturbation(p, lengths[chosen], generator) * reach.view(-1, 1, 1) if start else None

                def loss(p: Tensor, chosen: Tensor = chosen) -> Tensor:
                    return cross_entropy(logits(p, chosen), labels[chosen], reduction="sum")

                p = find_perturbation(loss, p, reach, steps, start=random)
            with torch.no_grad():
                right[chosen] = logits(p, chosen).argmax(1) == labels[chosen]
        rows.append(right.clone())
    return torch.stack(rows)


@torch.no_grad()
def right_under_noise(models: Models, batch: Batch, scale: Scale, where: str, size: float, seed: int) -> Tensor:
    """With Gaussian noise of `size` standard deviations of each feature of x, or of each channel of v in that model.

    It is the same for all models and, up to its size, for every `size`.
    """
    rows = []
    for model in models:
        logits, unperturbed, lengths = answers(model, batch, scale, where)
        noise = size * torch.randn(unperturbed.shape, generator=torch.Generator().manual_seed(seed))
        if where == "v":
            noise = noise * features(model, batch)[0][is_step(noise, lengths)].std(0)
        rows.append(logits(noise, torch.arange(len(noise))).argmax(1) == batch[2])
    return torch.stack(rows)


@torch.no_grad()
def certified_right(model: LSTMClassifier, batch: Batch, scale: Scale, seed: int) -> Tensor:
    """(R, N): certainly right under any perturbation of x with a norm up to CERTIFIED, with noise and a vote.

    Randomised smoothing (Cohen, Rosenfeld and Kolter 2019): the class that the model gives most often under Gaussian
    noise is the same within DRAWN_STD Phi^-1(p), where p is the true class's share; its lower limit is Clopper and
    Pearson's, from DRAWS draws.
    """
    from scipy.stats import beta, norm

    (logits, unperturbed, _), labels = answers(model, batch, scale, "x"), batch[2]
    generator, right = torch.Generator().manual_seed(seed), torch.zeros(len(labels))
    for _ in range(DRAWS):
        noise = DRAWN_STD * torch.randn(unperturbed.shape, generator=generator)
        right += logits(noise, torch.arange(len(noise))).argmax(1) == labels
    share = beta.ppf(1 - CONFIDENCE, right.clamp_min(0.5), DRAWS - right + 1)  # none right: not certified
    return torch.stack([torch.from_numpy(DRAWN_STD * norm.ppf(share) >= max(radius, 1e-9)) for radius in CERTIFIED])


def right_cut_short(models: Models, batch: Batch, share: float) -> Tensor:
    """With the first `share` of each sequence's steps, at least as many as the convolution needs."""
    x, lengths, labels = batch
    return right_of(models, (x, fewer(models, lengths, share), labels))


def right_with_steps_missing(models: Models, batch: Batch, share: float, seed: int) -> Tensor:
    """Without `share` of each sequence's steps, chosen at random; the others close up. The same for all models."""
    x, lengths, labels = batch
    left = fewer(models, lengths, 1 - share)
    keys = torch.rand(x.shape[:2], generator=torch.Generator().manual_seed(seed))
    keys[~is_step(x, lengths)] = 2.0  # behind every step of the sequence
    ranks = keys.argsort(1).argsort(1)
    is_left = ranks < left.unsqueeze(1)  # (N, T)
    order = torch.argsort(~is_left, dim=1, stable=True)  # the steps that are left first, in their order
    return right_of(models, (x.gather(1, order.unsqueeze(2).expand_as(x)), left, labels))


def fewer(models: Models, lengths: Tensor, share: float) -> Tensor:
    shortest = models[0].convolution.kernel_size[0]
    return (lengths * share).round().long().clamp_min(shortest).minimum(lengths)


# ---- why a model is sensitive ----------------------------------------------------------------------------------------


def sensitivity(model: LSTMClassifier, batch: Batch) -> dict[str, float]:
    """Why the answers move with v: means over the sequences, and those of `norms_of_map`.

    margin: the true class's logit less the largest other one; norm_gradient: of the margin with respect to v (T', C);
    effective_steps: over how many steps that gradient g is spread, (sum_t |g_t|^2)^2 / sum_t |g_t|^4.
    """
    v, lengths = (part.detach() for part in features(model, batch))
    logits, labels = model.classify(v.requires_grad_(), lengths), batch[2].unsqueeze(1)
    margin = logits.gather(1, labels).squeeze(1) - logits.scatter(1, labels, -torch.inf).amax(1)
    (gradient,) = torch.autograd.grad(margin.sum(), v)
    squares = gradient.square().sum(2)  # (N, T')
    steps = squares.sum(1).square() / squares.square().sum(1).clamp_min(torch.finfo(v.dtype).tiny)
    values = {"margin": margin, "norm_gradient": norms(gradient), "effective_steps": steps, "norm_v": norms(v)}
    return {name: value.mean().item() for name, value in values.items()} | norms_of_map(model, v.detach(), lengths)


@torch.no_grad()
def norms_of_map(model: LSTMClassifier, v: Tensor, lengths: Tensor) -> dict[str, float]:
    """Norms behind the proximal map, means over all steps of the sequences v (N, T', C), and over both directions.

    norm_weights: Frobenius, of W_i, W_f and W_g (3H, C), times the factor of a batch norm before the LSTM; norm_G:
    Frobenius, of the derivative G of the cell state s with respect to v; norm_G_mapped: of (I + epsilon G G^T)^-1 G;
    shrinkage: ||c|| / ||s||, what the map leaves of the state.
    """
    gain = torch.ones(v.shape[2])
    if "convolution" in model.batch_norms:
        norm = model.batch_norms["convolution"]
        gain = norm.weight / (norm.running_var + norm.eps).sqrt()
    v = model.regularize(v, "convolution", lengths)
    epsilon, sums = model.epsilon if model.is_proximal else 0.0, torch.zeros(4, dtype=torch.float64)
    for direction, weights in enumerate(model.lstm.all_weights):
        w_i, w_f, w_g, _ = (weights[0] * gain).chunk(4)
        norm_weights = torch.cat([w_i, w_f, w_g]).norm()
        if direction:
            v = reversed_within(v, lengths)
        h = c = v.new_zeros(len(v), model.lstm.hidden_size)
        for t in range(v.shape[1]):
            is_inside, before = lengths > t, c
            h, s, (i, f, g) = lstm_step(v[:, t], (h, before), weights)
            d_i, d_f, d_g = g * i * (1 - i), before * f * (1 - f), i * (1 - g * g)
            G = d_i.unsqueeze(2) * w_i + d_f.unsqueeze(2) * w_f + d_g.unsqueeze(2) * w_g  # with respect to v (N, H, C)
            unscaled = G / gain  # with respect to what the LSTM reads, of which the map is
            c = proximal_map(s, unscaled, epsilon)
            mapped = torch.linalg.solve(torch.eye(G.shape[1]) + epsilon * unscaled @ unscaled.mT, G)
            norms_of_step = norms(G), norms(mapped), norms(c) / norms(s).clamp_min(1e-12), norm_weights.expand(len(v))
            sums += torch.stack(norms_of_step)[:, is_inside].double().sum(1)
    means = sums / (lengths.sum() * len(model.lstm.all_weights))
    return dict(zip(("norm_G", "norm_G_mapped", "shrinkage", "norm_weights"), means.tolist(), strict=True))
