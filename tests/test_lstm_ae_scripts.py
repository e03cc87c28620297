"""The data side of the three autoencoder studies, by hand tables, and what must not leak."""

from argparse import Namespace

import numpy as np
import pytest
import torch

import lstm_ae_mnist as mnist
import lstm_ae_snp500 as snp500
import lstm_ae_toy as toy
from loaders.files import DataError
from loaders.prices import StockPrices

# ---- toy -------------------------------------------------------------------------------------------------------------


def test_as_steps_keeps_the_order_of_time():
    x = torch.arange(6.0).view(1, 6)
    assert toy.as_steps(x, 2).tolist() == [[[0, 1], [2, 3], [4, 5]]]


def test_random_mirrors_makes_the_four_variants_and_no_other():
    torch.manual_seed(0)
    x = torch.tensor([[0.1, 0.2, 0.9]])
    variants = {tuple(round(v, 4) for v in row) for row in toy.random_mirrors(x.expand(200, 3)).tolist()}
    assert variants == {(0.1, 0.2, 0.9), (0.9, 0.2, 0.1), (0.9, 0.8, 0.1), (0.1, 0.8, 0.9)}


def test_random_stretches_keep_slow_sines_and_the_scale():
    torch.manual_seed(0)
    time = torch.linspace(0, 1, 50)
    x = toy.scale_sequences(torch.sin(2 * torch.pi * (2 * time + torch.rand(20, 1))))[0]
    stretched = toy.random_stretches(x, 0.5)
    assert stretched.min() >= 0 and stretched.max() <= 1
    torch.testing.assert_close(stretched.mean(1), torch.full((20,), 0.5))
    # each one is offset + a sine of a frequency between 1 and 2 cycles: three unknowns fit it, at the best frequency
    best = torch.full((20,), torch.inf)
    for frequency in torch.linspace(0.9, 2.1, 121):
        angle = 2 * torch.pi * frequency * time
        basis = torch.stack([torch.ones(50), angle.sin(), angle.cos()], 1)
        fitted = basis @ torch.linalg.lstsq(basis, stretched.T).solution
        best = torch.minimum(best, (fitted.T - stretched).square().mean(1))
    assert best.max() < 1e-4
    torch.testing.assert_close(toy.random_stretches(x, 1.0), x, atol=1e-5, rtol=0)  # the whole sequence: as it was


# ---- MNIST -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sequence", "input_size"), [("rows", 28), ("pixels", 1), ("patches", 49), ("pieces", 14)])
def test_sequences_and_images_are_inverse(sequence, input_size):
    flags = Namespace(sequence=sequence, input_size=input_size)
    images = torch.arange(2 * 784, dtype=torch.float32).view(2, 28, 28) / 1568
    x = mnist.as_sequences(images, flags)
    assert x.shape == (2, 784 // input_size, input_size)
    assert torch.equal(mnist.as_images(x, flags), images)


def test_patches_are_squares():
    images = torch.zeros(1, 28, 28)
    images[0, 7:14, 14:21] = 1  # second row of patches, third column
    x = mnist.as_sequences(images, Namespace(sequence="patches", input_size=49))
    assert x.sum(2).nonzero().tolist() == [[0, 6]] and x[0, 6].min() == 1


def test_bytes_become_values_in_0_1():
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).repeat(784).view(3, 28, 28)
    x = mnist.as_sequences(images, Namespace(sequence="rows", input_size=28))
    assert x.unique().tolist() == pytest.approx([0, 0.2, 1])


def test_random_shifts_move_whole_digits_by_at_most_the_distance():
    torch.manual_seed(0)
    images = torch.zeros(300, 28, 28, dtype=torch.uint8)
    images[:, 10, 20] = 7
    moved = mnist.random_shifts(images, 2)
    places = moved.nonzero()[:, 1:]
    assert moved.dtype == torch.uint8 and (moved.flatten(1).sum(1) == 7).all()
    offsets = {tuple(p) for p in (places - torch.tensor([10, 20])).tolist()}
    assert offsets == {(r, c) for r in range(-2, 3) for c in range(-2, 3)}


