"""How far two models are apart on the same test cases, with a 95 % interval, and what may be said of it.

Letters in shapes: S trainings with different seeds, N test cases, G groups of cases.
"""

import math

import numpy as np


def compare(ours: np.ndarray, theirs: np.ndarray, groups: np.ndarray | None = None) -> dict[str, float]:
    """The difference of the mean scores, ours - theirs, as {"difference", "low", "high"}.

    ours (S, N), theirs (S', N), or (N,) of a model without seeds: a score of each training on each test case, such as 1
    for a right class or a squared error. The variance of the difference is the sum of three: that of the cases, of
    which both models see the same, so that what they share cancels; and those of either model's trainings. Cases of one
    of the `groups` (N,), such as the samples of one day, may depend on one another. The quantile is Student's, with the
    degrees of freedom of Satterthwaite 1946, so that three trainings count as three. A single training has no
    variance: the interval is then that of these weights.
    """
    ours, theirs = (np.atleast_2d(np.asarray(scores, np.float64)) for scores in (ours, theirs))
    cases = ours.shape[1]
    if theirs.shape[1] != cases or (groups is not None and np.shape(groups) != (cases,)):
        shapes = f"{ours.shape}, {theirs.shape}" + ("" if groups is None else f" and groups {np.shape(groups)}")
        raise ValueError(f"expected scores of the same test cases, found {shapes}")
    differences = ours.mean(0) - theirs.mean(0)  # (N,)
    difference = differences.mean()
    _, group = np.unique(np.arange(cases) if groups is None else groups, return_inverse=True)
    sums = np.bincount(group, differences - difference)  # (G,)
    variances = [(np.var(sums, ddof=1) * len(sums) / cases**2, len(sums) - 1)] if len(sums) > 1 else []
    for scores in (ours, theirs):
        if len(scores) > 1:
            variances.append((scores.mean(1).var(ddof=1) / len(scores), len(scores) - 1))
    half = half_width(variances)
    return {"difference": float(difference), "low": float(difference - half), "high": float(difference + half)}


def half_width(variances: list[tuple[float, int]]) -> float:
    """Of the 95 % interval of a mean, from the independent parts of its variance with their degrees of freedom."""
    from scipy.special import stdtrit  # the quantiles of scipy.stats.t, whose import takes half a second more

    whole = math.fsum(variance for variance, _ in variances)  # the same bits in every version of Python
    if not whole:
        return 0.0
    freedom = whole**2 / math.fsum(variance**2 / degrees for variance, degrees in variances)
    return float(stdtrit(freedom, 0.975) * whole**0.5)


def verdict(low: float, high: float, higher_is_better: bool, margin: float | None = None) -> str:
    """What the interval of a difference, ours - theirs, says of us: better, worse, equivalent or within noise.

    Equivalent: it lies within a margin that was set beforehand. An interval without finite ends says nothing.
    """
    if not np.isfinite([low, high]).all():
        return "within noise"
    if margin is not None and -margin <= low and high <= margin:
        return "equivalent"
    if low <= 0 <= high:
        return "within noise"
    return "better" if (low > 0) == higher_is_better else "worse"
