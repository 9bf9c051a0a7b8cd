"""Who sees whom in a packed row: trees of a prompt and its responses, as spans, as labels of tokens, as sequences."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Span = tuple[int, int]


@dataclass(frozen=True)
class Tree:
    """Places of a prompt and of its responses in a row, as [begin, end)."""

    prompt: Span
    responses: tuple[Span, ...]

    @property
    def end(self) -> int:
        """First place behind the tree."""
        return self.responses[-1][1]


@dataclass(frozen=True)
class Sequences:
    """A row as sequences of queries, each of which sees the keys of its own that are not behind it.

    The queries of all sequences, end to end, are the row. Keys end where queries do: the last of a sequence's queries
    sees all of its keys.

    Attributes:
        key_places: place in the row of each key, a prompt's once for every sequence behind it. Shape (keys,).
        query_ends, key_ends: 0 and the end of each sequence, int32. Shape (sequences + 1,).
        most_queries, most_keys: of a sequence.
    """

    key_places: Tensor
    query_ends: Tensor
    key_ends: Tensor
    most_queries: int
    most_keys: int

    @classmethod
    def of(cls, trees: Iterable[Tree]) -> Sequences:
        """Every tree's prompt with its first response as one sequence, each further response as another one."""
        queries: list[int] = []
        keys: list[NDArray[np.int64]] = []
        for tree in trees:
            prompt, (first, *further) = np.arange(*tree.prompt), tree.responses
            queries.append(first[1] - tree.prompt[0])
            keys.append(np.arange(tree.prompt[0], first[1]))
            for begin, end in further:
                if begin < end:  # of one with a single token nothing is fed in
                    queries.append(end - begin)
                    keys.append(np.concatenate([prompt, np.arange(begin, end)]))
        lengths = [len(places) for places in keys]
        query_ends, key_ends = (torch.tensor([0, *np.cumsum(sizes)], dtype=torch.int32) for sizes in (queries, lengths))
        return cls(torch.from_numpy(np.concatenate(keys)), query_ends, key_ends, max(queries), max(lengths))

    def to(self, device: torch.device) -> Sequences:
        """The same on another device."""
        places, query_ends, key_ends = (
            each.to(device, non_blocking=True) for each in (self.key_places, self.query_ends, self.key_ends)
        )
        return Sequences(places, query_ends, key_ends, self.most_queries, self.most_keys)


@dataclass(frozen=True)
class Layout:
    """Who sees whom in a row of T tokens.

    Attributes:
        trees: in order, without gaps.
        position_ids: Shape (1, T).
        sequences: the same row as sequences.
    """

    trees: tuple[Tree, ...]
    position_ids: Tensor
    sequences: Sequences

    @classmethod
    def of(cls, trees: tuple[Tree, ...], position_ids: Tensor) -> Layout:
        """The layout of these trees."""
        return cls(trees, position_ids, Sequences.of(trees))

    def filled(self, count: int) -> Layout:
        """With ``count`` more tokens in trees behind all others, to which no other tree is related.

        None of them is longer than the longest sequence of the row, so that no position is one that the row would not
        have: a table of positions may end there, and a rotation or a window may change behind it.
        """
        begin, end, longest = self.trees[-1].end, self.trees[-1].end + count, self.sequences.most_keys
        starts = range(begin, end, longest)
        trees = [Tree((at, at + 1), ((at + 1, min(at + longest, end)),)) for at in starts]
        places = torch.arange(count, device=self.position_ids.device) % longest
        return Layout.of((*self.trees, *trees), torch.cat([self.position_ids, places[None]], 1))

    @cached_property
    def tree_of(self) -> Tensor:
        """Tree of each token. Shape (T,)."""
        sizes = torch.tensor([tree.end - tree.prompt[0] for tree in self.trees])
        return torch.repeat_interleave(torch.arange(len(self.trees)), sizes).to(self.position_ids.device)

    @cached_property
    def segment_of(self) -> Tensor:
        """0 for prompt tokens, 1 and up for the responses of a tree. Shape (T,)."""
        parts = [
            (number, end - begin)
            for tree in self.trees
            for number, (begin, end) in enumerate((tree.prompt, *tree.responses))
        ]
        numbers, sizes = torch.tensor([n for n, _ in parts]), torch.tensor([size for _, size in parts])
        return torch.repeat_interleave(numbers, sizes).to(self.position_ids.device)

    def to(self, device: torch.device) -> Layout:
        """The same on another device."""
        return Layout(self.trees, self.position_ids.to(device), self.sequences.to(device))
