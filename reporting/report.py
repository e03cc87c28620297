"""The report: what the studies' numbers say, as rows of a table, as sentences, and as a page of HTML and of Markdown.

The page holds its images and needs nothing else: no server, no request.
"""

import ast
import base64
import html
import json
import os
import re
from pathlib import Path

from reporting.studies import DATA, Number, Study

ROOT = Path(__file__).resolve().parent.parent
CAPTIONS = {  # of the figures, by file name
    "accuracy": "Accuracy against epochs",
    "attention": "Attention weights of the days before the predicted one",
    "beta": "Validation accuracy against the weight of the loss on perturbed samples",
    "comparison": "Test accuracy of each model with its 95 % interval by days",
    "epsilon": "Validation accuracy against the length of the perturbation",
    "scores": "Scores of clean and perturbed samples",
    "attack": "Accuracy against the size of a perturbation of v along its gradient",
    "calibration": "Share of bullish messages against the predicted probability",
    "code_sizes": "Test error against the size of the code",
    "confusion": "Confusion matrix of the test data",
    "digits": "Test digits and their reconstructions",
    "examples": "Three of the sequences",
    "grid": "Validation error of each combination of the grid",
    "lengths": "Accuracy against the length of the message",
    "loss": "Loss against epochs",
    "mse_loss": "Squared error of the reconstruction against epochs",
    "noise": "Accuracy against the size of Gaussian noise on the input",
    "places": "Accuracy by place",
    "prediction_loss": "Error of the prediction against epochs",
    "predictions": "The daily high, what was predicted the day before, and persistence",
    "prices": "Daily highs",
    "reconstructions": "Test sequences and their reconstructions",
    "stocks": "Test windows of three stocks and their reconstructions",
}
COLUMNS = ("study", "number", "ours", "baseline", "published", "target", "minutes")


# ---- numbers ---------------------------------------------------------------------------------------------------------


def look_up(metrics: dict, key: str):
    """The value at a key such as "fc/test_mse", None if it is not there."""
    value = metrics
    for part in key.split("/"):
        if not isinstance(value, dict) or part not in value:
            return None
        value = value[part]
    return value


def mean_or_value(metrics: dict, key: str):
    """The mean over the seeds where there are several, else the value."""
    mean = look_up(metrics, f"{key}_mean")
    return look_up(metrics, key) if mean is None else mean


def summary_rows(study: Study, metrics: dict, minutes: float) -> list[dict]:
    """What `docs/results/summary.json` holds of a study."""
    rows = []
    for number in study.numbers:
        value = mean_or_value(metrics, number.key)
        if value is None:
            continue
        parent = look_up(metrics, number.key.rpartition("/")[0]) if "/" in number.key else metrics
        rows.append(
            {
                "study": study.title,
                "metric": number.label,
                "value": value,
                "std": look_up(metrics, f"{number.key}_std"),
                "seeds": parent.get("seeds", 1),
                "sigma": mean_or_value(metrics, number.sigma) if number.sigma else None,
                "baseline": mean_or_value(metrics, number.baseline) if number.baseline else None,
                "baseline_name": number.baseline_name,
                "published": number.published,
                "target": number.target,
                "form": number.form,
                "detail": number.detail,
                "says": say(number, metrics),
                "command": study.command,
                "minutes": round(minutes, 1),
                "data": source_of(metrics),
            }
        )
    return rows


def say(number: Number, metrics: dict) -> str:
    """What a number says beside its baseline and its target, in a sentence."""
    value = mean_or_value(metrics, number.key)
    baseline = mean_or_value(metrics, number.baseline) if number.baseline else None
    parts = []
    if baseline is not None and number.baseline != number.key:
        name = number.baseline_name.removeprefix("persistence 1, ")
        parts.append(f"{compare(number, value, baseline, metrics)} {name} ({number.form.format(baseline)})")
    if number.goal is not None:
        reached = value >= number.goal if number.higher_is_better else value <= number.goal
        parts.append(f"the target of {number.form.format(number.goal)} is {'reached' if reached else 'missed'}")
    return f"{number.label} {number.form.format(value)}" + (f": {'; '.join(parts)}." if parts else ".")


def compare(number: Number, value: float, baseline: float, metrics: dict) -> str:
    if not number.higher_is_better:
        ratio = value / baseline
        if ratio < 0.5:
            return f"{1 / ratio:.1f} times below"
        return f"{abs(1 - ratio):.1%} {'below' if ratio < 1 else 'above'}"
    difference = value - baseline
    sigma = mean_or_value(metrics, number.sigma) if number.sigma else None
    in_sigma = f", {abs(difference) / sigma:.1f} sigma," if sigma and abs(difference) < 10 * sigma else ""
    return f"{abs(difference) * 100:.2f} points{in_sigma} {'above' if difference >= 0 else 'below'}"


