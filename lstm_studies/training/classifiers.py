"""The trained classifiers in the run folders of jv_training.py; `classifier` is their class.

Version 1.0 trained the models of all seeds as one stack, and saved them so: they are applied, not resumed.
"""

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lstm_studies.training import checkpoint
from lstm_studies.training.checkpoint import CheckpointError
from lstm_studies.training.settings import UsageError
from lstm_studies.training.tables import read_json


def was_trained(folder: Path, epochs: int, wanted: dict) -> bool:
    """Whether a training with these settings has ended in `folder`."""
    saved = checkpoint.load_latest(folder / "last.pt") if (folder / "best.pt").exists() else None
    flags = saved.get("flags") if saved else None
    return isinstance(flags, dict) and saved.get("epoch") == epochs and wanted.items() <= flags.items()


def seed_folder(folder: Path, seed: int) -> Path:
    """Where a run folder has the training with this seed."""
    return folder / "seeds" / str(seed) if (folder / "seeds").exists() else folder


def read_pretrained(path: Path, seed: int, classifier: type) -> Any:
    """The model of this seed in the folder of a run of `basic`, or the only one of a checkpoint."""
    file = seed_folder(path, seed) / "best.pt" if path.is_dir() else path
    if not file.is_file():
        raise CheckpointError(f"--pretrained: {path}: expected a checkpoint or a run of basic with seed {seed}")
    models = classifiers_in(file, classifier)
    if len(models) > 1 and seed >= len(models):
        raise CheckpointError(f"--pretrained: {file}: expected a model of seed {seed}, found those of {len(models)}")
    return models[seed if len(models) > 1 else 0]


def classifiers(path: Path, classifier: type) -> list[Any]:
    """The models of all seeds in a run folder, or beside the checkpoint `path`; or those in a checkpoint alone."""
    file = path / "best.pt" if path.is_dir() else path
    if not file.is_file():  # it is written after the last training
        raise CheckpointError(
            f"{path}: expected trained models (best.pt), found none; run --function basic first, or give their folder "
            "with --model_from"
        )
    seeds = sorted(file.parent.glob("seeds/*/best.pt"), key=lambda path: int(path.parent.name))
    return [model for path in seeds or [file] for model in classifiers_in(path, classifier)]


def trained_models(output_dir: Path) -> dict[str, tuple[Path, str, float, bool]]:
    """Folder, mode, epsilon, and whether cross-validation chose it, of the plain model and of every epsilon.

    Those of a run of adversarial, of proximal or of both, whose plain model is then that of proximal.
    """
    modes = {"adversarial": "AdvLSTM", "proximal": "ProxLSTM"}
    modes = {function: mode for function, mode in modes.items() if (output_dir / function / "metrics.json").exists()}
    if not modes:
        raise UsageError(
            f"--function robustness: no trained models in {output_dir}; "
            "run adversarial or proximal first, with the same --output_dir"
        )
    models = {"plain": (output_dir / [*modes][-1] / "plain", "plain", 0.0, False)}
    for function, mode in modes.items():
        folder = output_dir / function
        try:
            saved = read_json(folder / "metrics.json")
            chosen = saved[mode]["epsilon"]
            epsilons = {name: float(saved[name]["epsilon"]) for name in saved if name.startswith("epsilon")}
        except (CheckpointError, LookupError, TypeError, ValueError):
            raise UsageError(f"--function robustness: expected the metrics of {function} in {folder}") from None
        for name, epsilon in epsilons.items():
            models[f"{mode}, {name}"] = folder / name, mode, epsilon, epsilon == chosen
    return models


def check_sequences(file: Path, values: list[Tensor], model: nn.Module) -> None:
    """Raises UsageError for sequences (steps, features) that the classifier cannot read."""
    features, kernel = model.arguments["input_size"], model.arguments["kernel_size"]
    if values[0].shape[1] != features:
        raise UsageError(f"--data: {file}: expected {features} features per step, found {values[0].shape[1]}")
    if (shortest := min(map(len, values))) < kernel:
        raise UsageError(f"--data: {file}: expected at least {kernel} steps per sequence, found {shortest}")


# ---- version 1.0 -----------------------------------------------------------------------------------------------------


def classifiers_in(path: Path, classifier: type) -> list[Any]:
    """The classifier in a checkpoint, or those of all seeds in a stack."""
    described = checkpoint.load(path).get("model")
    if not is_stack(described):
        return [checkpoint.rebuilt(described, path, classifier)]
    try:
        arguments = {name: value for name, value in described["arguments"].items() if name != "models"}
        names = [name.removeprefix("stacked.") for name in described["weights"]]
        of_each = zip(*(tensor.unbind() for tensor in described["weights"].values()), strict=True)
        one_by_one = [
            {"name": "LSTMClassifier", "arguments": arguments, "weights": dict(zip(names, tensors, strict=True))}
            for tensors in of_each
        ]
    except checkpoint.MALFORMED as error:
        raise CheckpointError(f"{path}: expected a stack of classifiers, found another model ({error})") from None
    return [checkpoint.rebuilt(one, path, classifier) for one in one_by_one]


def is_stack(described: dict | None) -> bool:
    return isinstance(described, dict) and described.get("name") == "ClassifierStack"


def refuse_stacks(folder: Path) -> None:
    """Raises UsageError for the folder of a run of version 1.0."""
    saved = checkpoint.load_latest(folder / "last.pt")
    if saved and is_stack(saved.get("model")):
        raise UsageError(
            f"{folder}: trained by version 1.0 of this collection, which resumes and tests it; this version only "
            "applies its models: --function predict, --pretrained"
        )
