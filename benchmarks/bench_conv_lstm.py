"""Training step of the ConvLSTM beside the usual implementation: interleaved medians, one thread.

    python benchmarks/bench_conv_lstm.py          # about four minutes

usual         input and hidden map concatenated and convolved at every step, recorded by autograd: the structure of
              github.com/ndrplz/ConvLSTM_pytorch, with the same sizes and weights, written from Shi et al. 2015, eq. 3
ours          conv_lstm.ConvLSTM
bfloat16      either one under autocast
convolutions  the convolutions of that step alone, channels last: forward, and the gradients of input and weight

encoder       one channel per step; the loss reads the last hidden map
decoder       one map of as many channels as the hidden state has, held for all steps; the loss reads all hidden maps
autoencoder   `ConvLSTMAutoencoder` with either one in both places, and its reconstruction error

Step by step in turn, in processor time (what the clock shows on a quiet core), all with freed memory kept
(`keep_memory`), as in the scripts. Before they are timed, both give the same outputs and gradients in float64, to
1e-10.
"""

import argparse
import functools
import math
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from record import Row, record

from lstm_studies.models.conv_lstm import ConvLSTM
from lstm_studies.models.lstm_ae import ConvLSTMAutoencoder
from lstm_studies.training.run import keep_memory

SIZES = {  # B, T, space, channels, kernel; targets: float32, bfloat16 beside float32, beside autocast
    "1d": (64, 28, (28,), 32, 3, (">= 2", ">= 2", ">= 1.6")),
    "2d": (16, 10, (32, 32), 64, 3, (">= 2", ">= 4", ">= 1.8")),
    "mnist": (64, 28, (28,), 16, 5, ("", "", "")),  # as in lstm_ae_mnist.py
}
PARTS, DTYPES = ("encoder", "decoder", "autoencoder"), {"": torch.float32, ", bfloat16": torch.bfloat16}
ABOUT = (
    "The usual implementation convolves the concatenated input and hidden map at every step and lets autograd "
    "record it. Both run with malloc trimming off. The ratio is usual / ours. Sizes (B x T x maps, H channels, kernel "
    "k): `1d` 64x28x1x28 H=32 k=3; `2d` 16x10x32x32 H=64 k=3; `mnist`, as in lstm_ae_mnist.py, 64x28x1x28 H=16 k=5."
)
BFLOAT16_ABOUT = (
    "Ours runs under autocast, the usual one in float32 or under autocast. Products in bfloat16 are twice as fast as "
    "in float32 with AVX-512, six times with AMX."
)
LIMIT_ABOUT = (
    "The time of the step's convolutions alone, divided by ours; no implementation that computes them exceeds 1."
)


