"""Anomalies by reconstruction error: scores, a threshold, a ranking, and a test with planted anomalies.

A model that has learnt to squeeze ordinary sequences through its code reconstructs others worse. How well that finds
them is measured where the truth is known: anomalies are planted into half of the test sequences, and the area under the
ROC curve says how often a planted one scores above an untouched one.
"""

import statistics
from collections.abc import Callable

import torch
from torch import Tensor

from lstm_studies.evaluation.baselines import PCA, fit_pca

ANOMALIES = ("spike", "level", "frozen", "reversed")


def step_errors(x: Tensor, reconstruction: Tensor) -> Tensor:
    """Squared errors per step (N, T) of sequences (N, T) or (N, T, features), averaged over the features."""
    errors = (x.double() - reconstruction.double()).square()
    return errors if errors.dim() == 2 else errors.flatten(2).mean(2)


def error_threshold(errors: Tensor, quantile: float) -> float:
    """The error that a share `quantile` of ordinary sequences, errors (N,), does not exceed."""
    return torch.quantile(errors.double(), quantile).item()


def ranking(errors: Tensor, threshold: float, names: list[str]) -> list[dict]:
    """One row per sequence, the worst first: its error, whether that is above the threshold, and its worst step.

    errors: (N, T) by step. names: of the N sequences. Steps count from 0.
    """
    means = errors.mean(1)
    worst_errors, worst_steps = errors.max(1)
    return [
        {
            "rank": rank,
            "sequence": names[i],
            "error": means[i].item(),
            "anomalous": int(means[i] > threshold),
            "worst_step": int(worst_steps[i]),
            "worst_step_error": worst_errors[i].item(),
        }
        for rank, i in enumerate(means.argsort(descending=True, stable=True).tolist(), 1)
    ]


def roc_auc(scores: Tensor, positive: Tensor) -> float:
    """Area under the ROC curve: how often a positive scores above a negative one, ties counting half.

    scores (N,), positive (N,) bool, with at least one of each kind. By ranks: the statistic of Mann and Whitney (1947).
    """
    from scipy.stats import rankdata  # 0.8 s, which no training needs

    count = int(positive.sum())
    if not 0 < count < len(positive):
        raise ValueError(f"positive: expected some and not all to be true, found {count} of {len(positive)}")
    ranks = rankdata(scores.double().numpy())[positive.numpy()].sum()
    return float((ranks - count * (count + 1) / 2) / (count * (len(positive) - count)))


def auc_shares(scores: Tensor, positive: Tensor) -> Tensor:
    """Numbers (N,) of `scores` (N,) whose mean is the area under the ROC curve, and whose variance gives that of it.

    After DeLong, DeLong and Clarke-Pearson 1988: of each positive the share of negatives below it, of each negative
    that of positives above it, their distances from the area weighted by N / number of its kind. The shares of two
    models on the same sequences may be compared case by case.
    """
    from scipy.stats import rankdata

    scores, positive = scores.double().numpy(), positive.numpy()
    ranks, area = rankdata(scores), roc_auc(torch.from_numpy(scores), torch.from_numpy(positive))
    shares = torch.empty(len(scores), dtype=torch.float64)
    for kind in (True, False):
        is_kind = positive == kind
        below = (ranks[is_kind] - rankdata(scores[is_kind])) / (~is_kind).sum()
        weight = len(scores) / is_kind.sum()
        shares[is_kind] = torch.from_numpy(area + weight * ((below if kind else 1 - below) - area))
    return shares


