"""Runs the studies and writes one report.

    python reproduce.py                          # quick profile, minutes: data at hand or bundled, fewer epochs
    python reproduce.py --profile full --jobs 2  # the published protocol, hours; goes on where it was stopped
    python reproduce.py --only lstm_ae_toy
    python reproduce.py --publish                # what the full profile left, to docs/results/ and the README's table

A study that fails is named in the report with its one-line reason; the others go on, and the exit status is 1.
"""

import argparse
import contextlib
import csv
import importlib
import io
import json
import re
import shutil
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent
RESULTS = ROOT / "docs" / "results"
LOCAL_FLAGS = ("data_dir", "output_dir")  # of the machine that a run was made on: not published


class Number(NamedTuple):
    """One row of the results table: a number of a study and what it stands beside."""

    label: str
    key: str  # in metrics.json; "fc/test_mse" for the model fc
    baseline: str = ""  # its key
    baseline_name: str = ""
    published: str = "-"
    target: str = "-"
    form: str = "{:.2e}"


class Study(NamedTuple):
    script: str
    function: str
    variant: str  # tells runs of one function apart; may be empty
    title: str
    flags: str  # of the published protocol
    quick: str  # flags that shorten it, appended
    numbers: tuple[Number, ...]

    @property
    def name(self) -> str:
        return "_".join(part for part in (self.function, self.variant) if part)

    @property
    def command(self) -> str:
        return f"python {self.script}.py --function {self.function} {self.flags}".strip()


TOY = "--mirror --input_size 10 --clock_harmonics 4"
TOY_QUICK = "--epochs 40 --limit 2000"
DIGITS_QUICK = "--limit 6000 --epochs 12"
STOCKS = "--epochs 3 --batch_size 512"
STOCKS_QUICK = "--epochs 5 --limit 20000"


def below_pca(names: dict[str, str], target: str) -> tuple[Number, ...]:
    """The test errors of several models ("" for a study's only one), each beside PCA with a code of the same size."""
    return tuple(
        Number(label, f"{name}/test_mse".strip("/"), f"{name}/pca_mse".strip("/"), "PCA", target=target)
        for name, label in names.items()
    )


def accuracy(name: str, label: str, published: str, target: str) -> Number:
    key, baseline = (f"{name}/{part}_accuracy".strip("/") for part in ("test", "majority"))
    return Number(label, key, baseline, "majority", published, target, "{:.2%}")


def mase(target: str) -> tuple[Number, ...]:
    return (
        Number("MASE", "mase", "linear_mase", "persistence 1, linear", target=target, form="{:.3f}"),
        Number("MASE, 95 % interval from", "mase_low", form="{:.3f}"),
        Number("MASE, 95 % interval to", "mase_high", form="{:.3f}"),
        Number("test error, USD", "test_mae", "persistence_mae", "persistence", form="{:.3f}"),
    )


def movement(published: dict[str, tuple[str, str]], target: tuple[str, str]) -> tuple[Number, ...]:
    """Accuracy and MCC of the models of `compare`; published: of some of them, by the name in metrics.json."""
    rows = []
    for name, label in (("lstm", "LSTM"), ("alstm", "ALSTM"), ("rand_alstm", "Rand-ALSTM"), ("adv_alstm", "Adv-ALSTM"),
                        ("two_stage_alstm", "ALSTM in two stages"), ("two_stage_adv_alstm", "Adv-ALSTM in two stages")):
        accuracy, mcc = published.get(name, ("-", "-"))
        goals = target if name == "adv_alstm" else ("-", "-")
        rows.append(Number(f"accuracy, {label}", f"{name}/test_accuracy", "always_up/test_accuracy", "always up",
                           accuracy, goals[0], "{:.2%}"))
        rows.append(Number(f"MCC, {label}", f"{name}/test_mcc", "always_up/test_mcc", "always up", mcc, goals[1],
                           "{:.4f}"))
    return tuple(rows)  # fmt: skip


