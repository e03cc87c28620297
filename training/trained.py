"""A model that an earlier run trained, for the functions that apply it to data."""

import dataclasses
from pathlib import Path

from training import checkpoint
from training.checkpoint import CheckpointError
from training.flags import restored
from training.presets import Request
from training.settings import Settings
from training.tables import write_csv


def trained_settings(request: Request, function: str, own_flag: str) -> tuple[Settings, Path]:
    """The settings of a trained model and its folder: `--trained`, or what `function` left in the output folder.

    own_flag: a flag that only this script has, by which its models are told from those of others.
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
    settings = restored(request.single(), saved["flags"])
    return dataclasses.replace(settings, device=request.device), folder


def write_codes(path: Path, names: list[str], codes: list[list[float]]) -> None:
    """A CSV file with one row per sequence: its name and the values of its code."""
    write_csv(
        path, [{"sequence": n, **{f"z{k}": v for k, v in enumerate(z, 1)}} for n, z in zip(names, codes, strict=True)]
    )