def test_random_shifts_bring_in_background():
    torch.manual_seed(0)
    moved = mnist.random_shifts(torch.ones(50, 28, 28), 1)
    assert set(moved.flatten(1).sum(1).tolist()) <= {784.0, 756.0, 729.0}


@pytest.mark.parametrize(
    ("sequence", "input_size", "shape"),
    [("rows", 28, (28,)), ("patches", 49, (7, 7)), ("pieces", 56, (2, 28)), ("pieces", 14, (14,))],
)
def test_map_shape_of_a_step(sequence, input_size, shape):
    assert mnist.map_shape(Namespace(sequence=sequence, input_size=input_size)) == shape


def build_flags(**changes) -> Namespace:
    values = {
        "task": "classify",
        "sequence": "rows",
        "input_size": 28,
        "shift": 0,
        "model": "fc",
        "hidden_size": 4,
        "code_size": 0,
        "num_layers": 1,
        "dropout": 0.0,
        "clock_harmonics": 2,
        "channels": 2,
        "kernel_size": 3,
        "reconstruction_dominance": 0.25,
    }
    return Namespace(**{**values, **changes})


def test_positions_in_the_image_and_by_pixels_also_in_the_row_are_encoded():
    assert mnist.build(build_flags(clock_harmonics=3)).encoding_periods == pytest.approx((28, 14, 28 / 3))
    assert mnist.build(build_flags(model="conv")).encoding_periods == (28, 14)
    pixels = build_flags(sequence="pixels", input_size=1)
    assert mnist.build(pixels).encoding_periods == (28, 14, 784, 392)
    assert mnist.build(build_flags(clock_harmonics=0)).encoding_periods == ()


def test_the_loss_weighs_reconstruction_and_class():
    torch.manual_seed(0)
    flags = build_flags()
    batch = (torch.randint(256, (5, 28, 28), dtype=torch.uint8), torch.tensor([0, 1, 2, 3, 4]))
    model = mnist.build(flags)
    with torch.no_grad():
        values = mnist.make_step(flags)(model, batch)
        logits = model(mnist.as_sequences(batch[0], flags)).logits
    entropy = -logits.log_softmax(1)[torch.arange(5), batch[1]].mean()
    assert values["loss"].item() == pytest.approx(0.25 * values["mse"].item() + 0.75 * entropy.item(), rel=1e-5)


# ---- S&P 500 ---------------------------------------------------------------------------------------------------------


def random_walk(stocks: int, days: int, seed: int = 0) -> StockPrices:
    """Highs that are geometric random walks of 1 % a day; the other columns follow from them."""
    rng = np.random.default_rng(seed)
    high = 100 * np.exp(0.01 * rng.standard_normal((stocks, days)).cumsum(1))
    volume = rng.uniform(1e5, 1e6, (stocks, days))
    values = torch.from_numpy(np.stack([high, high, high, high, volume], 2))
    dates = np.datetime64("2014-01-02") + np.arange(days)
    return StockPrices([f"S{i}" for i in range(stocks)], dates, values, {"data": "sample", "file": "walk"})


def predict_flags(**changes) -> Namespace:
    return Namespace(**{"window": 3, "inputs": "high", "limit": None, "seed": 0, **changes})


def test_split_dates_by_hand():
    assert snp500.split_dates(10) == {"train": slice(0, 6), "validation": slice(6, 8), "test": slice(8, 10)}


def test_folds_cover_every_date_once_as_test_data():
    folds = [snp500.fold_dates(11, 3, k) for k in range(3)]
    tested = sorted(d for fold in folds for block in fold["test"] for d in range(11)[block])
    assert tested == list(range(11))
    for fold in folds:
        dates = [d for blocks in fold.values() for block in blocks for d in range(11)[block]]
        assert sorted(dates) == list(range(11))  # the three parts do not overlap


