"""A classifier of short texts: word embeddings, stacked LSTMs, pooling over the words, one logit.

    embedded = vectors of the words (B, T, E) [+ the mean of the vectors of each word's character n-grams]
    h        = LSTMs of the given sizes, one or both directions (B, T, H)
    logit    = linear(pooling of h over the text's own words) [+ sum of one weight per word and per bigram]

Padding never enters: sequences of different lengths are packed, and all sums and maxima run over a text's own words.

Letters in shapes: B batch, T words of the longest text, E embedding size, H size of the last layer (of both directions
together), V vocabulary.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, layer_norm
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lstm_studies.models.arguments import constructor_arguments
from lstm_studies.models.lengths import is_step

POOLINGS = ("last", "mean", "max", "max_mean")
START_STD = 0.3  # of the embeddings' values that start from word vectors
UNKNOWN = 1  # place of the unknown word in the vocabulary; place 0 is that of padding


class TextLSTM(nn.Module):
    """Logit of the second class for texts of word places (B, T).

    Args:
        vocabulary: the V words by place, padding first, then the unknown word; kept so that a checkpoint alone can read
            texts.
        embedding_size: E.
        sizes: units of each LSTM, the first one nearest to the words.
        bidirectional: with a second LSTM per layer that reads from the end.
        pooling: "last" (the state after the last word; of the reverse direction, the one at the first), "mean" or "max"
            over the words, or "max_mean", both side by side.
        dropout: of the hidden states between the layers and before the linear one.
        embedding_dropout: of whole embedding dimensions, the same for all words of a text (Gal and Ghahramani 2016).
        word_dropout: probability that the LSTMs read a word as the unknown one while training.
        bigrams: None, or pairs of neighbouring words, each as first * V + second: then a linear model of the words and
            of these bigrams joins the logit ("wide and deep", Cheng et al. 2016).
        linear_dropout: of the words and bigrams of that linear model.
        linear_scale: the sum of the weights of that linear model is multiplied by it and divided by the root of the
            text's length; 0: it stays as it is. A factor above 1 lets rare words learn faster than the rate for the
            LSTMs would.
        ngram_buckets: 0, or the size of the hash table for vectors of character n-grams (place 0 is that of none).
        normalize: brings each embedded word to mean 0 and variance 1 over its E values, so that embeddings cannot
            grow out of the reach of a perturbation. (Miyato, Dai and Goodfellow 2017, eq. 1, do it over the words.)
        classes: names of the labels 0 and 1, kept beside the vocabulary.
        tokenizer: name of the function that makes tokens of texts, kept beside the vocabulary.
    """

    def __init__(
        self,
        vocabulary: list[str],
        embedding_size: int = 100,
        sizes: Sequence[int] = (128, 64),
        bidirectional: bool = False,
        pooling: str = "last",
        dropout: float = 0.0,
        embedding_dropout: float = 0.0,
        word_dropout: float = 0.0,
        bigrams: Sequence[int] | None = None,
        linear_dropout: float = 0.0,
        linear_scale: float = 0.0,
        ngram_buckets: int = 0,
        normalize: bool = False,
        classes: Sequence[str] = ("0", "1"),
        tokenizer: str = "detailed",
    ):
        super().__init__()
        if pooling not in POOLINGS:
            raise ValueError(f"pooling must be one of {', '.join(POOLINGS)}, not {pooling!r}")
        if not vocabulary or not sizes:
            raise ValueError(f"expected at least one word and one layer, found {len(vocabulary)} and {len(sizes)}")
        if ngram_buckets == 1 or ngram_buckets < 0:
            raise ValueError(f"ngram_buckets must be 0 or at least 2 (the first one stays empty), not {ngram_buckets}")
        bigrams = None if bigrams is None else sorted(bigrams)
        if len(classes) != 2:
            raise ValueError(f"classes must be the names of two labels, not {list(classes)}")
        vocabulary, sizes, classes = list(vocabulary), list(sizes), list(classes)
        self.arguments = constructor_arguments(locals())
        self.vocabulary, self.classes, self.tokenizer = vocabulary, classes, tokenizer
        self.pooling = pooling
        self.dropout, self.embedding_dropout, self.word_dropout = dropout, embedding_dropout, word_dropout
        self.linear, self.linear_dropout, self.linear_scale = bigrams is not None, linear_dropout, linear_scale
        self.normalize = normalize
        self.embedding, self.ngram_buckets = nn.Embedding(len(vocabulary), embedding_size), ngram_buckets
        if ngram_buckets:
            self.ngrams = nn.EmbeddingBag(ngram_buckets, embedding_size, mode="mean", padding_idx=0)
        widths = [embedding_size, *(size * (2 if bidirectional else 1) for size in sizes)]
        self.layers = nn.ModuleList(
            nn.LSTM(width, size, batch_first=True, bidirectional=bidirectional)
            for width, size in zip(widths[:-1], sizes, strict=True)
        )
        self.head = nn.Linear(widths[-1] * (2 if pooling == "max_mean" else 1), 1)
        if bigrams is not None:
            self.word_weights = nn.Embedding(len(vocabulary), 1)
            self.bigram_weights = nn.Embedding(len(bigrams) + 1, 1)  # the last one is never used
            self.register_buffer("bigram_codes", torch.tensor([*bigrams, len(vocabulary) ** 2]), persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.embedding.weight, std=0.3)
        if self.ngram_buckets:
            nn.init.normal_(self.ngrams.weight, std=0.3)
            nn.init.zeros_(self.ngrams.weight.data[0])
        for layer in self.layers:
            for name, parameter in layer.named_parameters():
                if "bias" in name:
                    nn.init.zeros_(parameter)
                if "bias_ih" in name:  # the forget gate's share starts at 1: texts are remembered to their end
                    nn.init.ones_(parameter.data.chunk(4)[1])
        if self.linear:
            nn.init.zeros_(self.word_weights.weight)
            nn.init.zeros_(self.bigram_weights.weight)

    def start_from(self, vectors: np.ndarray) -> None:
        """Has the embeddings start from standardised word vectors (V, E)."""
        self.embedding.weight.data.copy_(START_STD * torch.from_numpy(vectors))

    def forward(self, words: Tensor, ngrams: Tensor, lengths: Tensor, presence: Tensor | None = None) -> Tensor:
        """Logits (B,) of texts of words (B, T) with character n-grams (B, T, P), of lengths (B) from 1 to T.

        presence (B, T), 1 by default, multiplies whatever each word adds; its gradient says how a word moves a logit.
        """
        return sum(self.read(self.embed(*self.drop_words(words, ngrams)), words, lengths, presence))

    def word_slopes(self, words: Tensor, ngrams: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B,) and their gradients (B, T) by the presence of each word.

        To first order a slope is by how much the logit would fall if the word were not there.
        """
        presence = torch.ones(words.shape, device=words.device, requires_grad=True)
        with torch.backends.cudnn.flags(enabled=False):  # cuDNN's LSTM has no gradients in evaluation mode
            logits = self(words, ngrams, lengths, presence)
            (slopes,) = torch.autograd.grad(logits.sum(), presence)
        return logits.detach(), slopes

    def drop_words(self, words: Tensor, ngrams: Tensor) -> tuple[Tensor, Tensor]:
        """Some words (B, T) replaced by the unknown one, without character n-grams (B, T, P), while training."""
        if not (self.training and self.word_dropout):
            return words, ngrams
        gone = torch.rand(words.shape, device=words.device) < self.word_dropout
        return words.masked_fill(gone, UNKNOWN), ngrams.masked_fill(gone.unsqueeze(2), 0)

    def embed(self, words: Tensor, ngrams: Tensor) -> Tensor:
        """Embeddings (B, T, E) of words (B, T) with character n-grams (B, T, P)."""
        embedded = self.embedding(words)
        if self.ngram_buckets:
            embedded = embedded + self.ngrams(ngrams.flatten(0, 1)).view_as(embedded)
        if self.normalize:
            embedded = layer_norm(embedded, embedded.shape[-1:])
        mask = embedded.new_ones(len(embedded), 1, embedded.shape[2])
        return embedded * dropout(mask, self.embedding_dropout, self.training)

    def read(self, embedded: Tensor, words: Tensor, lengths: Tensor, presence: Tensor | None = None) -> list[Tensor]:
        """The parts of the logits of texts with the embeddings (B, T, E): that of the LSTMs (B,), then the linear one.

        Apart from `embed`, so that embeddings can be perturbed.
        """
        h = embedded if presence is None else embedded * presence.unsqueeze(2)
        for number, layer in enumerate(self.layers):
            if number:
                h = dropout(h, self.dropout, self.training)
            h = run_lstm(layer, h, lengths)  # (B, T, H)
        pooled = dropout(self.pool(h, lengths), self.dropout, self.training)
        parts = [self.head(pooled).squeeze(1)]
        return [*parts, self.linear_logit(words, lengths, presence)] if self.linear else parts

    def pool(self, h: Tensor, lengths: Tensor) -> Tensor:
        """Hidden states (B, T, H) of each text's own words to (B, H), or (B, 2 H) for "max_mean"."""
        if self.pooling == "last":
            last = h[torch.arange(len(h), device=h.device), lengths - 1]
            if not self.layers[-1].bidirectional:
                return last
            half = h.shape[2] // 2
            return torch.cat([last[:, :half], h[:, 0, half:]], 1)
        own = is_step(h, lengths).unsqueeze(2)  # (B, T, 1)
        pooled = []
        if "max" in self.pooling:
            pooled.append(h.masked_fill(~own, -torch.inf).amax(1))
        if "mean" in self.pooling:
            pooled.append((h * own).sum(1) / lengths.unsqueeze(1))
        return torch.cat(pooled, 1)

    def linear_logit(self, words: Tensor, lengths: Tensor, presence: Tensor | None = None) -> Tensor:
        """The linear model's part of the logits (B,): the weights of a text's words and of its known bigrams."""
        own = is_step(words, lengths).float()  # (B, T)
        if presence is not None:
            own = own * presence
        codes = words[:, :-1] * len(self.vocabulary) + words[:, 1:]  # (B, T - 1)
        places = torch.searchsorted(self.bigram_codes, codes)
        known = self.bigram_codes[places] == codes
        both = torch.cat([own, own[:, :-1] * own[:, 1:] * known], 1)  # (B, 2 T - 1)
        weights = torch.cat([self.word_weights(words), self.bigram_weights(places)], 1).squeeze(2)
        total = (weights * dropout(both, self.linear_dropout, self.training)).sum(1)
        return total * self.linear_scale / lengths.sqrt() if self.linear_scale else total


def training_error(
    parts: Sequence[Tensor], labels: Tensor, error: Callable[[Tensor, Tensor], Tensor], part_loss: float
) -> Tensor:
    """Error of the sum of the parts (B,), plus `part_loss` times that of each one alone, multiplied by their number."""
    alone = sum(error(len(parts) * part, labels) for part in parts) if len(parts) > 1 else 0.0
    return error(sum(parts), labels) + part_loss * alone


def run_lstm(layer: nn.LSTM, x: Tensor, lengths: Tensor) -> Tensor:
    """Hidden states (B, T, H) of sequences x (B, T, I), zero from each one's end on; padding is not read.

    Sequences of one length need no packing, which batches of similar length mostly are: it is the faster way.
    """
    if bool((lengths == x.shape[1]).all()):
        return layer(x)[0]
    packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(layer(packed)[0], batch_first=True, total_length=x.shape[1])[0]
