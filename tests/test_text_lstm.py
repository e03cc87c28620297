"""The classifier of texts: padding and batches, pooling by hand, the linear model by hand, dropout, rebuilding."""

import zlib

import pytest
import torch
from torch import nn

import checkpoint
from text_lstm import POOLINGS, TextLSTM, WordVectors, own_words, piece_places, run_lstm

VOCABULARY = [f"word{i}" for i in range(30)]
EVERYTHING = {"sizes": (6, 4), "dropout": 0.5, "embedding_dropout": 0.3, "word_dropout": 0.2, "pair_buckets": 97,
              "pair_dropout": 0.5, "piece_buckets": 50}  # fmt: skip


def make(seed=0, **arguments):
    torch.manual_seed(seed)
    model = TextLSTM(VOCABULARY, **{"embedding_size": 5, "sizes": [4], **arguments})
    with torch.no_grad():
        for parameter in model.parameters():  # also what starts at zero
            parameter.normal_(std=0.5)
    return model


def texts(lengths, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 30, (len(lengths), max(lengths)), generator=generator), torch.tensor(lengths)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("normalize", [False, True])
def test_padding_and_batch_do_not_change_a_prediction(bidirectional, pooling, normalize):
    model = make(bidirectional=bidirectional, pooling=pooling, normalize=normalize, **EVERYTHING).eval()
    words, lengths = texts([3, 7, 1, 5, 7])
    together = model(words, lengths)
    assert together.shape == (5,) and together.std() > 0.01
    longer = torch.cat([words, torch.randint(0, 30, (5, 9))], 1)
    torch.testing.assert_close(model(longer, lengths), together)
    one_by_one = [model(words[i : i + 1, :n], lengths[i : i + 1]) for i, n in enumerate(lengths)]
    torch.testing.assert_close(torch.cat(one_by_one), together)
    order = torch.tensor([4, 2, 0, 3, 1])
    torch.testing.assert_close(model(words[order], lengths[order]), together[order])


def test_padding_gets_no_gradient():
    model = make(bidirectional=True, pooling="max_mean", **EVERYTHING).eval()
    words, lengths = texts([3, 7, 1])
    presence = torch.ones(3, 7, requires_grad=True)
    model(words, lengths, presence).sum().backward()
    assert ((presence.grad != 0) == own_words(lengths, 7)).all()


def test_presence_of_one_changes_nothing_and_its_gradient_is_that_of_the_logit():
    model = make(pooling="mean", pair_buckets=97).double().eval()
    words, lengths = texts([4, 6])
    presence = torch.ones(2, 6, dtype=torch.float64, requires_grad=True)
    logits = model(words, lengths, presence)
    torch.testing.assert_close(logits, model(words, lengths))
    (gradient,) = torch.autograd.grad(logits.sum(), presence)
    less = presence.detach().clone()
    less[1, 2] -= 1e-6
    change = (logits - model(words, lengths, less))[1] / 1e-6
    torch.testing.assert_close(gradient[1, 2], change, rtol=1e-4, atol=1e-6)


def test_pooling_by_hand():
    h = torch.tensor([[[1.0, -5.0], [3.0, -7.0], [9.0, 9.0]]])  # the third step is padding
    lengths = torch.tensor([2])
    expected = {"last": [3, -7], "mean": [2, -6], "max": [3, -5], "max_mean": [3, -5, 2, -6]}
    for pooling, values in expected.items():
        assert make(sizes=[2], pooling=pooling).pool(h, lengths).tolist() == [values]
    # two directions: the reverse one ends at the first word
    assert make(sizes=[1], bidirectional=True).pool(h, lengths).tolist() == [[3, -5]]


def test_linear_model_by_hand():
    model = make(pair_buckets=1000).eval()
    words, lengths = torch.tensor([[2, 5, 2, 9]]), torch.tensor([3])
    single, double = model.word_weights.weight[:, 0], model.pair_weights.weight[:, 0]
    pairs = [(a * 1_000_003 + b) % 1000 for a, b in ((2, 5), (5, 2))]
    expected = 2 * single[2] + single[5] + double[pairs[0]] + double[pairs[1]]
    assert model.count(words, lengths).item() == pytest.approx(expected.item(), abs=1e-6)
    rest = make(pair_buckets=0).eval()
    rest.load_state_dict({name: value for name, value in model.state_dict().items() if "weights" not in name})
    assert model(words, lengths).item() == pytest.approx((rest(words, lengths) + expected).item(), abs=1e-5)


