"""The sentiment script on a tiny table of its own: files, metrics, reloading, resuming, scoring, bad input."""

import csv
import dataclasses
import gzip
import io
import itertools
import json
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

import stocktwits_sentiment as script
from lstm_studies.loaders import messages as load_messages
from lstm_studies.models.text_lstm import TextLSTM
from lstm_studies.training import checkpoint
from lstm_studies.training import flags as flag_parser

ROOT = Path(__file__).parent.parent
QUICK = "--epochs 2 --hidden_size 6 --embedding_size 5 --batch_size 16 --ngram_buckets 50 --learning_rate .02 --quiet"
FIGURES = {"calibration.png", "confusion.png", "lengths.png"}
CURVES = {"loss.png", "accuracy.png"}
RUN_FILES, TRAINING_FILES = {"config.json", "metrics.json"}, {"history.csv", "last.pt", "best.pt"}


def rows():
    """216 messages of two to seven words; those with more "buy" than "sell" are bullish."""
    moves, ends = ("buy", "sell", "hold", "$250", "@joe https://a.b"), ("now", "or never", "all day long")
    found = []
    for a, b, c, end in itertools.product(moves, moves, moves, ends):
        words = [a, b, c]
        if words.count("buy") != words.count("sell"):
            found.append((f"$SPY {a} {b}\n{c} {end}", ("bearish", "bullish")[words.count("buy") > words.count("sell")]))
    return found


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerows([("", "message", "sentiment"), *((i, *row) for i, row in enumerate(rows()))])
    (folder / "stocktwits").mkdir()
    (folder / "stocktwits" / load_messages.MESSAGES_NAMES[0]).write_bytes(gzip.compress(text.getvalue().encode()))
    return folder


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    monkeypatch.setattr(load_messages, "MESSAGES_URL", "http://127.0.0.1:9/messages.gz")
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def run(data_dir, tmp_path, no_flush):
    """A function that runs the script on the tiny table in a folder of the test."""

    def call(*flags, output=tmp_path):
        return script.main(["--data_dir", str(data_dir), "--output_dir", str(output), *QUICK.split(), *flags])

    return call


