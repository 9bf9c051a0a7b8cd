"""How much the votes say about each annotator, after what is not known about the pairs is taken off."""

from __future__ import annotations

import numpy as np

from curation.annotators.classify import Classifier
from curation.annotators.confusion import Grid, gradient_and_information, score_table
from curation.annotators.em import Array
from curation.annotators.votes import NUM_CELLS

_UPPER = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))


def observed_information(parameters: Array, classifier: Classifier, counts: Array, grid: Grid) -> tuple[Array, Array]:
    """Observed and complete-data information of each annotator's (theta, beta, tau), all else held fixed.

    The observed one is the complete-data information less the variance of the score over the pair's unknown class
    (T. A. Louis, Journal of the Royal Statistical Society B 44, 1982). An annotator who alone voted on each of their
    pairs has none: nothing can be said of them, and the complete-data information would say otherwise.

    Args:
        parameters: shape (A, 3).
        classifier: of all pairs under these parameters.
        counts: expected votes of each cell and class, shape (9 A, K).
        grid: latent classes.

    Returns:
        Each of shape (A, 3, 3).
    """
    _, complete = gradient_and_information(parameters, counts, grid)
    scores = score_table(parameters, grid)
    known = classifier.squared_scores(scores)
    observed = complete.copy()
    for i, j in _UPPER:
        squares = np.einsum("ck,ck,ck->c", counts, scores[:, i], scores[:, j])
        variance = squares.reshape(len(parameters), NUM_CELLS).sum(axis=1) - known[:, i, j]
        observed[:, i, j] -= variance
        if i != j:
            observed[:, j, i] -= variance
    return observed, complete
