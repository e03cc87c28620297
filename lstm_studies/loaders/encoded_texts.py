"""From tokens to tensors: vocabulary, places of words, bigrams and character n-grams, and batches of similar length.

Letters in shapes: N texts, B texts of a batch, T words of the longest one, P n-grams of a word, W words, V vocabulary.
"""

import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lstm_studies.loaders.messages import SPECIAL, TOKENIZERS, UNKNOWN, LabelledTexts, kind

MOST_NGRAMS = 16


def build_vocabulary(texts: Iterable[Sequence[str]], min_count: int = 2) -> list[str]:
    """SPECIAL, then every other token with at least `min_count` occurrences in tokenised texts, frequent ones first."""
    counts = Counter(token for tokens in texts for token in tokens)
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [*SPECIAL, *(token for token, count in ranked if count >= min_count and token not in SPECIAL)]


def index_of(vocabulary: Sequence[str]) -> dict[str, int]:
    """The place of each word."""
    return {word: place for place, word in enumerate(vocabulary)}


def encode(tokens: Iterable[str], index: Mapping[str, int]) -> list[int]:
    """The places of tokens in a vocabulary, given as {token: place}.

    A ticker or user that the vocabulary does not name is <ticker> or <user>, any other token <unknown>.
    """
    unknown = index[UNKNOWN]
    return [index.get(token, index.get(kind(token), unknown)) for token in tokens]


def repeated_bigrams(texts: Sequence[Sequence[int]], words: int, min_count: int) -> list[int]:
    """The bigrams with at least `min_count` occurrences in texts of places below V = `words`, as first * V + second."""
    counts = Counter(a * words + b for text in texts for a, b in pairwise(text))
    return sorted(code for code, count in counts.items() if count >= min_count)


def ngram_places(words: Sequence[str], buckets: int) -> Tensor:
    """Places (W, P) of each word's character n-grams in a table of `buckets` vectors: 1 to buckets - 1, then zeros.

    They are the word's runs of 3, 4 and 5 characters, its ends marked, by their hash (Bojanowski et al. 2017,
    fastText), the first MOST_NGRAMS of them: a word that is rare or unknown borrows from those that look alike.
    Entities such as <link> have none. Without a table, `buckets` 0, P is 0.
    """
    if not buckets:
        return torch.zeros(len(words), 0, dtype=torch.int32)
    rows = []
    for word in words:
        marked = "" if word[0] == "<" and len(word) > 1 else f"^{word[:MOST_NGRAMS]}$"
        ngrams = [marked[i : i + n] for n in (3, 4, 5) for i in range(len(marked) - n + 1)][:MOST_NGRAMS]
        rows.append([1 + zlib.crc32(ngram.encode()) % (buckets - 1) for ngram in ngrams])
    lengths = torch.tensor([[len(row)] for row in rows])  # (W, 1)
    table = torch.zeros(len(rows), max(1, *map(len, rows)), dtype=torch.int32)
    table[torch.arange(table.shape[1]) < lengths] = torch.tensor([p for row in rows for p in row], dtype=torch.int32)
    return table


class EncodedTexts:
    """Texts as a model reads them: `data[indices]` is (words (B, T), n-grams (B, T, P), lengths (B), labels (B)).

    Args:
        split: N texts with their labels.
        vocabulary, tokenizer, ngram_buckets: those of the model; `tokenizer` is a name in TOKENIZERS.
    """

    def __init__(self, split: LabelledTexts, vocabulary: Sequence[str], tokenizer: str, ngram_buckets: int):
        index, tokens = index_of(vocabulary), [TOKENIZERS[tokenizer](text) for text in split.texts]
        names = index_of(dict.fromkeys(token for row in tokens for token in row))  # of unknown words, too
        lengths = [len(row) for row in tokens]
        self.words = torch.tensor([place for row in tokens for place in encode(row, index)]).split(lengths)
        self.names = torch.tensor([names[token] for row in tokens for token in row]).split(lengths)
        self.ngrams = ngram_places(list(names), ngram_buckets)
        self.lengths, self.labels = torch.tensor(lengths), split.labels

    def __len__(self) -> int:
        return len(self.words)

    def __getitem__(self, indices: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        words, names = (
            pad_sequence([rows[i] for i in indices.tolist()], batch_first=True) for rows in (self.words, self.names)
        )
        return words, self.ngrams[names], self.lengths[indices], self.labels[indices]

    def batches(self, size: int, batch_size: int, generator: torch.Generator) -> list[Tensor]:
        """Random batches of texts of similar length, most of them of the same, in random order."""
        order = torch.argsort(self.lengths + torch.rand(size, generator=generator))
        batches = order.split(batch_size)
        return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]

    def by_length(self, batch_size: int = 1000) -> list[Tensor]:
        """All texts once, in batches of the same length, which need no padding."""
        order = torch.argsort(self.lengths, stable=True)
        counts = self.lengths[order].unique_consecutive(return_counts=True)[1].tolist()
        return [batch for group in order.split(counts) for batch in group.split(batch_size)]
