"""The trained ALSTMs in the archive of Feng et al., from which their Adv-ALSTMs started.

    saved_model/acl18_alstm/exp.NAME:0.npy                one array per variable, NAME with | for /
    saved_model/kdd17_alstm/model.data-00000-of-00001     float32, little-endian, one variable after another

The second file is a TensorFlow checkpoint: the two powers of Adam's betas, then, sorted by name, each variable followed
by Adam's two moments of it. `models.published_alstm.convert_published` makes a state dict of the variables.
"""

import io
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lstm_studies.loaders.files import DataError, reading
from lstm_studies.loaders.movement import archive_path, full_name, read_part

FEATURES = 11
UNITS = {"acl18": 4, "kdd17": 16}
FOLDERS = {name: f"saved_model/{name}_alstm" for name in UNITS}
ADAM_POWERS, ADAM_MOMENTS = 2, 2  # numbers before all variables, arrays after each


def variable_shapes(units: int, features: int = FEATURES) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the published graph's variables, sorted by name."""
    shapes = {
        "in_fc/bias": (features,),
        "in_fc/kernel": (features, features),
        "lstm_att/att_W": (units, units),
        "lstm_att/att_h": (units,),
        "lstm_att/att_u": (units,),
        "lstm_att/pre_fc/biases": (1,),
        "lstm_att/pre_fc/weights": (2 * units, 1),
        "rnn/basic_lstm_cell/bias": (4 * units,),
        "rnn/basic_lstm_cell/kernel": (features + units, 4 * units),
    }
    return dict(sorted(shapes.items()))


def published_variables(data_dir: Path | str, dataset: str, source: str = "auto") -> dict[str, Tensor]:
    """The variables, float32 by name, of the authors' ALSTM for "acl18" or "kdd17", from data_dir/adv_alstm.

    Raises DataError for an archive without it, and for values of other shapes or that are not finite.
    """
    if dataset not in UNITS:
        raise DataError(f"dataset: expected one of {', '.join(UNITS)}, found {dataset!r}")
    path, metadata = archive_path(data_dir, source)
    if metadata["data"] == "sample":
        raise DataError("published weights: expected the archive of Feng et al., found only the bundled sample")
    shapes = variable_shapes(UNITS[dataset])
    values = (_arrays if dataset == "acl18" else _tensorflow_values)(path, FOLDERS[dataset], shapes)
    for name, array in values.items():
        if array.shape != shapes[name] or not np.isfinite(array).all():
            raise DataError(
                f"{path}: expected {name} of {FOLDERS[dataset]} as finite numbers of shape {shapes[name]}, "
                f"found shape {array.shape}"
            )
    return {name: torch.from_numpy(array.astype(np.float32)) for name, array in values.items()}


def _arrays(path: Path, folder: str, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The variables of one .npy file each."""
    values = {}
    for name in shapes:
        content = read_part(path, full_name(path, f"{folder}/exp.{name.replace('/', '|')}:0.npy"))
        with reading(f"{path}: {name}", "an array of NumPy"):
            values[name] = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
            if values[name].dtype.kind != "f":
                raise ValueError(f"values of type {values[name].dtype}")
    return values


def _tensorflow_values(path: Path, folder: str, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The variables of a TensorFlow checkpoint's data file."""
    name = full_name(path, f"{folder}/model.data-00000-of-00001")
    content, sizes = read_part(path, name), {key: int(np.prod(shape)) for key, shape in shapes.items()}
    expected = 4 * (ADAM_POWERS + (1 + ADAM_MOMENTS) * sum(sizes.values()))
    if len(content) != expected:
        raise DataError(f"{path}: {name}: expected {expected} bytes, found {len(content)}")
    numbers, values, start = np.frombuffer(content, "<f4"), {}, ADAM_POWERS
    for key, shape in shapes.items():
        values[key] = numbers[start : start + sizes[key]].reshape(shape)
        start += (1 + ADAM_MOMENTS) * sizes[key]
    return values