def test_windows_by_hand():
    values = torch.arange(10.0).view(2, 5, 1)
    assert snp500.windows(values, 3, 2).squeeze(3).tolist() == [[[0, 1, 2], [2, 3, 4]], [[5, 6, 7], [7, 8, 9]]]


def test_window_longer_than_a_part_is_an_error():
    with pytest.raises(DataError, match="--window: expected at most 5 days, the dates of a part, needed 6"):
        snp500.windows(torch.zeros(1, 5, 1), 6, 1)


def test_samples_stay_within_their_part_and_predict_the_day_after_the_window():
    data = random_walk(2, 50)
    found = snp500.samples(data, predict_flags(), "test")  # test dates 40..49: windows 40-42 -> 43, ..., 46-48 -> 49
    assert found.days == 7 and found.x.shape == (14, 3, 1)
    highs = data.values[:, :, snp500.HIGH]
    assert torch.equal(found.last.view(2, 7), highs[:, 42:49])
    actual = found.last + (found.target - 0.5).double() * found.dollars
    torch.testing.assert_close(actual.view(2, 7), highs[:, 43:50], rtol=1e-5, atol=0)
    assert (found.x[:, -1, 0] == 0.5).all()  # the last known high is the centre


def test_scale_of_a_stock_is_the_daily_deviation_on_training_dates():
    data = random_walk(1, 50)
    highs = data.values[0, :30, snp500.HIGH]
    sigma = (highs[1:] / highs[:-1] - 1).std()
    found = snp500.samples(data, predict_flags(), "validation")
    torch.testing.assert_close(found.dollars, found.last * snp500.RANGE * sigma)


@pytest.mark.parametrize("part", snp500.PARTS)
def test_samples_made_stock_by_stock_are_those_of_all_stocks_at_once(part):
    data = random_walk(3, 50)
    dates = snp500.split_dates(50)
    train, own = data.values[:, dates["train"]], data.values[:, dates[part]]
    both = snp500.windows(own, 4, 1)  # (S, days, T + 1, 5)
    last = both[:, :, 2:3, snp500.HIGH, None]
    sigma = snp500.daily_changes(train[:, :, snp500.HIGH]).std(1)[:, None, None, None]
    expected = (both / last - 1) / (snp500.RANGE * sigma) + 0.5
    volume = torch.log1p(train[:, :, snp500.VOLUME])
    mean, std = volume.mean(1)[:, None, None], volume.std(1)[:, None, None].clamp_min(1e-6)
    expected[..., snp500.VOLUME] = (torch.log1p(both[..., snp500.VOLUME]) - mean) / (snp500.RANGE / 4 * std) + 0.5
    found = snp500.samples(data, predict_flags(inputs="ohlcv"), part)
    assert torch.equal(found.x, expected[:, :, :3].flatten(0, 1).float())
    assert torch.equal(found.target, expected[:, :, 3, snp500.HIGH].flatten().float())
    assert torch.equal(found.dollars, (last * snp500.RANGE * sigma).flatten())
    high = snp500.samples(data, predict_flags(inputs="high"), part)
    assert torch.equal(high.x[:, :, 0], found.x[:, :, snp500.HIGH]) and high.x.shape[2] == 1


@pytest.mark.parametrize("inputs", ["high", "ohlcv"])
def test_nothing_of_the_future_reaches_training_samples_or_scalers(inputs):
    data = random_walk(2, 50)
    changed = data._replace(values=data.values.clone())
    changed.values[:, 30:] *= 7  # validation and test dates
    flags = predict_flags(inputs=inputs)
    for a, b in zip(snp500.samples(data, flags, "train"), snp500.samples(changed, flags, "train"), strict=True):
        assert torch.equal(torch.as_tensor(a), torch.as_tensor(b))
    units = [snp500.samples(d, flags, "test").unit for d in (data, changed)]
    assert torch.equal(*units)