STUDIES = (
    Study("lstm_ae_toy", "plot_examples", "", "Toy sequences: examples", "", "", ()),
    Study("lstm_ae_toy", "reconstruct", "", "Toy: three sines",
          f"--code_size 16 --hidden_size 256 --stretch .85 --epochs 100 {TOY}", TOY_QUICK,
          below_pca({"": "test MSE, code 16"}, "1.8e-3")),
    Study("lstm_ae_toy", "reconstruct", "walk", "Toy: random walks",
          f"--signal walk --code_size 8 16 32 --epochs 150 {TOY}", TOY_QUICK,
          below_pca({f"code{n}": f"test MSE, code {n}" for n in (8, 16, 32)}, "below PCA")),
    Study("lstm_ae_toy", "reconstruct", "uniform", "Toy: uniform noise",
          f"--signal uniform --code_size 16 32 --epochs 60 {TOY}", TOY_QUICK,
          below_pca({f"code{n}": f"test MSE, code {n}" for n in (16, 32)}, "1.2 x PCA")),
    Study("lstm_ae_toy", "reconstruct", "uniform_grid", "Toy: the published grid, with a bottleneck",
          "--signal uniform --input_size 1 --code_size 0 --epochs 10 --hidden_size 8 16 32 --learning_rate .1 .01 .001 "
          "--gradient_clipping 1 5", "--epochs 1 --limit 2000",
          (Number("best validation MSE", "val_mse", "pca_mse", "PCA", "1.67e-4, without bottleneck"),)),
    Study("lstm_ae_mnist", "reconstruct", "", "MNIST by rows: reconstruction",
          "--model both --code_size 128 64 32 16 8 --precision bfloat16", f"{DIGITS_QUICK} --code_size 64 16",
          below_pca({f"{m}_{n}": f"test MSE, {m}, code {n}" for m in ("fc", "conv") for n in (8, 16, 32, 64, 128)},
                    "below PCA")),
    Study("lstm_ae_mnist", "classify", "", "MNIST by rows: classes",
          "--model both --code_size 64 --shift 1 --reconstruction_dominance .97 --precision bfloat16", DIGITS_QUICK,
          (accuracy("fc", "accuracy, fc", "about 98.9 %", "99.1 %"), accuracy("conv", "accuracy, conv", "-", "99.2 %"),
           *below_pca({"fc": "test MSE, fc", "conv": "test MSE, conv"}, "below PCA"))),
    Study("lstm_ae_mnist", "classify", "pixels", "MNIST pixel by pixel (T=784)",
          "--model fc --sequence pixels --batch_size 32 --learning_rate 2e-3 --epochs 20 --reconstruction_dominance .9 "
          "--precision bfloat16", "--limit 1500 --epochs 1",
          (accuracy("", "accuracy", "98.9 % (LSTM), 99.0 % (BN-LSTM)", "98.0 % on a CPU"),
           *below_pca({"": "test MSE"}, "-"))),
    Study("lstm_ae_snp500", "plot_prices", "", "S&P 500: prices", "", "", ()),
    Study("lstm_ae_snp500", "reconstruct", "", "S&P 500: reconstruction of 50 days",
          "--code_size 16 --hidden_size 128 --batch_size 64 --epochs 10", STOCKS_QUICK,
          below_pca({"": "test MSE, code 16"}, "-")),
    Study("lstm_ae_snp500", "reconstruct", "folds", "S&P 500: five blocks of time",
          "--code_size 16 --hidden_size 128 --batch_size 128 --epochs 6 --folds 5", STOCKS_QUICK,
          (Number("test MSE, mean of the blocks", "test_mse_mean", "pca_mse_mean", "PCA"),)),
    Study("lstm_ae_snp500", "predict", "", "S&P 500: the next day's high from all prices",
          f"--inputs ohlcv --window 20 {STOCKS} --seeds 3", f"{STOCKS_QUICK} --seeds 1", mase("at most .84")),
    Study("lstm_ae_snp500", "predict", "high", "S&P 500: the next day's high from past highs",
          f"--inputs high --window 20 --learning_rate 1e-3 {STOCKS} --seeds 3", f"{STOCKS_QUICK} --seeds 1",
          mase("at most .998")),
    Study("adv_alstm", "compare", "acl18", "Stock movement: ACL18", "--dataset acl18 --seeds 10 --pretrain",
          "--seeds 2 --epochs 5",
          movement({"lstm": ("53.18 %", ".0674"), "alstm": ("54.90 %", ".1043"),
                    "two_stage_adv_alstm": ("57.20 %", ".1483")}, ("57.2 %", ".148"))),
    Study("adv_alstm", "compare", "kdd17", "Stock movement: KDD17", "--dataset kdd17 --seeds 10 --pretrain",
          "--seeds 2 --epochs 1",
          movement({"lstm": ("51.62 %", ".0183"), "alstm": ("51.94 %", ".0261"),
                    "two_stage_adv_alstm": ("53.05 %", ".0523")}, ("53.05 %", ".052"))),
    Study("adv_alstm", "train", "acl18_grid", "Stock movement: ACL18, Adv-ALSTM chosen on validation",
          "--dataset acl18 --epsilon .05 5 --beta .01 .5 --l2 .01 1", "--epochs 1 --limit 5000",
          (Number("accuracy", "test_accuracy", "always_up_test_accuracy", "always up", "57.20 %, in two stages",
                  "57.2 %", "{:.2%}"),
           Number("MCC", "test_mcc", "always_up_test_mcc", "always up", form="{:.4f}"))),
    Study("adv_alstm", "plot", "", "Stock movement: attention, epsilon, beta", "--dataset acl18 --epochs 50 --seeds 2",
          "--epochs 3 --seeds 1", ()),
)  # fmt: skip