def files(folder):
    return {path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")}


def settings_of(*flags):
    """The settings of one training with these flags."""
    (request,) = flag_parser.parse(script.SCRIPT, ["--function", "train", *flags]).values()
    return dataclasses.replace(request.single(), device="cpu")


def test_help_names_every_function():
    answer = subprocess.run(
        [sys.executable, ROOT / "stocktwits_sentiment.py", "--help"], capture_output=True, text=True, timeout=60
    )
    assert answer.returncode == 0
    assert all(f"  {name} " in answer.stdout for name in script.FUNCTIONS)
    assert set(script.FUNCTIONS) == set(script.SCRIPT.functions)


def test_the_whole_study(data_dir, tmp_path, no_flush):
    argv = ["--data_dir", str(data_dir), "--output_dir", str(tmp_path), *QUICK.split()]
    metrics = script.main(argv)
    assert set(metrics) == {"show_messages", "train", "predict", "baseline"}
    assert set(metrics["train"]) == {"lstm", "bag_of_words", "words_and_characters"}
    train = metrics["train"]["lstm"]
    assert {"seed", "epochs", "seconds", "parameters", "test_accuracy", "val_accuracy"} <= train.keys()
    assert {"test_accuracy_sigma", "test_log_loss", "calibration_error"} <= train.keys()
    assert train["data"] == "full" and train["epochs"] == 2
    assert files(tmp_path / "train") - {"last.previous.pt"} == RUN_FILES | TRAINING_FILES | FIGURES | CURVES
    assert files(tmp_path / "predict") == RUN_FILES | {"predictions.csv"}
    assert files(tmp_path / "baseline") == RUN_FILES
    assert files(tmp_path / "show_messages") == RUN_FILES | {"lengths.png"}
    assert json.loads((tmp_path / "train" / "metrics.json").read_text()) == metrics["train"]
    for name, opponent in metrics["baseline"].items():
        assert (
            metrics["train"][name].items() <= opponent.items() and opponent["test_accuracy"] > 0.9
        )  # the words decide
        assert opponent["test_near_copies"] < 1 and opponent["test_accuracy_without_near_copies"] > 0.9
    baseline = metrics["baseline"]["bag_of_words"]
    assert train["majority_accuracy"] == baseline["majority_accuracy"] and train["opponent"] in metrics["baseline"]
    assert "buy" in baseline["most_bullish"] and "sell" in baseline["most_bearish"]
    assert [row["message"] for row in metrics["predict"]["lstm"]["predictions"]] == list(script.EXAMPLES)


def test_messages_before_and_after_the_preprocessing(data_dir, tmp_path):
    argv = ["--function", "show_messages", "--data_dir", str(data_dir), "--output_dir", str(tmp_path), "--quiet"]
    shown = script.main([*argv, "--tokenizer", "tutorial", "--min_count", "1"])["messages"]
    assert shown["first_words"][:3] == ["<padding>", "<unknown>", "<ticker>"] and shown["train"] == 192
    words = shown["first_words"]
    for row, padded in zip(shown["messages"], shown["batch"], strict=True):
        indices = [int(index) for index in row["indices"].split()]
        assert row["tokens"].split() == [words[index] for index in indices]
        assert [int(index) for index in padded.split()][: len(indices)] == indices
        assert set(padded.split()[len(indices) :]) <= {"0"}


def test_it_learns_what_the_words_say(run, tmp_path):
    metrics = run("--function", "train", "--epochs", "12", "--dropout", "0", "--word_dropout", "0")["lstm"]
    assert metrics["test_accuracy"] > 0.85 and metrics["val_accuracy"] > 0.85
    found = script.main(
        ["--function", "predict", "--output_dir", str(tmp_path), "--quiet", "--text", "buy buy now", "sell sell now"]
    )
    first, second = found["lstm"]["predictions"]
    assert first["probability"] > 0.5 > second["probability"]
    assert first["words"].startswith("buy +") and second["words"].startswith("sell -")


def test_dry_run_gives_the_test_metrics_of_the_trained_model_again(run, data_dir, tmp_path):
    first = run("--function", "train")
    before = (tmp_path / "train" / "best.pt").read_bytes()
    folders = ["--data_dir", str(data_dir), "--output_dir", str(tmp_path)]
    again = script.main(["--function", "train", *folders, "--quiet", "--dry_run"])
    for metrics in (first, again):
        for opponent in script.OPPONENTS:
            metrics[opponent].pop("seconds")  # they are fitted again
    assert again == first
    assert (tmp_path / "train" / "best.pt").read_bytes() == before


def test_a_run_that_was_stopped_goes_on_to_the_same_bits(run, tmp_path, monkeypatch):
    run("--function", "train", "--epsilon", "1", output=tmp_path / "whole")
    batches, step = 0, script.make_step

    def stopping(settings):
        inner = step(settings)

        def count(model, batch):
            nonlocal batches
            batches += model.training
            if batches == 15:
                raise KeyboardInterrupt
            return inner(model, batch)

        return count

    monkeypatch.setattr(script, "make_step", stopping)
    with pytest.raises(KeyboardInterrupt):
        run("--function", "train", "--epsilon", "1", "--checkpoint_every", "0", output=tmp_path / "stopped")
    monkeypatch.undo()
    run("--function", "train", "--epsilon", "1", "--resume", output=tmp_path / "stopped")
    whole, stopped = (tmp_path / name / "train" for name in ("whole", "stopped"))
    assert (whole / "history.csv").read_bytes() == (stopped / "history.csv").read_bytes()
    weights = [checkpoint.load(folder / "last.pt")["model"]["weights"] for folder in (whole, stopped)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_seeds_and_a_grid_of_epsilon(run, tmp_path):
    metrics = run("--function", "train", "--seeds", "2", "--epochs", "1")
    assert metrics["lstm"]["seeds"] == metrics["ensemble"]["seeds"] == 2 and metrics["bag_of_words"]["seeds"] == 1
    assert metrics["lstm"]["test_log_loss_std"] > 0 and (tmp_path / "train" / "errors.csv").exists()
    assert metrics["ensemble"]["wrong_in_all_seeds"] <= 1 - metrics["ensemble"]["test_accuracy"]
    run("--function", "train", "--epsilon", "0", "2", "--epochs", "1")
    with open(tmp_path / "train" / "grid.csv") as file:
        assert {row["epsilon"] for row in csv.DictReader(file)} == {"0.0", "2.0"}


def test_the_ensemble_is_the_mean_of_the_models_logits(run, data_dir, tmp_path):
    metrics = run("--function", "train", "--seeds", "2", "--epochs", "1")
    data, settings = load_messages.spy_messages(data_dir), settings_of()
    models = [checkpoint.rebuild(tmp_path / "train" / "seeds" / seed / "best.pt", TextLSTM) for seed in "01"]
    z = np.mean([script.logits(model, data.test, settings) for model in models], axis=0)
    lstm, ensemble = metrics["lstm"], metrics["ensemble"]
    assert ensemble["test_accuracy"] == np.mean((z > 0) == (data.test.labels.numpy() > 0.5))
    assert ensemble["test_log_loss"] not in (lstm["test_log_loss"], lstm["test_log_loss_mean"])


def test_messages_that_all_models_get_wrong(data_dir, tmp_path):
    data, settings = load_messages.spy_messages(data_dir), settings_of("--ngram_buckets", "50")
    torch.manual_seed(0)
    model = script.build(settings, data).eval()  # untrained: wrong now and then
    z = {part: script.logits(model, getattr(data, part), settings) for part in ("validation", "test")}
    twice = {part: np.stack([row, row]) for part, row in z.items()}
    labels = data.test.labels.numpy()
    wrong, right = (z["test"] > 0) != (labels > 0.5), np.where(labels > 0.5, 1.0, -1.0)
    metrics = script.wrong_in_all(twice["test"], right, data)
    assert 0 < wrong.mean() == metrics["wrong_in_all_seeds"]
    assert metrics["wrong_in_all_seeds_and_bag_of_words"] == 0  # this one is right everywhere
    assert script.wrong_in_all(twice["test"], -right, data)["wrong_in_all_seeds_and_bag_of_words"] == wrong.mean()
    script.write_errors(tmp_path / "errors.csv", twice["validation"], data)
    texts, labels = data.validation
    wrong = (z["validation"] > 0) != (labels.numpy() > 0.5)
    with open(tmp_path / "errors.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["message"] for row in rows] == [text for text, no in zip(texts, wrong, strict=True) if no]
    assert rows and all(row["label"] in data.classes for row in rows)


def test_differences_from_the_opponents(data_dir):
    labels = load_messages.spy_messages(data_dir).test.labels.numpy()
    right = np.where(labels > 0.5, 1.0, -1.0)
    nine_wrong = right * np.where(np.arange(len(right)) < 9, -1, 1)
    against = script.beside(np.stack([right, nine_wrong]), {"nine": nine_wrong, "right": right}, labels)
    share = 9 / len(right) / 2
    assert against["nine"]["test_accuracy"]["difference"] == pytest.approx(share)
    assert against["right"]["test_accuracy"]["difference"] == pytest.approx(-share)
    assert against["nine"]["test_log_loss"]["difference"] == pytest.approx(-share)  # softplus(1) - softplus(-1) = 1
    assert against["nine"]["test_accuracy"]["low"] < share < against["nine"]["test_accuracy"]["high"]


def test_a_text_in_two_test_parts_is_one_case():
    labels, z = np.array([1.0, 1, 0, 1, 1, 0]), np.array([1.0, -1, -1, 1, -1, -1])
    other = {"other": -np.abs(z)}  # always the first class
    once = script.beside(z[:3], {"other": other["other"][:3]}, labels[:3])["other"]["test_accuracy"]
    twice = script.beside(z, other, labels, np.array([0, 1, 2, 0, 1, 2]))["other"]["test_accuracy"]
    assert twice == pytest.approx(once) and once["low"] < once["high"]
    assert script.beside(z, other, labels)["other"]["test_accuracy"]["low"] > once["low"]


def test_fresh_splits_train_on_what_they_do_not_test(run, data_dir, tmp_path, monkeypatch):
    seen, build = [], script.build
    monkeypatch.setattr(script, "build", lambda settings, data: seen.append((settings, data)) or build(settings, data))
    metrics = run("--function", "fresh_splits", "--splits", "2", "--seeds", "2")
    assert list(metrics) == ["lstm", "bag_of_words", "words_and_characters", "split 0", "split 1"]
    assert [(settings.split, settings.seed) for settings, _ in seen] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    texts = [load_messages.spy_messages(data_dir, split_key=f"split {k}").test.texts for k in range(2)]
    usual = load_messages.spy_messages(data_dir).test.texts
    assert len({tuple(sorted(part)) for part in (*texts, usual)}) == 3
    for settings, data in seen:
        training, validation = {*data.train.texts}, {*data.validation.texts}
        assert not {*texts[settings.split]} & (training | validation) and not training & validation
    means = [metrics[f"split {k}"]["test_accuracy_mean"] for k in range(2)]
    assert metrics["lstm"]["test_accuracy_mean"] == pytest.approx(sum(means) / 2)
    for name in script.OPPONENTS:
        against = metrics["lstm"]["against"][name]["test_accuracy"]
        assert against["difference"] == pytest.approx(sum(means) / 2 - metrics[name]["test_accuracy"])
        assert against["low"] <= against["difference"] <= against["high"]
    folders = ["--data_dir", str(data_dir), "--output_dir", str(tmp_path)]
    again = script.main(["--function", "fresh_splits", "--dry_run", "--quiet", *folders])
    for values in (*metrics.values(), *again.values()):
        values.pop("seconds", None)  # those of a dry run are of the last training only
    assert again == metrics


def test_an_lstm_below_its_opponent_is_said():
    gain = {"difference": -0.1, "low": -0.12, "high": -0.08}
    metrics = {"lstm": {"opponent": "other", "against": {"other": {"test_accuracy": gain}}}}
    said = script.notice_of(metrics)["notice"]
    assert said.endswith("than other on the test messages: -10.00 points [-12.00, -8.00]")
    gain["difference"] = 0.0
    assert script.notice_of(metrics) == {}


def test_the_published_configuration(run, data_dir, tmp_path):
    run("--function", "train", "--preset", "published", "--epochs", "1", "--precision", "float32")
    config = json.loads((tmp_path / "train" / "config.json").read_text())
    assert config["optimizer"] == "Adadelta" and config["loss"] == "squared_error" and config["pooling"] == "last"
    assert config["epochs"] == 1 and config["embedding_size"] == 5  # what is given beside it still counts
    model = checkpoint.rebuild(tmp_path / "train" / "best.pt", TextLSTM)
    assert [layer.hidden_size for layer in model.layers] == [6, 3]
    assert model.tokenizer == "tutorial" and not model.linear
    assert "<ticker>" in model.vocabulary and "$spy" not in model.vocabulary and "!" not in model.vocabulary
    first = script.build(settings_of("--preset", "published"), load_messages.spy_messages(data_dir))
    assert not first.ngram_buckets and [layer.hidden_size for layer in first.layers] == [128, 64]
    weights = first.embedding.weight
    assert weights.shape[1] == 300 and -1 <= weights.min() < -0.95 and 0.95 < weights.max() <= 1


def test_layer_sizes():
    assert settings_of("--hidden_size", "100", "--num_layers", "3").layer_sizes == [100, 50, 25]
    assert settings_of("--lstm_sizes", "7", "9").layer_sizes == [7, 9]


def predictions(folder):
    with open(folder / "predict" / "predictions.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_predict_reads_files_and_lines(run, tmp_path, monkeypatch, capsys):
    run("--function", "train")
    argv = ["--function", "predict", "--output_dir", str(tmp_path)]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"buy $SPY\n\nnever seen words\n")))
    found = script.main([*argv, "--data", "-"])["lstm"]
    rows = found["predictions"]
    assert [row["message"] for row in rows] == ["buy $SPY", "", "never seen words"] and found["messages"] == 3
    assert all(0 < row["probability"] < 1 for row in rows)
    assert [row["predicted"] == "bullish" for row in rows] == [row["probability"] > 0.5 for row in rows]
    assert [len(row["words"].split()) // 2 for row in rows] == [2, 1, 3]
    assert f"P(bullish) {rows[0]['probability']:.3f}  'buy $SPY'" in capsys.readouterr().out
    table = tmp_path / "own.csv"
    table.write_bytes(
        "n;message\n1;buy $SPY\n2;Bär; never seen\n".replace("Bär;", '"Bär;').replace("seen", 'seen"').encode("utf-16")
    )
    argv = [*argv, "--quiet", "--file", str(table), "--model_from", str(tmp_path / "train" / "best.pt")]
    again = script.main([*argv, "--text", "buy $SPY"])["lstm"]
    assert again.pop("messages") == 3 and again["predictions"].pop(0) == rows[0]  # what --text has comes first
    assert again["predictions"][0] == rows[0] and again["predictions"][1]["message"] == "Bär; never seen"
    written = predictions(tmp_path)
    assert [row["message"] for row in written] == ["buy $SPY", "buy $SPY", "Bär; never seen"]
    assert [float(row["probability"]) for row in written[1:]] == [row["probability"] for row in again["predictions"]]


def test_predict_writes_every_message_and_shows_the_first_ones(run, tmp_path, capsys):
    run("--function", "train")
    lines = tmp_path / "own.txt"
    lines.write_text("".join(f"buy {'now ' * (i % 7)}{i}\n" for i in range(1500)))
    argv = ["--function", "predict", "--output_dir", str(tmp_path), "--data", str(lines)]
    found = script.main(argv)["lstm"]
    rows = predictions(tmp_path)
    assert [row["message"] for row in rows] == lines.read_text().splitlines() and found["messages"] == 1500
    assert len(found["predictions"]) == script.SHOWN == capsys.readouterr().out.count("P(bullish)")
    assert found["mean_probability"] == pytest.approx(np.mean([float(row["probability"]) for row in rows]), abs=1e-6)


def test_the_order_of_messages_does_not_change_their_logits(run, data_dir, tmp_path):
    run("--function", "train")
    data = load_messages.spy_messages(data_dir)
    model = checkpoint.rebuild(tmp_path / "train" / "best.pt", TextLSTM)
    flags = settings_of()
    order = np.random.default_rng(0).permutation(len(data.test.texts))
    shuffled = data.test._replace(texts=[data.test.texts[i] for i in order], labels=data.test.labels[order])
    whole = script.logits(model, data.test, flags)
    np.testing.assert_allclose(script.logits(model, shuffled, flags), whole[order], atol=1e-6)
    alone = [script.explain(model, [text], flags)[0]["probability"] for text in data.test.texts]
    np.testing.assert_allclose(1 / (1 + np.exp(-whole)), alone, atol=6e-5)
    together = script.explain(model, data.test.texts, flags)
    assert [row["probability"] for row in together] == pytest.approx(alone, abs=1.1e-4)


def step_settings(**values):
    return types.SimpleNamespace(**{"epsilon": 0.0, "loss": "cross_entropy", "part_loss": 0.0, **values})


@pytest.fixture
def batch():
    words, ngrams = torch.tensor([[1, 2, 3], [4, 5, 0]]), torch.zeros(2, 3, 0)
    return words, ngrams, torch.tensor([3, 2]), torch.tensor([1.0, 0.0])


def test_the_adversarial_loss_is_that_of_the_perturbed_embeddings(batch):
    torch.manual_seed(0)
    model = TextLSTM(list(load_messages.SPECIAL), 4, [3], pooling="mean", normalize=True)
    losses = {epsilon: script.make_step(step_settings(epsilon=epsilon))(model, batch) for epsilon in (0.0, 1e-3, 1.0)}
    plain = losses[0]["loss"].item()
    assert plain == losses[1.0]["error"].item()
    assert losses[1e-3]["loss"].item() == pytest.approx(2 * plain, rel=1e-2)
    assert losses[1.0]["loss"] > 2 * plain  # along the gradient the loss rises
    assert script.make_step(step_settings(epsilon=1.0))(model.eval(), batch)["loss"].item() == plain


def test_the_loss_of_the_parts_by_hand(batch):
    model = TextLSTM(list(load_messages.SPECIAL), 4, [3], bigrams=[])
    torch.nn.init.normal_(model.word_weights.weight)
    lstms, linear = model.read(model.embed(*batch[:2]), batch[0], batch[2])
    error = torch.nn.functional.binary_cross_entropy_with_logits
    together, *alone = (error(z, batch[3]).item() for z in (lstms + linear, 2 * lstms, 2 * linear))
    found = script.make_step(step_settings(part_loss=0.3))(model, batch)
    assert found["error"].item() == pytest.approx(together)
    assert found["loss"].item() == pytest.approx(together + 0.3 * sum(alone))
    squared = script.make_step(step_settings(loss="squared_error"))(model, batch)["error"]
    expected = (torch.sigmoid(lstms + linear) - batch[3]).square().mean()
    assert squared.item() == pytest.approx(expected.item())


def test_any_file_of_two_columns(tmp_path, no_flush):
    path = tmp_path / "reviews.csv"
    lines = [f'"{text} {i}",{int(label == "bullish")}' for i, (text, label) in enumerate(rows())]
    path.write_text("\n".join(["review,good", *lines]))
    flags = ["--data", str(path), "--text_column", "review", "--label_column", "good", "--output_dir", str(tmp_path)]
    metrics = script.main([*flags, "--function", "train", *QUICK.split()])["lstm"]
    assert metrics["training_messages"] > 50 and metrics["data"] == "own"
    argv = ["--function", "predict", "--quiet", "--text", "buy", "--output_dir", str(tmp_path)]
    assert script.main(argv)["lstm"]["class"] == "1"


BAD = [
    (["--function", "sentiment"], ["--function", "sentiment"]),
    (["--lstm_sizes", "0"], ["--lstm_sizes", "'0'"]),
    (["--pooling", "median"], ["--pooling", "median"]),
    (["--dropout", "1"], ["--dropout", "'1'"]),
    (["--epsilon", "-1"], ["--epsilon", "-1"]),
    (["--min_count", "0"], ["--min_count", "'0'"]),
    (["--ngram_buckets", "1"], ["--ngram_buckets", "at least 2", "found 1"]),
    (["--ngram_buckets", "-1"], ["--ngram_buckets", "'-1'"]),
    (["--function", "train", "--no_linear", "--linear_scale", "3"], ["--linear_scale", "--linear"]),
    (["--function", "train", "--text", "buy"], ["--text", "not used by train", "predict"]),
    (
        ["--function", "train", "--lstm_sizes", "4", "--hidden_size", "3"],
        ["--lstm_sizes", "--hidden_size", "found both"],
    ),
    (["--function", "train", "--text_column", "x"], ["--text_column", "--data"]),
    (["--function", "predict", "--text_column", "x"], ["--text_column", "--data"]),
    (["--function", "train", "--data", __file__, "--source", "sample"], ["--source", "$SPY"]),
    (["--function", "predict", "--piece_buckets", "9"], ["--piece_buckets", "no such flag"]),
    (["--source", "full", "--data_dir", "/no/such/folder"], ["/no/such/folder"]),
    (["--function", "baseline", "--data", "/no/such/file.csv"], ["/no/such/file.csv"]),
    (["--function", "baseline", "--text_column", "body", "--data", __file__], [__file__, "columns body and sentiment"]),
    (["--function", "predict", "--text", "buy"], ["best.pt"]),
    (["--function", "predict", "--file", "/no/such/file.csv"], ["/no/such/file.csv"]),
    (["--function", "predict", "--text", "buy", "--checkpoint", __file__], [__file__, "expected a trained model"]),
    (["--function", "train", "--dry_run"], ["--dry_run", "config.json"]),
    (["--min_count", "1000", "--limit", "0"], ["--limit", "'0'"]),
]


@pytest.mark.parametrize(("flags", "named"), BAD)
def test_bad_input_gives_one_line_that_names_it_and_status_2(flags, named, tmp_path, data_dir, capsys):
    with pytest.raises(SystemExit) as stopped:
        data = [] if "predict" in flags else ["--data_dir", str(data_dir)]
        script.main([*data, "--output_dir", str(tmp_path), "--quiet", *flags])
    message = capsys.readouterr().err
    assert stopped.value.code == 2
    assert message.count("\n") == 1 and message.startswith("stocktwits_sentiment.py: error: ")
    assert all(text in message for text in named), message


def test_without_a_network_the_sample_serves_and_full_gives_one_line(tmp_path, capsys, no_flush):
    argv = ["--data_dir", str(tmp_path), "--output_dir", str(tmp_path / "o"), "--function", "baseline", "--quiet"]
    assert script.main(argv)["bag_of_words"]["data"] == "sample"
    assert "NOTICE" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        script.main([*argv, "--source", "full"])
    message = capsys.readouterr().err
    assert stopped.value.code == 2 and message.count("\n") == 1
    assert load_messages.MESSAGES_NAMES[0] in message and "put it there" in message


def test_resuming_with_other_flags_is_refused(run, capsys):
    run("--function", "train")
    with pytest.raises(SystemExit):
        run("--function", "train", "--resume", "--pooling", "mean")
    assert "--pooling" in capsys.readouterr().err