def test_a_window_does_not_hold_its_target():
    data = random_walk(1, 50)
    changed = data._replace(values=data.values.clone())
    changed.values[:, 49] *= 2  # the last date is a target only
    flags = predict_flags(inputs="ohlcv")
    first, second = (snp500.samples(d, flags, "test") for d in (data, changed))
    assert torch.equal(first.x, second.x) and not torch.equal(first.target, second.target)


def test_high_windows_of_the_test_part_do_not_overlap():
    data = random_walk(1, 100)
    flags = Namespace(window=5, stride=1, fold=None, folds=1)
    highs = data.values[0, :, snp500.HIGH]
    assert torch.equal(snp500.high_windows(data, flags, "test").flatten(), highs[80:])
    assert snp500.high_windows(data, flags, "train").shape == (56, 5)


def test_dollars_come_back_through_a_perfect_autoencoder():
    class Identity(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.arguments = {"input_size": 5}

        def forward(self, x):
            return Namespace(reconstruction=x)

    dollars = random_walk(3, 10).values[:, :, snp500.HIGH]
    restored = snp500.reconstruct_dollars(Identity(), dollars, Namespace(device="cpu"))
    torch.testing.assert_close(restored, dollars, rtol=1e-6, atol=0)


def test_mase_interval_holds_the_ratio_and_is_exact_for_equal_days():
    assert snp500.mase_interval(np.full(30, 2.0), np.full(30, 4.0), seed=0) == (0.5, 0.5)
    rng = np.random.default_rng(0)
    errors, persistence = rng.uniform(1, 2, 200), rng.uniform(1, 2, 200)
    low, high = snp500.mase_interval(errors, persistence, seed=0)
    assert low < errors.sum() / persistence.sum() < high and high - low < 0.2


def test_linear_model_finds_a_linear_rule():
    data = random_walk(3, 200)
    high = data.values[:, :, snp500.HIGH]
    data.values[:, 1:, snp500.CLOSE] = 0  # close - high holds the next change, exactly
    data.values[:, :-1, snp500.CLOSE] = high[:, :-1] + (high[:, 1:] - high[:, :-1])
    assert snp500.linear_mase(data, predict_flags(inputs="ohlcv")) < 1e-6
    assert snp500.linear_mase(data, predict_flags(inputs="high")) == pytest.approx(1, abs=0.1)


def test_a_random_walk_gives_mase_1(tmp_path, monkeypatch):
    """The whole pipeline on prices that hold nothing: an error below persistence would be a leak."""
    walk = random_walk(40, 400, seed=1)
    monkeypatch.setattr(snp500, "stock_prices", lambda data_dir, source, symbols=None: walk)
    snp500.prices.cache_clear()
    metrics = snp500.main(
        [
            "--function",
            "predict",
            "--inputs",
            "high",
            "--window",
            "10",
            "--epochs",
            "4",
            "--hidden_size",
            "16",
            "--output_dir",
            str(tmp_path),
            "--quiet",
        ]
    )
    snp500.prices.cache_clear()
    assert metrics["mase"] == pytest.approx(1, abs=0.02)
    assert metrics["mase_low"] <= metrics["mase"] <= metrics["mase_high"]


def test_folds_report_every_block(tmp_path):
    metrics = snp500.main(
        [
            "--function",
            "reconstruct",
            "--folds",
            "3",
            "--source",
            "sample",
            "--epochs",
            "1",
            "--limit",
            "32",
            "--hidden_size",
            "4",
            "--output_dir",
            str(tmp_path),
            "--quiet",
        ]
    )
    values = [metrics[f"fold{k}"]["test_mse"] for k in range(3)]
    assert metrics["test_mse_mean"] == pytest.approx(np.mean(values))
    assert metrics["test_mse_std"] == pytest.approx(np.std(values, ddof=1))
