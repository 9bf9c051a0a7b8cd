"""The fewest preferences whose reversal leaves a ranking: exact by dynamic programming over sets, greedy above."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from curation.graphs.comparisons import Ints

MAX_EXACT = 12
"""Responses up to which the minimum is proven; the tables grow with 2 ** n."""

COUNT_FIRST = 1 << 40
"""Cost of one reversed preference beside its votes: the number counts first, the votes decide between equals."""


def exact_positions(cost: Ints) -> Ints:
    """Rankings with the lowest cost of preferences that point backwards (Held-Karp over sets; Lawler 1964).

    Args:
        cost: ``cost[c, v, u]`` is what it costs to rank ``u`` above ``v``, 0 where there is no edge from ``v`` to
            ``u``. Shape (m, k, k), k at most ``MAX_EXACT``.

    Returns:
        Rank of each node, 0 the best. Shape (m, k). Among equals the one that ranks low numbers last.
    """
    m, k, _ = cost.shape
    sets = np.arange(1 << k)
    backward = np.zeros((m, k, 1 << k), np.int64)  # cost of placing v after all of the set
    for bit in range(k):
        low = 1 << bit
        backward[:, :, low : 2 * low] = backward[:, :, :low] + cost[:, :, bit, None]
    best = np.full((m, 1 << k), np.iinfo(np.int64).max)
    best[:, 0] = 0
    last = np.zeros((m, 1 << k), np.int8)
    sizes = np.bitwise_count(sets)
    for size in range(1, k + 1):
        layer = sets[sizes == size]
        for node in range(k):
            holders = layer[(layer >> node) & 1 == 1]
            before = holders ^ (1 << node)
            candidate = best[:, before] + backward[:, node, before]
            is_better = candidate < best[:, holders]
            best[:, holders] = np.where(is_better, candidate, best[:, holders])
            last[:, holders] = np.where(is_better, node, last[:, holders])
    return _read_back(last, k)


def _read_back(last: NDArray[np.int8], k: int) -> Ints:
    rows = np.arange(len(last))
    rest = np.full(len(last), (1 << k) - 1)
    positions = np.empty((len(last), k), np.int64)
    for position in range(k - 1, -1, -1):
        node = last[rows, rest].astype(np.int64)
        positions[rows, node] = position
        rest ^= 1 << node
    return positions


def greedy_positions(cost: Ints) -> Ints:
    """A ranking of low cost: by wins minus losses, then each node moved to its best place until none gains.

    Args:
        cost: as for :func:`exact_positions`, of one graph. Shape (k, k).

    Returns:
        Rank of each node, 0 the best. Shape (k,).
    """
    k = len(cost)
    order = np.argsort(cost.sum(axis=0) - cost.sum(axis=1), kind="stable")
    has_gained = True
    while has_gained:
        has_gained = False
        for node in range(k):
            here = int(np.flatnonzero(order == node)[0])
            others = np.delete(order, here)
            after_all_before = np.concatenate([[0], np.cumsum(cost[node, others])])
            before_all_after = np.concatenate([np.cumsum(cost[others, node][::-1])[::-1], [0]])
            place_cost = after_all_before + before_all_after
            place = int(place_cost.argmin())
            if place_cost[place] < place_cost[here]:
                order = np.insert(others, place, node)
                has_gained = True
    positions = np.empty(k, np.int64)
    positions[order] = np.arange(k)
    return positions
