"""The studies of the report: config/SCRIPT.toml lists those of each script, with their commands and their numbers."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = (
    *("lstm_ae_toy", "lstm_ae_mnist", "lstm_ae_snp500", "lstm_ae_series"),
    *("adv_alstm", "jv_training", "stocktwits_sentiment"),
)
HEADLINES = (  # the studies whose main numbers the README shows
    *("lstm_ae_toy/reconstruct", "lstm_ae_mnist/reconstruct", "lstm_ae_mnist/classify", "lstm_ae_snp500/predict"),
    *("lstm_ae_series/benchmark", "adv_alstm/compare_acl18", "jv_training/proximal", "stocktwits_sentiment/train"),
)
PRESETS = {"quick": ("quick",), "full": ("best", "published")}  # what a profile runs of every study that has it


@dataclass(frozen=True)
class Number:
    """A number with its baseline, opponent, published value and target; a study's first one is its main number."""

    label: str  # "*" is replaced by the model's name
    key: str  # in metrics.json: "fc/test_mse" of the model fc, "*/test_mse" of every one, "test_mse" of the first one
    kind: str  # one of reporting.numbers.KINDS
    baseline: str | float | None = None  # "pca_mse" of the same model, "plain/test_accuracy" of another; a constant
    baseline_name: str = ""
    opponent: str = ""  # the strongest simple one: "lda/test_accuracy" of the model lda
    opponent_name: str = ""
    margin: float | None = None  # differences within it count as none
    looks: int | None = None  # how often the test part was looked at with different recipes, this one included
    published: float | None = None
    published_note: str = ""  # the conditions of the published value
    target: float | None = None
    target_ratio: float | None = None  # the target as a multiple of the baseline


@dataclass(frozen=True)
class Study:
    """One function of a script with its flags, and the numbers that it gives."""

    script: str
    function: str
    title: str
    variant: str = ""  # distinguishes the studies of one function
    flags: str = ""  # beside --function and --preset
    best: str = ""  # further flags of the preset best
    quick: str = ""  # further flags of the preset quick
    presets: tuple[str, ...] = ("best", "quick")  # the first one gives the study's main numbers
    published_is_best: bool = False  # the two presets are one recipe here
    needs: tuple[str, ...] = ()  # paths of the studies whose models it reads
    opponents: str = ""  # path of the study whose models are its opponents, if they are not its own
    figures: tuple[str, ...] = ()  # to show first, by file name without suffix
    numbers: tuple[Number, ...] = ()

    @property
    def name(self) -> str:
        """The name of the folder with the results."""
        return f"{self.function}_{self.variant}" if self.variant else self.function

    @property
    def short_title(self) -> str:
        """The title without the name of the chapter before the colon."""
        return self.title.partition(": ")[2] or self.title

    @property
    def path(self) -> str:
        return f"{self.script}/{self.name}"

    def arguments(self, preset: str) -> str:
        """The flags that run the study with a preset; of a flag that is given twice the later values hold."""
        further = {"best": self.best, "quick": self.quick}.get(preset, "")
        chosen = f"--preset {preset}" if preset != "best" else ""
        words = f"--function {self.function} {chosen} {self.flags} {further}".split("--")
        flags = {name: values for name, _, values in (word.strip().partition(" ") for word in words[1:]) if name}
        return " ".join(f"--{name} {values}".strip() for name, values in flags.items())

    def command(self, preset: str) -> str:
        return f"python {self.script}.py {self.arguments(preset)}"


def frozen(value):
    """Lists as tuples, so that a study is hashable."""
    return tuple(map(frozen, value)) if isinstance(value, list) else value


def read(script: str) -> tuple[str, dict[str, str], list[Study]]:
    """The content of config/SCRIPT.toml: title of the chapter, captions by figure, studies.

    An unknown entry is a TypeError that names it.
    """
    content = tomllib.loads((ROOT / "config" / f"{script}.toml").read_text(encoding="utf-8"))
    studies = []
    for entry in content["study"]:
        entry["numbers"] = [Number(**number) for number in entry.get("numbers", ())]
        studies.append(Study(script, **{name: frozen(value) for name, value in entry.items()}))
    return content["title"], content["captions"], studies


CONTENT = {script: read(script) for script in SCRIPTS}
TITLES = {script: title for script, (title, _, _) in CONTENT.items()}
CAPTIONS = {script: captions for script, (_, captions, _) in CONTENT.items()}  # by file name without suffix
STUDIES = tuple(study for _, _, studies in CONTENT.values() for study in studies)
