"""The command line of a script, made from its settings: flags in groups, presets, and errors of one line.

No flag is accepted and ignored: one that the chosen function does not use is refused with the functions that do.
"""

import argparse
import dataclasses
import difflib
import importlib
import json
import os
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lstm_studies.training.formats import written_later
from lstm_studies.training.presets import PRESETS, Request, Script, matches
from lstm_studies.training.settings import BACKENDS, GROUPS, SEVERAL, Flag, Settings, UsageError, as_dict

OUTPUT_DIR = "<output_dir>"  # stands for that folder at the head of saved paths
NOT_DECIDING = ("function", "label", "in_worker")  # settings without a flag that do not decide the result


class Parser(argparse.ArgumentParser):
    """argparse with errors of one line."""

    def error(self, message: str):
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())}\n")


def parse(script: Script, argv: list[str] | None = None) -> dict[str, Request]:
    """The request for each function that is to run. Wrong flags end the process with one line and status 2."""
    parser = make_parser(script)
    namespace, unknown = parser.parse_known_args(argv)
    if unknown:
        parser.error(unknown_argument(script, unknown[0]))
    given = vars(namespace)
    function, preset = given.pop("function", None), given.pop("preset", "best")
    chosen = (function,) if function else script.study
    try:
        refuse_unused(script, chosen, function, given)
        requests = {}
        for name in chosen:
            used = {flag: value for flag, value in given.items() if name in script.users(flag)}
            requests[name] = checked(as_trained(Request(script, name, preset, used)), used)
    except UsageError as error:
        parser.error(f"argument {error}")
    for package in needed_packages(requests.values()):
        try:
            importlib.import_module(package)
        except ImportError:
            flag = "tensorboard" if package == "tensorboard" else "backend"
            parser.error(f"argument --{flag}: needs the package {package}: pip install {package}")
    return requests


def unknown_argument(script: Script, argument: str) -> str:
    """The message for an argument that is no flag of the script, with the nearest ones."""
    if not argument.startswith("--"):
        return f"unrecognized argument {argument!r}; every value follows its flag"
    name = argument.removeprefix("--").partition("=")[0].replace("-", "_")
    flags = {"function": "", "preset": "", **{n: f for n, f in script.flags().items() if not (f and f.refused)}}
    nearest = difflib.get_close_matches(name, flags, 3, 0.6)
    hint = f"; nearest: {', '.join(f'--{flag}' for flag in nearest)}" if nearest else ""
    return f"argument --{name}: {script.name}.py has no such flag{hint}"


def refuse_unused(script: Script, chosen: tuple[str, ...], function: str | None, given: dict[str, Any]) -> None:
    flags = script.flags()
    for name in given:
        users = script.users(name)
        if flags[name].refused:
            raise UsageError(f"--{name}: {flags[name].refused}")
        if not set(users) & set(chosen):
            which = function or "the whole study"
            raise UsageError(f"--{name}: not used by {which}; it is a flag of {' and '.join(users)}")


def checked(request: Request, given: Iterable[str]) -> Request:
    """The request, if its flags go together; `given`: those given by hand. Raises UsageError."""
    flags = request.script.flags()
    for name in given:
        for other, accepted in flags[name].when.items():
            value = request.values[other]
            if not matches(value, accepted):
                raise UsageError(f"--{name}: used with {condition(other, accepted, value)}")
    for settings in each_alone(request):
        settings.check()
    return request


def condition(name: str, accepted: tuple, value: Any) -> str:
    """What a flag needs of another one, and what it found instead."""
    if accepted == (True,):
        return f"--{name} only, and --{name} is off"
    return f"--{name} {' or '.join(map(text_of, accepted))} only, and --{name} is {text_of(value)}"


def each_alone(request: Request) -> Iterable[Settings]:
    """The settings of every training, the values that are trained one by one included."""
    names = [name for name, described in request.script.flags().items() if described.several == "each"]
    requests = [request]
    for name in names:
        requests = [own.with_values(**{name: value}) for own in requests for value in own.values[name]]
    return (settings for own in requests for settings in own.combinations())


def needed_packages(requests: Iterable[Request]) -> set[str]:
    packages = set()
    for request in requests:
        packages |= {"tensorboard"} if request.tensorboard else set()
        packages |= {BACKENDS[request.backend]} if request.backend != "loky" else set()
    return packages


# ---- earlier runs ----------------------------------------------------------------------------------------------------


def as_trained(request: Request) -> Request:
    """With --dry_run, everything that the training in the run folder fixed; a flag that contradicts it is refused."""
    folder = request.output_dir / request.function
    if not request.dry_run or not (folder / "config.json").exists():
        return request
    earlier = earlier_request(request, folder)
    claimed = {name: value for name, value in request.given.items() if (name, value) != ("source", "auto")}
    for name, value in claimed.items():
        was, now = earlier.values[name], earlier.with_values(**{name: value}).values[name]
        if name in earlier.fixed and name != "seeds" and plain(was) != plain(now):  # fewer seeds may be tested
            raise UsageError(
                f"--{name}: --dry_run: {folder} was trained with {text_of(was) or 'none'}, not {text_of(value)}"
            )
    return earlier.with_values(**claimed)


