"""What a study's numbers say: two or three digits of each, beside its baseline, a published value and a target."""

import math
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import NamedTuple

from lstm_studies.reporting.studies import Number, Study


class Kind(NamedTuple):
    """How numbers of one kind are written, and which of two is better."""

    decimals: Callable[[float], int]
    unit: str = ""
    factor: float = 1.0  # from the value to what is written
    higher_is_better: bool = False
    error: Callable[[float], float] | None = None  # what a ratio of two of them is taken of


def decimals_for(digits: int, value: float) -> int:
    """So many decimals that `digits` significant digits are written."""
    return max(0, digits - 1 - math.floor(math.log10(abs(value)))) if value else digits


def same(value: float) -> float:
    return value


KINDS = {
    "mse": Kind(partial(decimals_for, 3), error=same),
    "loss": Kind(partial(decimals_for, 3), error=same),
    "ratio": Kind(lambda value: 3, error=same),
    "dollars": Kind(lambda value: 3, " USD", error=same),
    "accuracy": Kind(lambda value: 1, " %", 100.0, True, lambda value: 1 - value),
    "mcc": Kind(lambda value: 3, higher_is_better=True),
    "plain": Kind(lambda value: 1, higher_is_better=True),
}


def look_up(metrics: dict, key: str):
    """The value at a key such as "fc/test_mse", None if it is not there."""
    value = metrics
    for part in key.split("/"):
        if not isinstance(value, dict) or part not in value:
            return None
        value = value[part]
    return value


def mean_or_value(metrics: dict, key: str) -> float | None:
    """The mean over the seeds where there are several, else the value."""
    mean = look_up(metrics, f"{key}_mean")
    return look_up(metrics, key) if mean is None else mean


def sibling(key: str, name: str) -> str:
    """The key of another metric of the same model: "fc/test_mse" -> "fc/mean_mse"."""
    model, slash, _ = key.rpartition("/")
    return f"{model}{slash}{name}"


@dataclass(frozen=True)
class Row:
    """A number of a finished run with everything that it is judged by; what is not known is None."""

    number: Number
    value: float  # the mean, with several seeds
    std: float | None  # over the seeds
    seeds: int
    sigma: float | None  # standard error for one test set
    interval: tuple[float, float] | None  # 95 %
    baseline: float | None
    variance: float | None  # of the data, for squared errors

    @property
    def kind(self) -> Kind:
        return KINDS[self.number.kind]

    @property
    def model(self) -> str:
        return self.number.key.rpartition("/")[0]

    # ---- judgement

    @property
    def goal(self) -> float | None:
        relative = self.number.goal_ratio is not None and self.baseline is not None
        return self.number.goal_ratio * self.baseline if relative else self.number.goal

    @property
    def hit(self) -> bool | None:
        """Whether the target is reached; None without a target."""
        return None if self.goal is None else self.at_least_as_good_as(self.goal)

    @property
    def better(self) -> bool | None:
        """Whether the number is better than its baseline."""
        if self.baseline is None:
            return None
        return self.value != self.baseline and self.at_least_as_good_as(self.baseline)

    def at_least_as_good_as(self, other: float) -> bool:
        return self.value >= other if self.kind.higher_is_better else self.value <= other

    def relative_error(self, value: float | None) -> float | None:
        """The error of a value by that of the baseline: for an accuracy, the share of wrong answers."""
        if value is None or self.baseline is None or self.kind.error is None or not self.kind.error(self.baseline):
            return None
        return self.kind.error(value) / self.kind.error(self.baseline)

    @property
    def within_sigma(self) -> bool:
        """Whether the distance to the baseline is below one standard error of the test set."""
        return self.sigma is not None and self.baseline is not None and abs(self.value - self.baseline) < self.sigma

    def within(self, other: "Row") -> bool:
        """Whether two numbers differ by less than their deviations over the seeds, or their standard errors, allow."""
        spread = [row.std if row.std is not None else row.sigma or 0.0 for row in (self, other)]
        return abs(self.value - other.value) <= math.hypot(*spread)

    # ---- texts

    def write(self, value: float | None, std: float | None = None) -> str:
        if value is None:
            return "-"
        kind, decimals = self.kind, self.kind.decimals(value)
        deviation = "" if std is None else f" ± {kind.factor * std:.{decimals}f}"
        return f"{kind.factor * value:.{decimals}f}{deviation}{kind.unit}"

    @property
    def text(self) -> str:
        return self.write(self.value, self.std)

    @property
    def value_text(self) -> str:
        return self.write(self.value)

    @property
    def baseline_text(self) -> str:
        return self.write(self.baseline)

    @property
    def interval_text(self) -> str:
        if self.interval is None:
            return "-"
        low, high = (self.write(end) for end in self.interval)
        return f"{low.removesuffix(self.kind.unit)} to {high}"

    @property
    def published_text(self) -> str:
        return self.write(self.number.published)

    @property
    def target_text(self) -> str:
        ratio = self.number.goal_ratio
        if ratio is not None:
            return f"below {self.number.name}" if ratio == 1 else f"at most {ratio:g} × {self.number.name}"
        if self.goal is None:
            return "-"
        return f"{'at least' if self.kind.higher_is_better else 'at most'} {self.write(self.goal)}"

    @property
    def verdict(self) -> str:
        return {True: "reached", False: "missed", None: "-"}[self.hit]

    @property
    def explained(self) -> str:
        """The share of the data's variance that a reconstruction holds."""
        return share(self.value, self.variance)

    @property
    def baseline_explained(self) -> str:
        return share(self.baseline, self.variance)

    @property
    def compared(self) -> str:
        """The number beside its baseline: "5.3 times smaller than that of PCA", "1.2 points above always up"."""
        if self.baseline is None:
            return "-"
        name = self.number.name
        if self.kind.higher_is_better:
            return self.difference(name)
        ratio = self.value / self.baseline
        if ratio < 0.5:
            return f"{1 / ratio:.1f} times smaller than that of {name}"
        if ratio > 2:
            return f"{ratio:.1f} times as large as that of {name}"
        return f"{100 * abs(1 - ratio):.1f} % {'below' if ratio < 1 else 'above'} that of {name}"

    def difference(self, name: str) -> str:
        difference = self.value - self.baseline
        side = "above" if difference >= 0 else "below"
        size = f"{abs(difference) * 100:.1f} points" if self.kind.factor == 100 else self.write(abs(difference))
        if not re.search("[1-9]", size):
            return f"as much as {name}"
        near = self.sigma and abs(difference) < 10 * self.sigma
        return f"{size} {side} {name}" + (f" ({abs(difference) / self.sigma:.1f} sigma)" if near else "")

    @property
    def short(self) -> str:
        """`compared` for a narrow column: "5.3 × lower", "−4.9 %", "+1.2 points"."""
        if self.baseline is None:
            return "-"
        if self.kind.higher_is_better:
            difference = self.value - self.baseline
            return minus(f"{difference * 100:+.1f} points" if self.kind.factor == 100 else f"{difference:+.3f}")
        ratio = self.value / self.baseline
        if ratio < 0.5 or ratio > 2:
            return f"{1 / ratio:.1f} × lower" if ratio < 1 else f"{ratio:.1f} × as large"
        return minus(f"{100 * (ratio - 1):+.1f} %")

    @property
    def says(self) -> str:
        """The number, beside its baseline and its target, in a sentence."""
        parts = [] if self.baseline is None else [f"{self.compared} ({self.baseline_text})"]
        parts += [] if self.hit is None else [f"the target, {self.target_text}, is {self.verdict}"]
        return f"{self.number.label} {self.text}" + (f": {'; '.join(parts)}." if parts else ".")


