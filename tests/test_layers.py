"""Who may import whom: base modules know the third parties only, models know models, scripts know no other script."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BASE = {
    "checkpoint", "command_line", "data_files", "experiment", "grid_search", "load_data", "load_messages",
    "load_movement", "load_vowels", "plots", "baselines", "bag_of_words", "binary_scores", "movement_scores",
    "word_vectors", "report", "studies", "workers", "data_parallel",
}  # fmt: skip
MODELS = {
    "lstm_ae", "conv_lstm", "text_lstm", "Classifier", "ProxLSTM", "adversarial", "proximal_solvers", "attentive_lstm",
}  # fmt: skip
SCRIPTS = {"lstm_ae_toy", "lstm_ae_mnist", "lstm_ae_snp500", "adv_alstm", "jv_training", "stocktwits_sentiment"}
RUNNER = "reproduce"  # the one script that may import the others
FILES = {path.stem: path for path in ROOT.glob("*.py")}
LOCAL = {name.lower(): name for name in FILES}  # some file systems do not tell the cases apart


def tree(name):
    return ast.parse(FILES[name].read_text(encoding="utf-8"))


def imports(name):
    """Top-level names of all modules that the file imports anywhere, inside of functions too."""
    found = set()
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}.py: relative import in line {node.lineno}"
            found.add(node.module.split(".")[0])
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "__import__"):
            found |= {a.value.split(".")[0] for a in node.args[:1] if isinstance(a, ast.Constant)}
    return found


def local_imports(name):
    return {LOCAL[module.lower()] for module in imports(name) if module.lower() in LOCAL}


def all_imports(name, seen=frozenset()):
    """With those of the imported modules of this collection."""
    found = imports(name)
    for other in local_imports(name) - seen - {name}:
        found = found | all_imports(other, seen | {name})
    return found


def existing(names):
    return sorted(names & set(FILES))


def calls(name):
    return [ast.unparse(n.func) for n in ast.walk(tree(name)) if isinstance(n, ast.Call)]


def test_every_file_belongs_to_a_layer():
    assert set(FILES) <= BASE | MODELS | SCRIPTS | {RUNNER}
    assert set(FILES) >= BASE - {"data_files", "command_line"} | {"lstm_ae", "conv_lstm", "lstm_ae_toy"}


def test_no_file_for_odds_and_ends():
    for path in ROOT.rglob("*.py"):
        if not any(part.startswith(".") for part in path.relative_to(ROOT).parts):
            assert path.stem.lower() not in ("utils", "util", "common", "helpers", "misc"), path


def test_no_file_hides_a_library_module():
    assert not {name.lower() for name in FILES} & {name.lower() for name in sys.stdlib_module_names}


@pytest.mark.parametrize("name", existing(BASE))
def test_base_modules_know_base_modules_only(name):
    assert local_imports(name) <= BASE - {name}


def test_no_cycles():
    done, waiting = set(), {name: local_imports(name) for name in FILES}
    while waiting:
        free = {name for name, needs in waiting.items() if needs <= done}
        assert free, f"these import one another: {sorted(waiting)}"
        done |= free
        waiting = {name: needs for name, needs in waiting.items() if name not in free}


def test_plots_without_torch():
    assert "torch" not in all_imports("plots")


def test_load_data_without_matplotlib():
    assert "matplotlib" not in all_imports("load_data") and "plots" not in all_imports("load_data")


@pytest.mark.parametrize("name", existing(MODELS))
def test_models_know_torch_and_models(name):
    assert local_imports(name) <= MODELS - {name}
    assert not all_imports(name) & {"argparse", "matplotlib", "pathlib", "os", "sys", "tqdm", "joblib"}
    assert "torch" in imports(name)
    assert not {"print", "open", "input"} & set(calls(name))


@pytest.mark.parametrize("name", existing(SCRIPTS))
def test_scripts_know_no_other_script(name):
    assert local_imports(name) <= BASE | MODELS


@pytest.mark.parametrize("name", existing(BASE | MODELS | SCRIPTS))
def test_nobody_imports_the_runner(name):
    assert RUNNER not in local_imports(name)


@pytest.mark.parametrize("name", existing(SCRIPTS | {RUNNER}))
def test_scripts_have_a_main_and_a_guard(name):
    body = tree(name).body
    (main,) = [node for node in body if isinstance(node, ast.FunctionDef) and node.name == "main"]
    assert [argument.arg for argument in main.args.args] == ["argv"] and len(main.args.defaults) == 1
    guard = body[-1]
    assert isinstance(guard, ast.If) and ast.unparse(guard.test) == "__name__ == '__main__'"
    # nothing happens at import: no call stands by itself at the top level
    assert not [node for node in body if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)]


@pytest.mark.parametrize("name", sorted(FILES))
def test_no_star_imports_and_a_docstring(name):
    assert ast.get_docstring(tree(name))
    assert not [n for n in ast.walk(tree(name)) if isinstance(n, ast.ImportFrom) and n.names[0].name == "*"]
    assert "plt.show" not in calls(name)
