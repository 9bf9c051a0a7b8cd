"""One E-step of the annotator model: expected counts, and what the fit of the class prior and the rewards needs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from curation.annotators import kernels
from curation.annotators.classes import Moments
from curation.annotators.confusion import ORDER_SIGN, Grid, vote_probabilities
from curation.annotators.em import Array, Ballots
from curation.annotators.ranking import DenseGraph, tilted
from curation.annotators.votes import NUM_CELLS

_MANY_PAIRS, _MANY_STEP = 100_000, 8
"""The curvature of the class prior, which only a Newton step's length rests on, is taken from every eighth of many."""


@dataclass(frozen=True)
class Expectation:
    """What the posteriors of all pairs add up to.

    Attributes:
        counts: expected votes of each cell and class, shape (9 A, K).
        classes: expected pairs of each class, shape (K,).
        free: moments of the pairs without rewards.
        in_graph: posterior of the pairs with rewards, shape (E, K).
        log_likelihood: of all votes, nats.
    """

    counts: Array
    classes: Array
    free: Moments
    in_graph: Array
    log_likelihood: float


class Classifier:
    """Posterior of the class of every pair, parameters held fixed."""

    def __init__(
        self, ballots: Ballots, parameters: Array, class_prior: Array, graph: DenseGraph, reward: Array, grid: Grid
    ) -> None:
        self.ballots, self.grid, self.graph = ballots, grid, graph
        self.table = vote_probabilities(parameters, grid).reshape(-1, grid.size)
        own_prior = np.exp(tilted(np.log(class_prior)[None, :], graph.difference(reward), grid))
        self._pairs = (ballots.starts, ballots.cell, ballots.weight, self.table, class_prior, graph.pair, own_prior)

    def expect(self) -> Expectation:
        """Posteriors of all pairs, added up."""
        size, half = self.grid.size, self.grid.size // 2
        step = 1 if self.ballots.num_pairs < _MANY_PAIRS else _MANY_STEP
        in_graph = np.empty((len(self.graph.pair), size))

        def work(first: int, last: int) -> tuple[Array, Array, Array, Array, float]:
            counts, classes = np.zeros(self.table.shape), np.zeros(size)
            mean, square = np.zeros(half), np.zeros((half, half))
            evidence = kernels.expect(
                first, last, *self._pairs, self.grid.mirror, step, counts, classes, mean, square, in_graph
            )
            return counts, classes, mean, square, evidence

        totals: list[Array] = []
        log_likelihood = 0.0
        for *parts, evidence in self.ballots.map(work):
            # the first chunk's arrays take the sums of the others, for a table may be large
            for total, part in zip(totals, parts, strict=True) if totals else ():
                total += part
            totals = totals or parts
            log_likelihood += evidence
        counts, classes, mean, square = totals
        return Expectation(counts, classes, Moments.of_folded(mean, square), in_graph, log_likelihood)

    def summarise(self, weights: Array) -> Array:
        """Posterior of every pair times ``weights`` of shape (K, M); shape (P, M)."""
        result = np.empty((self.ballots.num_pairs, weights.shape[1]))
        list(self.ballots.map(lambda first, last: kernels.summarise(first, last, *self._pairs, weights, result)))
        return result

    def squared_scores(self) -> Array:
        """Sums over votes of products of the score's mean over classes, shape (A, 3, 3), the upper half of each."""
        shape = (len(self.table) // NUM_CELLS, 3, 3)

        def work(first: int, last: int) -> Array:
            part = np.zeros(shape)
            kernels.square_scores(first, last, *self._pairs, self.grid.strength, ORDER_SIGN, part)
            return part

        return sum(self.ballots.map(work), np.zeros(shape))
