"""Every kind of figure is written as a PNG of a sensible size, whatever the numbers."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from lstm_studies.reporting import plots


@pytest.fixture
def readable(tmp_path):
    """A function that checks a file: a PNG with something drawn in it, and no figure left open."""

    def check(path):
        assert path.suffix == ".png" and path.is_file()
        with Image.open(path) as image:
            image.load()
            assert image.format == "PNG" and all(150 < size < 3000 for size in image.size), image.size
            grey = np.asarray(image.convert("L"))
        assert 0 < (grey < 200).mean() < 0.9
        assert plt.get_fignums() == []
        return grey

    return check


X = np.arange(20)
SERIES = {"training": (X, 1 / (1 + X)), "validation": (X, 2 / (1 + X))}
DATES = np.arange("2014-01-02", "2014-01-22", dtype="datetime64[D]")


@pytest.mark.parametrize(
    ("series", "more"),
    [
        (SERIES, {}),
        (SERIES, {"log": True, "levels": {"PCA": 0.1, "mean": 0.5}, "dashed": ["validation"], "markers": True}),
        ({"training": ([1], [0.5]), "validation": ([1], [0.4])}, {"log": True}),  # one epoch
        ({"AMZN": (DATES, X * 3.0)}, {}),
        ({f"stock {i}": (X, X + i) for i in range(12)}, {"levels": {f"level {i}": i for i in range(5)}}),
        ({"with gaps": (X, np.where(X % 3, X, np.nan))}, {}),
        ({"lists": ([1, 2], [3, 4])}, {}),
    ],
)
def test_curves(tmp_path, readable, series, more):
    path = tmp_path / "new" / "folder" / "curves.png"
    assert plots.curves(path, series, "epoch", "error", **more) == path
    readable(path)


def test_one_epoch_is_visible(tmp_path, readable):
    empty = readable(plots.curves(tmp_path / "a.png", {"a": ([1], [np.nan])}, "x", "y"))
    dot = readable(plots.curves(tmp_path / "b.png", {"a": ([1], [0.5])}, "x", "y"))
    assert (dot < 160).sum() > (empty < 160).sum() + 20 or dot.shape != empty.shape


def test_one_epoch_has_a_marker():
    figure, axes = plt.subplots()
    plots.draw_curves(axes, {"one": ([1], [2]), "two": ([1, 2], [2, 3])}, dashed=["two"])
    one, two = axes.get_lines()
    assert one.get_marker() == "o" and two.get_marker() in ("None", None, "")
    assert one.get_linestyle() == "-" and two.get_linestyle() == "--"
    plt.close(figure)


def test_lines_of_one_group_share_their_colour_and_those_of_training_are_dashed():
    figure, axes = plt.subplots()
    names = [("fc", "training"), ("fc", "validation"), ("conv", "training"), "PCA", "a, b", "a, c"]
    plots.draw_curves(axes, {name: ([1, 2], [2, 3]) for name in names}, dashed=["PCA"])
    lines = axes.get_lines()
    assert [line.get_label() for line in lines] == [
        "fc, training",
        "fc, validation",
        "conv, training",
        "PCA",
        "a, b",
        "a, c",
    ]
    colours = [line.get_color() for line in lines]
    assert colours[0] == colours[1] and len(set(colours)) == 5
    assert [line.get_linestyle() for line in lines] == ["--", "-", "--", "--", "-", "-"]
    plt.close(figure)


@pytest.mark.parametrize(
    "rows",
    [
        {"signal 1": {"original": (X, X), "reconstruction": (X, X + 1)}, "signal 2": {"original": (X, -X)}},
        {"AMZN": {"price": (DATES, X * 1.5), "estimate": (DATES, X * 1.4)}},
        {f"signal {i}": {"walk": (X, X * i)} for i in range(6)},
    ],
)
def test_panels(tmp_path, readable, rows):
    path = plots.panels(tmp_path / "panels.png", rows, "time", "value", dashed=["reconstruction"])
    height = readable(path).shape[0]
    assert height > 150 * len(rows)


def test_is_dates():
    assert plots.is_dates({"a": (DATES, X)}) and plots.is_dates({"a": (list(DATES), X)})
    assert not plots.is_dates(SERIES) and not plots.is_dates({"a": ([1, 2], [3, 4])})


@pytest.mark.parametrize("count", [1, 3])
def test_image_columns(tmp_path, readable, count):
    images = np.random.default_rng(0).random((count, 8, 6))
    columns = {"original": images, "lstm": 1 - images}
    grey = readable(plots.image_columns(tmp_path / "i.png", columns, [f"digit {i}" for i in range(count)]))
    assert grey.shape[0] > 150 * count


@pytest.mark.parametrize(
    "maps",
    [
        {"": np.array([[1e-3, 2e-2], [0.3, 4.0], [5.0, 6.0]])},
        {"clipping 1": np.array([[1e-3, np.nan], [0.3, 4.0], [5.0, 6.0]]), "clipping 5": np.full((3, 2), 0.1)},
        {"all diverged here": np.full((3, 2), np.nan), "not here": np.ones((3, 2))},
        {"the same everywhere": np.full((3, 2), 0.25)},
    ],
)
def test_heat_maps(tmp_path, readable, maps):
    readable(plots.heat_maps(tmp_path / "h.png", maps, [8, 16], [0.1, 0.01, 0.001], "hidden", "rate", "error"))


def test_heat_map_of_one_cell(tmp_path, readable):
    readable(plots.heat_maps(tmp_path / "h.png", {"": np.array([[0.5]])}, [8], [0.1], "hidden", "rate", "error"))


def test_cells_say_what_diverged(tmp_path, monkeypatch):
    texts = []
    text = plt.Axes.text

    def record(self, x, y, string, **more):
        texts.append((x, y, string))
        return text(self, x, y, string, **more)

    monkeypatch.setattr(plt.Axes, "text", record)
    matrix = np.array([[0.125, np.nan], [2.0, 30.0]])
    plots.heat_maps(tmp_path / "h.png", {"": matrix}, [8, 16], [0.1, 0.01], "hidden", "rate", "error")
    assert texts == [(0, 0, "0.12"), (1, 0, "diverged"), (0, 1, "2"), (1, 1, "30")]


@pytest.mark.parametrize("classes", [2, 10])
def test_confusion(tmp_path, readable, classes):
    matrix = np.random.default_rng(0).integers(0, 5, (classes, classes)) + 90 * np.eye(classes, dtype=int)
    matrices = {"lstm": matrix, "perfect": 100 * np.eye(classes, dtype=int)}
    readable(plots.confusion(tmp_path / "c.png", matrices, range(classes)))


@pytest.mark.parametrize("name", ["$\\frac{$", "<script>$A$_B^&%"])
def test_a_name_is_no_formula(tmp_path, readable, name):
    """Stocks, classes and series have names of any kind; the powers of ten of an axis are formulas as before."""
    line = {name: ([1, 2, 3], [1.0, 20.0, 3000.0])}
    readable(plots.curves(tmp_path / "a.png", line, name, name, log=True, levels={name: 2.0}))
    readable(plots.panels(tmp_path / "b.png", {name: line}, name, name))
    readable(plots.confusion(tmp_path / "c.png", {name: np.eye(2)}, [name, "b"]))
    readable(plots.intervals(tmp_path / "d.png", {name: (1.0, 0.0, 2.0)}, name, {name: 1.0}))
    readable(plots.histograms(tmp_path / "e.png", {name: {name: np.arange(5.0)}}, name, name))
    readable(plots.dots(tmp_path / "f.png", [name], {name: [1.0]}, name, {name: 0.0}))


def test_no_screen():
    assert plt.get_backend().lower() == "agg"


def test_figure_is_closed_and_file_replaced(tmp_path, readable):
    path = tmp_path / "curves.png"
    path.write_text("old")
    for _ in range(2):
        figure, _ = plt.subplots()
        plots.save(figure, path)
    plots.curves(path, SERIES, "x", "y")
    readable(path)


def test_intervals_and_histograms(tmp_path, readable):
    rows = {f"model {i}": (50.0 + i, 48.0 + i, 51.5 + i) for i in range(8)}
    readable(plots.intervals(tmp_path / "intervals.png", rows, "test accuracy (%)", {"always up": 51.3}))
    readable(plots.intervals(tmp_path / "one.png", {"model": (0.1, 0.1, 0.1)}, "accuracy", {}))
    values = np.random.default_rng(0).normal(size=500)
    panels = {"LSTM": {"clean": values, "perturbed": values - 1}, "other": {"clean": values * 2}}
    readable(plots.histograms(tmp_path / "scores.png", panels, "score", "samples"))
    readable(plots.histograms(tmp_path / "same.png", {"one": {"all the same": np.zeros(9)}}, "score", "samples"))


def test_points_with_error_bars(tmp_path, readable):
    series = {"LSTM": (X / 20, X / 21, np.full(20, 0.03)), "bag of words": ([0.5], [0.4], [0.0])}
    plain = readable(plots.points(tmp_path / "a.png", series, "probability", "share"))
    lined = readable(plots.points(tmp_path / "b.png", series, "probability", "share", diagonal="perfect"))
    assert plain.shape != lined.shape or (plain != lined).mean() > 0.001
