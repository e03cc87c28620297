"""Vocabulary, places and batches of texts, by hand."""

import zlib

import torch

from lstm_studies.loaders.encoded_texts import (
    EncodedTexts,
    build_vocabulary,
    encode,
    index_of,
    ngram_places,
    repeated_bigrams,
)
from lstm_studies.loaders.messages import SPECIAL, LabelledTexts, tokenize


def test_vocabulary_by_hand():
    texts = [tokenize(text) for text in ("b a $spy", "a b c", "a $12 $12 d")]
    assert build_vocabulary(texts, 2) == [*SPECIAL, "a", "b"]
    assert build_vocabulary(texts, 1) == [*SPECIAL, "a", "b", "$spy", "c", "d"]
    assert build_vocabulary([], 1) == list(SPECIAL)


def test_unknown_words_are_read_by_kind():
    index = index_of([*SPECIAL, "buy", "$spy"])
    named = {name: index[name] for name in SPECIAL}
    assert encode(["buy", "$spy"], index) == [7, 8] and index["<padding>"] == 0
    assert encode(tokenize("sell $AAPL @joe $5 6 http://x.y"), index) == [
        named[f"<{name}>"] for name in ("unknown", "ticker", "user", "price", "number", "link")
    ]
    assert encode(tokenize(" "), index) == [named["<unknown>"]]


def test_repeated_bigrams_by_hand():
    texts = [[6, 7, 6, 7], [7, 6], [0, 0], [0]]
    assert repeated_bigrams(texts, 8, 2) == [6 * 8 + 7, 7 * 8 + 6]
    assert repeated_bigrams(texts, 8, 1) == [0, 6 * 8 + 7, 7 * 8 + 6]


def test_character_ngrams_by_hand():
    def places(*ngrams):
        return [1 + zlib.crc32(ngram.encode()) % 999 for ngram in ngrams]

    table = ngram_places(["<unknown>", "<", "up", "btfd"], 1000)
    assert table.shape == (4, 9) and table[0].tolist() == [0] * 9
    assert table[1].tolist() == places("^<$") + [0] * 8
    assert table[2].tolist() == places("^up", "up$", "^up$") + [0] * 6
    assert table[3].tolist() == places("^bt", "btf", "tfd", "fd$", "^btf", "btfd", "tfd$", "^btfd", "btfd$")
    assert ngram_places(["x" * 10_000], 1000).shape == (1, 16) and ngram_places(["<link>"], 1000).tolist() == [[0]]
    assert ngram_places(["up"], 0).shape == (1, 0)


def test_batches_are_of_similar_length_and_hold_every_message_once():
    part = LabelledTexts(["w " * n for n in range(1, 12)] * 20, torch.zeros(220))
    data = EncodedTexts(part, SPECIAL, "detailed", 50)
    batches = data.batches(220, 20, torch.Generator().manual_seed(0))
    assert torch.cat(batches).sort().values.equal(torch.arange(220))
    assert all(data.lengths[indices].unique().numel() == 1 for indices in batches)
    lengths = [int(data.lengths[indices[0]]) for indices in batches]
    assert lengths != sorted(lengths)
    same, other = (data.batches(220, 20, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert all(map(torch.equal, batches, same)) and not all(map(torch.equal, batches, other))
    equal = data.by_length(15)
    assert torch.cat(equal).sort().values.equal(torch.arange(220)) and max(map(len, equal)) == 15
    assert all(data.lengths[indices].unique().numel() == 1 for indices in equal)
    words, ngrams, lengths, labels = data[torch.tensor([0, 2])]
    assert words.shape == (2, 3) and lengths.tolist() == [1, 3] and labels.shape == (2,)
    assert ngrams.shape == (2, 3, 1)  # of the unknown word w, too
    rows = [encode(tokenize(text), index_of(SPECIAL)) for text in part.texts]
    assert [words.tolist() for words in data.words] == rows and data.lengths.tolist() == [len(row) for row in rows]
