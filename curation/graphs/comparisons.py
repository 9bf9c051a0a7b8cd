"""Every pair of every prompt's preference graph as numbers, in an order that depends on the identifiers alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

VOTE_COLUMNS = (
    "pair_id",
    "prompt_id",
    "criterion",
    "response_x_id",
    "response_y_id",
    "votes_x",
    "votes_y",
    "ties",
)

CELLS = 4_000_000
"""Numbers that one batch of matrices may hold."""


@dataclass(frozen=True)
class Comparisons:
    """Pairs of many graphs; a graph is the responses of one prompt that were compared on one criterion.

    Nodes are numbered by graph and then by response id, pairs by their nodes, so a graph's nodes and pairs stand in a
    row and the numbering does not depend on the order of the votes.

    Attributes:
        graphs: ``prompt_id`` and ``criterion`` of each graph. Shape (G, 2).
        node_offsets: graph ``g`` has the nodes ``node_offsets[g]`` to ``node_offsets[g + 1]``. Shape (G + 1,).
        pair_offsets: the same for pairs. Shape (G + 1,).
        response_ids: of each node. Shape (N,).
        pair_ids: of each pair. Shape (P,).
        first, second: nodes of each pair, ``first < second``. Shape (P,).
        votes_first, votes_second, ties: votes of each pair. Shape (P,).
    """

    graphs: pl.DataFrame
    node_offsets: Ints
    pair_offsets: Ints
    response_ids: pl.Series
    pair_ids: pl.Series
    first: Ints
    second: Ints
    votes_first: Floats
    votes_second: Floats
    ties: Floats

    @property
    def num_nodes(self) -> int:
        """Nodes of all graphs."""
        return len(self.response_ids)

    @property
    def graph_of_pair(self) -> Ints:
        """Graph of each pair. Shape (P,)."""
        return np.repeat(np.arange(len(self.graphs)), np.diff(self.pair_offsets))

    @property
    def graph_of_node(self) -> Ints:
        """Graph of each node. Shape (N,)."""
        return np.repeat(np.arange(len(self.graphs)), np.diff(self.node_offsets))

    @classmethod
    def of(cls, votes: pl.DataFrame) -> Comparisons:
        """Number the nodes and pairs of ``votes`` (the columns of ``VOTE_COLUMNS``, one row a pair)."""
        keys = votes.select("prompt_id", "criterion")
        prompt, criterion = (_codes(keys[name]) for name in keys.columns)
        graph_key = prompt * (criterion.max(initial=0) + 1) + criterion
        _, first_row, graph = np.unique(graph_key, return_index=True, return_inverse=True)
        responses = pl.concat([votes["response_x_id"], votes["response_y_id"]])
        code = _codes(responses)
        node_key = np.concatenate([graph, graph]) * (code.max(initial=0) + 1) + code
        _, node_row, node = np.unique(node_key, return_index=True, return_inverse=True)
        x, y = np.split(node, 2)
        first, second = np.minimum(x, y), np.maximum(x, y)
        order = np.lexsort((second, first))
        is_x_first = (x < y)[order]
        votes_x, votes_y, ties = (
            votes[name].cast(pl.Float64).to_numpy()[order] for name in ("votes_x", "votes_y", "ties")
        )
        node_graph = np.concatenate([graph, graph])[node_row]
        return cls(
            graphs=keys[first_row],
            node_offsets=offsets_of(node_graph, len(first_row)),
            pair_offsets=offsets_of(graph, len(first_row)),
            response_ids=responses.gather(node_row),
            pair_ids=votes["pair_id"].gather(order),
            first=first[order],
            second=second[order],
            votes_first=np.where(is_x_first, votes_x, votes_y),
            votes_second=np.where(is_x_first, votes_y, votes_x),
            ties=ties,
        )


def _codes(names: pl.Series) -> Ints:
    """Rank of each name among the distinct names, from 0."""
    distinct = names.unique().sort()
    if len(distinct) < 2:
        return np.zeros(len(names), dtype=np.int64)
    numbered = pl.DataFrame({"name": distinct, "code": np.arange(len(distinct))})
    coded = pl.DataFrame({"name": names}).join(numbered, on="name", how="left", maintain_order="left")
    return coded["code"].to_numpy()


def offsets_of(owner: Ints, num_owners: int) -> Ints:
    """Where each owner's things begin when they are sorted by owner. Shape (num_owners + 1,)."""
    return np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=num_owners))])


def batches(sizes: Ints, cells: Callable[[int], int] = lambda size: size * size) -> Iterator[tuple[int, Ints]]:
    """Blocks of one size, a memory-friendly number of them at a time, so that their matrices can be stacked.

    Args:
        sizes: nodes of each block. Shape (B,).
        cells: how many numbers a block of a size needs.

    Yields:
        The size and the numbers of blocks that have it.
    """
    order = np.argsort(sizes, kind="stable")
    starts = np.flatnonzero(np.diff(sizes[order], prepend=-1))
    for blocks in np.split(order, starts[1:]):
        if not len(blocks):
            continue
        size = int(sizes[blocks[0]])
        step = max(1, CELLS // max(cells(size), 1))
        for start in range(0, len(blocks), step):
            yield size, blocks[start : start + step]


def things_of(offsets: Ints, blocks: Ints) -> tuple[Ints, Ints]:
    """Numbers of the things (pairs, edges) of some blocks, and for each the position of its block in ``blocks``."""
    counts = offsets[blocks + 1] - offsets[blocks]
    owner = np.repeat(np.arange(len(blocks)), counts)
    shift = np.repeat(offsets[blocks] - (np.cumsum(counts) - counts), counts)
    return shift + np.arange(len(owner)), owner
