"""The command line of a script, made from the settings of its functions: flags in groups, errors of one line.

No flag is accepted and ignored: one that the chosen function does not have is refused with the functions that do.
"""

import argparse
import ast
import difflib
import functools
import importlib
import importlib.metadata
import importlib.util
import json
import os
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lstm_studies.training.formats import VERSION, written_later
from lstm_studies.training.presets import PRESETS, Request, Script
from lstm_studies.training.settings import (
    BACKENDS,
    GROUPS,
    PACKAGES,
    PYTHON,
    ROOT,
    Flag,
    Settings,
    UsageError,
    as_dict,
    deciding_names,
    flags_of,
)

OUTPUT_DIR = "<output_dir>"  # replaces that folder at the beginning of saved paths
REQUIRED = ("torch", "numpy", "scipy", "sklearn", "pandas", "matplotlib", "joblib", "filelock", "tqdm")
SEVERAL = {"grid": "several: a grid search", "each": "several: each is tested", "": ""}


class Parser(argparse.ArgumentParser):
    """argparse with errors of one line."""

    def error(self, message: str):
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())}\n")


def fit_console() -> None:
    """Has standard output and error write characters that their encoding lacks as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # not None or a notebook's
            stream.reconfigure(errors="backslashreplace")


def check_environment(prog: str) -> None:
    """Ends the process with one line if Python or a package is missing or older than what has been tried."""

    def refuse(expected: str, version: str, way: str) -> None:
        print(f"{prog}: error: expected {expected}, found {version}; {way}", file=sys.stderr)
        sys.exit(2)

    def check(name: str, least: tuple[int, ...], version: str) -> None:
        if tuple(map(int, version.split(".")[:2])) < least:
            expected = f"{name} {'.'.join(map(str, least))} or later"
            refuse(expected, version, "`make test` installs what requirements.txt lists")

    check("Python", PYTHON, ".".join(map(str, sys.version_info[:3])))
    if missing := [package for package in REQUIRED if not importlib.util.find_spec(package)]:
        way = "first run source .venv/bin/activate, which make report or make test sets up"
        refuse("the packages of requirements.txt", f"no {', '.join(missing)}", way)
    for package, least in PACKAGES.items():
        check(package, least, importlib.metadata.version(package))


def parse(script: Script, argv: list[str] | None = None) -> dict[str, Request]:
    """The request for each function that is to run. Wrong flags end the process with one line and status 2."""
    fit_console()
    argv = [underscored(argument) for argument in (sys.argv[1:] if argv is None else argv)]
    plain_parser = make_parser(script, ())
    first, _ = plain_parser.parse_known_args([a for a in argv if a not in ("-h", "--help")])
    for flag, words in script.shorthands.items():
        if flag in argv:
            argv = [*words, *(argument for argument in argv if argument != flag)]
            meant, _ = plain_parser.parse_known_args(words)
            if first.function not in (None, meant.function):
                plain_parser.error(f"argument {flag}: short for {' '.join(words)}, not --function {first.function}")
            first = meant
    functions = (first.function,) if first.function else script.whole_study
    if {"-h", "--help"} & set(argv) and first.function:
        known, _ = make_parser(script, functions).parse_known_args([a for a in argv if a not in ("-h", "--help")])
        parser = make_parser(script, functions, vars(known))
        parser.description, parser.usage = describe_function(script, first.function), argparse.SUPPRESS
    elif {"-h", "--help"} & set(argv):
        parser = plain_parser
        parser.description = describe_script(script)
    else:
        parser = make_parser(script, functions)
    namespace, unknown = parser.parse_known_args(argv)
    check_environment(parser.prog)
    given = vars(namespace)
    function, preset = given.pop("function"), given.pop("preset", None)
    try:
        if unknown:
            raise UsageError(unknown_argument(script, function, unknown[0]))
        requests = {name: make_request(script, name, preset, given) for name in functions}
    except UsageError as error:
        parser.error(f"argument {error}")
    for package in needed_packages(requests.values()):
        try:
            importlib.import_module(package)
        except ImportError:
            flag = "tensorboard" if package == "tensorboard" else "backend"
            parser.error(f"argument --{flag}: needs the package {package}: pip install {package}")
    return requests


def underscored(argument: str) -> str:
    """--hidden-size as --hidden_size."""
    name, equals, value = argument.partition("=")
    return name[:2] + name[2:].replace("-", "_") + equals + value if argument.startswith("--") else argument


def unknown_argument(script: Script, function: str | None, argument: str) -> str:
    """The message for an argument that is no flag of what is to run, with the functions that have it or the nearest."""
    if not argument.startswith("--"):
        return f"{argument!r}: unrecognized; every value follows its flag"
    runs, flags = function or "the whole study", all_flags(script, script.functions)
    spelling = argument.removeprefix("--").partition("=")[0]
    name = next((name for name, flag in flags.items() if spelling in spellings(name, flag)), spelling)
    if users := script.users(name):
        data = flags_of(script.functions[function]).get("data") if function else None
        hint = f"; its data are given by --data: {data.help}" if data and flags[name].group == "data" else ""
        return f"--{name}: not used by {runs}; it is a flag of {' and '.join(users)}{hint}"
    nearest = difflib.get_close_matches(name, [*flags, "function", "preset", "version"], 3, 0.6)
    hint = f"; nearest: {', '.join(f'--{flag}' for flag in nearest)}" if nearest else ""
    return f"--{name}: {script.name}.py has no such flag{hint}"


def spellings(name: str, flag: Flag) -> list[str]:
    """The names under which a flag is accepted."""
    names = [name, *flag.aliases]
    return names + [f"no_{name}" for name in names] if flag.kind.type is bool else names


def make_request(script: Script, function: str, preset: str | None, given: dict[str, Any]) -> Request:
    """The request for one function with the flags that it has. Raises UsageError if they do not go together."""
    flags = flags_of(script.functions[function])
    used = {name: value for name, value in given.items() if name in flags}
    if used.get("dry_run"):
        if preset:
            raise UsageError("--preset: not used with --dry_run, which takes it from the config.json of the run")
        if used.get("resume"):
            raise UsageError("--resume: not used with --dry_run, which trains nothing")
        return earlier_request(script, function, used)
    request = Request(script, function, preset or "best", used)
    for settings in each_alone(request):
        settings.check(used)
    return request


def each_alone(request: Request) -> Iterable[Settings]:
    """The settings of every training, the values that are trained one by one included."""
    requests = [request]
    for name, flag in request.flags.items():
        if flag.several == "each":
            requests = [one.with_values(**{name: value}) for one in requests for value in one.values[name]]
    return (settings for one in requests for settings in one.combinations())


def needed_packages(requests: Iterable[Request]) -> set[str]:
    packages = set()
    for values in (request.values for request in requests):
        packages |= {"tensorboard"} if values.get("tensorboard") else set()
        packages |= {BACKENDS[values["backend"]]} if values.get("backend", "loky") != "loky" else set()
    return packages


# ---- earlier runs ----------------------------------------------------------------------------------------------------


def earlier_request(script: Script, function: str, given: dict[str, Any]) -> Request:
    """For --dry_run: what was asked of the run in the folder, as its config.json says. Raises UsageError."""
    flags = flags_of(script.functions[function])
    for name in given:
        if flags[name].group != "run" and name != "data_dir":
            raise UsageError(f"--{name}: not used with --dry_run, which takes it from the config.json of the run")
    path = Request(script, function, "best", given).output_dir / function / "config.json"
    try:
        config = json.loads(path.read_text())
        if later := written_later(config):
            raise UsageError(f"--dry_run: {path}: {later}")
        saved = {
            name: typed(name, config[name], flag, path.parent.parent)
            for name, flag in flags.items()
            if name in config and (flag.group != "run" or name in ("seeds", "jobs")) and name != "data_dir"
        }
        preset, names = config.get("preset", "best"), config.get("given", [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"expected a list of names in given, found {names!r}")
        if given.get("seeds", count := saved.get("seeds")) != count:
            raise UsageError(f"--seeds: expected {count}, as the run in {path.parent} has, found {given['seeds']}")
        given = {**{name: saved[name] for name in saved if name in names}, **given}
    except FileNotFoundError:
        raise UsageError(f"--dry_run: expected an earlier run in {path.parent}, found no config.json") from None
    except UsageError:
        raise
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f"--dry_run: {path}: expected the settings of a run, found another ({error})") from None
    if preset not in tuple(script.presets):
        raise UsageError(f"--dry_run: {path}: expected a preset of {', '.join(script.presets)}, found {preset!r}")
    return Request(script, function, preset, given, saved)


def typed(name: str, value: Any, flag: Flag, output_dir: Path) -> Any:
    """A value of a JSON file, or of a checkpoint, as its flag has it. Raises ValueError for one that it cannot have."""
    if flag.takes_several and isinstance(value, list | tuple) and (value or flag.kind.is_list):
        one_value = flag._replace(several="", kind=flag.kind._replace(is_list=False))
        values = tuple(typed(name, one, one_value, output_dir) for one in value)
        return values if flag.kind.is_list else list(values)
    json_types = {bool: (), int: int, float: int | float, str: str, Path: str}  # that are converted
    converted = value
    if isinstance(value, json_types[flag.kind.type]) and not isinstance(value, bool):
        try:
            converted = flag.kind.convert(str(located(value, output_dir)))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    if not flag.kind.accepts(converted) or (flag.kind.type is not Path and converted != value):
        raise ValueError(f"expected another {name}, found {value!r}")
    return converted


def deciding(settings: Settings) -> dict[str, Any]:
    """The settings that decide a training's result, as plain types, which its checkpoints hold."""
    values = as_dict(settings)
    return {name: plain(values[name], settings.output_dir) for name in deciding_names(type(settings))}


