"""Dawid-Skene with a free confusion matrix for each annotator: the baseline that the graded model grew from.

A. P. Dawid and A. M. Skene, Maximum likelihood estimation of observer error-rates using the EM algorithm, Applied
Statistics 28 (1979). Without a prior it equals crowd-kit's ``DawidSkene``, which a test holds on real sets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curation.annotators import kernels
from curation.annotators.em import Array, Ballots

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
    num_annotators, num_tasks = int(annotator.max()) + 1, int(task.max()) + 1
    sequence = np.argsort(task, kind="stable")
    task = task[sequence].astype(np.int64)
    cell = (annotator.astype(np.int32) * num_classes + vote)[sequence].astype(np.int32)
    ballots = Ballots.of(task, cell, num_pairs=num_tasks, num_cells=num_annotators * num_classes)
    tally = np.bincount(task * num_classes + vote[sequence], minlength=num_tasks * num_classes)
    share = tally.reshape(-1, num_classes) / np.diff(ballots.starts)[:, None]
    shape = (ballots.num_cells, num_classes)
    counts: Array = np.stack(
        [np.bincount(cell, share[task, k], minlength=shape[0]) for k in range(num_classes)], axis=1
    )
    is_used = np.bincount(cell, minlength=shape[0]).reshape(num_annotators, num_classes) > 0
    log_likelihood, prior, num_iterations = -np.inf, share.mean(axis=0), 0
    confusion = _confusion(counts, is_used, prior_votes)
    while True:
        num_iterations += 1
        table = confusion.reshape(shape), np.maximum(prior, _FLOOR)
        counts, classes, evidence = _expect(ballots, *table)
        prior = classes / num_tasks
        confusion = _confusion(counts, is_used, prior_votes)
        previous, log_likelihood = log_likelihood, evidence
        if num_iterations >= max_iterations or log_likelihood - previous < tolerance * len(task):
            break
    return DawidSkene(_posterior(ballots, *table), prior, confusion, log_likelihood, num_iterations)


_NO_PAIR = np.empty(0, dtype=np.int64)


def _expect(ballots: Ballots, table: Array, prior: Array) -> tuple[Array, Array, float]:
    """Expected votes of each cell and class, shape (C, K), expected tasks of each class, and the log-likelihood."""
    size = len(prior)
    nothing = np.empty((0, size))

    def work(first: int, last: int) -> tuple[Array, Array, float]:
        counts, classes = np.zeros(table.shape), np.zeros(size)
        left_out = _NO_PAIR, np.empty(0), np.empty((0, 0)), nothing
        own = _NO_PAIR, nothing
        evidence = kernels.expect(
            first,
            last,
            ballots.starts,
            ballots.cell,
            ballots.weight,
            table,
            prior,
            *own,
            left_out[0],
            1,
            counts,
            classes,
            *left_out[1:],
        )
        return counts, classes, evidence

    counts, classes, log_likelihood = np.zeros(table.shape), np.zeros(size), 0.0
    for more_counts, more_classes, evidence in ballots.map(work):
        counts += more_counts
        classes += more_classes
        log_likelihood += evidence
    return counts, classes, log_likelihood


def _posterior(ballots: Ballots, table: Array, prior: Array) -> Array:
    """Posterior of every task, shape (tasks, K)."""
    size = len(prior)
    result = np.empty((ballots.num_pairs, size))
    votes = ballots.starts, ballots.cell, ballots.weight, table, prior, _NO_PAIR, np.empty((0, size))
    list(ballots.map(lambda first, last: kernels.summarise(first, last, *votes, np.eye(size), result)))
    return result


def _confusion(counts: Array, is_used: NDArray[np.bool_], prior_votes: float) -> Array:
    """P(vote | class), shape (annotators, votes, classes), from expected counts; unused votes stay at the floor."""
    table = counts.reshape(*is_used.shape, -1)
    if prior_votes > 0:
        population = table.sum(axis=0)
        table = table + prior_votes * population / population.sum(axis=0)
    table = np.where(is_used[:, :, None] | (prior_votes > 0), np.maximum(table, _FLOOR), 0.0)
    table = table / table.sum(axis=1, keepdims=True)
    return np.maximum(table, np.finfo(np.float64).tiny)
