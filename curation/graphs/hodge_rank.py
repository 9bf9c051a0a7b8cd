"""HodgeRank: the ranking that explains a graph's preferences best, and the share that no ranking explains.

A pair's preference is ``y = (votes for the first - votes for the second) / votes``, ties being votes for neither, with
weight ``w = votes``. The scores ``s`` minimise ``sum w (s_first - s_second - y)^2``; the energy ``sum w y^2`` falls
into a part that the scores explain (the gradient) and the rest, whose share is the curl ratio (Jiang, Lim, Yao and Ye
2011, Statistical ranking and combinatorial Hodge theory; the rest here is their curl and harmonic parts together).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from curation.graphs.comparisons import CELLS, Comparisons, Floats, Ints, batches, things_of
from curation.graphs.large import LARGE, component_of, inverse_beside_means, laplacian, matrix_cells

MAX_ENUMERATED = 10
"""Pairs of a graph up to which all signs are tried, so that the p-value is exact."""

NUM_PERMUTATIONS = 999
"""Random signs tried where there are too many to try all."""

_EPSILON = 1e-9


@dataclass(frozen=True)
class HodgeRank:
    """Scores of nodes, and what is left over in each graph.

    Attributes:
        scores: mean 0 in each connected component. Shape (N,).
        curl_ratio: NaN where the graph has no loop or no preference. Shape (G,).
        curl_ratio_null: its exact expectation when every preference is turned at random; ``1 - 2 / n`` on a complete
            graph with equal weights. NaN like ``curl_ratio``. Shape (G,).
        p_value: share of random turnings with a curl ratio as low as this: small where a ranking explains more than
            chance would, near 1 where the preferences run in circles. NaN where not asked for. Shape (G,).
    """

    scores: Floats
    curl_ratio: Floats
    curl_ratio_null: Floats
    p_value: Floats


def hodge_rank(comparisons: Comparisons, tested: NDArray[np.bool_], *, seed: int = 0) -> HodgeRank:
    """HodgeRank of every graph.

    Args:
        comparisons: the graphs.
        tested: graphs whose p-value is wanted. Shape (G,).
        seed: of the random signs.
    """
    num_graphs = len(comparisons.graphs)
    result = HodgeRank(np.zeros(comparisons.num_nodes), *(np.full(num_graphs, np.nan) for _ in range(3)))
    sizes = np.diff(comparisons.node_offsets)
    num_pairs = np.diff(comparisons.pair_offsets)
    for size, graphs in batches(sizes, cells=matrix_cells):
        if size < LARGE:
            _rank(comparisons, size, graphs, result)
        else:
            _rank_large(comparisons, size, int(graphs[0]), result, seed if tested[graphs[0]] else None)
    wanted = np.flatnonzero(tested & ~np.isnan(result.curl_ratio) & (sizes < LARGE))
    for count in np.unique(num_pairs[wanted]):
        signs = _signs(int(count), seed)
        same = wanted[num_pairs[wanted] == count]
        for size, members in batches(sizes[same], cells=partial(_test_cells, len(signs))):
            graphs = same[members]
            result.p_value[graphs] = _p_value(comparisons, size, graphs, signs, result.curl_ratio[graphs])
    return result


def _test_cells(num_signs: int, size: int) -> int:
    return size * max(size, 2 * num_signs)


@dataclass(frozen=True)
class _System:
    """The normal equations of graphs of one size. ``inverse`` is the Laplacian's pseudo-inverse, shape (m, n, n)."""

    owner: Ints
    first: Ints
    second: Ints
    weight: Floats
    flow: Floats
    inverse: Floats
    num_loops: Ints


def _system(comparisons: Comparisons, size: int, graphs: Ints) -> _System:
    pairs, owner = things_of(comparisons.pair_offsets, graphs)
    start = comparisons.node_offsets[graphs][owner]
    first, second = comparisons.first[pairs] - start, comparisons.second[pairs] - start
    weight = comparisons.votes_first[pairs] + comparisons.votes_second[pairs] + comparisons.ties[pairs]
    flow = (comparisons.votes_first[pairs] - comparisons.votes_second[pairs]) / weight
    laplacian = np.zeros((len(graphs), size, size))
    for row, column, sign in ((first, first, 1), (second, second, 1), (first, second, -1), (second, first, -1)):
        np.add.at(laplacian, (owner, row, column), sign * weight)
    together = connected(laplacian != 0)
    projection = together / together.sum(axis=2, keepdims=True)
    num_components = np.rint(np.trace(projection, axis1=1, axis2=2)).astype(np.int64)
    inverse = np.linalg.inv(laplacian + projection) - projection
    num_loops = np.bincount(owner, minlength=len(graphs)) - (size - num_components)
    return _System(owner, first, second, weight, flow, inverse, num_loops)


def connected(adjacent: NDArray[np.bool_]) -> Floats:
    """1 where two nodes are joined by a path, else 0. Shape (m, n, n)."""
    size = adjacent.shape[1]
    reach = adjacent | np.eye(size, dtype=bool)
    steps = 1
    while steps < size:
        wider = (reach.astype(np.float32) @ reach.astype(np.float32)) > 0
        if (wider == reach).all():
            break
        reach, steps = wider, steps * 2
    return np.asarray(reach, np.float64)


def _divergence(system: _System, size: int, flow: Floats) -> Floats:
    """Weighted flow out of each node. Shape (m, size)."""
    m = len(system.inverse)
    moved = system.weight * flow
    out = np.bincount(system.owner * size + system.first, weights=moved, minlength=m * size)
    into = np.bincount(system.owner * size + system.second, weights=moved, minlength=m * size)
    return (out - into).astype(np.float64, copy=False).reshape(m, size)