def restored(settings: Settings, saved: dict[str, Any]) -> Settings:
    """The settings with everything that decided the result of a training, from the flags in its checkpoint.

    Raises ValueError for values that a flag cannot have.
    """
    flags, values = flags_of(type(settings)), {}
    for name in deciding_names(type(settings)):
        if name in saved:
            values[name] = located(saved[name], settings.output_dir)
            if name in flags:  # of one training: no several values
                values[name] = typed(name, saved[name], flags[name]._replace(several=""), settings.output_dir)
    return type(settings)(**{**as_dict(settings), **values})


def differences(settings: Settings, saved: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """Name, value then and value now of each setting that decided an earlier training otherwise."""
    now = deciding(settings)
    return [(name, saved[name], value) for name, value in now.items() if name in saved and saved[name] != value]


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
    """What `config.json` holds of a request: its preset, every setting, and the names of those given by hand."""
    given = [name for name, flag in request.flags.items() if name in request.given and flag.group != "run"]
    values = {name: value for name, value in request.values.items() if name not in ("label", "in_worker")}
    shown = {name: plain(value, request.output_dir) for name, value in values.items()}
    return {"preset": request.preset, **shown, "output_dir": str(request.output_dir), "given": given}


def headline(request: Request) -> str:
    """The first line of a run: preset, what differs from it, and where everything is written."""
    preset = request.script.request(request.function, request.preset).values
    changed = [
        f"--no_{name}" if value is False else f"--{name} {'' if value is True else text_of(value)}".strip()
        for name, value in request.values.items()
        if name in request.given and name != "output_dir" and plain(value) != plain(preset.get(name))
    ]
    folder = request.output_dir / request.function
    return "; ".join([f"{request.function}: preset {request.preset}", *changed, f"files go to {folder}"])


# ---- parser ----------------------------------------------------------------------------------------------------------


def all_flags(script: Script, functions: Iterable[str]) -> dict[str, Flag]:
    """The flags of several functions, by name; of a flag that several have, the first one's."""
    flags: dict[str, Flag] = {}
    for function in functions:
        flags = {**flags_of(script.functions[function]), **flags}
    return flags


def make_parser(script: Script, functions: tuple[str, ...], given: dict[str, Any] | None = None) -> Parser:
    """The flags of the functions, with their defaults for the preset and the other flags that are given."""
    parser = Parser(
        prog=f"{script.name}.py",
        usage="%(prog)s [--function NAME] [--preset NAME] [flags]",
        formatter_class=functools.partial(argparse.RawDescriptionHelpFormatter, max_help_position=36, width=120),
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
        add_help=False,
    )
    groups = {name: parser.add_argument_group(name) for name in GROUPS}
    choose = groups["what to run"].add_argument
    hidden = argparse.SUPPRESS if functions else ""  # the help of one function has its flags alone
    choose("--function", choices=tuple(script.functions), metavar="NAME", default=None, help=hidden or "what to run")
    choose("--preset", choices=tuple(script.presets), help="recipe (default: best), whose values are the defaults here")
    choose("-h", "--help", action="help", help=hidden or "print this help")
    choose("--version", action="version", version=f"lstm_studies {VERSION}", help=hidden or "print the version")
    for name, flag in sorted(all_flags(script, functions).items(), key=lambda item: GROUPS.index(item[1].group)):
        add_flag(groups[flag.group], name, flag, default_text(script, functions, name, given or {}))
    return parser


def add_flag(group: argparse._ArgumentGroup, name: str, flag: Flag, default: str) -> None:
    text = "; ".join(part for part in (flag.help, SEVERAL[flag.several]) if part).replace("%", "%%")
    for i, spelling in enumerate((name, *flag.aliases)):
        shown = text if i == 0 else argparse.SUPPRESS
        if flag.kind.type is bool:
            on = default == "True"
            group.add_argument(f"--{spelling}", dest=name, action="store_true", help=argparse.SUPPRESS if on else shown)
            opposite = f"disables: {shown}" if on and i == 0 else argparse.SUPPRESS
            group.add_argument(f"--no_{spelling}", dest=name, action="store_false", help=opposite)
        else:
            group.add_argument(
                f"--{spelling}",
                dest=name,
                type=argparse_type(flag),
                nargs="+" if flag.takes_several else None,
                metavar=metavar(flag),
                help=f"{shown} (default: {default})" if default and i == 0 else shown,
            )


def argparse_type(flag: Flag):
    def convert(text: str):
        try:
            return flag.kind.convert(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


def metavar(flag: Flag) -> str:
    """The choices, unless they are so long that the help text lists them; else N for a whole number, X for another."""
    choices = f"{{{','.join(flag.kind.choices)}}}"
    if flag.kind.choices and len(choices) < (14 if flag.takes_several else 24):
        return choices
    return {int: "N", float: "X", Path: "PATH"}.get(flag.kind.type, "NAME")


def default_text(script: Script, functions: Iterable[str], name: str, given: dict[str, Any]) -> str:
    """The default of a flag, per function where it depends on that; "" if the help says it."""
    values = {}
    for function in functions:
        if name in (flags := flags_of(script.functions[function])):
            others = {other: value for other, value in given.items() if other in flags and other != name}
            request = Request(script, function, given.get("preset") or "best", others)
            values[function] = text_of(request.values[name])
    if name in ("data_dir", "output_dir") or not any(values.values()):
        return ""
    if len(set(values.values())) == 1:
        return next(iter(values.values()))
    return ", ".join(f"{value or 'none'} for {function}" for function, value in values.items())


def text_of(value: Any) -> str:
    """A value as it is written on the command line."""
    if value is None or value is False:
        return ""
    if isinstance(value, list | tuple):
        return " ".join(text_of(one) for one in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def describe_script(script: Script) -> str:
    """The docstring of the script's file, and its functions and presets in a line each."""
    text = ast.get_docstring(ast.parse((ROOT / f"{script.name}.py").read_text(encoding="utf-8")))
    functions = "\n".join(listed(name, settings.__doc__) for name, settings in script.functions.items())
    all_run = script.whole_study == tuple(script.functions)
    presets = "\n".join(listed(name, text) for name, text in PRESETS.items() if name in script.presets)
    return (
        f"{text}\n\nfunctions (without --function: {'all of them' if all_run else ', '.join(script.whole_study)}; "
        f"--function NAME --help shows the flags of one):\n{functions}\n\n"
        f"presets (flags given by hand override them):\n{presets}"
    )


def describe_function(script: Script, function: str) -> str:
    return f"{script.name}.py --function {function}: {script.functions[function].__doc__}"


def listed(name: str, text: str) -> str:
    text = " ".join(text.split())
    return textwrap.fill(f"  {name:16s} {text}", 118, subsequent_indent=" " * 19, break_on_hyphens=False)
