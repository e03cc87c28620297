"""The classifier of texts: padding and batches, pooling by hand, the linear model by hand, dropout, rebuilding."""

import pytest
import torch
from torch import nn

from lstm_studies.models.lengths import is_step
from lstm_studies.models.text_lstm import POOLINGS, UNKNOWN, TextLSTM, run_lstm
from lstm_studies.training import checkpoint

VOCABULARY = [f"word{i}" for i in range(30)]
EVERYTHING = {
    "sizes": (6, 4),
    "dropout": 0.5,
    "embedding_dropout": 0.3,
    "word_dropout": 0.2,
    "bigrams": range(0, 900, 2),
    "linear_dropout": 0.5,
    "ngram_buckets": 50,
}


def make(seed=0, **arguments):
    torch.manual_seed(seed)
    model = TextLSTM(VOCABULARY, **{"embedding_size": 5, "sizes": [4], **arguments})
    with torch.no_grad():
        for parameter in model.parameters():  # also what starts at zero
            parameter.normal_(std=0.5)
    return model


def texts(lengths, seed=1):
    """Words (B, T), ngrams (B, T, 3) and lengths (B)."""
    generator, shape = torch.Generator().manual_seed(seed), (len(lengths), max(lengths))
    words, ngrams = (torch.randint(0, 30, (*shape, *more), generator=generator) for more in ((), (3,)))
    return words, ngrams, torch.tensor(lengths)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("normalize", [False, True])
def test_padding_and_batch_do_not_change_a_prediction(bidirectional, pooling, normalize):
    model = make(bidirectional=bidirectional, pooling=pooling, normalize=normalize, **EVERYTHING).eval()
    words, ngrams, lengths = texts([3, 7, 1, 5, 7])
    together = model(words, ngrams, lengths)
    assert together.shape == (5,) and together.std() > 0.01
    longer = (torch.cat([x, torch.randint(0, 30, (5, 9, *x.shape[2:]))], 1) for x in (words, ngrams))
    torch.testing.assert_close(model(*longer, lengths), together)
    alone = [model(words[i : i + 1, :n], ngrams[i : i + 1, :n], lengths[i : i + 1]) for i, n in enumerate(lengths)]
    torch.testing.assert_close(torch.cat(alone), together)
    order = torch.tensor([4, 2, 0, 3, 1])
    torch.testing.assert_close(model(words[order], ngrams[order], lengths[order]), together[order])


def test_padding_gets_no_gradient():
    model = make(bidirectional=True, pooling="max_mean", **EVERYTHING).eval()
    words, ngrams, lengths = texts([3, 7, 1])
    presence = torch.ones(3, 7, requires_grad=True)
    model(words, ngrams, lengths, presence).sum().backward()
    assert ((presence.grad != 0) == is_step(presence, lengths)).all()


def test_word_slopes_are_the_change_of_the_logit_when_a_word_fades():
    model = make(pooling="mean", bigrams=range(0, 900, 2)).double().eval()
    words, ngrams, lengths = texts([4, 6])
    logits, slopes = model.word_slopes(words, ngrams, lengths)
    torch.testing.assert_close(logits, model(words, ngrams, lengths))
    less = torch.ones(2, 6, dtype=torch.float64)
    less[1, 2] -= 1e-6
    change = (logits - model(words, ngrams, lengths, less))[1] / 1e-6
    torch.testing.assert_close(slopes[1, 2].double(), change, rtol=1e-4, atol=1e-6)


def test_pooling_by_hand():
    h = torch.tensor([[[1.0, -5.0], [3.0, -7.0], [9.0, 9.0]]])  # the third step is padding
    lengths = torch.tensor([2])
    expected = {"last": [3, -7], "mean": [2, -6], "max": [3, -5], "max_mean": [3, -5, 2, -6]}
    for pooling, values in expected.items():
        assert make(sizes=[2], pooling=pooling).pool(h, lengths).tolist() == [values]
    # two directions: the reverse one ends at the first word
    assert make(sizes=[1], bidirectional=True).pool(h, lengths).tolist() == [[3, -5]]


def test_linear_model_by_hand():
    model = make(bigrams=[65, 5 * 30 + 2, 899]).eval()  # (2, 5), (5, 2) and (29, 29)
    words, ngrams, lengths = torch.tensor([[2, 5, 2, 9]]), torch.zeros(1, 4, 0), torch.tensor([3])
    single, double = model.word_weights.weight[:, 0], model.bigram_weights.weight[:, 0]
    expected = 2 * single[2] + single[5] + double[0] + double[1]
    assert model.linear_logit(words, lengths).item() == pytest.approx(expected.item(), abs=1e-6)
    unknown = torch.tensor([[29, 28, 29, 29]])
    expected_unknown = 3 * single[29] + single[28] + double[2]
    assert model.linear_logit(unknown, torch.tensor([4])).item() == pytest.approx(expected_unknown.item(), abs=1e-6)
    scaled = make(bigrams=[65, 5 * 30 + 2, 899], linear_scale=20.0).eval()
    assert scaled.linear_logit(words, lengths).item() == pytest.approx(20 / 3**0.5 * expected.item(), rel=1e-5)
    rest = make().eval()
    rest.load_state_dict({name: value for name, value in model.state_dict().items() if "weights" not in name})
    together = rest(words, ngrams, lengths) + expected
    assert model(words, ngrams, lengths).item() == pytest.approx(together.item(), abs=1e-5)


