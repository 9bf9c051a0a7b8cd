"""Dawid-Skene with a free confusion matrix for each annotator: the baseline that the graded model grew from.

A. P. Dawid and A. M. Skene, Maximum likelihood estimation of observer error-rates using the EM algorithm, Applied
Statistics 28 (1979). Without a prior it equals crowd-kit's ``DawidSkene``, which a test holds on real sets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from curation.annotators.em import Array, Block, VoteMatrix, posterior_of

_FLOOR = 1e-10  # crowd-kit's, so that a count of zero has a logarithm


@dataclass(frozen=True)
class DawidSkene:
    """A fitted model.

    Attributes:
        posterior: of each task's class, shape (tasks, K).
        prior: of the classes, shape (K,).
        confusion: P(vote | class) of each annotator, shape (annotators, K votes, K classes).
        log_likelihood: of all votes under the last confusion that was used, nats.
        num_iterations: rounds of EM.
    """

    posterior: Array
    prior: Array
    confusion: Array
    log_likelihood: float
    num_iterations: int


def dawid_skene(
    task: NDArray[np.integer],
    annotator: NDArray[np.integer],
    vote: NDArray[np.integer],
    *,
    num_classes: int,
    prior_votes: float = 0.0,
    max_iterations: int = 100,
    tolerance: float = 1e-5,
) -> DawidSkene:
    """Fit Dawid-Skene by EM, from the share of votes as first posterior.

    Args:
        task, annotator, vote: one entry a vote, shape (N,), codes from 0.
        num_classes: K; votes and classes have the same codes.
        prior_votes: strength of the hierarchical prior: every row of an annotator's confusion matrix gets this many
            votes that are distributed as all annotators' votes are. 0 switches it off.
        max_iterations: most rounds of EM.
        tolerance: stop when the log-likelihood grows by less than this a vote.
    """
    num_annotators = int(annotator.max()) + 1
    cell = annotator.astype(np.int64) * num_classes + vote
    shape = (int(task.max()) + 1, num_annotators * num_classes)
    matrix = VoteMatrix(sparse.csr_array((np.ones(len(task)), (task, cell)), shape=shape))
    tally = np.bincount(task.astype(np.int64) * num_classes + vote, minlength=shape[0] * num_classes)
    posterior: Array = tally.reshape(-1, num_classes).astype(np.float64)
    posterior /= posterior.sum(axis=1, keepdims=True)
    is_used = np.bincount(cell, minlength=shape[1]).reshape(num_annotators, num_classes) > 0
    log_likelihood, prior, num_iterations = -np.inf, posterior.mean(axis=0), 0
    confusion = _confusion(_counts(matrix, posterior), is_used, prior_votes)
    while num_iterations < max_iterations:
        num_iterations += 1
        evidence = _classify(matrix, np.log(confusion).reshape(-1, num_classes), prior, posterior)
        prior = posterior.mean(axis=0)
        confusion = _confusion(_counts(matrix, posterior), is_used, prior_votes)
        previous, log_likelihood = log_likelihood, evidence
        if log_likelihood - previous < tolerance * len(task):
            break
    return DawidSkene(posterior, prior, confusion, log_likelihood, num_iterations)


def _classify(matrix: VoteMatrix, log_confusion: Array, prior: Array, posterior: Array) -> float:
    """E-step: writes the posterior of every task and returns the log-likelihood."""
    log_prior = np.log(np.maximum(prior, _FLOOR))

    def work(block: Block) -> float:
        posterior[block.pairs], evidence = posterior_of(block.matrix @ log_confusion + log_prior)
        return float(evidence.sum())

    return sum(matrix.map(work))


def _counts(matrix: VoteMatrix, posterior: Array) -> Array:
    """Expected votes of each cell and class, shape (cells, K)."""
    total = np.zeros((matrix.shape[1], posterior.shape[1]))
    for part in matrix.map(lambda block: block.counts(posterior[block.pairs])):
        total += part
    return total


def _confusion(counts: Array, is_used: NDArray[np.bool_], prior_votes: float) -> Array:
    """P(vote | class), shape (annotators, votes, classes), from expected counts; unused votes stay at the floor."""
    table = counts.reshape(*is_used.shape, -1)
    if prior_votes > 0:
        population = table.sum(axis=0)
        table = table + prior_votes * population / population.sum(axis=0)
    table = np.where(is_used[:, :, None] | (prior_votes > 0), np.maximum(table, _FLOOR), 0.0)
    table = table / table.sum(axis=1, keepdims=True)
    return np.maximum(table, np.finfo(np.float64).tiny)
