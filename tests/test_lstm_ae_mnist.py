"""The study of digits: sequences of images, models and loss by hand, and what a run leaves."""

import csv
import gzip
import json
import math
import struct

import numpy as np
import pytest
import torch
from conftest import without_figures

import lstm_ae_mnist as mnist
from config.lstm_ae_mnist import SCRIPT, Classify
from lstm_studies.loaders.mnist import as_images, as_sequences, random_shifts, read_images
from lstm_studies.models.lstm_ae import LSTMAutoencoder
from lstm_studies.models.opponents import SmallCNN
from lstm_studies.training import checkpoint, flags


def digit_settings(**changes) -> Classify:
    """Of a tiny fully connected model."""
    tiny = {"hidden_size": 4, "code_size": 0, "positional_harmonics": 2, "channels": 2, "kernel_size": 3}
    return Classify(**{"function": "classify", "model": "fc", "device": "cpu", **tiny, **changes})


@pytest.mark.parametrize("shape", [(28,), (1,), (14,), (16,), (7, 7), (14, 14), (4, 2)])
def test_sequences_and_images_are_inverse(shape):
    images = torch.arange(2 * 784, dtype=torch.float32).view(2, 28, 28) / 1568
    x = as_sequences(images, shape)
    assert x.shape == (2, 784 // math.prod(shape), math.prod(shape))
    assert torch.equal(as_images(x, shape), images)


def test_patches_are_squares():
    images = torch.zeros(1, 28, 28)
    images[0, 7:14, 14:21] = 1  # second row of patches, third column
    x = as_sequences(images, (7, 7))
    assert x.sum(2).nonzero().tolist() == [[0, 6]] and x[0, 6].min() == 1


def test_several_rows_are_one_step_in_reading_order():
    images = torch.arange(784.0).view(1, 28, 28)
    assert torch.equal(as_sequences(images, (2, 28)), images.view(1, 14, 56))


def test_bytes_become_values_in_0_1():
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).repeat(784).view(3, 28, 28)
    assert as_sequences(images, (28,)).unique().tolist() == pytest.approx([0, 0.2, 1])


def test_random_shifts_move_whole_digits_by_at_most_the_distance():
    torch.manual_seed(0)
    images = torch.zeros(300, 28, 28, dtype=torch.uint8)
    images[:, 10, 20] = 7
    moved = random_shifts(images, 2)
    places = moved.nonzero()[:, 1:]
    assert moved.dtype == torch.uint8 and (moved.flatten(1).sum(1) == 7).all()
    offsets = {tuple(p) for p in (places - torch.tensor([10, 20])).tolist()}
    assert offsets == {(r, c) for r in range(-2, 3) for c in range(-2, 3)}


def test_random_shifts_bring_in_background():
    torch.manual_seed(0)
    moved = random_shifts(torch.ones(50, 28, 28), 1)
    assert set(moved.flatten(1).sum(1).tolist()) <= {784.0, 756.0, 729.0}


