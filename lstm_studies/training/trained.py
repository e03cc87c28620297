"""A model that an earlier run trained, for the functions that apply it to data."""

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from lstm_studies.training import checkpoint
from lstm_studies.training.checkpoint import CheckpointError
from lstm_studies.training.flags import restored
from lstm_studies.training.presets import Request
from lstm_studies.training.settings import Settings
from lstm_studies.training.tables import write_csv


def trained_model(
    request: Request, function: str, own_flag: str, *classes: type[nn.Module]
) -> tuple[nn.Module, Settings, Path]:
    """A trained model, its settings and its folder: `--trained`, or what `function` left in the output folder.

    own_flag: a flag that only this script has, by which its models are told from those of others.
    classes: of the models that the script trains.
    Raises CheckpointError if there is no such model.
    """
    folder = request.trained or request.output_dir / function
    saved = checkpoint.load_latest(folder / "last.pt")
    if saved is None or not (folder / "best.pt").exists():
        raise CheckpointError(
            f"{folder}: expected a trained model (best.pt, last.pt), found none; "
            f"run --function {function} first, or give its folder with --trained"
        )
    flags = saved.get("flags")
    if not isinstance(flags, dict) or own_flag not in flags:
        raise CheckpointError(f"{folder}: expected a model that {request.script.name}.py trained, found another one")
    try:
        settings = dataclasses.replace(restored(request.single(), flags), device=request.device)
        check_settings(settings)
    except (TypeError, ValueError, argparse.ArgumentTypeError) as error:
        raise CheckpointError(f"{folder}: expected the settings of a training, found {str(error)[:200]}") from None
    return checkpoint.rebuild(folder / "best.pt", *classes).to(settings.device), settings, folder


def check_settings(settings: Settings) -> None:
    """Raises ValueError or ArgumentTypeError if a value is none that its flag accepts, or values do not go together."""
    for field in dataclasses.fields(settings):
        flag, value = field.metadata.get("flag"), getattr(settings, field.name)
        if flag is None or flag.refused or (value is None and field.default is None):
            continue
        for one in value if isinstance(value, tuple) and flag.several in ("list", "each") else (value,):
            if not (isinstance(one, bool) if flag.parse is None else flag.parse(str(one)) == one):
                raise ValueError(f"{field.name} {one!r}")
    settings.check()


@torch.no_grad()
def in_batches(function: Callable[[Tensor], Tensor], x: Tensor, device: str, size: int = 500) -> Tensor:
    """`function` of x (N, ...), `size` rows at a time on `device`; the result (N, ...) is on the processor."""
    return torch.cat([function(rows.to(device)).cpu() for rows in x.split(size)])


def write_codes(path: Path, names: list[str], codes: Tensor) -> None:
    """A CSV file with one row per sequence: its name and the values of its code, codes (N, Z)."""
    columns = [f"z{k}" for k in range(1, codes.shape[1] + 1)]
    rows = zip(names, codes.tolist(), strict=True)
    write_csv(path, [{"sequence": name, **dict(zip(columns, code, strict=True))} for name, code in rows])
