"""The numbers of a run, written beside their baseline, opponent, published value and target."""

import math
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import NamedTuple

from lstm_studies.evaluation.intervals import half_width, verdict
from lstm_studies.reporting.studies import Number, Study

MANY = 10**6  # degrees of freedom of a variance that is known


class Kind(NamedTuple):
    """How numbers of one kind are written, and which of two is better."""

    decimals: int | None = None  # None: three significant digits
    unit: str = ""
    factor: float = 1.0  # from the value to what is written
    higher_is_better: bool = False


KINDS = {
    "mse": Kind(),
    "loss": Kind(),
    "ratio": Kind(3),
    "dollars": Kind(3, " USD"),
    "accuracy": Kind(1, " %", 100.0, higher_is_better=True),
    "mcc": Kind(3, higher_is_better=True),
    "plain": Kind(1, higher_is_better=True),
    "precision": Kind(3, higher_is_better=True),
}


@dataclass(frozen=True)
class Row:
    """A number of a finished run with what it is compared with; what is unknown is None."""

    number: Number
    value: float  # the mean over seeds
    std: float | None  # over seeds
    seeds: int
    interval: tuple[float, float] | None  # 95 %, of the value, if the run computed one
    value_range: tuple[float, float]  # 95 %: the interval, else over seeds and test cases as far as they are known
    baseline: float | None
    opponent: float | None
    against: dict[str, float] | None  # "difference" from the opponent, "low" and "high" of its 95 % interval
    variance: float | None  # of the data, for squared errors

    @property
    def kind(self) -> Kind:
        return KINDS[self.number.kind]

    @property
    def target(self) -> float | None:
        relative = self.number.target_ratio is not None and self.baseline is not None
        return self.number.target_ratio * self.baseline if relative else self.number.target

    @property
    def verdict(self) -> str | None:
        """What the interval of the difference says of us beside the opponent; None without one."""
        if self.against is None:
            return None
        return verdict(self.against["low"], self.against["high"], self.kind.higher_is_better, self.number.margin)

    @property
    def target_verdict(self) -> str | None:
        """Whether the target is reached: "within noise" if it lies inside of the value's interval; None without one."""
        if self.target is None:
            return None
        low, high = self.value_range
        if low < self.target < high:
            return "within noise"
        reached = low >= self.target if self.kind.higher_is_better else high <= self.target
        return "reached" if reached else "missed"

    # ---- texts

    def write(self, value: float | None, std: float | None = None) -> str:
        if value is None:
            return "-"
        kind, decimals = self.kind, self.kind.decimals
        if decimals is None:
            if 0 < abs(value) < 1e-6:
                return f"{value:.1e}"
            decimals = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 3
        deviation = "" if std is None else f" ± {kind.factor * std:.{decimals}f}"
        text = f"{kind.factor * value:.{decimals}f}{deviation}{kind.unit}"
        return text.replace("-", "−") if value < 0 else text

    @property
    def text(self) -> str:
        return self.write(self.value, self.std)

    @property
    def baseline_text(self) -> str:
        return self.write(self.baseline)

    @property
    def baseline_named(self) -> str:
        return "-" if self.baseline is None else f"{self.number.baseline_name} {self.baseline_text}"

    @property
    def opponent_named(self) -> str:
        return "-" if self.opponent is None else f"{self.number.opponent_name} {self.write(self.opponent)}"

    @property
    def against_text(self) -> str:
        """The verdict and the difference from the opponent with its interval: "better: +0.4 [+0.1, +0.7] points"."""
        if self.against is None:
            return ""
        kind = self.kind
        names = ("difference", "low", "high")
        values = [kind.factor * self.against[name] for name in names]
        decimals = kind.decimals
        width = values[2] - values[1] or abs(values[0]) or 1
        if decimals is None or width < 2 * 10**-decimals:  # two digits of the interval's width
            decimals = max(0, 1 - math.floor(math.log10(width)))
        unit = " points" if kind.factor == 100 else kind.unit
        difference, low, high = (f"{value:+.{decimals}f}".replace("-", "−") for value in values)
        return f"{self.verdict}: {difference} [{low}, {high}]{unit}"

    @property
    def published_named(self) -> str:
        note = self.number.published_note
        return self.write(self.number.published) + (f", {note}" if note else "")

    @property
    def interval_text(self) -> str:
        if self.interval is None:
            return "-"
        low, high = map(self.write, self.interval)
        return f"{low.removesuffix(self.kind.unit)} to {high}"

    @property
    def target_text(self) -> str:
        ratio = self.number.target_ratio
        if ratio is not None:
            return (
                f"below {self.number.baseline_name}"
                if ratio == 1
                else f"at most {ratio:g} × {self.number.baseline_name}"
            )
        if self.target is None:
            return "-"
        return f"{'at least' if self.kind.higher_is_better else 'at most'} {self.write(self.target)}"

    @property
    def compared(self) -> str:
        """The difference from the baseline: "5.3 × lower", "-4.9 %", "+1.2 points"."""
        if self.baseline is None:
            return "-"
        difference, ratio = self.value - self.baseline, self.value / self.baseline if self.baseline else math.inf
        if not self.kind.higher_is_better and not 0.5 <= ratio <= 2:
            return f"{1 / ratio:.1f} × lower" if 0 < ratio < 1 else f"{ratio:.1f} × as large"
        if self.kind.factor == 100:
            text = f"{100 * difference:+.1f} points"
        elif self.kind.higher_is_better:
            text = f"{difference:+.{self.kind.decimals}f}"
        else:
            text = f"{100 * (ratio - 1):+.1f} %"
        return text.replace("-", "−") if any(digit in text for digit in "123456789") else "no difference"

    @property
    def explained(self) -> str:
        """The share of the data's variance that a reconstruction holds."""
        return share(self.value, self.variance)


