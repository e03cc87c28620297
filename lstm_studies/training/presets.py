"""Presets and requests: from what a person asks for to the settings of each training.

    PRESETS = {"best": [recipe(epochs=100, minutes=10), recipe({"signal": "walk"}, epochs=60)], ...}
    SCRIPT = Script(__file__, __doc__, {"reconstruct": "train and draw"}, ToySettings, PRESETS, trains=("reconstruct",))

A preset is a list of recipes, values of flags that belong together. A `Request` is a preset with the flags given by
hand, which may have several values; `Request.combinations` turns it into the `Settings` of each training.
"""

import dataclasses
import importlib
import itertools
import os
from pathlib import Path
from typing import Any, NamedTuple

from lstm_studies.training.settings import ROOT, Flag, Settings

PRESETS = {  # what the presets of every script are
    "best": "the recipe behind the results in the README; the default",
    "published": "what the study's text asks for, nothing improved",
    "quick": "a look in about a minute",
}


class Recipe(NamedTuple):
    """Values of flags that belong together. `when`: values of other flags (or of `function`) under which it holds."""

    values: dict[str, Any]
    when: dict[str, tuple]
    minutes: float | None  # of a function's training with these values, on one core; its whole grid and all seeds


def recipe(when: dict[str, Any] | None = None, minutes: float | None = None, **values) -> Recipe:
    conditions = {name: value if isinstance(value, tuple) else (value,) for name, value in (when or {}).items()}
    return Recipe(values, conditions, minutes)


@dataclasses.dataclass(frozen=True)
class Script:
    """A script as its command line shows it.

    Args:
        file, text: the script's path and docstring.
        functions: what each function does, in a line, by name.
        settings: the class of its settings, whose fields declare the flags.
        presets: the recipes of each preset, by name; those that hold are applied in order, later ones win.
        trains: the functions that train, and so use the flags of model and training.
        whole_study: the functions that run without --function; all of them by default.
    """

    file: str
    text: str
    functions: dict[str, str]
    settings: type[Settings]
    presets: dict[str, list[Recipe]]
    trains: tuple[str, ...] = ()
    whole_study: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return Path(self.file).stem

    @property
    def study(self) -> tuple[str, ...]:
        return self.whole_study or tuple(self.functions)

    def flags(self) -> dict[str, Flag]:
        """The declarations of all flags by field name."""
        fields = dataclasses.fields(self.settings)
        return {field.name: field.metadata["flag"] for field in fields if "flag" in field.metadata}

    def users(self, name: str) -> tuple[str, ...]:
        """The functions that use a flag."""
        described = self.flags()[name]
        if described.refused:
            return ()
        if described.functions:
            return tuple(function for function in described.functions if function in self.functions)
        return self.trains if described.trains else tuple(self.functions)

    def request(self, function: str, preset: str = "best", **given) -> "Request":
        return Request(self, function, preset, given)

    def __reduce__(self):  # workers find it by its module, which may be the main program here
        return restore_script, (Path(self.file).stem,)


def restore_script(module: str) -> Script:
    return importlib.import_module(module).SCRIPT


class Request:
    """What a person asked of one function: a preset, and flags given by hand, which override it.

    Every setting can be read as an attribute: a list where several values are possible, else the value. `fixed` are
    values of an earlier training, which stand above the recipes and below what is given.
    """

    def __init__(
        self, script: Script, function: str, preset: str, given: dict[str, Any], fixed: dict[str, Any] | None = None
    ):
        self.script, self.function, self.preset, self.given, self.fixed = script, function, preset, given, fixed or {}
        self._values: dict[str, Any] | None = None

    def __getattr__(self, name: str):
        if name.startswith("_") or name not in self.values:
            raise AttributeError(f"{self.script.name} has no setting {name}")
        return self.values[name]

    def __getstate__(self) -> tuple:
        return self.script, self.function, self.preset, self.given, self.fixed

    def __setstate__(self, state: tuple) -> None:
        self.__init__(*state)

    @property
    def values(self) -> dict[str, Any]:
        """All settings by name: the dataclass's defaults, then the preset's recipes that hold, then what was fixed by
        an earlier training, then what was given."""
        if self._values is None:
            self._values, _ = self.resolve()
        return self._values

    def resolve(self) -> tuple[dict[str, Any], float | None]:
        """The values, and the minutes that the last of their recipes to say so takes."""
        values = {field.name: field.default for field in dataclasses.fields(self.script.settings)}
        values |= {"output_dir": ROOT / "outputs" / self.script.name, "function": self.function}
        values["data_dir"] = Path(os.environ.get("DATA_DIR", ROOT / "data"))
        minutes, known = None, {**self.fixed, **self.given}
        for own in self.script.presets.get(self.preset, ()):
            if all(matches({**values, **known}[name], accepted) for name, accepted in own.when.items()):
                values |= own.values
                minutes = own.minutes if own.minutes is not None else minutes
        values |= known
        for name, described in self.script.flags().items():
            if described.several:
                values[name] = as_list(values[name], described.several)
        return values, minutes

    def with_values(self, **values) -> "Request":
        """The same request with other values, as if given by hand: recipes that depend on them follow."""
        function = values.pop("function", self.function)
        return Request(self.script, function, self.preset, {**self.given, **values}, self.fixed)

    def varied(self) -> list[str]:
        """The flags whose several values are a grid."""
        grid = [name for name, described in self.script.flags().items() if described.several == "grid"]
        return [name for name in grid if len(set(self.values[name])) > 1]

    def combinations(self) -> list[Settings]:
        """The settings of each training: one, or those of the grid."""
        flags = self.script.flags()
        grid = [name for name, described in flags.items() if described.several == "grid"]
        scalars = {
            name: scalar(name, value) if name in flags and flags[name].several == "each" else value
            for name, value in self.values.items()
            if name not in grid
        }
        scalars |= {n: tuple(v) for n, v in scalars.items() if n in flags and flags[n].several == "list"}
        lists = [list(dict.fromkeys(self.values[name])) for name in grid]
        return [
            self.script.settings(**scalars, **dict(zip(grid, values, strict=True)))
            for values in itertools.product(*lists)
        ]

    def single(self) -> Settings:
        """The first combination: for uses in which the grid does not matter."""
        return self.combinations()[0]


def with_values(asked: "Settings | Request", **values):
    """The same settings or request with other values."""
    return asked.with_values(**values) if isinstance(asked, Request) else dataclasses.replace(asked, **values)


def matches(value: Any, accepted: tuple) -> bool:
    """Whether a flag's value, or any of several, is among the accepted ones."""
    return any(one in accepted for one in (value if isinstance(value, list | tuple) else [value]))


def as_list(value: Any, several: str) -> list:
    if value is None:
        return [] if several == "list" else [None]
    return list(value) if isinstance(value, list | tuple) else [value]


def scalar(name: str, value: list) -> Any:
    if len(value) != 1:
        raise ValueError(f"{name} has {len(value)} values here; a script trains each of them in a run of its own")
    return value[0]
