"""The generated .ts data sets: their recipes, their files, and the table."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import other_sets

from lstm_studies.loaders.ts_files import read_ts


@pytest.mark.parametrize(
    ("name", "features", "steps"),
    [("charts", 1, 60), ("bells", 1, 128), ("waves", 1, 21), ("patterns", 1, 128), ("chaos", 3, 80)],
)
def test_a_set_is_a_file_that_the_script_reads(tmp_path, name, features, steps):
    classes = other_sets.SETS[name][1]
    other_sets.write_ts(tmp_path / "a.ts", name, 4 * classes, 0)
    other_sets.write_ts(tmp_path / "b.ts", name, 4 * classes, 1)
    series, others = read_ts(tmp_path / "a.ts"), read_ts(tmp_path / "b.ts")
    assert {value.shape for value in series.values} == {(steps, features)}
    assert series.labels.bincount().tolist() == [4] * classes
    assert not any(torch.equal(a, b) for a in series.values for b in others.values)


def test_recipes():
    def mean(function, kind, count=400):
        rng = np.random.default_rng(0)
        return np.mean([function(kind, rng) for _ in range(count)], axis=0)

    up, down = mean(other_sets.charts, 2), mean(other_sets.charts, 3)
    assert up[-1] - up[0] > 15 and down[0] - down[-1] > 15 and abs(mean(other_sets.charts, 0) - 30).max() < 1
    cylinder, bell, funnel = (mean(other_sets.bells, kind) for kind in range(3))
    assert abs(cylinder[:16]).max() < 0.3 and bell[40] < funnel[40] - 2 and abs(cylinder[40] - 6) < 1
    wave = mean(other_sets.waves, 0)  # of triangles around steps 11 and 15, each with a mean weight of a half
    assert np.allclose(wave[[10, 14]], [6 / 2 + 2 / 2] * 2, atol=0.4) and abs(wave[:5]).max() < 0.3
    rng = np.random.default_rng(0)
    for kind in range(4):  # up comes last in a pattern that goes up
        y = other_sets.patterns(kind, rng)
        ends = np.flatnonzero(abs(y) == 5)
        assert (y[ends[0]] == -5) == (kind >= 2) and (y[ends[-1]] == 5) == (kind % 2 == 1)
    for kind in range(3):
        x = other_sets.chaos(kind, rng)
        assert np.isfinite(x).all() and abs(x.std(1) - np.hypot(1, 0.3)).max() < 0.15


@pytest.mark.reliability
def test_one_set_leaves_its_rows(tmp_path):
    arguments = ["--sets", "waves", "--seeds", "2", "--flags", "--updates 12", "--output_dir", str(tmp_path)]
    rows = other_sets.main(arguments)["waves"]["rows"]
    assert [row["model"].split(",")[0] for row in rows] == ["lda", "dtw", "plain", "AdvLSTM", "ProxLSTM"]
    lines = (tmp_path / "other_sets.md").read_text().splitlines()
    assert sum(line.startswith("|waves|") for line in lines) == 5 and rows[2]["other"] in ("lda", "dtw")
