"""Speed of the sentiment model's training beside the usual ways to batch messages (interleaved medians, one thread),
and messages per second of `--function predict`.

    python benchmarks/bench_sentiment.py          # about two minutes

similar    batches of similar length, as `stocktwits_sentiment.py` makes them: nearly all need no padding at all
packed     random batches, packed
padded     random batches padded to 244 steps, all of them read, as a published tutorial does (it counted characters)

Seconds are those of a training epoch of 72,852 messages, from steps on batches of all lengths.
Prediction includes tokens, probabilities and the words that moved each.
Where the $SPY messages are not at hand, random words stand in for them, in messages of the same lengths.
"""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn.functional import pad

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from record import Row, record
from timing import medians, processor_seconds

import stocktwits_sentiment as script
from lstm_studies.loaders.files import DataError
from lstm_studies.loaders.messages import LabelledTexts, Messages
from lstm_studies.models.text_lstm import TextLSTM
from lstm_studies.training import flags, loop
from lstm_studies.training.run import keep_memory

MESSAGES, BATCHES, PADDED, PREDICTED = 72_852, 12, 244, 5000
ABOUT = (
    "The default model on 72,852 messages. Batches of similar length need almost no padding; random batches are "
    "packed, or padded to 244 steps. The ratio is to batches of similar length; of the optimizer, to the fused "
    "kernel. Prediction includes the most influential words."
)
LENGTHS = (1, 5, 7, 10, 12, 15, 17, 20, 24, 27, 30)  # tokens, about the deciles of the training messages


def load(settings: script.Train) -> Messages:
    try:
        return script.load(settings)
    except DataError:
        return random_messages()


def random_messages() -> Messages:
    """As many messages as there are, of random words, with lengths between the deciles of the real ones."""
    generator = torch.Generator().manual_seed(0)
    which = torch.randint(len(LENGTHS) - 1, (MESSAGES,), generator=generator)
    low, high = torch.tensor(LENGTHS[:-1])[which], torch.tensor(LENGTHS[1:])[which]
    lengths = (low + torch.rand(MESSAGES, generator=generator) * (high - low)).round().long().tolist()
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [a + b + c for a in letters for b in letters for c in letters[:22]]
    places = torch.randint(len(words), (sum(lengths),), generator=generator).tolist()
    texts = [" ".join(words[places.pop()] for _ in range(length)) for length in lengths]
    part = LabelledTexts(texts, torch.arange(MESSAGES) % 2.0)
    return Messages(part, part, part, ("bearish", "bullish"), {"data": "random"})


def training(settings: script.Train, model: TextLSTM, batches: list) -> Callable[[], None]:
    """A function that takes a training step on each of the batches."""
    step, optimizer = script.make_step(settings), loop.make_optimizer(model, settings)
    autocast = {"device_type": "cpu", "dtype": torch.bfloat16, "enabled": settings.precision == "bfloat16"}

    def run() -> None:
        for batch in batches:
            with torch.autocast(**autocast):
                loss = step(model, batch)["loss"]
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()

    return run


def optimizers(model: TextLSTM, settings: script.Train) -> dict[str, Callable[[], None]]:
    """A step of the optimizer, as the scripts take it and as PyTorch does if it is not asked for one kernel."""
    one_kernel = loop.make_optimizer(model, settings)
    rate = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
    return {"similar": one_kernel.step, "by operation": torch.optim.AdamW(model.parameters(), **rate).step}


def predict(model: TextLSTM, texts: list[str], settings: script.Train) -> float:
    """Seconds of processor time for the texts, their tokens included."""
    for tokenizer in script.TOKENIZERS.values():
        tokenizer.cache_clear()
    return processor_seconds(lambda: script.explain(model, texts, settings))


def spread(batches: list) -> list:
    """BATCHES of the batches, evenly over their longest messages."""
    ordered = sorted(batches, key=lambda batch: int(batch[2].max()))
    return [ordered[int((k + 0.5) * len(ordered) / BATCHES)] for k in range(BATCHES)]


def to_length(batch: loop.Batch, steps: int) -> loop.Batch:
    """The batch padded to `steps` words, all of which count as the messages' own."""
    words, ngrams, lengths, labels = batch
    more = steps - words.shape[1]
    return pad(words, (0, more)), pad(ngrams, (0, 0, 0, more)), torch.full_like(lengths, steps), labels


def main(argv: list[str] | None = None) -> list[Row]:
    (request,) = flags.parse(script.SCRIPT, ["--function", "train", *(argv or [])]).values()
    settings = dataclasses.replace(request.single(), device="cpu", source="full")
    torch.manual_seed(0)
    torch.set_num_threads(1)
    keep_memory()
    data = load(settings)
    model = script.build(settings, data)
    encoded = script.encoded(data.train, model)
    generator = torch.Generator().manual_seed(0)
    similar = spread([encoded[i] for i in encoded.batches(len(encoded), settings.batch_size, generator)])
    mixed = [encoded[i] for i in loop.random_batches(len(encoded), settings.batch_size, generator)[:BATCHES]]
    ways = {"similar": similar, "packed": mixed, "padded": [to_length(batch, PADDED) for batch in mixed]}
    functions = {name: training(settings, model, batches) for name, batches in ways.items()}
    whole = MESSAGES / (BATCHES * settings.batch_size)  # of an epoch in the batches
    random = ", random data" if data.metadata["data"] == "random" else ""
    epoch = {name: value * whole for name, value in medians(functions, 3).items()}
    rows = [
        Row(
            f"beside {way}{random}",
            {name: epoch[name] for name in ("similar", way)},
            epoch[way] / epoch["similar"],
        )
        for way in ("packed", "padded")
    ]
    rows.append(Row("epoch", {"similar": epoch["similar"]}, None, "< 1 minute"))
    updates = {
        name: value * MESSAGES / settings.batch_size for name, value in medians(optimizers(model, settings), 9).items()
    }
    rows.append(Row("its optimizer", updates, updates["by operation"] / updates["similar"]))
    seconds = predict(model.eval(), data.train.texts[:PREDICTED], settings)
    rows.append(
        Row(f"predict, 1,000 messages ({PREDICTED / seconds:,.0f} per second)", {"predict": 1000 * seconds / PREDICTED})
    )
    return record("sentiment", "Sentiment, training epoch", ABOUT, rows)


if __name__ == "__main__":
    main()
