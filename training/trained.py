"""A model that an earlier run trained, for the functions that apply it to data."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from training import checkpoint
from training.checkpoint import CheckpointError
from training.flags import restored
from training.presets import Request
from training.settings import Settings
from training.tables import write_csv


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
    if own_flag not in saved.get("flags", {}):
        raise CheckpointError(f"{folder}: expected a model that {request.script.name}.py trained, found another one")
    settings = dataclasses.replace(restored(request.single(), saved["flags"]), device=request.device)
    return checkpoint.rebuild(folder / "best.pt", *classes).to(settings.device), settings, folder


@torch.no_grad()
def in_batches(function: Callable[[Tensor], Tensor], x: Tensor, device: str, size: int = 500) -> Tensor:
    """`function` of x (N, ...), `size` rows at a time on `device`; the result (N, ...) is on the processor."""
    return torch.cat([function(rows.to(device)).cpu() for rows in x.split(size)])


def write_codes(path: Path, names: list[str], codes: Tensor) -> None:
    """A CSV file with one row per sequence: its name and the values of its code, codes (N, Z)."""
    columns = [f"z{k}" for k in range(1, codes.shape[1] + 1)]
    rows = zip(names, codes.tolist(), strict=True)
    write_csv(path, [{"sequence": name, **dict(zip(columns, code, strict=True))} for name, code in rows])