def test_packed_and_equal_lengths_agree():
    torch.manual_seed(0)
    layer, x = nn.LSTM(3, 4, batch_first=True, bidirectional=True), torch.randn(3, 5, 3)
    whole = run_lstm(layer, x, torch.tensor([5, 5, 5]))
    mixed = run_lstm(layer, x, torch.tensor([5, 2, 5]))
    torch.testing.assert_close(whole[::2], mixed[::2])
    torch.testing.assert_close(mixed[1:2, :2], layer(x[1:2, :2])[0])
    assert (mixed[1, 2:] == 0).all()


def test_normalised_embeddings_cannot_grow():
    model = make(normalize=True, embedding_size=50, piece_buckets=40).eval()
    words = torch.arange(30).unsqueeze(0)
    v = model.embed(words)[0]  # (V, E)
    torch.testing.assert_close(v.mean(1), torch.zeros(30), atol=1e-6, rtol=0)
    torch.testing.assert_close(v.square().mean(1), torch.ones(30), atol=1e-3, rtol=0)
    with torch.no_grad():
        for parameter in model.embedding.parameters():
            parameter.mul_(100)
    torch.testing.assert_close(model.embed(words)[0], v, atol=1e-3, rtol=1e-3)


def test_pieces_by_hand():
    def places(*pieces):
        return sorted(1 + zlib.crc32(piece.encode()) % 999 for piece in pieces)

    table = piece_places(["<unknown>", "<", "up", "btfd"], 1000)
    assert table.shape == (4, 9) and table[0].tolist() == [0] * 9
    assert table[1].tolist() == places("^<$") + [0] * 8
    assert table[2].tolist() == places("^up", "up$", "^up$") + [0] * 6
    assert table[3].tolist() == places("^bt", "btf", "tfd", "fd$", "^btf", "btfd", "tfd$", "^btfd", "btfd$")
    assert piece_places(["x" * 10_000], 1000).shape[1] <= 9  # equal pieces count once


def test_word_vectors_by_hand():
    torch.manual_seed(0)
    layer = WordVectors(["<unknown>", "up", "ups"], 4, 1000)
    assert torch.equal(layer.pieces.weight[0], torch.zeros(4))
    own, pieces = layer.words.weight, layer.pieces.weight
    up = own[1] + pieces[layer.places[1][layer.places[1] > 0]].mean(0)
    found = layer(torch.tensor([[1, 0, 1], [0, 0, 1]]))
    torch.testing.assert_close(found, torch.stack([up, own[0], up, own[0], own[0], up]).view(2, 3, 4))
    plain = WordVectors(["<unknown>", "up", "ups"], 4)
    assert torch.equal(plain(torch.tensor([[1, 2]])), plain.words.weight[None, 1:])


def test_dropout_is_for_training_only():
    model = make(pooling="max", **EVERYTHING)
    words, lengths = texts([6, 6])
    assert not torch.equal(model(words, lengths), model(words, lengths))
    model.eval()
    assert torch.equal(model(words, lengths), model(words, lengths))
    assert torch.equal(model.drop_words(words), words)


def test_word_dropout_reads_words_as_unknown():
    model = make(word_dropout=0.5)
    words = torch.full((100, 100), 7)
    dropped = model.drop_words(words)
    assert set(dropped.unique().tolist()) == {0, 7} and 0.45 < (dropped == 0).float().mean() < 0.55


def test_embedding_dropout_takes_whole_dimensions_of_a_text():
    model = make(embedding_dropout=0.5, embedding_size=200)
    embedded = model.embed(torch.randint(0, 30, (4, 6)))
    gone = embedded == 0
    assert (gone.all(1) == gone.any(1)).all() and 0.4 < gone.float().mean() < 0.6


def test_every_weight_learns():
    model = make(bidirectional=True, pooling="max_mean", normalize=True, **EVERYTHING)
    model(*texts([5, 6, 2, 6])).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


def test_a_checkpoint_rebuilds_the_model_and_its_vocabulary(tmp_path):
    model = make(bidirectional=True, pooling="max_mean", normalize=True, classes=("no", "yes"),
                 **EVERYTHING).eval()  # fmt: skip
    checkpoint.save(tmp_path / "best.pt", {"model": checkpoint.describe(model)})
    again = checkpoint.rebuild(tmp_path / "best.pt", TextLSTM)
    words, lengths = texts([3, 7])
    assert torch.equal(again(words, lengths), model(words, lengths))
    assert again.vocabulary == VOCABULARY and again.classes == ["no", "yes"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [({"pooling": "median"}, "median"), ({"sizes": []}, "found 30 and 0"), ({"vocabulary": []}, "found 0 and 2")],
)
def test_bad_arguments(arguments, expected):
    with pytest.raises(ValueError, match=expected):
        TextLSTM(**{"vocabulary": VOCABULARY, **arguments})
