"""Rows for a forward pass: a prompt once, its responses behind it, and a mask that hides them from one another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from schemas.tokens import EncodedGroup


@dataclass(frozen=True, slots=True)
class Row:
    """Some responses of one group in one row.

    Attributes:
        group: index of the group.
        responses: indices of the responses in the group, in the row's order.
        length: tokens of the prompt and of these responses.
    """

    group: int
    responses: tuple[int, ...]
    length: int


def rows_of(groups: Sequence[EncodedGroup], *, max_row_tokens: int, is_shared: bool = True) -> list[Row]:
    """Cut groups into rows, longest first; a row is longer than ``max_row_tokens`` only with a single response.

    With ``is_shared`` false each response has its own row, for models whose layers cannot take a block mask.
    """
    rows: list[Row] = []
    for number, group in enumerate(groups):
        start, length = 0, len(group.prompt_ids)
        for index, ids in enumerate(group.response_ids):
            if index > start and (not is_shared or length + len(ids) > max_row_tokens):
                rows.append(Row(number, tuple(range(start, index)), length))
                start, length = index, len(group.prompt_ids)
            length += len(ids)
        if group.response_ids:
            rows.append(Row(number, tuple(range(start, len(group.response_ids))), length))
    return sorted(rows, key=lambda row: -row.length)


def batches_of(rows: Sequence[Row], *, batch_tokens: int) -> Iterator[Sequence[Row]]:
    """Cut rows, which are sorted longest first, into batches of at most ``batch_tokens`` with their padding."""
    start = 0
    while start < len(rows):
        size = max(1, batch_tokens // rows[start].length)
        yield rows[start : start + size]
        start += size


@dataclass(frozen=True, slots=True)
class Further:
    """The responses after each row's first: their queries, and the keys that these see.

    Attributes:
        rows: number of the row, shape (B, 1).
        places: place of each query in its row, shape (B, M); padded with the row's last place.
        mask: zero where a query sees a key and -inf elsewhere, shape (B, 1, M, L).
    """

    rows: Tensor
    places: Tensor
    mask: Tensor

    def to(self, device: torch.device, dtype: torch.dtype) -> Further:
        """The same on a device, with a mask of the dtype that attention is computed in."""
        return Further(self.rows.to(device), self.places.to(device), self.mask.to(device, dtype))


@dataclass(frozen=True, slots=True)
class Trees:
    """Who sees whom: a query sees the keys before it that are in its row's prompt or in its own segment.

    Attributes:
        prompt_end: where each row's prompt ends, int64 of shape (B,).
        begin: where each place's segment begins: 0 in the prompt, else the place of its response's first token, -1
            behind the row's end. int64 of shape (B, L).
    """

    prompt_end: Tensor
    begin: Tensor

    @property
    def is_causal(self) -> bool:
        """Whether no row has a second response, so that plain causal order is right."""
        return not bool((self.begin > self.prompt_end[:, None]).any())

    @property
    def num_first(self) -> int:
        """Where the longest prompt with its first response ends, in tokens from the row's start."""
        return int(((self.begin == 0) | (self.begin == self.prompt_end[:, None])).sum(1).max())

    def further(self) -> Further | None:
        """The responses after each row's first; None where every row has one response."""
        if self.is_causal:
            return None
        counts = (self.begin > self.prompt_end[:, None]).sum(1)
        ends = (self.begin >= 0).sum(1, keepdim=True)
        places = ends - counts[:, None] + torch.arange(int(counts.max()))
        places = places.minimum(ends - 1)
        is_seen = self._is_seen(self.begin.gather(1, places), places)
        mask = torch.zeros(is_seen.shape).masked_fill_(~is_seen, float("-inf"))
        return Further(torch.arange(len(ends))[:, None], places, mask[:, None])

    def mask(self) -> Tensor | None:
        """Which keys a query of the whole row sees: bool of shape (B, 1, L, L); None where all rows are causal."""
        if self.is_causal:
            return None
        return self._is_seen(self.begin, torch.arange(self.begin.shape[1])[None])[:, None]

    def _is_seen(self, own: Tensor, places: Tensor) -> Tensor:
        """Shape (B, M, L), for queries whose segments begin at ``own``, shape (B, M), and who stand at ``places``."""
        keys = torch.arange(self.begin.shape[1])
        is_shared = keys < self.prompt_end[:, None, None]
        return (is_shared | (self.begin[:, None, :] == own[:, :, None])) & (keys <= places[:, :, None])


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """One forward pass.

    Attributes:
        input_ids, position_ids: int64 of shape (B, L); positions restart behind the prompt for each response.
        trees: which of these see which.
        predicting: flat index into B * L of the row that predicts each response token, shape (N,).
        targets: those tokens, shape (N,).
        owners: which response each belongs to, counted through the batch, shape (N,).
        last: flat index of each response's last token, in that count.
    """

    input_ids: Tensor
    position_ids: Tensor
    trees: Trees
    predicting: Tensor
    targets: Tensor
    owners: Tensor
    last: Tensor


def pack(groups: Sequence[EncodedGroup], rows: Sequence[Row]) -> PackedBatch:
    """Tensors of a batch of rows, on the CPU."""
    length = max(row.length for row in rows)
    ids = np.zeros((len(rows), length), dtype=np.int64)
    positions = np.zeros_like(ids)
    begin = np.full(ids.shape, -1, dtype=np.int64)
    predicting: list[np.ndarray] = []
    targets: list[np.ndarray] = []
    sizes: list[int] = []
    last: list[int] = []
    for number, row in enumerate(rows):
        prompt = groups[row.group].prompt_ids
        end = len(prompt)
        ids[number, :end] = prompt
        positions[number, :end] = np.arange(end)
        begin[number, :end] = 0
        for index in row.responses:
            response = np.asarray(groups[row.group].response_ids[index], dtype=np.int64)
            start, end = end, end + len(response)
            ids[number, start:end] = response
            positions[number, start:end] = np.arange(len(prompt), len(prompt) + len(response))
            begin[number, start:end] = start
            before = np.arange(start - 1, end - 1)
            before[0] = len(prompt) - 1
            predicting.append(before + number * length)
            targets.append(response)
            sizes.append(len(response))
            last.append(end - 1 + number * length)
    return PackedBatch(
        torch.from_numpy(ids),
        torch.from_numpy(positions),
        Trees(torch.tensor([len(groups[row.group].prompt_ids) for row in rows]), torch.from_numpy(begin)),
        torch.from_numpy(np.concatenate(predicting)),
        torch.from_numpy(np.concatenate(targets)),
        torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes)),
        torch.tensor(last),
    )
