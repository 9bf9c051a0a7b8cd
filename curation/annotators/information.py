"""How much the votes say about each annotator, after what is not known about the pairs is taken off."""

from __future__ import annotations

from curation.annotators.classify import Classifier
from curation.annotators.confusion import Grid, gradient_and_information, squared_scores, symmetric
from curation.annotators.em import Array


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
    squares = squared_scores(classifier.table, counts, grid)
    return complete - squares + symmetric(classifier.squared_scores()), complete
