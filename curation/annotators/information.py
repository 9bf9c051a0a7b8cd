"""How much the votes say about each annotator, after what is not known about the pairs is taken off."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from curation.annotators.confusion import Grid, gradient_and_information, score_table
from curation.annotators.em import Array, Block, VoteMatrix
from curation.annotators.votes import NUM_CELLS

_UPPER = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))


def observed_information(
    parameters: Array, matrix: VoteMatrix, classify: Callable[[Block], Array], counts: Array, grid: Grid
) -> tuple[Array, Array]:
    """Observed and complete-data information of each annotator's (theta, beta, tau), all else held fixed.

    The observed one is the complete-data information less the variance of the score over the pair's unknown class
    (T. A. Louis, Journal of the Royal Statistical Society B 44, 1982). An annotator who alone voted on each of their
    pairs has none: nothing can be said of them, and the complete-data information would say otherwise.

    Args:
        parameters: shape (A, 3).
        matrix: the votes.
        classify: posterior of a block's pairs, shape (pairs, K).
        counts: expected votes of each cell and class, shape (9 A, K).
        grid: latent classes.

    Returns:
        Each of shape (A, 3, 3).
    """
    num_annotators = len(parameters)
    _, complete = gradient_and_information(parameters, counts, grid)
    scores = [np.ascontiguousarray(table) for table in np.moveaxis(score_table(parameters, grid), 1, 0)]

    def squared_means(block: Block) -> Array:
        """Sums over votes of products of the score's mean over classes, shape (6, A)."""
        row = np.repeat(np.arange(block.matrix.shape[0]), np.diff(block.matrix.indptr))
        believed, cell = classify(block)[row], block.matrix.indices
        means = [np.einsum("nk,nk->n", believed, table[cell]) for table in scores]
        annotator, weight = cell // NUM_CELLS, block.matrix.data
        return np.stack([np.bincount(annotator, weight * means[i] * means[j], num_annotators) for i, j in _UPPER])

    known = sum(matrix.map(squared_means), np.zeros((len(_UPPER), num_annotators)))
    observed = complete.copy()
    for (i, j), part in zip(_UPPER, known, strict=True):
        squares = np.einsum("ck,ck,ck->c", counts, scores[i], scores[j])
        variance = squares.reshape(num_annotators, NUM_CELLS).sum(axis=1) - part
        observed[:, i, j] -= variance
        if i != j:
            observed[:, j, i] -= variance
    return observed, complete
