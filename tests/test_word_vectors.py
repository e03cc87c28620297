"""Neighbours, mutual information and singular vectors by hand and against dense algebra."""

import numpy as np
import pytest
from scipy import sparse

from lstm_studies.models.word_vectors import (
    cooccurrence_vectors,
    count_neighbours,
    largest_singular,
    mutual_information,
)


def test_neighbours_by_hand():
    counts = count_neighbours([[0, 1, 2], [2], [1, 1]], 4, window=2).toarray()
    expected = np.zeros((4, 4))
    expected[0, 1] = expected[1, 0] = expected[1, 2] = expected[2, 1] = 1
    expected[0, 2] = expected[2, 0] = 0.5
    expected[1, 1] = 2  # each is the other's neighbour
    np.testing.assert_allclose(counts, expected)
    assert count_neighbours([[0], [1]], 2, window=3).nnz == 0  # neighbours are of one text
    assert count_neighbours([], 2, window=3).nnz == 0


def test_mutual_information_by_hand():
    counts = sparse.csr_array(np.array([[0.0, 4.0], [4.0, 8.0]]))
    total, context = np.array([4.0, 12.0]), np.array([4.0, 12.0]) ** 0.75
    expected = [[0, np.log(4 * context.sum() / (4 * context[1]))], [np.log(4 * context.sum() / (12 * context[0])), 0]]
    expected[1][0] = max(0, expected[1][0])
    expected[1][1] = max(0, np.log(8 * context.sum() / (total[1] * context[1])))
    np.testing.assert_allclose(mutual_information(counts).toarray(), expected)


def test_singular_vectors_are_those_of_dense_algebra():
    rng = np.random.default_rng(0)
    dense = rng.standard_normal((40, 40)) * (rng.random((40, 40)) < 0.3)
    u, s = largest_singular(sparse.csr_array(dense), 4, rounds=30)
    full_u, full_s, _ = np.linalg.svd(dense)
    np.testing.assert_allclose(s, full_s[:4], rtol=1e-3)
    np.testing.assert_allclose(np.abs((u * full_u[:, :4]).sum(0)), 1, atol=1e-2)


def test_words_with_the_same_neighbours_get_similar_vectors():
    rng = np.random.default_rng(0)
    texts = [[int(rng.integers(0, 2)), int(rng.integers(2, 4)), 4] for _ in range(200)]  # 0 ~ 1 and 2 ~ 3
    vectors = cooccurrence_vectors(texts, 6, 3)
    assert vectors.shape == (6, 3) and vectors.dtype == np.float32 and vectors.std() == pytest.approx(1)
    distance = np.linalg.norm(vectors[:, None] - vectors[None], axis=2)
    assert distance[0, 1] < 0.3 * distance[0, 2] and distance[2, 3] < 0.3 * distance[1, 3]
    assert not vectors[5].any()  # never seen
    assert np.array_equal(vectors, cooccurrence_vectors(texts, 6, 3))


def test_few_words_and_no_texts():
    assert cooccurrence_vectors([[0, 1]], 2, 5).shape == (2, 5)
    assert not cooccurrence_vectors([[0], [1]], 2, 5).any() and not cooccurrence_vectors([], 2, 5).any()
