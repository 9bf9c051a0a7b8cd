"""One E-step of the annotator model: expected counts, and what the fit of the class prior and the rewards needs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from curation.annotators.classes import Moments
from curation.annotators.confusion import Grid, vote_probabilities
from curation.annotators.em import Array, Block, VoteMatrix, posterior_of
from curation.annotators.ranking import DenseGraph, tilted


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
    """Posterior of the class of any block of pairs, parameters held fixed."""

    def __init__(self, parameters: Array, class_prior: Array, graph: DenseGraph, reward: Array, grid: Grid) -> None:
        self.grid = grid
        self.log_confusion = np.log(vote_probabilities(parameters, grid)).reshape(-1, grid.size)
        self.log_prior = np.log(class_prior)
        self.graph = graph
        self.tilted = tilted(self.log_prior[None, :], graph.difference(reward), grid)

    def evidence(self, block: Block) -> tuple[Array, Array]:
        """Posterior, shape (pairs, K), and log-likelihood, shape (pairs,), of a block's pairs."""
        log_joint = block.matrix @ self.log_confusion
        of_graph, in_block = self.graph.within(block.pairs)
        log_joint += self.log_prior
        log_joint[in_block] += self.tilted[of_graph] - self.log_prior
        return posterior_of(log_joint)

    def posterior(self, block: Block) -> Array:
        """Posterior of a block's pairs, shape (pairs, K)."""
        return self.evidence(block)[0]

    def expect(self, matrix: VoteMatrix) -> Expectation:
        """Posteriors of all pairs, added up."""
        size = self.grid.size
        counts, classes = np.zeros((matrix.shape[1], size)), np.zeros(size)
        free, log_likelihood = Moments.zero(self.grid), 0.0
        in_graph = np.empty((len(self.graph.pair), size))

        def work(block: Block) -> tuple[Array, Array, Moments, float]:
            posterior, evidence = self.evidence(block)
            of_graph, in_block = self.graph.within(block.pairs)
            in_graph[of_graph] = posterior[in_block]
            without = np.delete(posterior, in_block, axis=0) if len(in_block) > 0 else posterior
            moments = Moments.of(without, None, self.grid)
            return block.counts(posterior), posterior.sum(axis=0), moments, float(evidence.sum())

        for block_counts, block_classes, moments, evidence in matrix.map(work):
            counts += block_counts
            classes += block_classes
            free = free.plus(moments)
            log_likelihood += evidence
        return Expectation(counts, classes, free, in_graph, log_likelihood)
