"""Anomaly scores by hand, and planted anomalies where they should be."""

import pytest
import torch

from lstm_studies.evaluation.anomalies import (
    ANOMALIES,
    areas,
    auc_shares,
    chosen_pca,
    error_threshold,
    forest,
    plant,
    planted_scores,
    ranking,
    roc_auc,
    step_errors,
)


def test_step_errors_by_hand():
    x, y = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.5, 1.0]])
    assert step_errors(x, y).tolist() == [[0.25, 0]]
    assert step_errors(torch.tensor([[[0.0, 1.0], [2.0, 2.0]]]), torch.zeros(1, 2, 2)).tolist() == [[0.5, 4]]


def test_threshold_is_the_quantile():
    assert error_threshold(torch.arange(101.0), 0.95) == 95


def test_ranking_by_hand():
    errors = torch.tensor([[1.0, 3.0], [0.0, 0.0], [9.0, 1.0]])
    assert ranking(errors, 2.0, ["a", "b", "c"]) == [
        {"rank": 1, "sequence": "c", "error": 5.0, "anomalous": 1, "worst_step": 0, "worst_step_error": 9.0},
        {"rank": 2, "sequence": "a", "error": 2.0, "anomalous": 0, "worst_step": 1, "worst_step_error": 3.0},
        {"rank": 3, "sequence": "b", "error": 0.0, "anomalous": 0, "worst_step": 0, "worst_step_error": 0.0},
    ]


@pytest.mark.parametrize(
    "scores, positive, expected",
    [
        ([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1], 1),
        ([0.1, 0.2, 0.8, 0.9], [1, 1, 0, 0], 0),
        ([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1], 0.75),  # the example of scikit-learn's documentation of roc_auc_score
        ([1, 1, 1, 1], [0, 1, 0, 1], 0.5),
        ([1, 2, 2], [0, 0, 1], 0.75),  # a tie counts half
    ],
)
def test_roc_auc_by_hand(scores, positive, expected):
    assert roc_auc(torch.tensor(scores), torch.tensor(positive, dtype=torch.bool)) == expected


@pytest.mark.parametrize("positive", [[False, False], [True, True]])
def test_roc_auc_needs_both_kinds(positive):
    with pytest.raises(ValueError, match="some and not all"):
        roc_auc(torch.tensor([1.0, 2.0]), torch.tensor(positive))


@pytest.mark.parametrize("kind", ANOMALIES)
@pytest.mark.parametrize("steps", [7, 50])
def test_planted_anomalies_change_one_stretch_only(kind, steps):
    x = torch.rand(900, steps, generator=torch.Generator().manual_seed(0))
    changed, mask = plant(x, kind, torch.Generator().manual_seed(1))
    width = 1 if kind == "spike" else max(3, steps // 10)
    assert (mask.sum(1) == width).all()
    assert (mask.int().diff(dim=1).abs().sum(1) <= 2).all()  # one stretch
    assert torch.equal(changed[~mask], x[~mask])
    assert len(mask.int().argmax(1).unique()) == steps - width + 1  # any place
    old, new = (v[mask].view(900, width) for v in (x, changed))
    moved = ((new - old) / (x.amax(1) - x.amin(1)).unsqueeze(1)).abs()
    if kind in ("spike", "level"):
        torch.testing.assert_close(moved, torch.full_like(moved, 0.5 if kind == "spike" else 0.25))
    elif kind == "frozen":
        assert torch.equal(new, old[:, :1].expand_as(old))
    else:
        assert torch.equal(new, old.flip(1))


def test_planted_anomalies_need_a_known_kind():
    with pytest.raises(ValueError, match="spike, level, frozen, reversed"):
        plant(torch.rand(2, 9), "gap", torch.Generator())


@pytest.mark.parametrize("ties", [False, True])
def test_auc_shares_have_the_area_as_mean_and_the_variance_of_delong(ties):
    generator = torch.Generator().manual_seed(0)
    positive = torch.rand(60, generator=generator) < 0.3
    scores = torch.randn(60, generator=generator) + positive
    scores = scores.round() if ties else scores
    shares = auc_shares(scores, positive)
    assert shares.mean().item() == pytest.approx(roc_auc(scores, positive))
    higher, lower = scores[positive].unsqueeze(1), scores[~positive]
    wins = (higher > lower).double() + (higher == lower).double() / 2  # (positives, negatives)
    expected = sum(
        placements.var(correction=0) / len(placements) for placements in (wins.mean(1), wins.mean(0))
    )  # DeLong et al. 1988, with the divisor N instead of N - 1
    assert shares.var(correction=0).item() / 60 == pytest.approx(expected.item())


def planted_areas(score, x, seed) -> dict[str, float]:
    return areas(planted_scores(score, x, seed))


def test_planted_anomalies_of_a_perfect_score_and_of_chance():
    x = torch.sin(torch.linspace(0, 9, 50) + torch.rand(400, 1, generator=torch.Generator().manual_seed(0)) * 6)
    smooth = planted_areas(lambda x: x.diff(n=2, dim=1).square(), x, seed=0)
    assert smooth["auc_spike"] == smooth["auc_level"] == 1 and min(smooth.values()) > 0.9
    assert smooth["auc"] == pytest.approx(sum(smooth[f"auc_{kind}"] for kind in ANOMALIES) / len(ANOMALIES))
    noise = torch.rand(400, 50, generator=torch.Generator().manual_seed(1))
    assert all(abs(auc - 0.5) < 0.1 for auc in planted_areas(lambda x: noise, x, seed=0).values())
    assert planted_areas(lambda x: noise, x, seed=0) != planted_areas(lambda x: noise, x, seed=1)


def test_planting_prepares_every_sequence():
    x = torch.rand(20, 10, generator=torch.Generator().manual_seed(0))
    shapes = []
    planted_scores(
        lambda x: shapes.append(x.shape) or torch.rand(20, 10), x, 0, prepare=lambda x: x.unflatten(1, (5, 2))
    )
    assert shapes == [(20, 5, 2)] * len(ANOMALIES)


def test_opponents_on_sequences_of_three_components():
    """PCA takes enough components, since those left out find nothing; the forest finds what lies far away."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 3, generator=generator) @ torch.randn(3, 12, generator=generator)
    score, chosen = chosen_pca(x[:200], x[200:], seed=0, prepare=lambda x: x)
    assert chosen["components"] >= 3 and areas(planted_scores(score, x[200:], 1))["auc"] > 0.99
    isolated = forest(x[:200])(torch.cat([x[200:], 20 + x[200:]]))
    assert isolated.shape == (200, 1) and isolated[:100].max() < isolated[100:].min()