# ---- running ---------------------------------------------------------------------------------------------------------


def run(study: Study, profile: str, jobs: int, output: Path) -> dict:
    """Runs one study in this process: its metrics, or {"error": the one line that it ended with}."""
    folder = output / profile / study.script / study.name
    argv = ["--function", study.function, *study.flags.split(), "--output_dir", str(folder), "--jobs", str(jobs)]
    argv += study.quick.split() if profile == "quick" else ["--resume"]
    started, said = time.monotonic(), io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            metrics = importlib.import_module(study.script).main([*argv, "--quiet"])
    except SystemExit as stopped:
        if stopped.code not in (0, 1, 2):
            raise  # a signal: the whole report stops
        return {"error": said.getvalue().strip().rpartition("\n")[2]}
    finally:
        sys.stderr.write(said.getvalue())
    return {"metrics": metrics, "minutes": (time.monotonic() - started) / 60, "folder": folder / study.function}


def look_up(metrics: dict, key: str):
    """The value at a key such as "fc/test_mse", None if it is not there."""
    value = metrics
    for part in key.split("/"):
        if not isinstance(value, dict) or part not in value:
            return None
        value = value[part]
    return value


def summary_rows(study: Study, metrics: dict, minutes: float) -> list[dict]:
    """What `docs/results/summary.json` holds of a study."""
    rows = []
    for number in study.numbers:
        parent = look_up(metrics, number.key.rpartition("/")[0]) if "/" in number.key else metrics
        value = look_up(metrics, number.key)
        if value is None:
            continue
        rows.append({
            "study": study.title,
            "metric": number.label,
            "value": look_up(metrics, f"{number.key}_mean") or value,
            "std": look_up(metrics, f"{number.key}_std"),
            "seeds": parent.get("seeds", 1),
            "baseline": look_up(metrics, number.baseline) if number.baseline else None,
            "baseline_name": number.baseline_name,
            "published": number.published,
            "target": number.target,
            "form": number.form,
            "command": study.command,
            "minutes": round(minutes, 1),
            "data": source_of(metrics),
        })  # fmt: skip
    return rows


def source_of(metrics: dict) -> str | None:
    """Which data a study, or the first of its models, was trained on."""
    found = [metrics, *(value for value in metrics.values() if isinstance(value, dict))]
    return next((values["data"] for values in found if "data" in values), None)


