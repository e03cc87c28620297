"""The comparison of cells: equal sizes, own steps only, and the page."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import compare_cells
from compare_cells import CELLS, Model, equal_width


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("no_data")
    return {"vowels": compare_cells.vowels(folder), "toy": compare_cells.toy(folder)}


@pytest.mark.parametrize("name", ["vowels", "toy"])
def test_models_are_of_equal_size(tasks, name):
    task = tasks[name]
    size = Model("lstm", task.width, task).size()
    for cell in CELLS:
        model = Model(cell, equal_width(cell, task, size), task)
        assert model.size() == pytest.approx(size, rel=0.06), cell
        x, lengths, y = (part[:5] for part in task.parts["test"])
        assert model(x, lengths).shape == (y.shape if task.code else (5, 9))


@pytest.mark.parametrize("cell", CELLS)
def test_steps_after_the_end_change_nothing(tasks, cell):
    x, lengths, _ = (part[:5].clone() for part in tasks["vowels"].parts["test"])
    model = Model(cell, 8, tasks["vowels"]).eval()
    before = model(x, lengths)
    x[torch.arange(x.shape[1]) >= lengths.unsqueeze(1)] = 7.0
    assert torch.allclose(model(x, lengths), before, atol=1e-6)


def test_convolutions_see_all_steps_before_and_none_after():
    net, x = compare_cells.Convolutions(3, 50), torch.rand(1, 50, 3, requires_grad=True)
    for parameter in net.parameters():
        parameter.data.abs_()  # no unit is off
    (gradient,) = torch.autograd.grad(net(x)[0, -1].sum(), x)
    assert gradient.abs().sum(2).gt(0).all()
    (gradient,) = torch.autograd.grad(net(x)[0, 20].sum(), x)
    assert not gradient[0, 21:].any()


def test_one_task_leaves_its_table(tmp_path):
    results = compare_cells.main(
        [
            "--tasks",
            "vowels",
            "--seeds",
            "2",
            "--updates",
            "20",
            "--data_dir",
            str(tmp_path),
            "--output_dir",
            str(tmp_path),
        ]
    )
    rows = {row["cell"]: row for row in results["vowels"]["rows"]}
    assert list(rows) == list(CELLS) and rows["lstm"]["mean"] > 1 / 9
    assert rows["gru"]["difference"] == pytest.approx(rows["gru"]["mean"] - rows["lstm"]["mean"])
    page = (tmp_path / "cells.md").read_text()
    assert page.count("\n|") == 2 + len(CELLS) and f"|gru|{rows['gru']['width']}|" in page
