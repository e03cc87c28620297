"""Who may import whom, folder by folder, and what every module and script looks like."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = {"lstm_ae_toy", "lstm_ae_mnist", "lstm_ae_snp500", "lstm_ae_series"} | {
    "adv_alstm",
    "jv_training",
    "stocktwits_sentiment",
}
TOP_MODELS = {"ProxLSTM", "Classifier"}  # models with fixed names at the top level
ALLOWED = {  # what a folder may import of this collection, beside itself
    "models": TOP_MODELS,
    "loaders": set(),
    "training": {"loaders"},  # of which it takes errors and no data
    "evaluation": set(),
    "estimators": {"models", "loaders", "training", "evaluation"},
    "reporting": {"evaluation", "training"},  # the flags of the presets
    "config": set(),
}
PACKAGE = "lstm_studies"
FOLDERS = set(ALLOWED)
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for pattern in ("*.py", "config/*.py", f"{PACKAGE}/*/*.py")
    for path in ROOT.glob(pattern)
    if path.name != "__init__.py"
}
CONFIGURED = {name for name in SCRIPTS if f"config.{name}" in MODULES}
TOP = {name for name in MODULES if "." not in name}


def folder(module):
    """The folder of a module; the two models at the top level belong to `models`."""
    return "models" if module in TOP_MODELS else module.removeprefix(f"{PACKAGE}.").split(".")[0]


def tree(module):
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def imports(module):
    """Full names of everything that a file imports, inside of functions too."""
    names = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import in line {node.lineno}"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "__import__"):
            names |= {a.value for a in node.args[:1] if isinstance(a, ast.Constant)}
    return names


def local_imports(module):
    return imports(module) & set(MODULES)


def all_imports(module, seen=frozenset()):
    """First parts of everything imported, also by the modules of this collection that are imported."""
    names = {name.split(".")[0] for name in imports(module)}
    for other in local_imports(module) - seen - {module}:
        names |= all_imports(other, seen | {module})
    return names


def in_folder(*names):
    return sorted(module for module in MODULES if folder(module) in names)


def calls(module):
    return [ast.unparse(node.func) for node in ast.walk(tree(module)) if isinstance(node, ast.Call)]


def test_the_top_level_holds_only_what_people_run_or_import_by_fixed_names():
    assert SCRIPTS | TOP_MODELS | {"reproduce", "load_data"} == TOP


@pytest.mark.parametrize("module", in_folder(*FOLDERS - {"config"}))
def test_a_folder_imports_itself_and_what_it_may(module):
    allowed = ALLOWED[folder(module)] | {folder(module)}
    assert {folder(name) for name in local_imports(module)} <= allowed


@pytest.mark.parametrize("module", in_folder("training"))
def test_training_takes_errors_and_no_data_from_the_loaders(module):
    taken = {name for name in imports(module) if name.startswith(f"{PACKAGE}.loaders")}
    assert taken <= {f"{PACKAGE}.loaders.files", f"{PACKAGE}.loaders.files.DataError"}


@pytest.mark.parametrize("module", in_folder("config"))
def test_settings_are_declared_with_what_answers_at_once(module):
    """Flags and presets of a script, and constants; the standard library for the rest."""
    assert local_imports(module) <= {f"{PACKAGE}.training.settings", f"{PACKAGE}.training.presets"}
    assert all_imports(module) <= {*sys.stdlib_module_names, PACKAGE}


@pytest.mark.parametrize("module", in_folder("models"))
def test_models_know_no_flags_files_plots_or_prints(module):
    assert not all_imports(module) & {"argparse", "matplotlib", "pathlib", "os", "sys", "tqdm", "joblib"}
    assert not {"print", "open", "input"} & set(calls(module))


@pytest.mark.parametrize("module", in_folder("loaders"))
def test_loaders_know_no_matplotlib(module):
    assert "matplotlib" not in all_imports(module)


def test_plots_know_no_torch():
    assert "torch" not in all_imports(f"{PACKAGE}.reporting.plots")


@pytest.mark.parametrize("module", sorted(SCRIPTS))
def test_scripts_import_no_script(module):
    assert not local_imports(module) & (SCRIPTS | {"reproduce"})


@pytest.mark.parametrize("name", sorted(FOLDERS))
def test_folders_have_an_empty_init(name):
    assert (ROOT / ("" if name == "config" else PACKAGE) / name / "__init__.py").read_text() == ""


def test_no_cycles():
    done, waiting = set(), {name: local_imports(name) for name in MODULES}
    while waiting:
        free = {name for name, needs in waiting.items() if needs <= done}
        assert free, f"these import one another: {sorted(waiting)}"
        done |= free
        waiting = {name: needs for name, needs in waiting.items() if name not in free}


def test_no_file_for_odds_and_ends():
    for path in ROOT.rglob("*"):
        if not any(part.startswith(".") for part in path.relative_to(ROOT).parts):
            assert path.stem.lower() not in ("utils", "util", "common", "helpers", "misc"), path


def test_no_file_hides_a_library_module():
    assert not {name.lower() for name in TOP | FOLDERS} & {name.lower() for name in sys.stdlib_module_names}


@pytest.mark.parametrize("module", sorted(SCRIPTS | {"reproduce"}))
def test_scripts_have_a_main_and_a_guard(module):
    body = tree(module).body
    (main,) = [node for node in body if isinstance(node, ast.FunctionDef) and node.name == "main"]
    assert [argument.arg for argument in main.args.args] == ["argv"] and len(main.args.defaults) == 1
    guard = body[-1]
    assert isinstance(guard, ast.If) and ast.unparse(guard.test) == "__name__ == '__main__'"
    # nothing happens at import: no call stands by itself at the top level
    assert not [node for node in body if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)]


@pytest.mark.parametrize("module", sorted(CONFIGURED))
def test_a_script_reads_as_its_study(module):
    """Flags before the slow imports, then data, model and loss, all before line 130; a page of functions to the end."""
    text = MODULES[module].read_text(encoding="utf-8")
    body, lines = tree(module).body, text.splitlines()
    docstring, settings, parse, guard = body[:4]
    assert isinstance(docstring.value, ast.Constant) and f"python {module}.py" in docstring.value.value
    assert [settings.module, parse.module] == [f"config.{module}", f"{PACKAGE}.training.flags"]
    assert isinstance(guard, ast.If) and ast.unparse(guard.body) == "parse(SCRIPT)"
    assert len(lines) <= 480
    imported = max(node.end_lineno for node in body if isinstance(node, ast.Import | ast.ImportFrom))
    assert min(number for number, line in enumerate(lines, 1) if number > imported and "loss" in line) < 130


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_star_imports_and_a_docstring(module):
    assert ast.get_docstring(tree(module))
    assert not any(name.endswith(".*") for name in imports(module))
    assert "plt.show" not in calls(module)
