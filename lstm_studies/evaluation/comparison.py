"""A model beside its opponents on the same test cases, of one split or of several folds."""

from statistics import mean

import numpy as np
import torch
from torch import Tensor

from lstm_studies.evaluation.intervals import compare

OURS = "lstm_ae"
LABELS = {"mase": "relative MAE", "test_mse": "test MSE"}  # of keys

# Of one split or fold: the opponents' metrics by name; the errors (trainings, N) by name, ours first; and the number
# (N,) of each test case's group, in all folds: cases of one group depend on one another.
Errors = tuple[dict[str, dict], dict[str, Tensor], Tensor]


def beside_opponents(metrics: dict[str, dict], key: str, folds: list[Errors]) -> dict[str, dict]:
    """The metrics of all models; ours get `against`, the paired differences, and a notice if an opponent is ahead.

    key: of the metric that is the mean of the errors, one of LABELS.
    """
    ours, opponents, errors, groups = metrics[OURS], {}, {}, []
    for _, own_errors, own_groups in folds:
        groups.append(own_groups.numpy())
        for name, own in own_errors.items():
            errors.setdefault(name, []).append(own)
    errors = {name: torch.cat(own, 1).numpy() for name, own in errors.items()}
    ours["against"] = {}
    for name in folds[0][0]:
        rows = [{"seed": ours["seed"], "data": ours["data"], **rows[name]} for rows, _, _ in folds]
        opponents[name] = rows[0] | {"seeds": 1}
        if len(rows) > 1:
            numbers = [number for number, value in rows[0].items() if isinstance(value, float)]
            means = {f"{number}_mean": mean(row[number] for row in rows) for number in numbers}
            opponents[name] |= means | {"folds": len(rows), "by_fold": rows}
        ours["against"][name] = {key: compare(errors[OURS], errors[name], np.concatenate(groups))}
    if ahead := [name for name in opponents if ours["against"][name][key]["difference"] >= 0]:
        error, *others = (row.get(f"{key}_mean", row[key]) for row in (ours, *(opponents[name] for name in ahead)))
        names = ", ".join(f"{name} ({other:.4g})" for name, other in zip(ahead, others, strict=True))
        ours["notice"] = f"NOTICE: {OURS}: its {LABELS[key]}, {error:.4g}, is not below that of {names}"
    return metrics | opponents
