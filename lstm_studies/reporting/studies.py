"""The studies of the report, as studies.toml lists them: their questions, their commands and their numbers."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PRESETS = {"quick": ("quick",), "full": ("best", "published")}  # what a profile runs of every study that has it


@dataclass(frozen=True)
class Number:
    """A number of a study and what it is judged by: a baseline, a published value, a target."""

    label: str  # "*" stands for the model's name
    key: str  # in metrics.json; "fc/test_mse" for the model fc, "*/test_mse" for every model that is there
    kind: str  # one of reporting.numbers.KINDS
    baseline: str | float | None = None  # its key, or a constant
    name: str = ""  # of the baseline
    published: float | None = None
    note: str = ""  # what the published value is of
    goal: float | None = None  # the target
    goal_ratio: float | None = None  # the target as a multiple of the baseline
    detail: bool = False  # in the report only


@dataclass(frozen=True)
class Study:
    """A question that one function of a script answers."""

    script: str
    function: str
    title: str
    asks: str
    variant: str = ""  # tells studies of one function apart
    answer: str = ""  # a template over the numbers
    flags: str = ""  # beside --function and --preset
    best: str = ""  # further flags of the preset best
    quick: str = ""  # further flags of the preset quick
    presets: tuple[str, ...] = ("best", "quick")  # the first one stands for the study
    published_is_best: bool = False  # the two presets are one recipe here
    alone: str = ""  # which model a run is of that trains one model only
    needs: tuple[str, ...] = ()  # paths of the studies whose models it reads
    figure: str = ""  # the one to show first, by file name without its ending
    numbers: tuple[Number, ...] = ()

    @property
    def name(self) -> str:
        """Of the folder with the results."""
        return "_".join(part for part in (self.function, self.variant) if part)

    @property
    def path(self) -> str:
        return f"{self.script}/{self.name}"

    def arguments(self, preset: str) -> str:
        """The flags that run the study with a preset; of a flag that is given twice the later values hold."""
        own = {"best": self.best, "quick": self.quick}.get(preset, "")
        chosen = f"--preset {preset}" if preset != "best" else ""
        words = f"--function {self.function} {chosen} {self.flags} {own}".split("--")
        flags = {name: values for name, _, values in (word.strip().partition(" ") for word in words[1:]) if name}
        return " ".join(f"--{name} {values}".strip() for name, values in flags.items())

    def command(self, preset: str) -> str:
        return f"python {self.script}.py {self.arguments(preset)}"


@dataclass(frozen=True)
class Script:
    """What the studies of one script share."""

    title: str
    data: str  # what it reads in full, and where that is from
    protocol: str
    diagram: tuple[str | tuple[str, ...], ...]  # the model's stages; a tuple: heads side by side; "*": the bottleneck


@dataclass(frozen=True)
class Finding:
    """A sentence of the report's first screen, with a figure of the study that it is about."""

    study: str
    figure: str
    text: str  # a template over the study's numbers


def frozen(value: Any) -> Any:
    """Lists as tuples: a study is a key of dictionaries."""
    return tuple(map(frozen, value)) if isinstance(value, list) else value


def read(path: Path) -> tuple[dict[str, Script], tuple[Study, ...], tuple[Finding, ...], dict]:
    """Scripts, studies, findings and captions; an unknown entry is a TypeError that names it."""
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    for study in content["study"]:
        study["numbers"] = [Number(**number) for number in study.get("numbers", ())]
    scripts, studies = (
        [kind(**{name: frozen(value) for name, value in entry.items()}) for entry in entries]
        for kind, entries in ((Script, content["script"].values()), (Study, content["study"]))
    )
    findings = tuple(Finding(**finding) for finding in content["finding"])
    return dict(zip(content["script"], scripts, strict=True)), tuple(studies), findings, content["captions"]


SCRIPTS, STUDIES, FINDINGS, CAPTIONS = read(Path(__file__).with_suffix(".toml"))