def minus(text: str) -> str:
    """With the typographic minus sign."""
    return text.replace("-", "−")


def share(error: float | None, variance: float | None) -> str:
    return "-" if error is None or not variance else f"{100 * (1 - error / variance):.1f} %"


def row_of(number: Number, metrics: dict) -> Row | None:
    """The row of a number, None if the run has no such number."""
    value = mean_or_value(metrics, number.key)
    if value is None:
        return None
    baseline = number.baseline
    ends = [mean_or_value(metrics, f"{number.key}_{end}") for end in ("low", "high")]
    variances = [mean_or_value(metrics, sibling(number.key, name)) for name in ("mean_mse", "mean_mse_mean")]
    return Row(
        number,
        value,
        std=look_up(metrics, f"{number.key}_std"),
        seeds=look_up(metrics, sibling(number.key, "seeds")) or 1,
        sigma=mean_or_value(metrics, f"{number.key}_sigma"),
        interval=None if None in ends else tuple(ends),
        baseline=mean_or_value(metrics, baseline) if isinstance(baseline, str) else baseline,
        variance=next((v for v in variances if v is not None), None) if number.kind == "mse" else None,
    )


def rows_of(study: Study, metrics: dict) -> list[Row]:
    """The rows of all of a study's numbers that the run has; of a model that is named, not once more under "*"."""
    if study.alone and not any(isinstance(value, dict) for value in metrics.values()):
        metrics = {study.alone: metrics}
    numbers: dict[str, Number] = {}
    for own in (own for number in study.numbers for own in for_each_model(number, metrics)):
        numbers.setdefault(own.key, own)
    return [row for number in numbers.values() if (row := row_of(number, metrics)) is not None]


def for_each_model(number: Number, metrics: dict) -> list[Number]:
    """A number whose key begins with "*/" once for every model of the run."""
    if not number.key.startswith("*/"):
        return [number]
    models = [name for name, values in metrics.items() if isinstance(values, dict)]
    return [
        replace(number, **{name: getattr(number, name).replace("*", model) for name in ("label", "key", "baseline")})
        for model in models
    ]


def source_of(metrics: dict) -> str | None:
    """Which data a study, or the first of its models, was trained on: "full", "sample", "generated"."""
    models = [metrics, *(value for value in metrics.values() if isinstance(value, dict))]
    return next((model["data"] for model in models if "data" in model), None)


def summary_row(study: Study, preset: str, row: Row, minutes: float, metrics: dict) -> dict:
    """What `docs/results/summary.json` holds of a number."""
    number = asdict(row.number)
    return {
        "study": study.title,
        "preset": preset,
        "metric": number["label"],
        "key": number["key"],
        "value": row.value,
        "std": row.std,
        "seeds": row.seeds,
        "sigma": row.sigma,
        "interval": row.interval,
        "baseline": row.baseline,
        "baseline_name": number["name"],
        "published": number["published"],
        "published_note": number["note"],
        "target": row.goal,
        "hit": row.hit,
        "detail": number["detail"],
        "says": row.says,
        "command": study.command(preset),
        "minutes": round(minutes, 1),
        "data": source_of(metrics),
    }
