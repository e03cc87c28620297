"""The notebooks run from top to bottom, and what they print is what is stored in them but for the digits."""

import contextlib
import io
import json
import re

import pytest
from matplotlib import pyplot as plt

from lstm_studies.training.settings import ROOT

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def without_digits(text: str) -> str:
    return re.sub(r"[-+]?[\d.]+", "#", text)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(plt.close("all")))
    names = {"__name__": "__main__"}
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    for cell in cells:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec("".join(cell["source"]), names)
        stored = ["".join(output["text"]) for output in cell["outputs"] if output["output_type"] == "stream"]
        assert without_digits(printed.getvalue()) == without_digits("".join(stored))
    figures = [output for cell in cells for output in cell["outputs"] if "image/png" in output.get("data", {})]
    assert len(figures) == len(shown) <= 1 and path.stat().st_size < 30_000


def test_there_is_one_for_each_use():
    assert [path.stem for path in NOTEBOOKS] == ["own_prices", "own_series", "prox_lstm"]
