"""The E-step: which latent class each pair is of, block of pairs by block, without ever holding all posteriors.

With the votes as a sparse matrix X (pairs x cells), log-likelihoods are ``X @ log_confusion`` and expected counts are
``X.T @ posterior``: one sparse product each. Blocks run in parallel and are added in a fixed order, so results do not
depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import cpu_count
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Array = NDArray[np.float64]
T = TypeVar("T")

_BLOCK_PAIRS = 65_536


@dataclass(frozen=True)
class Block:
    """Some consecutive pairs.

    Attributes:
        pairs: their indices.
        matrix: their votes, shape (pairs, cells).
    """

    pairs: slice
    matrix: sparse.csr_array

    def counts(self, posterior: Array) -> Array:
        """Expected votes of each cell and class, shape (cells, K)."""
        product: Array = self.matrix.T @ posterior
        return product


class VoteMatrix:
    """Who voted how on which pair, in blocks of pairs."""

    def __init__(self, matrix: sparse.csr_array) -> None:
        self.shape = matrix.shape
        self.blocks = [
            Block(slice(start, min(start + _BLOCK_PAIRS, matrix.shape[0])), matrix[start : start + _BLOCK_PAIRS])
            for start in range(0, matrix.shape[0], _BLOCK_PAIRS)
        ]

    def map(self, work: Callable[[Block], T]) -> Iterator[T]:
        """Results of ``work`` in the order of the blocks; a few blocks are in work at once."""
        num_threads = cpu_count() or 1
        if len(self.blocks) == 1 or num_threads == 1:
            yield from map(work, self.blocks)
            return
        with ThreadPoolExecutor(max_workers=num_threads) as pool:
            for start in range(0, len(self.blocks), 2 * num_threads):
                yield from pool.map(work, self.blocks[start : start + 2 * num_threads])


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
