"""Votes as the compiled loops read them, and how the loops run: chunk of pairs by chunk, on all cores.

Chunks depend on the votes alone and are added in their order, so results do not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import cpu_count
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
T = TypeVar("T")

ALL_ONE = np.empty(0, dtype=np.float32)
"""Weights of votes that all weigh 1."""

_CHUNK_VOTES = 250_000
_MOST_CHUNKS = 8

_CELLS_AT_ONCE = 4_000_000
"""Rows of all chunks' tables together, from which there are fewer chunks: of many annotators a table is large."""


@dataclass(frozen=True)
class Ballots:
    """Votes sorted by pair.

    Attributes:
        starts: where each pair's votes begin, shape (P + 1,).
        cell: row of each vote in a table of probabilities, shape (N,).
        num_cells: C, rows of that table.
        weight: of each vote in the likelihood, shape (N,); shape (0,) where all are 1.
    """

    starts: NDArray[np.int64]
    cell: NDArray[np.int32]
    num_cells: int
    weight: NDArray[np.float32]

    @classmethod
    def of(
        cls,
        pair: NDArray[np.integer],
        cell: NDArray[np.int32],
        *,
        num_pairs: int,
        num_cells: int,
        weight: NDArray[np.float32] = ALL_ONE,
    ) -> Ballots:
        """Ballots of votes whose ``pair`` ascends."""
        starts = np.zeros(num_pairs + 1, dtype=np.int64)
        np.cumsum(np.bincount(pair, minlength=num_pairs), out=starts[1:])
        return cls(starts, cell, num_cells, weight)

    @property
    def num_pairs(self) -> int:
        """P."""
        return len(self.starts) - 1

    def map(self, work: Callable[[int, int], T]) -> Iterator[T]:
        """Results of ``work(first pair, last pair)`` for every chunk, in their order; as many at once as cores."""
        most = min(_MOST_CHUNKS, max(_CELLS_AT_ONCE // max(self.num_cells, 1), 2))
        num_chunks = min(max(len(self.cell) // _CHUNK_VOTES, 1), most)
        votes = np.linspace(0, len(self.cell), num_chunks + 1)[1:-1]
        ends = [0, *np.searchsorted(self.starts, votes).tolist(), self.num_pairs]
        num_threads = cpu_count() or 1
        if num_chunks == 1 or num_threads == 1:
            yield from map(work, ends[:-1], ends[1:])
            return
        with ThreadPoolExecutor(max_workers=num_threads) as pool:
            for start in range(0, num_chunks, 2 * num_threads):
                stop = min(start + 2 * num_threads, num_chunks)
                yield from pool.map(work, ends[start:stop], ends[start + 1 : stop + 1])
