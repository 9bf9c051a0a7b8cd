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
class PackedBatch:
    """One forward pass.

    Attributes:
        input_ids, position_ids: int64 of shape (B, L); positions restart behind the prompt for each response.
        segments: int32 of shape (B, L): 0 in the prompt, then the number of the response, -1 behind the row's end.
        predicting: flat index into B * L of the row that predicts each response token, shape (N,).
        targets: those tokens, shape (N,).
        owners: which response each belongs to, counted through the batch, shape (N,).
        last: flat index of each response's last token, in that count.
    """

    input_ids: Tensor
    position_ids: Tensor
    segments: Tensor
    predicting: Tensor
    targets: Tensor
    owners: Tensor
    last: Tensor

    @property
    def num_first(self) -> int:
        """Where the longest prompt with its first response ends, in tokens from the row's start."""
        return int(((self.segments == 0) | (self.segments == 1)).sum(1).max())

    def further(self) -> Further | None:
        """The responses after each row's first; None where every row has one response."""
        counts = (self.segments > 1).sum(1)
        if not counts.any():
            return None
        ends = (self.segments >= 0).sum(1, keepdim=True)
        places = ends - counts[:, None] + torch.arange(int(counts.max()))
        places = places.minimum(ends - 1)
        own = self.segments.gather(1, places)[:, :, None]
        keys = self.segments[:, None, :]
        before = torch.arange(self.segments.shape[1]) <= places[:, :, None]
        is_seen = ((keys == 0) | (keys == own)) & before
        mask = torch.zeros(is_seen.shape).masked_fill_(~is_seen, float("-inf"))
        return Further(torch.arange(len(ends))[:, None], places, mask[:, None])

    def mask(self) -> Tensor | None:
        """Which keys a query of the whole row sees: those before it in the prompt and in its own response.

        Returns:
            bool of shape (B, 1, L, L), or None where plain causal order is right.
        """
        if not (self.segments > 1).any():
            return None
        length = self.segments.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool).tril_()
        keys, queries = self.segments[:, None, :], self.segments[:, :, None]
        return ((keys == 0) | (keys == queries)).logical_and_(causal)[:, None]


def pack(groups: Sequence[EncodedGroup], rows: Sequence[Row]) -> PackedBatch:
    """Tensors of a batch of rows, on the CPU."""
    length = max(row.length for row in rows)
    ids = np.zeros((len(rows), length), dtype=np.int64)
    positions = np.zeros_like(ids)
    segments = np.full(ids.shape, -1, dtype=np.int32)
    predicting: list[np.ndarray] = []
    targets: list[np.ndarray] = []
    sizes: list[int] = []
    last: list[int] = []
    for number, row in enumerate(rows):
        prompt = groups[row.group].prompt_ids
        end = len(prompt)
        ids[number, :end] = prompt
        positions[number, :end] = np.arange(end)
        segments[number, :end] = 0
        for segment, index in enumerate(row.responses, start=1):
            response = np.asarray(groups[row.group].response_ids[index], dtype=np.int64)
            start, end = end, end + len(response)
            ids[number, start:end] = response
            positions[number, start:end] = np.arange(len(prompt), len(prompt) + len(response))
            segments[number, start:end] = segment
            before = np.arange(start - 1, end - 1)
            before[0] = len(prompt) - 1
            predicting.append(before + number * length)
            targets.append(response)
            sizes.append(len(response))
            last.append(end - 1 + number * length)
    return PackedBatch(
        torch.from_numpy(ids),
        torch.from_numpy(positions),
        torch.from_numpy(segments),
        torch.from_numpy(np.concatenate(predicting)),
        torch.from_numpy(np.concatenate(targets)),
        torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes)),
        torch.tensor(last),
    )
