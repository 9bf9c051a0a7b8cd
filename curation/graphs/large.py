"""Graphs of hundreds of responses, one at a time: sparse, with one dense matrix where an inverse is asked for.

The batches of :mod:`curation.graphs.comparisons` stack ten and more matrices of a graph, which thousands of responses
would turn into gigabytes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.linalg import lapack
from scipy.sparse.csgraph import connected_components

from curation.graphs.comparisons import CELLS, Floats, Ints

LARGE = 100
"""Responses from which a graph is treated on its own."""

_BLOCK = 512


def matrix_cells(size: int) -> int:
    """Numbers in the matrix of a graph, for :func:`curation.graphs.comparisons.batches`: a large one has it all."""
    return size * size if size < LARGE else CELLS


def component_of(first: Ints, second: Ints, num_nodes: int) -> Ints:
    """Number of the connected component of each node, shape (num_nodes,)."""
    links = sparse.csr_array((np.ones(len(first), np.int8), (first, second)), shape=(num_nodes, num_nodes))
    return np.asarray(connected_components(links, directed=False)[1], np.int64)


def laplacian(first: Ints, second: Ints, weight: Floats, num_nodes: int) -> sparse.csr_array:
    """Sparse weighted Laplacian, shape (num_nodes, num_nodes)."""
    rows = np.concatenate((first, second, first, second))
    columns = np.concatenate((second, first, first, second))
    return sparse.csr_array(
        (np.concatenate((-weight, -weight, weight, weight)), (rows, columns)), shape=(num_nodes, num_nodes)
    )


def inverse_beside_means(matrix: sparse.csr_array, component: Ints, removed: float) -> Floats:
    """``inv(matrix + P) - removed * P``, where P takes the mean over each component; one matrix is held.

    Args:
        matrix: symmetric, zero between components; positive definite once P is added. Shape (n, n).
        component: of each node, shape (n,).
        removed: share of P in the result.

    Raises:
        ArithmeticError: it is not positive definite.
    """
    dense: Floats = matrix.toarray(order="F")
    members = [np.flatnonzero(component == number) for number in range(int(component.max(initial=-1)) + 1)]
    for nodes in members:
        dense[np.ix_(nodes, nodes)] += 1 / len(nodes)
    factor, failed = lapack.dpotrf(dense, lower=1, overwrite_a=1)
    if failed:
        raise ArithmeticError(f"the matrix of a graph of {len(component)} responses is not positive definite")
    inverse, failed = lapack.dpotri(factor, lower=1, overwrite_c=1)
    assert not failed
    _mirror(inverse)
    for nodes in members:
        inverse[np.ix_(nodes, nodes)] -= removed / len(nodes)
    return np.asarray(inverse, np.float64)


def _mirror(lower: NDArray[np.float64]) -> None:
    """Copy what is below the diagonal to above it, some rows at a time."""
    size = len(lower)
    for start in range(0, size, _BLOCK):
        stop = min(start + _BLOCK, size)
        corner = lower[start:stop, start:stop]
        corner[:] = np.tril(corner) + np.tril(corner, -1).T
        lower[start:stop, stop:] = lower[stop:, start:stop].T
