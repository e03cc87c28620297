"""Exported programs compute what the scripts do, or are refused."""

import csv
import importlib.util
import json
import re

import numpy as np
import pytest
import tiny_models
import torch
from conftest import without_figures

import jv_training
import lstm_ae_series
import lstm_ae_toy
from lstm_studies.loaders.toy import read_sequences
from lstm_studies.loaders.ts_files import read_ts
from lstm_studies.training import export
from lstm_studies.training.settings import ROOT

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # by torch.export itself
HAS_ONNX = all(importlib.util.find_spec(name) for name in export.ONNX)


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    without_figures(monkeypatch)
    monkeypatch.setattr(lstm_ae_series, "plot_anomalies", lambda *_: None)
    for script, cache in ((lstm_ae_series, "all_series"), (lstm_ae_toy, "signals")):
        getattr(script, cache).cache_clear()


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def programs(folder, *inputs):
    """The outputs of the exported program and of the ONNX file, if there is one, by name; and model.json."""
    described = json.loads((folder / "model.json").read_text())
    outputs = [torch.export.load(folder / "model.pt2").module()(*inputs)]
    assert (folder / "model.onnx").exists() == HAS_ONNX
    if HAS_ONNX:
        import onnxruntime

        session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
        arrays = session.run(None, dict(zip(described["inputs"], (x.numpy() for x in inputs), strict=True)))
        outputs.append(tuple(map(torch.as_tensor, arrays)))
    outputs = [one if isinstance(one, tuple) else (one,) for one in outputs]
    return [dict(zip(described["outputs"], one, strict=True)) for one in outputs], described


def close(found, expected):
    torch.testing.assert_close(found, torch.as_tensor(expected, dtype=torch.float32), rtol=1e-4, atol=1e-5)


def test_a_model_of_series(tmp_path):
    time = np.arange(300)
    wave = np.sin(2 * np.pi * time[:, None] / 12 + np.arange(2)) * (5, 0.1) + (1000, 0)
    lines = [f"{t},{a:.5f},{b:.5f}" for t, (a, b) in zip(time, wave, strict=True)]
    (tmp_path / "pump.csv").write_text("\n".join(["i,x,y", *lines]) + "\n")
    out = ["--output_dir", str(tmp_path / "out"), "--quiet"]
    tiny = "--updates 20 --hidden_size 4 --window 12 --batch_size 16".split()
    lstm_ae_series.main(["--function", "train", "--data", str(tmp_path / "pump.csv"), *tiny, *out])
    lines = [f"{a},{b}" for a, b in wave[:12, ::-1]]  # a window, with the columns in another order
    (tmp_path / "new.csv").write_text("\n".join(["y,x", *lines]) + "\n")
    lstm_ae_series.main(["--function", "anomalies", "--data", str(tmp_path / "new.csv"), *out])
    scores = [float(row["score"]) for row in rows(tmp_path / "out/anomalies/anomalies.csv")]
    (metrics,) = lstm_ae_series.main(["--function", "export", *out]).values()
    assert 0 <= metrics["largest_difference"] < 1e-5 and ("notice" in metrics) != HAS_ONNX
    x = torch.tensor(wave[:12], dtype=torch.float32)
    both, described = programs(tmp_path / "out/export", x.expand(7, -1, -1))
    for outputs in both:
        close(outputs["error"], [scores] * 7)
        assert outputs["reconstruction"].shape == (7, 12, 2) and outputs["code"].shape == (7, 4)
        assert torch.equal(outputs["anomaly"], outputs["error"] > described["threshold"])
    assert described["columns"] == ["x", "y"] and described["window"] == 12
    assert described["inputs"] == {"x": {"type": "float32", "shape": ["batch", "steps", 2]}}
    page = (ROOT / "docs" / "serving.md").read_text().replace("outputs/lstm_ae_series", str(tmp_path / "out"))
    blocks, names = re.findall(r"^```python\n(.*?)^```$", page.replace("8, 32, 1", "8, 12, 2"), re.M | re.S), {}
    for block in blocks[: 1 + HAS_ONNX]:
        exec(block, names)
        assert names["reconstruction"].shape == (8, 12, 2) and names["anomaly"].shape == (8, 12)


def test_a_model_of_sequences(tmp_path):
    folder = tiny_models.train("sequences", tmp_path / "out")
    out = ["--output_dir", str(tmp_path / "out"), "--quiet"]
    file = tmp_path / "new.csv"
    file.write_text("1000,1001,999,1003\n5,5,5,5\n-3,0.5,2,1e-3\n")
    lstm_ae_toy.main(["--function", "anomalies", "--data", str(file), "--quantile", "0.5", *out])
    table = {row["sequence"]: row for row in rows(tmp_path / "out/anomalies/anomalies.csv")}
    (metrics,) = lstm_ae_toy.main(["--function", "export", "--quantile", "0.5", *out]).values()
    assert metrics["model"] == str(folder)
    x = read_sequences(file)
    both, described = programs(tmp_path / "out/export", x)
    for outputs in both:
        named = [table[f"row {i}"] for i in (1, 2, 3)]
        close(outputs["error"], [float(row["error"]) for row in named])
        assert outputs["anomaly"].tolist() == [row["anomalous"] == "1" for row in named]
        assert outputs["reconstruction"][0].mean() == pytest.approx(1000, abs=5)
    assert described["inputs"]["x"]["shape"] == ["batch", 4]


def test_classifiers_of_several_seeds(tmp_path):
    folder = tiny_models.train("classes", tmp_path / "out")
    out = ["--output_dir", str(tmp_path / "out"), "--quiet"]
    file = tmp_path / "new.ts"
    file.write_text(tiny_models.ts_file(6, 3))
    (predicted,) = jv_training.main(["--function", "predict", "--data", str(file), *out]).values()
    table = rows(tmp_path / "out/predict/predictions.csv")
    jv_training.main(["--function", "export", "--model_from", str(folder), *out])
    values = read_ts(file).values
    x = torch.nn.utils.rnn.pad_sequence(values, batch_first=True)
    both, described = programs(tmp_path / "out/export", x, torch.tensor([len(value) for value in values]))
    for outputs in both:
        close(outputs["probabilities"], [[float(row[f"probability {name}"]) for name in "ab"] for row in table])
    assert described["classes"] == ["a", "b"] and described["seeds"] == predicted["seeds"]
    assert described["inputs"]["lengths"] == {"type": "int64", "shape": ["batch"]}


class Treacherous(torch.nn.Module):
    """Another function in an exported program."""

    outputs, description = {"y": "what it is"}, {}

    def inputs(self, batch):
        return {"x": torch.ones(batch, 2)}

    def forward(self, x):
        return x * 2 if torch.compiler.is_exporting() else x


def test_a_program_that_computes_something_else_is_refused(tmp_path):
    with pytest.raises(export.Failed, match=r"expected the model's outputs up to 1e-05, found 1"):
        export.export_program(tmp_path, Treacherous(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_largest_difference_by_hand():
    expected = (torch.tensor([10.0, -2.0]), torch.tensor([True, False]))
    assert export.largest_difference(expected, expected) == 0
    assert export.largest_difference((torch.tensor([10.0, -1.0]), expected[1]), expected) == pytest.approx(0.1)
    assert export.largest_difference((expected[0], torch.tensor([True, True])), expected) == 1


def test_what_is_missing_for_onnx_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(export, "ONNX", ("onnx_of_nobody",))
    assert export.export_onnx(tmp_path / "model.onnx", None, {}, {}, (), ()) == "onnx_of_nobody not installed"
