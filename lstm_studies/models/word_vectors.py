"""Vectors of words from the words they stand near: where a text classifier's embedding starts.

    M_ij = max(0, log(n_ij N / (n_i c_j)))     positive pointwise mutual information of word i and context j
    vectors = U sqrt(S) of the largest singular values of M        (Levy, Goldberg and Dagan 2015, alpha = .75, p = 1/2)

n_ij counts j within a window around i, a neighbour at distance d as 1 / d; c_j are the counts to the power of .75.

Letters in shapes: V words of the vocabulary, E values per word.
"""

from collections.abc import Sequence

import numpy as np
from scipy import sparse


def cooccurrence_vectors(texts: Sequence[Sequence[int]], words: int, size: int, window: int = 4) -> np.ndarray:
    """(V, E) float32 with standard deviation 1, for texts of word places below `words`; words without contexts get 0.

    With fewer words than values, the rest of the values is 0.
    """
    counts = count_neighbours(texts, words, window)
    vectors = np.zeros((words, size), np.float32)
    if counts.nnz:
        u, s = largest_singular(mutual_information(counts), min(size, words))
        vectors[:, : len(s)] = u * np.sqrt(s)
    spread = vectors.std()
    return vectors / spread if spread else vectors


def count_neighbours(texts: Sequence[Sequence[int]], words: int, window: int) -> sparse.csr_array:
    """(V, V) symmetric, the sum of 1 / distance over all pairs of words within the window."""
    flat = np.fromiter((place for text in texts for place in text), np.int64)
    text = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
    counts = sparse.csr_array((words, words))
    for distance in range(1, window + 1):
        same = text[:-distance] == text[distance:]
        pairs = flat[:-distance][same], flat[distance:][same]
        counts = counts + sparse.csr_array((np.full(same.sum(), 1 / distance), pairs), shape=(words, words))
    return (counts + counts.T).tocsr()


def mutual_information(counts: sparse.csr_array) -> sparse.csr_array:
    """The positive pointwise mutual information of counts (V, V), contexts smoothed by the power .75."""
    total = counts.sum(1)
    context = total**0.75
    cells = counts.tocoo()
    values = np.log(cells.data * context.sum() / (total[cells.coords[0]] * context[cells.coords[1]]))
    return sparse.csr_array((np.maximum(values, 0), cells.coords), shape=counts.shape)


def largest_singular(matrix: sparse.csr_array, count: int, rounds: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """The left vectors (V, E) and the largest singular values (E,), by randomised subspace iteration.

    (Halko, Martinsson and Tropp 2011, algorithm 4.4.) The same matrix gives the same vectors.
    """
    start = np.random.default_rng(0).standard_normal((matrix.shape[1], min(count + 10, matrix.shape[1])))
    basis = np.linalg.qr(matrix @ start)[0]
    transposed = matrix.T.tocsr()
    for _ in range(rounds):
        basis = np.linalg.qr(transposed @ basis)[0]
        basis = np.linalg.qr(matrix @ basis)[0]
    u, s, _ = np.linalg.svd((transposed @ basis).T, full_matrices=False)
    return (basis @ u)[:, :count], s[:count]
