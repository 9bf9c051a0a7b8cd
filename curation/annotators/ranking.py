"""The Bradley-Terry layer: responses of a densely compared prompt have rewards, and rewards tilt a pair's prior.

A pair whose responses have rewards x_low and x_high starts from the class prior tilted by their difference,
``pi_z exp(s_z (x_low - x_high))``, renormalised. Together with the annotator's ``theta`` this is Bradley-Terry with an
annotator-specific temperature and room for a pair to differ from what the rewards say.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import cg

from curation.annotators.confusion import Grid
from curation.annotators.em import Array
from curation.annotators.votes import Votes

_LEAST_SHARE = 0.5
"""Least share of the complete-data information that a Newton step of the rewards counts on."""


@dataclass(frozen=True)
class DenseGraph:
    """The pairs of densely compared prompts, as a graph of responses.

    Attributes:
        response_ids: strings, shape (R,).
        pair: index among the votes' pairs, shape (E,), ascending.
        low, high: index among the responses, shape (E,).
    """

    response_ids: pl.Series
    pair: NDArray[np.int64]
    low: NDArray[np.int64]
    high: NDArray[np.int64]

    @classmethod
    def of(cls, votes: Votes, *, min_degree: float) -> DenseGraph:
        """Connected components in which a response stands in at least ``min_degree`` pairs on average."""
        low, high = votes.low, votes.high
        if np.isinf(min_degree):
            nothing = np.empty(0, dtype=np.int64)
            return cls(votes.response_ids.head(0), nothing, nothing, nothing)
        shape = (len(votes.response_ids), len(votes.response_ids))
        links = sparse.coo_array((np.ones(len(low), dtype=np.int8), (low, high)), shape=shape)
        num, component = sparse.csgraph.connected_components(links, directed=False)
        num_pairs = np.bincount(component[low], minlength=num)
        num_responses = np.bincount(component, minlength=num)
        is_dense = (num_pairs > 0) & (2.0 * num_pairs >= min_degree * num_responses)
        pair = np.flatnonzero(is_dense[component[low]])
        used, renumbered = np.unique(np.concatenate((low[pair], high[pair])), return_inverse=True)
        return cls(votes.response_ids.gather(used), pair, renumbered[: len(pair)], renumbered[len(pair) :])

    @property
    def num_responses(self) -> int:
        """R."""
        return len(self.response_ids)

    def difference(self, reward: Array) -> Array:
        """x_low - x_high of each pair, shape (E,)."""
        return reward[self.low] - reward[self.high]

    def newton_step(
        self, reward: Array, variance: float, posterior: Array, prior: Array, grid: Grid
    ) -> tuple[Array, Array]:
        """One Newton step of the rewards, and the diagonal of the information, each of shape (R,).

        Args:
            reward: x, shape (R,).
            variance: of the normal prior of x.
            posterior, prior: of the classes of the graph's pairs, the prior tilted; shape (E, K).
        """
        s = grid.strength
        expected = prior @ s
        believed = posterior @ s
        residual = believed - expected
        spread = prior @ (s * s) - expected**2
        # the observed information is the prior's spread less the posterior's; a floor keeps the step from overshooting
        curve = np.maximum(spread - (posterior @ (s * s) - believed**2), _LEAST_SHARE * spread)
        n = self.num_responses
        gradient = np.bincount(self.low, residual, n) - np.bincount(self.high, residual, n) - reward / variance
        weight = np.bincount(self.low, curve, n) + np.bincount(self.high, curve, n)
        diagonal = np.asarray(weight + 1.0 / variance, dtype=np.float64)
        index = np.arange(n)
        rows = np.concatenate((self.low, self.high, index))
        columns = np.concatenate((self.high, self.low, index))
        laplacian = sparse.csr_array((np.concatenate((-curve, -curve, diagonal)), (rows, columns)), shape=(n, n))
        step, _ = cg(laplacian, gradient, rtol=1e-8, maxiter=200, M=sparse.diags_array(1.0 / diagonal))
        return reward + np.clip(step, -1.0, 1.0), diagonal


def tilted(log_prior: Array, difference: Array, grid: Grid) -> Array:
    """Log prior of the classes of each pair, shape (E, K), tilted by the difference of rewards, shape (E,)."""
    log_weights = log_prior + difference[:, None] * grid.strength
    top = log_weights.max(axis=1, keepdims=True)
    return log_weights - top - np.log(np.exp(log_weights - top).sum(axis=1, keepdims=True))
