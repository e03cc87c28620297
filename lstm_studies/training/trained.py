"""A model that an earlier run trained, for the functions that apply it to data."""

import dataclasses
import math
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import get_type_hints

import torch
from torch import Tensor, nn

from lstm_studies.training import checkpoint
from lstm_studies.training.checkpoint import CheckpointError
from lstm_studies.training.flags import restored
from lstm_studies.training.presets import Request
from lstm_studies.training.settings import Training, deciding_names, flags_of
from lstm_studies.training.tables import write_csv

RETIRED = {"patience", "weight_average"}  # settings of format 1


def trained_model(request: Request, function: str, *classes: type[nn.Module]) -> tuple[nn.Module, Training, Path]:
    """A trained model, its settings and its folder: `--model_from`, or what `function` left in the output folder.

    --model_from: a run folder, whose best.pt it is, or a checkpoint in one.
    classes: of the models that the script trains.
    Raises CheckpointError if there is no such model.
    """
    path = request.model_from or request.output_dir / function
    file = path if path.suffix == ".pt" else path / "best.pt"
    folder = file.parent
    saved = state_beside(file)
    if saved is None or not file.exists():
        several = ", ".join(sorted(path.parent.name for path in folder.glob("*/best.pt")))
        hint = f"found several: give the folder of one ({several})"
        if not several:
            hint = f"found none; run --function {function} first, or give its folder"
        raise CheckpointError(f"{folder}: expected a trained model (best.pt, last.pt), {hint} with --model_from")
    settings, epoch = settings_of(request, function, saved, folder), saved.get("epoch")
    if not isinstance(epoch, int):
        raise CheckpointError(f"{folder / 'last.pt'}: not of a training: it has no epoch")
    if epoch < settings.epochs and not saved.get("stopped"):
        where = f"epoch {epoch} of {settings.epochs}"
        print(f"NOTICE: {folder}: this training has not ended: {where}", file=sys.stderr)
    model = checkpoint.rebuild(file, *classes)
    check_step(model, settings, folder)
    return model.to(settings.device), settings, folder


def check_step(model: nn.Module, settings: Training, folder: Path) -> None:
    """Raises CheckpointError if the settings cut sequences into other steps than the model takes."""
    cut = getattr(settings, "step_shape", None)
    taken = model.arguments.get("map_shape") or [model.arguments.get("input_size")]
    if cut and (math.prod(cut) != math.prod(taken) or len(cut) < len(taken)):
        raise CheckpointError(f"{folder}: its model takes {taken} values a step, the settings in last.pt say {[*cut]}")


def state_beside(file: Path) -> dict | None:
    """The state of the training that left the model in `file`: last.pt; without it, and with a notice, `file` itself.

    None if neither is there. Raises CheckpointError.
    """
    try:
        if saved := checkpoint.load_latest(file.with_name("last.pt")):
            return saved
        problem = f"{file.with_name('last.pt')}: found no such file"
    except CheckpointError as error:
        if not file.exists() or "flags" not in checkpoint.load(file):  # as versions before 2.0 wrote it
            raise
        problem = str(error).partition(";")[0]
    saved = checkpoint.load(file) if file.exists() else {}
    if "flags" not in saved:
        return None
    print(f"NOTICE: {problem}; {file} is applied, and whether its training has ended is not known", file=sys.stderr)
    return {**saved, "stopped": True}


def settings_of(request: Request, function: str, saved: dict, folder: Path) -> Training:
    """The settings of the training whose last checkpoint is `saved`. Raises CheckpointError."""
    classes, flags = request.script.functions, saved.get("flags")
    known = {field.name for settings in classes.values() for field in dataclasses.fields(settings)}
    if not isinstance(flags, dict) or not flags.keys() <= known | RETIRED:
        raise CheckpointError(f"{folder}: expected a model that {request.script.name}.py trained, found another one")
    settings = classes[function]
    names = {field.name for field in dataclasses.fields(settings)}
    run = {name: value for name, value in request.values.items() if name in RUN & names}
    try:
        of_script = set(deciding_names(settings)) - flags_of(settings).keys()  # no flags: the script sets them
        for name in of_script & flags.keys():
            if not checkpoint.is_of_type(flags[name], get_type_hints(settings)[name]):
                raise ValueError(f"another {name}, {flags[name]!r}")
        restored_settings = restored(settings(**run, function=function), flags)
        restored_settings.check(())
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{folder}: expected the settings of a training, found {str(error)[:200]}") from None
    return restored_settings


RUN = {"output_dir", "data_dir", "device", "threads", "quiet"}  # settings of this run, not of the training


@torch.no_grad()
def in_batches(function: Callable[[Tensor], Tensor], x: Tensor, device: str, size: int = 500) -> Tensor:
    """`function` of x (N, ...), `size` rows at a time on `device`; the result (N, ...) is on the processor."""
    return torch.cat([function(rows.to(device)).cpu() for rows in x.split(size)])


def write_codes(path: Path, names: list[str], codes: Iterable[Tensor]) -> None:
    """A CSV file with one row per sequence: its name and the values of its code (Z,), of which some may have more."""
    rows = ({f"z{k}": value for k, value in enumerate(code.tolist(), 1)} for code in codes)
    write_csv(path, [{"sequence": name, **row} for name, row in zip(names, rows, strict=True)])
