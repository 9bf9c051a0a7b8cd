"""Bradley-Terry rewards of the responses of each graph, with intervals.

``P(i before j) = sigmoid(s_i - s_j)``; a tie is half a win for each. Every score has a normal prior of mean 0, so that
a response that won its only vote is not infinitely good; the interval is the normal approximation at the maximum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import cg
from scipy.special import expit

from curation.graphs.comparisons import Comparisons, Floats, Ints, batches, things_of
from curation.graphs.hodge_rank import connected
from curation.graphs.large import LARGE, component_of, inverse_beside_means, laplacian, matrix_cells

PRIOR_SD = 2.0
"""Standard deviation of a score before any vote, nats."""

_Z = 1.959963984540054
_MAX_STEP = 2.0
_MAX_ITERATIONS = 200
_TOLERANCE = 1e-9
_CG_TOLERANCE, _CG_FLOOR = 1e-12, 1e-12


@dataclass(frozen=True)
class BradleyTerry:
    """Scores, nats, mean 0 in each connected component, with 95 % intervals. Shapes (N,)."""

    scores: Floats
    low: Floats
    high: Floats


def bradley_terry(comparisons: Comparisons, *, prior_sd: float = PRIOR_SD) -> BradleyTerry:
    """Most probable scores of every graph's nodes.

    Args:
        comparisons: the graphs.
        prior_sd: of each score, nats; infinity gives the maximum likelihood, which exists only where every two parts
            of a graph beat each other at least once.
    """
    scores, half = np.zeros(comparisons.num_nodes), np.zeros(comparisons.num_nodes)
    for size, graphs in batches(np.diff(comparisons.node_offsets), cells=matrix_cells):
        nodes, _ = things_of(comparisons.node_offsets, graphs)
        if size >= LARGE and np.isfinite(prior_sd):
            best, sd = _fit_large(comparisons, size, int(graphs[0]), prior_sd**-2)
        else:
            best, sd = _fit(comparisons, size, graphs, prior_sd**-2)
        scores[nodes], half[nodes] = best.ravel(), _Z * sd.ravel()
    return BradleyTerry(scores, scores - half, scores + half)


def _fit(comparisons: Comparisons, size: int, graphs: Ints, precision: float) -> tuple[Floats, Floats]:
    """Newton's method on all graphs of a size at once; those that have converged are left alone."""
    pairs, owner = things_of(comparisons.pair_offsets, graphs)
    start = comparisons.node_offsets[graphs][owner]
    first, second = comparisons.first[pairs] - start, comparisons.second[pairs] - start
    ties = comparisons.ties[pairs] / 2
    wins = np.zeros((len(graphs), size, size))
    np.add.at(wins, (owner, first, second), comparisons.votes_first[pairs] + ties)
    np.add.at(wins, (owner, second, first), comparisons.votes_second[pairs] + ties)
    votes = wins + wins.transpose(0, 2, 1)
    together = connected(votes > 0)
    centre = together / together.sum(axis=2, keepdims=True)
    scores = np.zeros((len(graphs), size))
    active = np.arange(len(graphs))
    for _ in range(_MAX_ITERATIONS):
        gradient, hessian = _derivatives(scores[active], wins[active], votes[active], precision)
        step = np.linalg.solve(hessian + centre[active], gradient[:, :, None])[:, :, 0]
        longest = np.abs(step).max(axis=1)
        scores[active] += step * np.minimum(1, _MAX_STEP / np.maximum(longest, _MAX_STEP))[:, None]
        active = active[longest > _TOLERANCE]
        if not len(active):
            break
    else:
        raise ArithmeticError(f"Bradley-Terry did not converge in {_MAX_ITERATIONS} iterations on {len(active)} graphs")
    _, hessian = _derivatives(scores, wins, votes, precision)
    # the hessian acts on the mean of a component as the prior's precision alone, which the added 1 makes invertible
    variance = np.linalg.inv(hessian + centre) - centre / (1 + precision)
    return scores, np.sqrt(np.maximum(np.einsum("mii->mi", variance), 0))


def _fit_large(comparisons: Comparisons, size: int, graph: int, precision: float) -> tuple[Floats, Floats]:
    """The same of one graph, whose prior keeps the Hessian invertible, by conjugate gradients on sparse matrices."""
    pairs = slice(comparisons.pair_offsets[graph], comparisons.pair_offsets[graph + 1])
    start = comparisons.node_offsets[graph]
    first, second = comparisons.first[pairs] - start, comparisons.second[pairs] - start
    ties = comparisons.ties[pairs] / 2
    wins = comparisons.votes_first[pairs] + ties
    votes = wins + comparisons.votes_second[pairs] + ties
    prior = sparse.diags_array(np.full(size, precision))
    scores = np.zeros(size)
    for _ in range(_MAX_ITERATIONS):
        chance = expit(scores[first] - scores[second])
        residual = wins - votes * chance
        gradient = np.bincount(first, residual, size) - np.bincount(second, residual, size) - precision * scores
        hessian = laplacian(first, second, votes * chance * (1 - chance), size) + prior
        scale = sparse.diags_array(1 / hessian.diagonal())
        step, failed = cg(hessian, gradient, rtol=_CG_TOLERANCE, atol=_CG_FLOOR, maxiter=50 * size, M=scale)
        longest = np.abs(step).max()
        scores += step * min(1, _MAX_STEP / max(longest, _MAX_STEP))
        if longest <= _TOLERANCE and not failed:
            break
    else:
        raise ArithmeticError(f"Bradley-Terry did not converge in {_MAX_ITERATIONS} iterations on {size} responses")
    chance = expit(scores[first] - scores[second])
    hessian = laplacian(first, second, votes * chance * (1 - chance), size) + prior
    component = component_of(first, second, size)
    variance = inverse_beside_means(sparse.csr_array(hessian), component, 1 / (1 + precision)).diagonal()
    return scores, np.sqrt(np.maximum(variance, 0))


def _derivatives(scores: Floats, wins: Floats, votes: Floats, precision: float) -> tuple[Floats, Floats]:
    """Gradient of the log-posterior and its negative Hessian. Shapes (m, n), (m, n, n)."""
    chance = expit(scores[:, :, None] - scores[:, None, :])
    gradient = (wins - votes * chance).sum(axis=2) - precision * scores
    hessian = -votes * chance * (1 - chance)
    diagonal = np.arange(scores.shape[1])
    hessian[:, diagonal, diagonal] -= hessian.sum(axis=2)
    hessian[:, diagonal, diagonal] += precision
    return gradient, hessian