class UsualConvLSTM(nn.Module):
    """One convolution over the concatenated input and hidden map per step. Gates in the order i, f, o, g."""

    def __init__(self, in_channels: int, hidden_channels: int, kernel_size: int, spatial_dims: int):
        super().__init__()
        kind = (nn.Conv1d, nn.Conv2d)[spatial_dims - 1]
        self.conv = kind(in_channels + hidden_channels, 4 * hidden_channels, kernel_size, padding=kernel_size // 2)
        self.hidden_channels = hidden_channels

    def forward(self, x: Tensor, steps: int | None = None, step_bias: None = None) -> tuple[Tensor, Tensor]:
        """As `ConvLSTM`; one map held for `steps` is repeated."""
        if steps is not None:
            x = x.unsqueeze(1).expand(-1, steps, *x.shape[1:])
        batch, steps, _, *space = x.shape
        h = c = x.new_zeros(batch, self.hidden_channels, *space)
        outputs = []
        for t in range(steps):
            i, f, o, g = self.conv(torch.cat([x[:, t], h], 1)).split(self.hidden_channels, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            outputs.append(h)
        return torch.stack(outputs, 1), h


def usual_like(ours: ConvLSTM) -> UsualConvLSTM:
    """The usual implementation with the same weights."""
    weights = [ours.input_conv.weight, ours.hidden_conv.weight]
    usual = UsualConvLSTM(ours.in_channels, ours.hidden_channels, weights[0].shape[-1], ours.spatial_dims)
    with torch.no_grad():
        usual.conv.weight.copy_(torch.cat(weights, 1))
        usual.conv.bias.copy_(ours.input_conv.bias)
    return usual.to(weights[0].dtype)


def autoencoders(space: tuple[int, ...], channels: int, kernel: int) -> dict[str, ConvLSTMAutoencoder]:
    """The two autoencoders, of the same weights."""
    models = {}
    for way in ("usual", "ours"):
        torch.manual_seed(0)
        models[way] = ConvLSTMAutoencoder(space, 32, channels, kernel)
    models["usual"].encoder = usual_like(models["ours"].encoder)
    models["usual"].decoder = usual_like(models["ours"].decoder)
    return models


def losses(model: ConvLSTMAutoencoder, x: Tensor, z_map: Tensor, weights: Tensor) -> dict[str, Callable[[], Tensor]]:
    """What is timed, forward and backward: x (B, T, I), z_map (B, C, *space), weights as all hidden maps."""
    steps, maps = x.shape[1], x.unflatten(2, (1, *model.map_shape))
    return {
        "encoder": lambda: (model.encoder(maps)[1] * weights[:, -1]).sum(),
        "decoder": lambda: (model.decoder(z_map, steps)[0] * weights).sum(),
        "autoencoder": lambda: (model(x).reconstruction - x).square().mean(),
    }


def inputs(batch: int, steps: int, space: tuple[int, ...], channels: int, dtype: torch.dtype = torch.float32) -> tuple:
    """Arguments of `losses`: a sequence, a map that needs a gradient, and weights."""
    torch.manual_seed(1)
    x = torch.rand(batch, steps, math.prod(space), dtype=dtype)
    z_map = torch.randn(batch, channels, *space, dtype=dtype, requires_grad=True)
    return x, z_map, torch.randn(batch, steps, channels, *space, dtype=dtype)


def check_equal(space: tuple[int, ...], channels: int, kernel: int) -> None:
    """The same losses, and gradients of the weights and of the input map, in float64 for a small batch."""
    results: dict[str, list[tuple[Tensor, ...]]] = {}
    for model in autoencoders(space, channels, kernel).values():
        x, z_map, weights = inputs(2, 3, space, channels, torch.float64)
        for part, loss in losses(model.double(), x, z_map, weights).items():
            value, recurrent = loss(), model.encoder if part == "encoder" else model.decoder
            kernels = [p for name, p in recurrent.named_parameters() if name.endswith("weight")]
            *of_kernels, of_map = torch.autograd.grad(value, [*kernels, z_map], materialize_grads=True)
            results.setdefault(part, []).append((value.detach(), torch.cat(of_kernels, 1), of_map))
    for part, (usual, ours) in results.items():
        for a, b in zip(usual, ours, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10, msg=lambda text, p=part: f"{p}: {text}")


@functools.lru_cache(maxsize=1)
def steps_of(size: tuple) -> dict[tuple[str, str], tuple[nn.Module, Callable[[], Tensor]]]:
    """The models of a size and their losses, by part and way."""
    batch, steps, space, channels, kernel, _ = size
    arguments = inputs(batch, steps, space, channels)
    models = autoencoders(space, channels, kernel)
    return {
        (part, way): (model, loss) for way, model in models.items() for part, loss in losses(model, *arguments).items()
    }


def seconds(size: tuple, part: str, way: str, suffix: str) -> float:
    """Of processor time, of one training step in this process."""
    if way == "convolutions":
        step = convolutions(size, part, DTYPES[suffix])
    else:
        model, loss = steps_of(size)[part, way]
        model.zero_grad()

        def step() -> None:
            with torch.autocast("cpu", torch.bfloat16, enabled=bool(suffix)):
                value = loss()
            value.backward()

    start = time.thread_time()
    step()
    return time.thread_time() - start


@functools.lru_cache(maxsize=4)
def convolutions(size: tuple, part: str, dtype: torch.dtype) -> Callable[[], None]:
    """The convolutions of a training step of the encoder or the decoder."""
    batch, steps, space, channels, kernel, _ = size
    shape, window = (1, *space)[-2:], (1, kernel) if len(space) == 1 else (kernel, kernel)
    padding = [k // 2 for k in window]

    def maps(*sizes: int) -> Tensor:
        return torch.randn(*sizes).to(dtype).contiguous(memory_format=torch.channels_last)

    extra = 1 if part == "encoder" else 0  # the input's channel beside the hidden ones
    read, hidden = maps(batch, channels + extra, *shape), maps(batch, channels, *shape)
    weight, hidden_weight = maps(4 * channels, channels + extra, *window), maps(4 * channels, channels, *window)
    grad = maps(batch, 4 * channels, *shape)

    def gradient(x: Tensor, w: Tensor, mask: list[bool]) -> None:
        torch.ops.aten.convolution_backward(grad, x, w, None, [1, 1], padding, [1, 1], False, [0, 0], 1, mask)

    def step() -> None:
        for t in range(steps):  # a decoder's first step is the convolution of its constant input
            torch.nn.functional.conv2d(read, weight, padding=padding)
            gradient(read, weight, [False, True, False])
            if t or part == "decoder":
                gradient(hidden, hidden_weight, [True, False, False])

    return step


def medians(functions: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Median of what each function returns, called in turn; the first call of each does not count."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for function in functions.values():
        function()
    for _ in range(rounds):
        for name, function in functions.items():
            times[name].append(function())
    return {name: statistics.median(values) for name, values in times.items()}


def measure(size: tuple, part: str) -> dict[str, float]:
    """Seconds of every way."""
    ways = ("usual", "ours", *(() if part == "autoencoder" else ("convolutions",)))
    functions = {way + suffix: functools.partial(seconds, size, part, way, suffix) for suffix in DTYPES for way in ways}
    return medians(functions, 4 if len(size[2]) == 2 else 25)


def rows_of(name: str, part: str, times: dict[str, float]) -> tuple[list[Row], list[Row], list[Row]]:
    """The rows of one size and part for the three tables."""
    *_, (float32, bfloat16, autocast) = SIZES[name]
    what = f"{part}, {name}"
    values = {way: times[way] for way in ("usual", "ours")}
    plain, fast, limit = [Row(what, values, times["usual"] / times["ours"], float32)], [], []
    ours = times["ours, bfloat16"]
    for label, usual, target in (
        ("float32", times["usual"], bfloat16),
        ("autocast", times["usual, bfloat16"], autocast),
    ):
        fast.append(Row(f"{what}, {label}", {"usual": usual, "ours, bfloat16": ours}, usual / ours, target))
    if part != "autoencoder":
        for suffix, target in (("", ">= 0.85"), (", bfloat16", ">= 0.5")):
            values = {"convolutions": times[f"convolutions{suffix}"], "ours": times[f"ours{suffix}"]}
            share = values["convolutions"] / values["ours"]
            limit.append(Row(f"{what}{suffix}", values, share, target))
    return plain, fast, limit


def main(argv: list[str] | None = None) -> list[Row]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args(argv)
    torch.set_num_threads(1)
    keep_memory()
    tables: tuple[list[Row], list[Row], list[Row]] = ([], [], [])
    for name, size in SIZES.items():
        check_equal(size[2], size[3], size[4])
        for part in PARTS:
            for table, rows in zip(tables, rows_of(name, part, measure(size, part)), strict=True):
                table.extend(rows)
    record("conv_lstm", "ConvLSTM, training step", ABOUT, tables[0])
    record("conv_lstm", "ConvLSTM in bfloat16", BFLOAT16_ABOUT, tables[1])
    record("conv_lstm", "ConvLSTM beside its convolutions", LIMIT_ABOUT, tables[2])
    return [row for table in tables for row in table]


if __name__ == "__main__":
    main()
