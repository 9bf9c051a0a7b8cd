"""Expectation-maximisation over latent classes of pairs: the part that every confusion model here shares.

A pair belongs to one of K latent classes; a vote is a draw from its annotator's distribution given the class. With the
votes as a sparse matrix X (pairs x cells) both steps are one sparse product: log-likelihoods are ``X @ log_confusion``
and expected counts are ``X.T @ posterior``.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from os import cpu_count

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Array = NDArray[np.float64]


class VoteMatrix:
    """A pairs x cells matrix, cut into blocks of rows that are multiplied in parallel and added in a fixed order."""

    ROWS = 262_144

    def __init__(self, matrix: sparse.csr_array) -> None:
        self.shape = matrix.shape
        starts = range(0, max(matrix.shape[0], 1), self.ROWS)
        self.blocks = [matrix[start : start + self.ROWS] for start in starts]
        self.transposed = [block.T for block in self.blocks]  # shares the block's arrays
        self.pool = ThreadPoolExecutor(max_workers=cpu_count() or 1) if len(self.blocks) > 1 else None

    def times(self, table: Array) -> Array:
        """``X @ table``: shape (cells, K) to (pairs, K)."""
        if self.pool is None:
            return self.blocks[0] @ table
        return np.concatenate(list(self.pool.map(lambda block: block @ table, self.blocks)))

    def transposed_times(self, table: Array) -> Array:
        """``X.T @ table``: shape (pairs, K) to (cells, K)."""
        if self.pool is None:
            return self.transposed[0] @ table
        parts = [table[i * self.ROWS : (i + 1) * self.ROWS] for i in range(len(self.blocks))]
        products = self.pool.map(lambda block, part: block @ part, self.transposed, parts)
        total = np.zeros((self.shape[1], table.shape[1]))
        for product in products:
            total += product
        return total


def posterior_of(log_joint: Array) -> tuple[Array, Array]:
    """Class probabilities and log-likelihood of each pair; overwrites its argument.

    Args:
        log_joint: log P(votes, class), shape (P, K).

    Returns:
        Posterior, shape (P, K), rows sum to 1; log P(votes), shape (P,).
    """
    top = log_joint.max(axis=1, keepdims=True)
    log_joint -= top
    posterior = np.exp(log_joint, out=log_joint)
    total = posterior.sum(axis=1, keepdims=True)
    posterior /= total
    return posterior, (np.log(total) + top)[:, 0]
