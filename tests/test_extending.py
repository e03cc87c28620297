"""docs/extending.md: its changes, made in a copy of the collection, and its commands."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lstm_studies.training.settings import ROOT

SECTIONS = re.split(r"^## ", (ROOT / "docs" / "extending.md").read_text(), flags=re.MULTILINE)[1:]
TINY = {  # flags that bring each function down to a second
    "lstm_ae_toy.py reconstruct": "--limit 32 --epochs 1 --hidden_size 4 --code_size 3",
    "lstm_ae_mnist.py classify": "--source sample --limit 32 --epochs 1 --hidden_size 4 --code_size 3",
}
EXPECTED = {  # of each section: a file that its commands leave, and what is in it
    "Another loss": ("lstm_ae_toy/reconstruct/history.csv", "epoch,train_loss,train_mse,val_loss,val_mse,"),
    "Another model": ("lstm_ae_mnist/encode/metrics.json", '"mean": {'),
    "Another data set": ("lstm_ae_toy/reconstruct/metrics.json", '"signal": "chirps"'),
    "Another study": ("lstm_ae_toy/denoise/metrics.json", '"noisy_mse": 0.0'),
}


def blocks(section: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


def apply(change: str, root: Path) -> None:
    """Replaces, in the file that the change names, the lines that each of its hunks has before by those after."""
    name, *hunks = re.split(r"^@@\n", change.removeprefix("--- "), flags=re.MULTILINE)
    path = root / name.strip()
    text = path.read_text()
    for hunk in hunks:
        lines = hunk.splitlines(keepends=True)
        before, after = ("".join(line[1:] or "\n" for line in lines if line[0] != sign) for sign in "+-")
        assert text.count(before) == 1, f"{name}: expected these lines once, found them {text.count(before)} times"
        text = text.replace(before, after)
    path.write_text(text)


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.partition("\n")[0])
def test_the_page_runs(section, tmp_path):
    for folder in ("lstm_studies", "config", "data/samples/MNIST"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for script in ("lstm_ae_toy.py", "lstm_ae_mnist.py"):
        shutil.copy(ROOT / script, tmp_path)
    for change in blocks(section, "diff"):
        apply(change, tmp_path)
    (commands,) = blocks(section, "sh")
    for command in commands.splitlines():
        _, script, _, function, *_ = words = command.split()
        tiny = TINY.get(f"{script} {function}", "").split()
        run = subprocess.run(
            [sys.executable, *words[1:], *tiny, "--quiet"], cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
        assert run.returncode == 0, run.stderr
    file, text = EXPECTED[section.partition("\n")[0]]
    assert text in (tmp_path / "outputs" / file).read_text()