def share(error: float | None, variance: float | None) -> str:
    return "-" if error is None or not variance else f"{100 * (1 - error / variance):.1f} %"


def mean_of(values: dict, name: str) -> float | None:
    """A model's metric: the mean over seeds if there are several, None if it is absent."""
    return values.get(f"{name}_mean", values.get(name))


def row_of(number: Number, metrics: dict[str, dict], opponents: dict[str, dict] = MappingProxyType({})) -> Row | None:
    """The row of a number, None if the run has no such number; `opponents` are metrics of another run's models."""
    model, _, name = number.key.rpartition("/")
    values = metrics.get(model, {}) if model else next(iter(metrics.values()), {})
    value, baseline = mean_of(values, name), number.baseline
    if value is None:
        return None
    if isinstance(baseline, str):
        other, _, key = baseline.rpartition("/")
        baseline = mean_of(metrics.get(other, {}) if other else values, key)
    opponent, against = None, None
    if number.opponent:
        other, _, key = number.opponent.rpartition("/")
        theirs = metrics.get(other) or opponents.get(other, {})
        opponent = mean_of(theirs, key)
        against = values.get("against", {}).get(other, {}).get(name) or unpaired(values, theirs, name)
    seeds = values.get("seeds", 1)
    interval = interval_of(values, name)
    half = half_width(variances_of(values, name))
    value_range = interval or (value - half, value + half)
    if number.target_ratio is not None and against and math.isclose(opponent, baseline):
        # the paired difference says more
        value_range = baseline + against["low"], baseline + against["high"]
    return Row(
        number,
        value,
        std=values.get(f"{name}_std") if seeds > 1 else None,
        seeds=seeds,
        interval=interval,
        value_range=value_range,
        baseline=baseline,
        opponent=opponent,
        against=against,
        variance=mean_of(values, "mean_mse") if number.kind == "mse" else None,
    )


def variance_over_seeds(values: dict, name: str) -> list[tuple[float, int]]:
    """That of the mean, with its degrees of freedom; empty for one training."""
    seeds, std = values.get("seeds", 1), values.get(f"{name}_std")
    return [] if seeds == 1 or std is None else [(std**2 / seeds, seeds - 1)]


def variances_of(values: dict, name: str) -> list[tuple[float, int]]:
    """That over seeds, and that over test cases by the standard error `<name>_sigma`, as far as they are known."""
    sigma = mean_of(values, f"{name}_sigma")
    return variance_over_seeds(values, name) + ([] if sigma is None else [(sigma**2, MANY)])


def interval_of(values: dict, name: str) -> tuple[float, float] | None:
    """The 95 % interval that a run computed, None without one. Where each training has one, over its test cases, it is
    their mean, widened by the interval over seeds."""
    value, low, high = (mean_of(values, key) for key in (name, f"{name}_low", f"{name}_high"))
    if low is None or high is None:
        return None
    seeds = half_width(variance_over_seeds(values, name)) if f"{name}_low_mean" in values else 0.0
    return value - math.hypot(value - low, seeds), value + math.hypot(high - value, seeds)


def unpaired(ours: dict, theirs: dict, name: str) -> dict[str, float] | None:
    """The difference of two numbers whose test cases cannot be compared one by one: its interval is over the seeds and
    over the test cases of each. None if a standard error over test cases is missing."""
    if any(mean_of(values, f"{name}_sigma") is None for values in (ours, theirs)):
        return None
    variances = variances_of(ours, name) + variances_of(theirs, name)
    difference, half = mean_of(ours, name) - mean_of(theirs, name), half_width(variances)
    return {"difference": difference, "low": difference - half, "high": difference + half}


def rows_of(
    study: Study, metrics: dict[str, dict], opponents: dict[str, dict] = MappingProxyType({})
) -> dict[str, Row]:
    """The rows by key of the study's numbers that the run has; "*" is replaced by each model that has no row yet."""
    rows = {}
    for number in study.numbers:
        for model in metrics if number.key.startswith("*/") else [""]:
            key, label = number.key.replace("*", model), number.label.replace("*", model)
            one = replace(number, key=key, label=label)
            row = None if key in (*rows, number.opponent) else row_of(one, metrics, opponents)
            if row is not None:
                rows[key] = row
    return rows