def _rank(comparisons: Comparisons, size: int, graphs: Ints, result: HodgeRank) -> None:
    system = _system(comparisons, size, graphs)
    divergence = _divergence(system, size, system.flow)
    scores = (system.inverse @ divergence[:, :, None])[:, :, 0]
    nodes, _ = things_of(comparisons.node_offsets, graphs)
    result.scores[nodes] = scores.ravel()

    energies = system.weight * system.flow**2
    energy = np.bincount(system.owner, weights=energies, minlength=len(graphs))
    gradient = (scores * divergence).sum(axis=1)
    at = system.owner, system.first, system.second
    diagonal = np.einsum("mii->mi", system.inverse)
    resistance = diagonal[at[0], at[1]] + diagonal[at[0], at[2]] - 2 * system.inverse[at]
    explained = np.bincount(system.owner, weights=energies * system.weight * resistance, minlength=len(graphs))
    is_defined = (system.num_loops > 0) & (energy > 0)
    safe = np.where(is_defined, energy, 1)
    result.curl_ratio[graphs] = np.where(is_defined, np.clip(1 - gradient / safe, 0, 1), np.nan)
    result.curl_ratio_null[graphs] = np.where(is_defined, np.clip(1 - explained / safe, 0, 1), np.nan)


def _rank_large(comparisons: Comparisons, size: int, graph: int, result: HodgeRank, seed: int | None) -> None:
    """All of one graph of many nodes, with one dense matrix; the p-value where a seed is given."""
    pairs = slice(comparisons.pair_offsets[graph], comparisons.pair_offsets[graph + 1])
    nodes = slice(comparisons.node_offsets[graph], comparisons.node_offsets[graph + 1])
    first, second = comparisons.first[pairs] - nodes.start, comparisons.second[pairs] - nodes.start
    weight = comparisons.votes_first[pairs] + comparisons.votes_second[pairs] + comparisons.ties[pairs]
    flow = (comparisons.votes_first[pairs] - comparisons.votes_second[pairs]) / weight
    component = component_of(first, second, size)
    inverse = inverse_beside_means(laplacian(first, second, weight, size), component, 1.0)
    moved, column = weight * flow, np.arange(len(flow))
    entries = np.concatenate((moved, -moved)), (np.concatenate((first, second)), np.tile(column, 2))
    outward = sparse.csr_array(entries, shape=(size, len(flow)))
    divergence = outward.sum(axis=1)
    result.scores[nodes] = scores = inverse @ divergence
    energy = float(weight @ flow**2)
    num_loops = len(flow) - (size - int(component.max()) - 1)
    if num_loops == 0 or energy == 0:
        return
    diagonal = inverse.diagonal()
    resistance = diagonal[first] + diagonal[second] - 2 * inverse[first, second]
    result.curl_ratio[graph] = observed = np.clip(1 - scores @ divergence / energy, 0, 1)
    result.curl_ratio_null[graph] = np.clip(1 - (weight * flow**2 * weight) @ resistance / energy, 0, 1)
    if seed is None:
        return
    num_low = num_turned = 0
    for signs in _sign_blocks(len(flow), seed, max(1, CELLS // len(flow))):
        turned = outward @ signs.T
        curl = 1 - (turned * (inverse @ turned)).sum(axis=0) / energy
        num_low += int((curl <= observed + _EPSILON).sum())
        num_turned += len(signs)
    result.p_value[graph] = num_low / num_turned


def _signs(num_pairs: int, seed: int) -> Floats:
    """Turnings of the preferences to try, one a row; the first is the identity. Shape (R, num_pairs).

    Turning all preferences changes no energy, so where all are tried the last one stays as it is.
    """
    if num_pairs <= MAX_ENUMERATED:
        patterns = np.arange(1 << (num_pairs - 1))[:, None] >> np.arange(num_pairs) & 1
        return 1.0 - 2.0 * patterns.astype(np.float64)
    return next(_sign_blocks(num_pairs, seed, NUM_PERMUTATIONS + 1))


def _sign_blocks(num_pairs: int, seed: int, num_rows: int) -> Iterator[Floats]:
    """Random turnings, ``num_rows`` at a time; the same ones however many that are."""
    rng = np.random.default_rng([seed, num_pairs])
    for start in range(0, NUM_PERMUTATIONS + 1, num_rows):
        patterns = rng.integers(0, 2, (min(num_rows, NUM_PERMUTATIONS + 1 - start), num_pairs))
        if start == 0:
            patterns[0] = 0
        yield 1.0 - 2.0 * patterns.astype(np.float64)


def _p_value(comparisons: Comparisons, size: int, graphs: Ints, signs: Floats, observed: Floats) -> Floats:
    system = _system(comparisons, size, graphs)
    m, count = len(graphs), signs.shape[1]
    moved = np.zeros((m, size, count))
    column = np.tile(np.arange(count), m)
    moved[system.owner, system.first, column] += system.weight * system.flow
    moved[system.owner, system.second, column] -= system.weight * system.flow
    divergence = moved @ signs.T
    gradient = (divergence * (system.inverse @ divergence)).sum(axis=1)
    energy = np.bincount(system.owner, weights=system.weight * system.flow**2, minlength=m)
    curl = 1 - gradient / energy[:, None]
    return np.mean(curl <= observed[:, None] + _EPSILON, axis=1, dtype=np.float64)