def table(rows: list[dict]) -> str:
    """The results table in Markdown."""
    lines = ["| study | number | ours | baseline | published | target | minutes |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        form = row["form"].format
        ours = form(row["value"]) + (f" ± {form(row['std'])} ({row['seeds']} seeds)" if row["std"] is not None else "")
        baseline = "-" if row["baseline"] is None else f"{row['baseline_name']} {form(row['baseline'])}"
        cells = (row["study"], row["metric"], ours, baseline, row["published"], row["target"], f"{row['minutes']:g}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


# ---- report and publication ------------------------------------------------------------------------------------------


def write_report(results: dict[Study, dict], profile: str, output: Path) -> Path:
    """`report.md` with a table of all numbers, then each study with its command, figures and metrics."""
    folder = output / "report"
    folder.mkdir(parents=True, exist_ok=True)
    done = {study: result for study, result in results.items() if "metrics" in result}
    rows = [row for study, r in done.items() for row in summary_rows(study, r["metrics"], r["minutes"])]
    parts = [f"# LSTM studies: report, {profile} profile", table(rows)]
    if profile == "quick":
        parts.append("The quick profile trains on fewer sequences and for fewer epochs; not the results.")
    for study, result in results.items():
        flags = f" {study.quick}" if profile == "quick" else ""
        parts += [f"## {study.title}", f"`{study.command}{flags}`"]
        if "error" in result:
            parts.append(f"**Not done:** {result['error']}")
            continue
        for figure in sorted(result["folder"].glob("*.png")):
            copy = folder / f"{study.script}_{study.name}_{figure.name}"
            shutil.copyfile(figure, copy)
            parts.append(f"![{study.title}: {figure.stem.replace('_', ' ')}]({copy.name})")
        parts.append(f"```json\n{json.dumps(result['metrics'], indent=2)}\n```")
    path = folder / "report.md"
    path.write_text("\n\n".join(parts) + "\n")
    return path


def publish(output: Path) -> None:
    """Copies what the full profile left to `docs/results/`, and renews the summary and the README's table."""
    for study in STUDIES:
        source = output / "full" / study.script / study.name / study.function
        if not (source / "metrics.json").exists():
            continue
        target = RESULTS / study.script / study.name
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for path in source.iterdir():
            if path.suffix in (".png", ".json", ".csv"):
                shutil.copyfile(path, target / path.name)
        config = json.loads((target / "config.json").read_text())
        shown = {name: value for name, value in config.items() if name not in LOCAL_FLAGS}
        (target / "config.json").write_text(json.dumps(shown, indent=2) + "\n")
    write_summary()


def published_rows() -> list[dict]:
    rows = []
    for study in STUDIES:
        path = RESULTS / study.script / study.name / "metrics.json"
        if path.exists():
            metrics = json.loads(path.read_text())
            rows += summary_rows(study, metrics, (total_seconds(metrics) + grid_seconds(path.parent / "grid.csv")) / 60)
    return rows


def grid_seconds(path: Path) -> float:
    """Training time of all combinations of a grid, one after another; 0 if there was none."""
    if not path.exists():
        return 0.0
    with open(path, newline="") as file:
        return sum(float(row["seconds"]) for row in csv.DictReader(file))


def total_seconds(metrics: dict) -> float:
    """Training time of all models and seeds of a study, one after another."""
    own = metrics.get("seconds_mean", metrics.get("seconds", 0.0)) * metrics.get("seeds", 1)
    return own + sum(total_seconds(value) for value in metrics.values() if isinstance(value, dict))


def write_summary() -> None:
    rows = published_rows()
    (RESULTS / "summary.json").write_text(json.dumps(rows, indent=2) + "\n")
    readme = ROOT / "README.md"
    readme.write_text(with_table(readme.read_text(), rows))


def with_table(readme: str, rows: list[dict]) -> str:
    """The README with its results table made anew, between the two comments that mark it."""
    marked = re.compile(r"(<!-- results -->\n).*?(\n<!-- end of results -->)", re.DOTALL)
    return marked.sub(lambda m: m[1] + table(rows) + m[2], readme)


def main(argv: list[str] | None = None) -> dict:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", choices=("quick", "full"), default="quick")
    parser.add_argument("--only", choices=sorted({s.script for s in STUDIES}), nargs="+", metavar="SCRIPT")
    parser.add_argument("--jobs", type=int, default=1, help="processes for the models of one study")
    parser.add_argument("--output_dir", type=Path, default=Path("outputs"))
    parser.add_argument("--publish", action="store_true", help="only publish what the full profile left")
    flags = parser.parse_args(argv)
    if flags.publish:
        publish(flags.output_dir)
        return {}
    chosen = [s for s in STUDIES if not flags.only or s.script in flags.only]
    results = {}
    for i, study in enumerate(chosen):
        print(f"[{i + 1}/{len(chosen)}] {study.title}", flush=True)
        results[study] = run(study, flags.profile, flags.jobs, flags.output_dir)
        print(f"    {results[study].get('error') or format(results[study]['minutes'], '.1f') + ' minutes'}", flush=True)
    print(f"report: {write_report(results, flags.profile, flags.output_dir)}")
    return {study.name: result for study, result in results.items()}


if __name__ == "__main__":
    sys.exit(any("error" in result for result in main().values()))
