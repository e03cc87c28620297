"""Requests: a function of a script, a preset, and flags given by hand.

A preset is a function that returns plain values: the settings in which a training differs from the defaults of its
class. `Request` puts together defaults, preset and flags given by hand, which may have several values;
`Request.combinations` turns it into the `Settings` of each training.
"""

import dataclasses
import importlib
import itertools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from lstm_studies.training.settings import ROOT, Application, Flag, Settings, flags_of

PRESETS = {  # what the presets of every script are
    "best": "the recipe behind the results in the README (default)",
    "published": "the setup described in the original study",
    "quick": "fewer data and epochs, about a minute",
}


@dataclasses.dataclass(frozen=True)
class Script:
    """A script as its command line shows it.

    Args:
        name: of the script's file, without its ending.
        functions: the class of the settings of each function, by name; its docstring says in a line what it does.
        presets: one function for each of PRESETS, preset(asked) -> values: the settings of the function
            `asked.function` in which the preset differs from the defaults. `asked` has the defaults and the flags given
            by hand as attributes, and the names of the latter in `asked.given`. It is not asked for functions that
            apply a trained model.
        study: the functions that run without --function; all of them by default.
        shorthands: flags that stand for others.
        module: where `SCRIPT` is, for other processes.
    """

    name: str
    functions: Mapping[str, type[Settings]]
    presets: Mapping[str, Callable[[SimpleNamespace], dict[str, Any]]]
    study: tuple[str, ...] = ()
    shorthands: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    module: str = ""

    @property
    def whole_study(self) -> tuple[str, ...]:
        return self.study or tuple(self.functions)

    def users(self, flag: str) -> list[str]:
        """The functions that use a flag."""
        return [name for name, settings in self.functions.items() if flag in flags_of(settings)]

    def request(self, function: str, preset: str = "best", **given) -> "Request":
        return Request(self, function, preset, given)

    def __reduce__(self):
        return restore_script, (self.module or f"config.{self.name}",)


def restore_script(module: str) -> Script:
    return importlib.import_module(module).SCRIPT


class Request:
    """Parsed command line of one function: a preset, and flags given by hand, which override it.

    Every setting can be read as an attribute: a list where several values are possible, else the value. `saved` are the
    settings of an earlier run, which replace the preset.
    """

    def __init__(
        self, script: Script, function: str, preset: str, given: dict[str, Any], saved: dict[str, Any] | None = None
    ):
        self.script, self.function, self.preset, self.given, self.saved = script, function, preset, given, saved
        self._values: dict[str, Any] | None = None

    def __getattr__(self, name: str):
        if name.startswith("_") or name not in self.values:
            raise AttributeError(f"{self.script.name}, function {self.function}, has no setting {name}")
        return self.values[name]

    def __getstate__(self) -> tuple:
        return self.script, self.function, self.preset, self.given, self.saved

    def __setstate__(self, state: tuple) -> None:
        self.__init__(*state)

    @property
    def settings(self) -> type[Settings]:
        return self.script.functions[self.function]

    @property
    def flags(self) -> dict[str, Flag]:
        return flags_of(self.settings)

    @property
    def values(self) -> dict[str, Any]:
        """All settings by name."""
        if self._values is None:
            self._values = self.resolve()
        return self._values

    def resolve(self) -> dict[str, Any]:
        """The defaults of the class, then the preset (or the earlier run), then what was given."""
        values = {field.name: field.default for field in dataclasses.fields(self.settings)}
        values |= {"output_dir": ROOT / "outputs" / self.script.name, "function": self.function}
        if "data_dir" in values:
            values["data_dir"] = Path(os.environ.get("DATA_DIR") or ROOT / "data")
        if self.saved is None and not issubclass(self.settings, Application):
            asked = SimpleNamespace(**{**values, **self.given}, given=self.given.keys())
            preset = self.script.presets[self.preset](asked)
            if unknown := preset.keys() - values.keys():
                raise ValueError(f"the preset {self.preset} sets {min(unknown)}, which {self.function} does not have")
            values |= preset
        values |= (self.saved or {}) | self.given
        for name, flag in self.flags.items():
            if flag.several:
                values[name] = list(values[name]) if isinstance(values[name], list | tuple) else [values[name]]
            elif flag.kind.is_list:
                values[name] = tuple(values[name] or ())
        return values

    def with_values(self, **values) -> "Request":
        """The same request with other values, as if given by hand: a preset that depends on them follows."""
        return Request(self.script, self.function, self.preset, {**self.given, **values}, self.saved)

    def varied(self) -> list[str]:
        """The flags whose several values are a grid."""
        return [name for name, flag in self.flags.items() if flag.several == "grid" and len(set(self.values[name])) > 1]

    def combinations(self) -> list[Settings]:
        """The settings of each training: one, or those of the grid. Raises ValueError for several values of others."""
        several = {name: self.values[name] for name, flag in self.flags.items() if flag.several}
        for name, values in several.items():
            if self.flags[name].several == "each" and len(values) != 1:
                raise ValueError(f"{name} has {len(values)} values here; a script trains each in a run of its own")
        lists = [list(dict.fromkeys(values)) for values in several.values()]
        return [
            self.settings(**{**self.values, **dict(zip(several, values, strict=True))})
            for values in itertools.product(*lists)
        ]

    def single(self) -> Settings:
        """The first combination: for uses in which the grid does not matter."""
        return self.combinations()[0]


def with_values(asked: "Settings | Request", **values):
    """The same settings or request with other values."""
    return asked.with_values(**values) if isinstance(asked, Request) else dataclasses.replace(asked, **values)