def source_of(metrics: dict) -> str | None:
    """Which data a study, or the first of its models, was trained on."""
    found = [metrics, *(value for value in metrics.values() if isinstance(value, dict))]
    return next((values["data"] for values in found if "data" in values), None)


def cells(row: dict) -> tuple[str, ...]:
    """The texts of a row, by COLUMNS."""
    form = row["form"].format
    ours = form(row["value"]) + (f" ± {form(row['std'])} ({row['seeds']} seeds)" if row["std"] is not None else "")
    baseline = "-" if row["baseline"] is None else f"{row['baseline_name']} {form(row['baseline'])}"
    return row["study"], row["metric"], ours, baseline, row["published"], row["target"], f"{row['minutes']:g}"


def markdown_table(rows: list[dict]) -> str:
    lines = [f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS)]
    return "\n".join([*lines, *(f"| {' | '.join(cells(row))} |" for row in rows)])


# ---- texts -----------------------------------------------------------------------------------------------------------


def deviations(script: str) -> list[str]:
    """The numbered list under "Deviations" in a script's docstring."""
    text = ast.get_docstring(ast.parse((ROOT / f"{script}.py").read_text(encoding="utf-8"))) or ""
    _, _, listed = text.partition("\nDeviations")
    items = re.split(r"\n\d+\. ", listed)[1:]
    return [" ".join(item.split("\n\n")[0].split()) for item in items]


def caption(path: Path) -> str:
    return CAPTIONS.get(path.stem, path.stem.replace("_", " "))


def command_of(study: Study, profile: str) -> str:
    return f"{study.command} {study.quick}".strip() if profile == "quick" else study.command


def data_of(study: Study, result: dict) -> str:
    """What was read, and how long the study took if it trains."""
    sample = " Here: the bundled sample." if source_of(result["metrics"]) == "sample" else ""
    minutes = f" {result['minutes']:.1f} minutes." if study.numbers else ""
    return f"{DATA[study.script]}.{sample}{minutes}"


def preface(profile: str) -> str:
    if profile == "full":
        return "The published protocol: full data, test data used once, epochs chosen on validation data."
    return (
        "The quick profile: fewer sequences, epochs and seeds, and bundled data where nothing else is at hand, so that "
        "everything runs in minutes. These are not the results; those are under docs/results."
    )


# ---- pages -----------------------------------------------------------------------------------------------------------


def write_report(results: dict[Study, dict], profile: str, output: Path) -> Path:
    """`index.html` and `report.md` in `output`/report: all numbers, then each study; returns the page's path.

    results: {"metrics", "minutes", "folder"} of each study, or {"error": one line}.
    """
    folder = output / "report"
    folder.mkdir(parents=True, exist_ok=True)
    rows = {
        study: summary_rows(study, result["metrics"], result["minutes"]) if "metrics" in result else []
        for study, result in results.items()
    }
    (folder / "report.md").write_text(markdown(results, rows, profile, folder), encoding="utf-8")
    page = folder / "index.html"
    page.write_text(html_page(results, rows, profile), encoding="utf-8")
    return page


def headlines(rows: dict[Study, list[dict]]) -> list[dict]:
    return [row for found in rows.values() for row in found if not row["detail"]]


def markdown(results: dict, rows: dict, profile: str, folder: Path) -> str:
    parts = ["# LSTM studies", preface(profile), markdown_table(headlines(rows))]
    for study, result in results.items():
        parts += [f"## {study.title}", study.asks, f"`{command_of(study, profile)}`"]
        if "error" in result:
            parts.append(f"**Not done:** {result['error']}")
            continue
        for figure in sorted(result["folder"].glob("*.png")):
            place = Path(os.path.relpath(figure, folder)).as_posix()
            parts.append(f"![{study.title}: {caption(figure)}]({place})")
        parts += [" ".join(row["says"] for row in rows[study])] if rows[study] else []
        parts.append(f"Data: {data_of(study, result)}")
        parts.append("\n".join(f"{i}. {item}" for i, item in enumerate(deviations(study.script), 1)))
    return "\n\n".join(part for part in parts if part) + "\n"