def test_packed_and_equal_lengths_agree():
    torch.manual_seed(0)
    layer, x = nn.LSTM(3, 4, batch_first=True, bidirectional=True), torch.randn(3, 5, 3)
    whole = run_lstm(layer, x, torch.tensor([5, 5, 5]))
    mixed = run_lstm(layer, x, torch.tensor([5, 2, 5]))
    torch.testing.assert_close(whole[::2], mixed[::2])
    torch.testing.assert_close(mixed[1:2, :2], layer(x[1:2, :2])[0])
    assert (mixed[1, 2:] == 0).all()


def test_normalised_embeddings_cannot_grow():
    model = make(normalize=True, embedding_size=50, ngram_buckets=40).eval()
    words = torch.arange(30).unsqueeze(0), torch.ones(1, 30, 2, dtype=torch.int32)
    v = model.embed(*words)[0]  # (V, E)
    torch.testing.assert_close(v.mean(1), torch.zeros(30), atol=1e-6, rtol=0)
    torch.testing.assert_close(v.square().mean(1), torch.ones(30), atol=1e-3, rtol=0)
    with torch.no_grad():
        for layer in (model.embedding, model.ngrams):
            layer.weight.mul_(100)
    torch.testing.assert_close(model.embed(*words)[0], v, atol=1e-3, rtol=1e-3)


def test_embeddings_with_pieces_by_hand():
    torch.manual_seed(0)
    model = TextLSTM(["<unknown>", "up"], 4, [3], ngram_buckets=10).eval()
    own, ngrams = model.embedding.weight, model.ngrams.weight
    assert torch.equal(ngrams[0], torch.zeros(4))
    found = model.embed(torch.tensor([[1, 0]]), torch.tensor([[[7, 3, 0], [0, 0, 0]]]))
    torch.testing.assert_close(found, torch.stack([own[1] + (ngrams[7] + ngrams[3]) / 2, own[0]]).unsqueeze(0))
    plain = TextLSTM(["<unknown>", "up"], 4, [3]).eval()
    assert torch.equal(plain.embed(torch.tensor([[1]]), torch.zeros(1, 1, 0)), plain.embedding.weight[1].view(1, 1, 4))


def test_dropout_is_for_training_only():
    model = make(pooling="max", **EVERYTHING)
    batch = texts([6, 6])
    assert not torch.equal(model(*batch), model(*batch))
    model.eval()
    assert torch.equal(model(*batch), model(*batch))
    assert all(map(torch.equal, model.drop_words(*batch[:2]), batch[:2]))


def test_word_dropout_reads_words_as_unknown():
    model = make(word_dropout=0.5)
    words = torch.full((100, 100), 7)
    dropped, ngrams = model.drop_words(words, torch.full((100, 100, 2), 3))
    assert ((ngrams == 0).all(2) == (dropped == UNKNOWN)).all() and ((ngrams == 3).all(2) == (dropped == 7)).all()
    assert set(dropped.unique().tolist()) == {UNKNOWN, 7} and 0.45 < (dropped == UNKNOWN).float().mean() < 0.55


def test_embedding_dropout_takes_whole_dimensions_of_a_text():
    model = make(embedding_dropout=0.5, embedding_size=200)
    embedded = model.embed(*texts([6] * 4)[:2])
    gone = embedded == 0
    assert (gone.all(1) == gone.any(1)).all() and 0.4 < gone.float().mean() < 0.6


def test_every_weight_learns():
    model = make(bidirectional=True, pooling="max_mean", normalize=True, **EVERYTHING)
    model(*texts([5, 6, 2, 6])).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


def test_a_checkpoint_rebuilds_the_model_and_its_vocabulary(tmp_path):
    model = make(bidirectional=True, pooling="max_mean", normalize=True, classes=("no", "yes"), **EVERYTHING).eval()
    checkpoint.save(tmp_path / "best.pt", {"model": checkpoint.describe(model)})
    again = checkpoint.rebuild(tmp_path / "best.pt", TextLSTM)
    batch = texts([3, 7])
    assert torch.equal(again(*batch), model(*batch))
    assert again.vocabulary == VOCABULARY and again.classes == ["no", "yes"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"pooling": "median"}, "median"),
        ({"sizes": []}, "found 30 and 0"),
        ({"vocabulary": []}, "found 0 and 2"),
        ({"ngram_buckets": 1}, "at least 2"),
    ],
)
def test_bad_arguments(arguments, expected):
    with pytest.raises(ValueError, match=expected):
        TextLSTM(**{"vocabulary": VOCABULARY, **arguments})
