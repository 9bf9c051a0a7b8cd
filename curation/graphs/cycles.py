"""Directed cycles of the strict-majority graphs: components, the shortest cycle through each edge, feedback arcs.

An edge leads from the response with more votes to the other; where the votes are equal there is none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from curation.graphs.comparisons import Comparisons, Ints, batches, offsets_of, things_of
from curation.graphs.feedback_arc_set import COUNT_FIRST, MAX_EXACT, exact_positions, greedy_positions


@dataclass(frozen=True)
class Cycles:
    """Strongly connected components of two or more responses, and the edges inside them, sorted by component.

    Attributes:
        nodes: nodes of the components, by component. node_offsets: where each begins. Shapes (M,), (C + 1,).
        pairs: pair of each edge, by component. edge_offsets: where each begins. Shapes (E,), (C + 1,).
        cycle_lengths: edges of the shortest cycle through each edge, 3 or more. Shape (E,).
        is_feedback: whether the edge is in the feedback arc set. Shape (E,).
        num_three_cycles: directed triangles of each component. Shape (C,).
        is_exact: whether the component's feedback arc set is proven minimal. Shape (C,).
    """

    nodes: Ints
    node_offsets: Ints
    pairs: Ints
    edge_offsets: Ints
    cycle_lengths: Ints
    is_feedback: NDArray[np.bool_]
    num_three_cycles: Ints
    is_exact: NDArray[np.bool_]


def find_cycles(comparisons: Comparisons) -> Cycles:
    """All cycles' components of all graphs at once."""
    margin = comparisons.votes_first - comparisons.votes_second
    pairs = np.flatnonzero(margin)
    winner = np.where(margin > 0, comparisons.first, comparisons.second)[pairs]
    loser = np.where(margin > 0, comparisons.second, comparisons.first)[pairs]
    component, num_components = _components(winner, loser, comparisons.num_nodes)
    nodes = np.flatnonzero(component >= 0)
    nodes = nodes[np.argsort(component[nodes], kind="stable")]
    node_offsets = offsets_of(component[nodes], num_components)
    local = np.zeros(comparisons.num_nodes, np.int64)
    local[nodes] = np.arange(len(nodes)) - node_offsets[component[nodes]]

    is_inside = (component[winner] == component[loser]) & (component[winner] >= 0)
    inside = np.flatnonzero(is_inside)
    inside = inside[np.argsort(component[winner[inside]], kind="stable")]
    pairs, winner, loser = pairs[inside], winner[inside], loser[inside]
    edge_offsets = offsets_of(component[winner], num_components)
    lengths = np.empty(len(pairs), np.int64)
    is_feedback = np.empty(len(pairs), bool)
    triangles = np.empty(num_components, np.int64)
    sizes = np.diff(node_offsets)
    for size, blocks in batches(sizes):
        edges, owner = things_of(edge_offsets, blocks)
        tail, head = local[winner[edges]], local[loser[edges]]
        lengths[edges], triangles[blocks] = _lengths(size, len(blocks), owner, tail, head)
    cost = COUNT_FIRST + np.abs(margin[pairs]).astype(np.int64)
    for size, blocks in batches(sizes, cells=lambda size: size << min(size, MAX_EXACT)):
        edges, owner = things_of(edge_offsets, blocks)
        tail, head = local[winner[edges]], local[loser[edges]]
        is_feedback[edges] = _feedback(size, len(blocks), owner, tail, head, cost[edges])
    return Cycles(nodes, node_offsets, pairs, edge_offsets, lengths, is_feedback, triangles, sizes <= MAX_EXACT)


def _components(winner: Ints, loser: Ints, num_nodes: int) -> tuple[Ints, int]:
    """Number of each node's strongly connected component by its first node, -1 where it has one node."""
    edges = sparse.csr_array((np.ones(len(winner), np.int8), (winner, loser)), shape=(num_nodes, num_nodes))
    count, label = connected_components(edges, directed=True, connection="strong")
    size = np.bincount(label, minlength=count)
    first_node = np.full(count, num_nodes)
    np.minimum.at(first_node, label, np.arange(num_nodes))
    kept = np.flatnonzero(size >= 2)
    kept = kept[np.argsort(first_node[kept])]
    number = np.full(count, -1)
    number[kept] = np.arange(len(kept))
    return number[label], len(kept)


def _lengths(size: int, num_blocks: int, owner: Ints, tail: Ints, head: Ints) -> tuple[Ints, Ints]:
    """Shortest cycle through each edge, by breadth-first search from all nodes at once, and triangles of each block."""
    adjacency = np.zeros((num_blocks, size, size), np.float32)
    adjacency[owner, tail, head] = 1
    length = np.zeros(len(tail), np.int64)
    reached = adjacency > 0
    frontier = adjacency
    two_steps = None
    for step in range(2, size + 1):
        ahead = frontier @ adjacency
        if two_steps is None:
            two_steps = ahead
        is_new = (ahead > 0) & ~reached
        closes = is_new[owner, head, tail] & (length == 0)
        length[closes] = step + 1
        if length.all():
            break
        reached |= is_new
        frontier = is_new.astype(np.float32)
    assert two_steps is not None
    closing = np.bincount(owner, weights=two_steps[owner, head, tail], minlength=num_blocks)
    return length, np.rint(closing / 3).astype(np.int64)


def _feedback(size: int, num_blocks: int, owner: Ints, tail: Ints, head: Ints, cost: Ints) -> NDArray[np.bool_]:
    """Whether each edge points backwards in the cheapest ranking."""
    costs = np.zeros((num_blocks, size, size), np.int64)
    costs[owner, tail, head] = cost
    if size <= MAX_EXACT:
        position = exact_positions(costs)
    else:
        position = np.stack([greedy_positions(each) for each in costs])
    return position[owner, tail] > position[owner, head]
