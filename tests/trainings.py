"""Every training of the scripts, cut down to a moment, on generated or bundled data."""

import importlib
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted(path.stem for path in (ROOT / "config").glob("*.py") if (ROOT / path.name).exists())

SAMPLE = ["--quiet", "--source", "sample"]
TOY = "--quiet --limit 48 --epochs 2 --batch_size 16 --hidden_size 4 --code_size 4 --mirror --stretch 0.8".split()
TOY += ["--no_mlp"]
SMALL = [*SAMPLE, *"--limit 48 --epochs 2 --batch_size 16 --hidden_size 4".split()]
DIGITS = ["lstm_ae_mnist", "reconstruct", *SMALL]
STOCKS = ["lstm_ae_snp500", "reconstruct", *SMALL]
VOWELS = [*SAMPLE, *"--limit 27 --epochs 2 --folds 2 --repeats 1 --hidden_size 3 --channels 3".split()]
FROM_BASIC = [*VOWELS, "--basic_epochs", "2", "--epsilon", "0.1"]
MOVEMENT = [*SAMPLE, *"--epochs 2 --batch_size 64 --limit 200 --hidden_size 2 --steps 3".split()]
MESSAGES = [*SAMPLE, *"--epochs 2 --hidden_size 4 --embedding_size 3 --batch_size 16 --ngram_buckets 20".split()]
SERIES = "--quiet --epochs 2 --window 8 --hidden_size 3 --code_size 2 --limit 60".split()
GRID = ["--learning_rate", "0.01", "0.001"]
SEEDS = ["--seeds", "2"]

ONE = {  # one training, or a few: script, function, flags
    "toy": ["lstm_ae_toy", "reconstruct", *TOY],
    "toy grid": ["lstm_ae_toy", "reconstruct", *TOY, *GRID, *SEEDS],
    "toy fresh": ["lstm_ae_toy", "reconstruct", *TOY, "--fresh", "--filtering", "0.1"],
    "digits fc": [*DIGITS, "--model", "fc", "--shift", "1"],
    "digits conv": [*DIGITS[:-2], "--model", "conv", "--channels", "2"],  # which has no --hidden_size
    "digits both": ["lstm_ae_mnist", "classify", *SMALL, *"--model both --channels 2 --dropout 0.2".split()],
    "stocks": STOCKS,
    "stocks folds": [*STOCKS, "--folds", "3"],
    "stocks predict": ["lstm_ae_snp500", "predict", *SMALL, "--window", "10"],
    "series": ["lstm_ae_series", "train", *SERIES],
    "vowels basic": ["jv_training", "basic", *VOWELS],
    "vowels adversarial": ["jv_training", "adversarial", *FROM_BASIC],
    "vowels proximal": ["jv_training", "proximal", *FROM_BASIC],
    "vowels dropout": ["jv_training", "dropout", *VOWELS],
    "vowels batch norm": ["jv_training", "batch_norm", *VOWELS],
    "movement": ["adv_alstm", "train", *MOVEMENT],
    "movement two stages": ["adv_alstm", "train", *MOVEMENT, "--start", "own"],
    "movement random": ["adv_alstm", "train", *MOVEMENT, *"--model rand_alstm --dropout 0.2".split()],
    "messages": ["stocktwits_sentiment", "train", *MESSAGES, "--precision", "bfloat16"],
    "messages adversarial": ["stocktwits_sentiment", "train", *MESSAGES, *"--epsilon 0.5 --bidirectional".split()],
}
MANY = {  # grids, folds, seeds and models, also for several processes
    "toy search": ["lstm_ae_toy", "reconstruct", *TOY, *GRID, *SEEDS],
    "toy models": ["lstm_ae_toy", "reconstruct", *TOY, *GRID, "--code_size", "2", "3"],
    "digits search": [*DIGITS, "--model", "fc", *GRID],
    "stocks search": ["lstm_ae_snp500", "predict", *SMALL, "--window", "10", *GRID, *SEEDS],
    "stocks folds search": [*STOCKS, "--folds", "3", *GRID],
    "series search": ["lstm_ae_series", "train", *SERIES, *GRID, "--data", "machine_temperature", "nyc_taxi"],
    "vowels search": ["jv_training", "basic", *VOWELS, "--dropout", "0", "0.3", *SEEDS],
    "vowels models": ["jv_training", "adversarial", *FROM_BASIC, "1"],
    "movement search": ["adv_alstm", "train", *MOVEMENT, *"--start own --epsilon 0.1 1".split(), *SEEDS],
    "movement compare": ["adv_alstm", "compare", *MOVEMENT, *"--start random own".split(), *SEEDS],
    "movement plot": ["adv_alstm", "plot", *MOVEMENT],
    "messages search": ["stocktwits_sentiment", "train", *MESSAGES, *GRID, *SEEDS],
}


ALL = {**ONE, **MANY}


def script(name: str) -> ModuleType:
    return importlib.import_module(name)


def run(training: str | list[str], folder: Path, *flags: str) -> dict:
    """The metrics of a training of ALL, or of script, function and flags, with more flags."""
    name, function, *usual = ALL[training] if isinstance(training, str) else training
    return script(name).main(["--function", function, *usual, *flags, "--output_dir", str(folder)])