@pytest.mark.parametrize(
    ("changes", "shape"),
    [
        ({}, (28,)),
        ({"sequence": "patches"}, (7, 7)),
        ({"sequence": "patches", "input_size": 49}, (7, 7)),
        ({"input_size": 49}, (49,)),
        ({"input_size": 56}, (2, 28)),
        ({"input_size": 14}, (14,)),
        ({"input_size": 7}, (7,)),
        ({"sequence": "pixels"}, (1,)),
    ],
)
def test_both_models_read_steps_of_every_size(changes, shape):
    images = torch.rand(2, 28, 28, generator=torch.Generator().manual_seed(0))
    assert digit_settings(**changes).step_shape == shape
    for model in ("fc", "conv"):
        settings = digit_settings(model=model, **changes)
        torch.manual_seed(0)
        x = as_sequences(images, shape)
        output = mnist.build(settings, 3)(x)
        assert output.reconstruction.shape == x.shape == (2, 784 // math.prod(shape), math.prod(shape))
        assert output.logits.shape == (2, 3)


def test_positions_in_the_image_and_by_pixels_also_in_the_row_are_encoded():
    def periods(**changes):
        return mnist.build(digit_settings(**changes), 10).encoding_periods

    assert periods(positional_harmonics=3) == pytest.approx((28, 14, 28 / 3))
    assert periods(model="conv") == (28, 14)
    assert periods(sequence="pixels") == (28, 14, 784, 392)
    assert periods(positional_harmonics=0) == ()


@pytest.mark.parametrize("class_loss", ["cross_entropy", "nll"])
@pytest.mark.parametrize("head", ["shared", "deep", "separate"])
def test_the_loss_weighs_reconstruction_and_class(head, class_loss):
    torch.manual_seed(0)
    settings = digit_settings(head=head, class_loss=class_loss, reconstruction_dominance=0.25)
    batch = (torch.randint(256, (5, 28, 28), dtype=torch.uint8), torch.tensor([0, 1, 2, 3, 4]))
    model = mnist.build(settings, 10)
    with torch.no_grad():
        values = mnist.make_step(settings)(model, batch)
        logits = model(as_sequences(batch[0], (28,))).logits
    if class_loss == "nll":
        torch.testing.assert_close(logits.exp().sum(1), torch.ones(5))
    entropy = -logits.log_softmax(1)[torch.arange(5), batch[1]].mean()
    assert values["class_loss"].item() == pytest.approx(entropy.item(), rel=1e-5)
    assert values["loss"].item() == pytest.approx(0.25 * values["mse"].item() + 0.75 * entropy.item(), rel=1e-5)


def write_images(folder, train: int = 24, test: int = 5, labels: tuple[int, ...] = (3, 7)):
    """Images in the four files of MNIST's format; the labels in turn."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for part, count in (("train", train), ("t10k", test)):
        images = rng.integers(0, 256, (count, 28, 28), np.uint8)
        own = np.array([labels[i % len(labels)] for i in range(count)], np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", own)):
            head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
            (folder / f"{part}-{kind}-ubyte.gz").write_bytes(gzip.compress(head + array.tobytes()))
    return folder


def run_digits(tmp_path, *argv) -> dict:
    training = argv[0] in ("reconstruct", "classify")
    tiny = ["--epochs", "1", "--hidden_size", "4", "--model", "fc", "--code_size", "3"] if training else []
    return mnist.main(["--function", *argv, *tiny, "--output_dir", str(tmp_path), "--quiet"])


def read_table(path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_images_of_ones_own(tmp_path):
    own = write_images(tmp_path / "own")
    metrics = run_digits(tmp_path, "classify", "--data", str(own))["fc"]
    assert (metrics["data"], metrics["file"], metrics["training_digits"]) == ("own", "own", 22)
    assert metrics["majority_accuracy"] == pytest.approx(0.6) and "test_accuracy" in metrics
    model = checkpoint.rebuild(tmp_path / "classify" / "best.pt", LSTMAutoencoder)
    assert model.class_head.out_features == 2  # the labels 3 and 7
    images, labels = read_images(own / "t10k-images-idx3-ubyte.gz") / 255, torch.tensor([0, 1, 0, 1, 0])
    with torch.no_grad():
        p = model(images).logits.softmax(1)
    assert metrics["test_log_loss"] == pytest.approx(-p[torch.arange(5), labels].log().mean().item(), rel=1e-5)
    sure = p.max(1)
    gap = sum(
        (sure.values - (sure.indices == labels).float())[(10 * sure.values).int() == k].sum().abs() for k in range(11)
    )
    assert metrics["calibration_error"] == pytest.approx(gap.item() / 5, rel=1e-4)
    run_digits(tmp_path, "reconstruct", "--data", str(own))
    metrics = run_digits(tmp_path, "encode", "--data", str(own / "train-images-idx3-ubyte.gz"))
    assert metrics == {"fc": {"model": str(tmp_path / "reconstruct"), "images": 24, "code_size": 3}}
    codes = read_table(tmp_path / "encode" / "codes.csv")
    model = checkpoint.rebuild(tmp_path / "reconstruct" / "best.pt", LSTMAutoencoder)
    with torch.no_grad():
        expected = model.encode(read_images(own / "train-images-idx3-ubyte.gz") / 255)
    np.testing.assert_allclose([[float(row[f"z{k}"]) for k in (1, 2, 3)] for row in codes], expected, rtol=1e-5)
    metrics = run_digits(tmp_path, "anomalies")["fc"]  # the test images of the training's own data
    rows = read_table(tmp_path / "anomalies" / "anomalies.csv")
    assert len(rows) == metrics["images"] == 5 and (tmp_path / "anomalies" / "worst.png").exists()
    assert sum(int(row["anomalous"]) for row in rows) == metrics["anomalous"]


def test_units_are_no_grid_for_convolutions():
    runs = mnist.named_runs(SCRIPT.request("reconstruct", hidden_size=[8, 16], code_size=[4], quiet=True))
    assert {name: run.hidden_size for name, run in runs.items()} == {"fc": [8, 16], "conv": [8]}


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (("classify", "--data", "{own}", "--source", "sample"), "--source: used with MNIST only"),
        (("classify", "--data", "{nothing}"), "nothing: expected a folder"),
        (("classify", "--data", "{tmp}"), "expected one IDX file named *train*images*"),
        (("encode",), "run --function reconstruct first"),
        (("encode", "--epochs", "3"), "--epochs: not used by encode"),
        (("reconstruct", "--head", "deep"), "--head: not used by reconstruct"),
        (("classify", "--model", "both", "--num_layers", "2"), "--num_layers: used with --model fc only"),
        (("classify", "--model", "conv", "--checkpoint_steps", "7"), "--checkpoint_steps: used with --model fc only"),
        (
            ("reconstruct", "--model", "conv", "--hidden_size", "8"),
            "--hidden_size: used with --model fc or both, or with",
        ),
        (("classify", "--model", "fc", "--channels", "7"), "--channels: used with --model conv or both only"),
    ],
)
def test_digits_refuse_in_one_line(tmp_path, capsys, argv, expected):
    names = {"own": write_images(tmp_path / "own"), "nothing": tmp_path / "nothing", "tmp": tmp_path}
    with pytest.raises(SystemExit) as caught:
        argv = [argument.format(**names) for argument in argv]
        mnist.main(["--function", *argv, "--output_dir", str(tmp_path / "o"), "--quiet"])
    error = capsys.readouterr().err
    assert caught.value.code == 2 and expected in error and error.count("\n") == 1


def test_a_classifier_encodes_too_and_new_images_need_no_training_data(tmp_path, monkeypatch):
    without_figures(monkeypatch)
    data = write_images(tmp_path / "data")
    run_digits(tmp_path, "classify", "--data", str(data))
    images = data / "t10k-images-idx3-ubyte.gz"
    run = [str(tmp_path / "classify" / "best.pt"), "--data", str(images)]
    (data / "train-images-idx3-ubyte.gz").unlink()
    mnist.digits.cache_clear()
    assert run_digits(tmp_path, "encode", "--model_from", *run)["fc"]["images"] == 5


def test_of_both_models_the_first_is_applied(tmp_path, monkeypatch):
    without_figures(monkeypatch)
    data = str(write_images(tmp_path / "data"))
    flags = ["--model", "both", "--channels", "2", "--epochs", "1", "--hidden_size", "4", "--code_size", "3"]
    argv = ["--function", "reconstruct", "--data", data, *flags, "--output_dir", str(tmp_path), "--quiet"]
    metrics = mnist.main(argv)
    assert [*metrics] == ["fc", "conv"] and metrics["conv"]["convolutions_in"] in ("float32", "bfloat16")
    assert run_digits(tmp_path, "encode")["fc"]["model"] == str(tmp_path / "reconstruct" / "fc")
    conv = run_digits(tmp_path, "encode", "--model_from", str(tmp_path / "reconstruct" / "conv"))
    assert conv["conv"]["code_size"] == 3
    written = json.loads((tmp_path / "reconstruct" / "metrics.json").read_text())
    assert written == metrics
    again = mnist.main([*argv[:2], "--dry_run", *argv[-3:]])
    assert {name: values["test_mse"] for name, values in again.items()} == {
        name: values["test_mse"] for name, values in metrics.items()
    }


def test_of_several_code_sizes_one_is_to_be_named(tmp_path, monkeypatch, capsys):
    without_figures(monkeypatch)
    data = str(write_images(tmp_path / "data"))
    flags = ["--model", "fc", "--epochs", "1", "--hidden_size", "4", "--code_size", "3", "2"]
    mnist.main(["--function", "reconstruct", "--data", data, *flags, "--output_dir", str(tmp_path), "--quiet"])
    with pytest.raises(SystemExit, match="2"):
        run_digits(tmp_path, "encode")
    assert "give the folder of one (fc_2, fc_3) with --model_from" in capsys.readouterr().err


def test_names_of_several_models_and_code_sizes():
    request = SCRIPT.request("reconstruct", code_size=[8, 16], quiet=True)
    runs = mnist.named_runs(request)
    assert [*runs] == ["fc_8", "fc_16", "conv_8", "conv_16"] and runs["conv_8"].single().learning_rate == 4e-3
    assert [*mnist.named_runs(request.with_values(model="conv", code_size=[8]))] == ["conv"]


def test_classification_is_short_for_its_function():
    (request,) = flags.parse(SCRIPT, ["--classification", "--model", "fc"]).values()
    assert (request.function, request.model) == ("classify", "fc")


def test_published_trains_both_models_by_rows_and_one_by_pixels():
    for function in ("reconstruct", "classify"):
        assert SCRIPT.request(function, "published").model == "both"
        for given in ({"sequence": "pixels"}, {"input_size": 1}):
            request = SCRIPT.request(function, "published", **given)
            assert (request.model, request.epochs, request.code_size) == ("fc", 3, [0])


def test_no_error_at_all_can_be_drawn(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(mnist.plots, "panels", lambda path, rows, *_, log, **__: drawn.update(rows=rows, log=log))
    mnist.plot_accuracy({("fc", "training"): tuple(np.array([[1.0, 2.0], [0.75, 1.0], [0.1, 0.2]]))}, tmp_path)
    right, wrong = ([list(x) for x in rows["fc", "training"]] for rows in drawn["rows"].values())
    assert right == [[1, 2], [75, 100], [10, 20]] and wrong == [[1, 2], [25, 0.01], [10, 20]]
    assert drawn["log"] == [list(drawn["rows"])[1]]  # only the axis of the errors is logarithmic


def test_opponents_read_the_same_digits(tmp_path):
    """400 digits are enough to beat chance and grey images by far; checkpoints give the numbers again."""
    argv = [
        "--function",
        "opponents",
        "--source",
        "sample",
        "--limit",
        "400",
        "--epochs",
        "2",
        "--quiet",
        "--lr",
        ".003",
        "--code_size",
        "8",
        "24",
    ]
    metrics = mnist.main([*argv, "--output_dir", str(tmp_path)])
    assert list(metrics) == ["linear", "cnn", "mlp_8", "mlp_24"]
    assert metrics["mlp_24"]["epochs"] == 2 and metrics["mlp_24"]["parameters"] > metrics["mlp_8"]["parameters"]
    for name in ("mlp_8", "mlp_24"):
        assert 0 < metrics[name]["test_mse"] < 0.1 and 0 < metrics[name]["test_mse_sigma"] < 0.005
    assert metrics["linear"]["test_accuracy"] > 0.7 and metrics["cnn"]["test_accuracy"] > 0.5
    assert metrics["linear"]["test_accuracy_sigma"] == pytest.approx(
        math.sqrt(metrics["linear"]["test_accuracy"] * (1 - metrics["linear"]["test_accuracy"]) / 1000)
    )
    for values in (metrics["linear"], metrics["cnn"]):
        assert 0 < values["test_log_loss"] < math.log(10) and 0 < values["calibration_error"] < 0.5
    again = mnist.main(["--function", "opponents", "--dry_run", "--quiet", "--output_dir", str(tmp_path)])
    for name in ("test_accuracy", "test_log_loss", "calibration_error"):
        assert again["cnn"][name] == metrics["cnn"][name]
    assert again["mlp_8"]["test_mse"] == metrics["mlp_8"]["test_mse"]


def test_the_small_network_takes_images():
    assert SmallCNN(classes=3, channels=2, hidden_size=5)(torch.rand(4, 28, 28)).shape == (4, 3)
    with pytest.raises(ValueError, match=r"images must be \(B, 28, 28\), not \(4, 784\)"):
        SmallCNN()(torch.rand(4, 784))
