"""How much the votes say about each annotator, after what is not known about the pairs is taken off."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from curation.annotators.confusion import Grid, gradient_and_information, score_table
from curation.annotators.em import Array
from curation.annotators.votes import NUM_CELLS

_CHUNK = 500_000


def observed_information(
    parameters: Array, matrix: sparse.csr_array, posterior: Array, counts: Array, grid: Grid
) -> Array:
    """Observed information of each annotator's (theta, beta, tau), the others held fixed; shape (A, 3, 3).

    Complete-data information less the variance of the score over the pair's unknown class (T. A. Louis, Journal of
    the Royal Statistical Society B 44, 1982). An annotator who alone voted on each of their pairs has none: nothing
    can be said of them, and the complete-data information would say otherwise.
    """
    num_annotators = len(parameters)
    _, complete = gradient_and_information(parameters, counts, grid)
    scores = score_table(parameters, grid)
    row = np.repeat(np.arange(matrix.shape[0], dtype=np.int32), np.diff(matrix.indptr))
    second = np.einsum("ck,cik,cjk->cij", counts, scores, scores, optimize=True)
    variance = second.reshape(num_annotators, NUM_CELLS, 3, 3).sum(axis=1)
    for start in range(0, matrix.nnz, _CHUNK):
        part = slice(start, start + _CHUNK)
        cell = matrix.indices[part]
        mean = np.einsum("nk,nik->ni", posterior[row[part]], scores[cell])
        annotator = cell // NUM_CELLS
        weight = matrix.data[part]
        for i in range(3):
            for j in range(i, 3):
                product = np.bincount(annotator, weight * mean[:, i] * mean[:, j], minlength=num_annotators)
                variance[:, i, j] -= product
                if i != j:
                    variance[:, j, i] -= product
    return complete - variance
