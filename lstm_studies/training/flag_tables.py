"""A page of all flags and presets, made from the declarations: docs/flags.md."""

from collections.abc import Iterable
from typing import Any

from lstm_studies.training.flags import text_of
from lstm_studies.training.presets import PRESETS, Script

OF_THE_MACHINE = ("data_dir", "output_dir")  # whose defaults are folders
HEAD = """# Flags and presets

What the three presets of each training consist of, as far as they differ, and then every flag with its default in the
preset `best`, function by function. An empty cell: the function does not use the flag, and refuses it in one line that
names those which do. `off` and `on` are switches (`--NAME`, `--no_NAME`); a dash is a flag that is not set. A preset
may hold further values for other models or data, which `config.json` and the first line of a run show. What a flag
means: `python SCRIPT.py --help`.

`python reproduce.py --publish` makes this page from the scripts' declarations.
"""


def page(scripts: Iterable[Script]) -> str:
    return HEAD + "".join(f"\n## {script.name}.py\n\n{chapter(script)}" for script in scripts)


def chapter(script: Script) -> str:
    names = [name for name, described in script.flags().items() if not described.refused]
    rows = [[f"`--{name}`", *(default(script, function, name) for function in script.functions)] for name in names]
    parts = [presets(script, function) for function in script.trains]
    parts.append(table(["flag", *(f"`{function}`" for function in script.functions)], rows))
    if refused := {name: f.refused for name, f in script.flags().items() if f.refused}:
        reasons = "; ".join(f"`--{name}` ({reason})" for name, reason in refused.items())
        parts.append(f"Refused by all functions: {reasons}.\n")
    return "\n".join(parts)


def default(script: Script, function: str, name: str) -> str:
    if function not in script.users(name):
        return ""
    return "a folder" if name in OF_THE_MACHINE else written(script.request(function).values[name])


def presets(script: Script, function: str) -> str:
    """The values of one function in each preset, those that differ."""
    values = {preset: script.request(function, preset).values for preset in PRESETS}
    names = [name for name in script.flags() if function in script.users(name) and name not in OF_THE_MACHINE]
    rows = [[f"`--{name}`", *(written(own[name]) for own in values.values())] for name in names]
    differing = [row for row in rows if len(set(row[1:])) > 1]
    return table([f"presets of `{function}`", *(f"`{preset}`" for preset in values)], differing)


def written(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return text_of(value) or "-"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