def plant(x: Tensor, kind: str, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sequences x (N, T) with an anomaly each, in a stretch of a tenth of the steps at a random place.

    spike: one step moved, up or down, by half of the sequence's range. level: the stretch moved by a quarter of it.
    frozen: the stretch keeps the value of its first step. reversed: the stretch backwards in time.
    Returns the changed sequences and the changed steps (N, T), bool.
    """
    count, steps = x.shape
    width = 1 if kind == "spike" else max(3, steps // 10)
    start = torch.randint(steps - width + 1, (count, 1), generator=generator)
    mask = (torch.arange(steps) >= start) & (torch.arange(steps) < start + width)
    sign = torch.randint(2, (count, 1), generator=generator) * 2 - 1
    extent = x.amax(1, keepdim=True) - x.amin(1, keepdim=True)
    if kind in ("spike", "level"):
        changed = x + sign * extent * (0.5 if kind == "spike" else 0.25)
    elif kind == "frozen":
        changed = x.gather(1, start).expand_as(x)
    elif kind == "reversed":
        mirrored = 2 * start + width - 1 - torch.arange(steps)
        changed = x.gather(1, mirrored.clamp(0, steps - 1))
    else:
        raise ValueError(f"kind: expected one of {', '.join(ANOMALIES)}, found {kind!r}")
    return torch.where(mask, changed, x), mask


def planted_scores(
    score: Callable[[Tensor], Tensor], x: Tensor, seed: int, prepare: Callable[[Tensor], Tensor] = lambda x: x
) -> dict[str, tuple[Tensor, Tensor]]:
    """For each kind of ANOMALIES, planted into a random half of the sequences x (N, T): scores, and which have one.

    score: prepared sequences -> errors by step (N, T), whose means are the scores (N,). prepare: what every sequence,
    planted or not, goes through first, such as the scaling.
    """
    scores = {}
    for number, kind in enumerate(ANOMALIES):
        generator = torch.Generator().manual_seed(seed * len(ANOMALIES) + number)
        positive = torch.randperm(len(x), generator=generator) < len(x) // 2
        planted = torch.where(positive.unsqueeze(1), plant(x, kind, generator)[0], x)
        scores[kind] = score(prepare(planted)).mean(1), positive
    return scores


def areas(scores: dict[str, tuple[Tensor, Tensor]], prefix: str = "") -> dict[str, float]:
    """Of `planted_scores`: `auc_<kind>`, the ROC AUC of each kind, and their mean `auc`, all with a prefix."""
    aucs = {kind: roc_auc(*of_kind) for kind, of_kind in scores.items()}
    return {f"{prefix}auc": statistics.mean(aucs.values())} | {f"{prefix}auc_{kind}": a for kind, a in aucs.items()}


def judge(
    x: Tensor,
    names: list[str],
    reconstruct: Callable[[Tensor], Tensor],
    pca: PCA,
    *,
    validation: Tensor,
    test: Tensor,
    quantile: float,
    seed: int,
    prepare: Callable[[Tensor], Tensor],
) -> tuple[list[dict], Tensor, dict[str, float], dict[str, tuple[Tensor, Tensor]]]:
    """Ranks sequences x (N, T), and measures how well the model that ranks them, and PCA, find planted anomalies.

    reconstruct: sequences (N, T) as the model reads them to its reconstructions. validation, test: such sequences; the
    threshold is a `quantile` of the validation errors, and the anomalies are planted into the test sequences.
    prepare: the scaling that makes them such. Returns the rows of `ranking`, the reconstructions of x, and `anomalous`,
    the number of sequences above the `threshold`, `auc_<kind>`, `pca_auc_<kind>` and their means; and the model's
    `planted_scores`.
    """
    threshold = error_threshold(step_errors(validation, reconstruct(validation)).mean(1), quantile)
    restored = reconstruct(x)
    rows = ranking(step_errors(x, restored), threshold, names)
    metrics = {"anomalous": sum(row["anomalous"] for row in rows), "quantile": quantile, "threshold": threshold}
    ours, of_pca = (
        planted_scores(lambda x, model=model: step_errors(x, model(x)), test, seed, prepare)
        for model in (reconstruct, pca.reconstruct)
    )
    return rows, restored, metrics | areas(ours) | areas(of_pca, "pca_"), ours


def chosen_pca(
    training: Tensor, validation: Tensor, seed: int, prepare: Callable[[Tensor], Tensor]
) -> tuple[Callable[[Tensor], Tensor], dict[str, int]]:
    """Errors by step of PCA, whose number of `components` finds anomalies best in validation sequences (N, T)."""

    def errors(size: int) -> Callable[[Tensor], Tensor]:
        pca = fit_pca(training, size)
        return lambda x: step_errors(x, pca.reconstruct(x))

    def area(size: int) -> float:
        return areas(planted_scores(errors(size), validation, seed, prepare))["auc"]

    size = max(range(1, training.shape[1]), key=area)
    return errors(size), {"components": size}


def forest(training: Tensor) -> Callable[[Tensor], Tensor]:
    """Scores (N, 1) of an isolation forest (Liu, Ting and Zhou 2008, scikit-learn's) on training sequences (M, T)."""
    from sklearn.ensemble import IsolationForest  # takes 0.4 s

    fitted = IsolationForest(random_state=0).fit(training.numpy())
    return lambda x: -torch.from_numpy(fitted.score_samples(x.numpy())).unsqueeze(1)