def html_page(results: dict, rows: dict, profile: str) -> str:
    failed = [study for study, result in results.items() if "error" in result]
    links = "".join(f'<li><a href="#{anchor(s)}">{html.escape(s.title)}</a></li>' for s in results)
    missing = "".join(f"<li><b>{html.escape(s.title)}</b>: {html.escape(results[s]['error'])}</li>" for s in failed)
    sections = "".join(html_section(study, result, rows[study], profile) for study, result in results.items())
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>LSTM studies: report</title>
<link rel="icon" href="data:,">
<style>{STYLE}</style>
</head>
<body>
<header><h1>LSTM studies</h1><p>{html.escape(preface(profile))}</p></header>
<main>
{f'<section class="missing"><h2>Not done</h2><ul>{missing}</ul></section>' if failed else ""}
<section><h2>The numbers</h2>{html_table(headlines(rows))}</section>
<nav><h2>Studies</h2><ol>{links}</ol></nav>
{sections}
</main>
</body>
</html>
"""


def html_section(study: Study, result: dict, rows: list[dict], profile: str) -> str:
    head = f'<section id="{anchor(study)}"><h2>{html.escape(study.title)}</h2><p>{html.escape(study.asks)}</p>'
    command = f"<pre><code>{html.escape(command_of(study, profile))}</code></pre>"
    if "error" in result:
        return f'{head}<p class="error">Not done: {html.escape(result["error"])}</p>{command}</section>'
    figures = "".join(html_figure(study, path) for path in sorted(result["folder"].glob("*.png")))
    said = "".join(f"<li>{html.escape(row['says'])}</li>" for row in rows)
    different = "".join(f"<li>{html.escape(item)}</li>" for item in deviations(study.script))
    return "".join(
        [
            head,
            html_table(rows, with_study=False) if rows else "",
            f"<ul>{said}</ul>" if said else "",
            f'<div class="figures">{figures}</div>',
            f"<p><b>Data.</b> {html.escape(data_of(study, result))}</p>{command}",
            folded("All numbers of the run", f"<pre>{html.escape(json.dumps(result['metrics'], indent=1))}</pre>"),
            folded("Deviations from the publications", f"<ol>{different}</ol>") if different else "",
            "</section>\n",
        ]
    )


def folded(title: str, content: str) -> str:
    return f"<details><summary>{title}</summary>{content}</details>"


def html_figure(study: Study, path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    text = html.escape(caption(path), quote=True)
    title = html.escape(study.title, quote=True)
    image = f'<img alt="{title}: {text}" src="data:image/png;base64,{data}">'
    return f"<figure>{image}<figcaption>{text}</figcaption></figure>"


def html_table(rows: list[dict], with_study: bool = True) -> str:
    start = 0 if with_study else 1
    head = "".join(f"<th>{name}</th>" for name in COLUMNS[start:])
    body = "".join(
        "<tr>"
        + "".join(
            f'<td data-name="{name}"{" class=none" if text == "-" else ""}>{html.escape(text)}</td>'
            for name, text in list(zip(COLUMNS, cells(row), strict=True))[start:]
        )
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def anchor(study: Study) -> str:
    return f"{study.script}-{study.name}"


STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1rem; font: 1rem/1.5 system-ui, sans-serif; color: #1a1a1a;
  overflow-wrap: anywhere; }
h1 { font-size: 1.8rem; margin: .5rem 0; }
h2 { font-size: 1.3rem; margin: 2.5rem 0 .5rem; border-top: 1px solid #ccc; padding-top: 1rem; }
nav ol { columns: 2; padding-left: 1.5rem; }
table { border-collapse: collapse; width: 100%; font-size: .85rem; margin: .5rem 0; }
th, td { text-align: left; padding: .25rem .5rem; border-bottom: 1px solid #ddd; vertical-align: top;
  overflow-wrap: normal; }
pre { background: #f4f4f4; padding: .6rem; font-size: .8rem; white-space: pre-wrap; overflow-wrap: anywhere; }
td[data-name=ours] { white-space: nowrap; }
.figures { display: flex; flex-wrap: wrap; gap: 1rem; }
figure { margin: 0; flex: 1 1 26rem; max-width: 100%; }
img { width: 100%; max-width: 46rem; height: auto; display: block; }
figcaption { font-size: .85rem; color: #444; }
.missing, .error { background: #fff1e8; padding: .1rem 1rem; border-left: 4px solid #d55e00; }
@media (max-width: 44rem) {
  nav ol { columns: 1; }
  thead { display: none; }
  tr { display: block; border-bottom: 2px solid #bbb; padding: .4rem 0; }
  td { display: flex; gap: .6rem; border: 0; padding: .1rem 0; }
  td[data-name=ours] { white-space: normal; }
  td.none { display: none; }
  td::before { content: attr(data-name); flex: 0 0 5.5rem; color: #555; }
  figure { flex-basis: 100%; }
}
@media print {
  body { max-width: none; font-size: .85rem; }
  h2 { break-after: avoid; }
  figure, tr, pre { break-inside: avoid; }
  figure { flex: 0 1 48%; }
  details, nav { display: none; }
}
"""
