"""What a user's environment holds decides nothing: backends, matplotlibrc, consoles, names of files."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from trainings import ALL

ROOT = Path(__file__).parents[2]
TINY = "--function reconstruct --limit 60 --epochs 1 --hidden_size 4 --code_size 2 --quiet".split()


def start(*argv, **environment) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(
        [sys.executable, *map(str, argv)], env=environment, capture_output=True, text=True, timeout=600
    )


def test_a_notebooks_backend_and_a_users_matplotlibrc(tmp_path):
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nfont.size: 40\n")
    figures = []
    for name, environment in {
        "plain": {},
        "hostile": {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "MPLCONFIGDIR": str(tmp_path)},
    }.items():
        folder = tmp_path / name
        ended = start(ROOT / "lstm_ae_toy.py", "--function", "plot_examples", "--output_dir", folder, **environment)
        assert ended.returncode == 0, ended.stderr
        figures.append((folder / "plot_examples" / "examples.png").read_bytes())
    assert figures[0] == figures[1]


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_console_that_lacks_characters(tmp_path, encoding):
    data = tmp_path / "\N{ROCKET}.csv"
    data.write_text("".join(f"{k}.5,{k * k}.5,3.5\n" for k in range(9)))
    argv = ["--function", "plot_examples", "--data", data, "--output_dir", tmp_path / "out"]
    ended = start(ROOT / "lstm_ae_toy.py", *argv, PYTHONIOENCODING=encoding)
    assert ended.returncode == 0 and r"\U0001f680.csv" in ended.stdout, ended.stderr


@pytest.mark.reliability
def test_a_link_of_another_name_searches_in_two_processes(tmp_path):
    link = tmp_path / "study.py"
    link.symlink_to(ROOT / "lstm_ae_toy.py")
    ended = start(link, *TINY, "--hidden_size", "3", "4", "--jobs", "2", "--output_dir", tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert json.loads((tmp_path / "reconstruct" / "metrics.json").read_text())["code2"]["best_combination"]


@pytest.mark.reliability
def test_a_closed_standard_error(tmp_path):
    command = f'"{sys.executable}" "{ROOT / "lstm_ae_toy.py"}" {" ".join(TINY)} --output_dir "{tmp_path}" 2>&-'
    subprocess.run(command, shell=True, check=True, timeout=600)
    assert (tmp_path / "reconstruct" / "metrics.json").exists()


@pytest.mark.reliability
@pytest.mark.parametrize("name", ["toy", "digits fc", "stocks", "series", "vowels basic", "movement", "messages"])
def test_two_gigabytes_of_memory(tmp_path, count, name):
    """Every script trains in them; what needs more ends in one line."""
    script, *argv = [ROOT / f"{ALL[name][0]}.py", "--function", *ALL[name][1:], "--output_dir", tmp_path]
    limit = (
        "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31)); sys.argv = sys.argv[1:]"
    )
    program = f"{limit}; sys.path.insert(0, {str(ROOT)!r}); runpy.run_path(sys.argv[0], run_name='__main__')"
    ended = start("-c", program, script, *argv)
    assert ended.returncode == 0, ended.stderr
    if name == "toy":
        ended = start("-c", program, script, *argv, "--hidden_size", "20000")
        assert ended.returncode == 1 and "error: the memory is not enough" in ended.stderr.splitlines()[-1], (
            ended.stderr
        )
        assert "Traceback" not in ended.stderr
    count(1)


def test_without_docstrings():
    ended = start("-OO", ROOT / "lstm_ae_toy.py", "--help")
    assert ended.returncode == 0 and "--function" in ended.stdout


def test_a_report_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    ended = start(ROOT / "reproduce.py", "--output_dir", tmp_path / "file" / "out")
    assert ended.returncode == 2 and "cannot write to" in ended.stderr and "Traceback" not in ended.stderr