def earlier_request(request: Request, folder: Path) -> Request:
    """What was asked of the training in the run folder, with the data that it read. Raises UsageError."""
    path = folder / "config.json"
    script, function = request.script, request.function
    try:
        config = json.loads(path.read_text())
        if later := written_later(config):
            raise UsageError(f"--dry_run: {path}: {later}")
        preset, fixed = config.get("preset", "best"), trained_with(script.flags(), config, request.output_dir)
        fixed["seeds"], given = int(config.get("seeds", 1)), config.get("given")
    except UsageError:
        raise
    except (OSError, ValueError, TypeError, AttributeError):
        raise UsageError(f"--dry_run: cannot read {path}; run once without --dry_run") from None
    if "source" not in fixed and (source := data_read(folder)):
        fixed["source"] = source
    usual, values = (Request(script, function, preset, {}, own).values for own in ({}, fixed))
    if not isinstance(given, list):  # earlier versions did not note what was given by hand
        given = [name for name in fixed if plain(values[name]) != plain(usual[name])]
    return Request(script, function, preset, {name: fixed[name] for name in fixed if name in given}, fixed)


def data_read(folder: Path) -> str | None:
    """What `--source auto` came to in the training that left its metrics.json in the folder: full, sample, or None."""
    try:
        metrics = json.loads((folder / "metrics.json").read_text())
        models = [metrics, *(own for own in metrics.values() if isinstance(own, dict))]
    except (OSError, ValueError, AttributeError):
        return None
    return next((own["data"] for own in models if own.get("data") in ("full", "sample")), None)


def with_data_read(settings: Settings, metadata: dict[str, Any]) -> Settings:
    """The settings of a training with what `--source auto` came to, so that it goes on with the same data only."""
    found = metadata["data"]
    known = settings.source == "auto" and found in ("full", "sample")
    return dataclasses.replace(settings, source=found) if known else settings


def trained_with(flags: dict[str, Flag | None], saved: dict[str, Any], output_dir: Path) -> dict[str, Any]:
    """The saved settings that decided the result of a training, under their present names. None: without a flag."""
    values = {}
    for name, described in flags.items():
        for spelling in (name, *(described.aliases if described else ())):
            if spelling in saved and name not in ("device", "threads") and (described is None or described.decides):
                value = located(saved[spelling], output_dir)
                values[name] = Path(value) if described and described.parse is Path and value is not None else value
                break
    if values.get("source") == "auto":  # earlier versions did not note what that came to
        del values["source"]
    return values


def restored(settings: Settings, saved: dict[str, Any]) -> Settings:
    """The settings with everything that decided the result of a training, from the flags in its checkpoint."""
    return dataclasses.replace(settings, **trained_with(declared(settings), saved, settings.output_dir))


