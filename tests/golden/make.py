"""Makes the golden runs of the present format: a run folder of every script and preset, of models that are tiny.

    python tests/golden/make.py          # when FORMAT is raised; those of earlier formats stay as they are

`reliability/test_golden.py` evaluates, applies and resumes each of them for ever after. All data are bundled or
generated. The folder of a run has its command in `command.json`.
"""

import importlib
import json
import os
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from lstm_studies.training.formats import FORMAT  # noqa: E402

GOLDEN = Path(__file__).parent.relative_to(ROOT)  # no folder of this machine is in the files
SMALL = "--epochs 2 --limit 40 --hidden_size 3"
SAMPLE = f"--source sample --data_dir data {SMALL}"
MESSAGES = "--source sample --data_dir data --epochs 2 --limit 60 --embedding_size 3"
VOWELS = "--data_dir data --epochs 2 --limit 45 --hidden_size 2 --channels 2 --folds 2 --repeats 1"
RUNS = (  # script, function, presets, flags
    ("lstm_ae_toy", "reconstruct", "best published quick", SMALL),
    ("lstm_ae_mnist", "reconstruct", "published", f"{SAMPLE} --model fc"),
    ("lstm_ae_mnist", "reconstruct", "quick", f"{SAMPLE} --model conv --channels 2 --code_size 3"),
    ("lstm_ae_mnist", "classify", "best", f"{SAMPLE} --model fc --code_size 3"),
    ("lstm_ae_snp500", "reconstruct", "best", SAMPLE),
    ("lstm_ae_snp500", "predict", "published quick", SAMPLE),
    ("adv_alstm", "train", "best published quick", SAMPLE),
    ("jv_training", "basic", "best published quick", VOWELS),
    ("stocktwits_sentiment", "train", "best quick", f"{MESSAGES} --hidden_size 4 --ngram_buckets 8"),
    ("stocktwits_sentiment", "train", "published", f"{MESSAGES} --lstm_sizes 4 2"),
)
UNUSED = (".png", ".lock", ".previous.pt")  # by those who read the run


def make(script: str, function: str, preset: str, flags: str) -> None:
    folder = GOLDEN / f"format{FORMAT}" / f"{script}_{function}_{preset}"
    shutil.rmtree(folder, ignore_errors=True)
    arguments = ["--function", function, "--preset", preset, *flags.split()]
    importlib.import_module(script).main([*arguments, "--output_dir", str(folder), "--quiet"])
    for path in folder.rglob("*"):
        if path.name.endswith(UNUSED):
            path.unlink()
    command = {"script": script, "function": function, "arguments": arguments}
    (folder / "command.json").write_text(json.dumps(command, indent=2) + "\n")


if __name__ == "__main__":
    os.chdir(ROOT)
    for script, function, presets, flags in RUNS:
        for preset in presets.split():
            make(script, function, preset, flags)