def differences(settings: Settings, saved: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """Name, value then and value now of each setting that decided an earlier training otherwise."""
    trained, now = deciding(restored(settings, saved)), deciding(settings)
    return [(name, value, now[name]) for name, value in trained.items() if now[name] != value]


def declared(settings: Settings) -> dict[str, Flag | None]:
    """The declaration of each setting's flag by name, None for settings without one."""
    return {field.name: field.metadata.get("flag") for field in dataclasses.fields(settings)}


def plain(value: Any, output_dir: Path | None = None) -> Any:
    """A value as JSON has it, a path inside of `output_dir` relative to that: the whole folder may be moved."""
    if isinstance(value, list | tuple):
        return [plain(one, output_dir) for one in value]
    if output_dir and isinstance(value, str | Path) and os.sep in str(value):
        path, folder = Path(os.path.abspath(value)), os.path.abspath(output_dir)
        return f"{OUTPUT_DIR}{os.sep}{path.relative_to(folder)}" if path.is_relative_to(folder) else str(value)
    return str(value) if isinstance(value, Path) else value


def located(value: Any, output_dir: Path) -> Any:
    """The inverse of `plain`, but for the types of paths and lists."""
    if isinstance(value, list | tuple):
        return tuple(located(one, output_dir) for one in value)
    inside = isinstance(value, str) and value.startswith(f"{OUTPUT_DIR}{os.sep}")
    return str(output_dir / value.removeprefix(f"{OUTPUT_DIR}{os.sep}")) if inside else value


def describe(request: Request) -> dict[str, Any]:
    """What `config.json` holds of a request: every flag under its name, and the names of those given by hand."""
    flags = request.script.flags()
    refused = {name for name, described in flags.items() if described.refused}
    given = [name for name, described in flags.items() if name in request.given and described.decides]
    values = {
        name: plain(value, request.output_dir)
        for name, value in request.values.items()
        if name not in refused | {"label", "in_worker"}
    }
    return {"preset": request.preset, **values, "output_dir": str(request.output_dir), "given": given}


def deciding(settings: Settings) -> dict[str, Any]:
    """The settings that decide a training's result, as plain types, which its checkpoints hold."""
    names = [
        name
        for name, described in declared(settings).items()
        if name not in NOT_DECIDING and (described is None or (described.decides and not described.refused))
    ]
    values = as_dict(settings)
    return {name: plain(values[name], settings.output_dir) for name in names}


def headline(request: Request) -> str:
    """The first line of a run: preset, expected time, what differs from the preset, and where everything is written."""
    _, minutes = request.resolve()
    shortened = request.dry_run or {"epochs", "limit", "seeds"} & request.given.keys()
    about = f", about {minutes:g} minutes on one core" if minutes and not shortened else ""
    preset = request.script.request(request.function, request.preset)
    changed = [
        f"--no_{name}" if value is False else f"--{name} {'' if value is True else text_of(value)}".strip()
        for name, value in request.values.items()
        if name in request.given and name != "output_dir" and plain(value) != plain(preset.values.get(name))
    ]
    folder = request.output_dir / request.function
    return "; ".join([f"{request.function}: preset {request.preset}{about}", *changed, f"files go to {folder}"])


# ---- parser ----------------------------------------------------------------------------------------------------------


def make_parser(script: Script) -> Parser:
    parser = Parser(
        prog=f"{script.name}.py",
        usage="%(prog)s [--function NAME] [--preset NAME] [flags]",
        description=describe_script(script),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    groups = {name: parser.add_argument_group(name) for name in GROUPS}
    groups["what to run"].add_argument(
        "--function", choices=tuple(script.functions), metavar="NAME", help="one of the functions above"
    )
    presets = [name for name in PRESETS if name in script.presets]
    groups["training"].add_argument("--preset", choices=presets, help="one of the recipes above (default: best)")
    for name, described in script.flags().items():
        users = script.users(name) if described.functions else ()
        add_flag(groups[described.group], name, described, users, default_text(script, name))
    return parser


def add_flag(group: argparse._ArgumentGroup, name: str, described: Flag, users: tuple[str, ...], default: str) -> None:
    if described.refused:  # known, so that the answer says why
        group.add_argument(f"--{name}", dest=name, nargs="*", help=argparse.SUPPRESS)
        return
    used = f" [{', '.join(users)}]" if users else ""
    text = "; ".join(part for part in (described.help, SEVERAL.get(described.several, "")) if part) + used
    shown = f"{text} (default: {default})" if default else text
    for place, spelling in enumerate((name, *described.aliases)):
        own = text if place == 0 else argparse.SUPPRESS
        if described.parse is None:
            switched_on = default == "True"
            group.add_argument(
                f"--{spelling}", dest=name, action="store_true", help=argparse.SUPPRESS if switched_on else own
            )
            if described.group in ("model", "training"):
                opposite = f"turns off: {own}" if switched_on and place == 0 else argparse.SUPPRESS
                group.add_argument(f"--no_{spelling}", dest=name, action="store_false", help=opposite)
        else:
            group.add_argument(
                f"--{spelling}",
                dest=name,
                type=described.parse,
                nargs="+" if described.several else None,
                metavar=described.metavar or name.rpartition("_")[2].upper(),
                help=shown if place == 0 else argparse.SUPPRESS,
            )


def default_text(script: Script, name: str) -> str:
    """The default of a flag in the preset `best`, per function where it depends on that; "" if the help says it."""
    if name in ("data_dir", "output_dir"):
        return ""
    values = {function: text_of(script.request(function).values[name]) for function in script.users(name)}
    if len(set(values.values())) <= 1:
        return next(iter(values.values()), "")
    return ", ".join(f"{value or 'none'} for {function}" for function, value in values.items())


def text_of(value: Any) -> str:
    """A value as it is written on the command line."""
    if value is None or value is False:
        return ""
    if isinstance(value, list | tuple):
        return " ".join(text_of(one) for one in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def describe_script(script: Script) -> str:
    functions = "\n".join(listed(name, text) for name, text in script.functions.items())
    without = "all of them" if script.study == tuple(script.functions) else ", ".join(script.study)
    presets = "\n".join(
        listed(name, f"{text}{expected(script, name)}") for name, text in PRESETS.items() if name in script.presets
    )
    return (
        f"{script.text.strip()}\n\nfunctions (without --function: {without}):\n{functions}\n\n"
        f"presets (flags given by hand override them):\n{presets}"
    )


def listed(name: str, text: str) -> str:
    return textwrap.fill(f"  {name:16s} {text}", 118, subsequent_indent=" " * 19, break_on_hyphens=False)


def expected(script: Script, preset: str) -> str:
    """How long each function takes with a preset, where that is known."""
    minutes = {name: script.request(name, preset).resolve()[1] for name in script.trains}
    known = [f"{name} {value:g}" for name, value in minutes.items() if value]
    return f" (minutes on one core: {', '.join(known)})" if known else ""
