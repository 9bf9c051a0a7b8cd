"""Pairs as rows for a forward pass: every prompt once, its responses behind it, all rows end to end in one.

A *tree* is a prompt with the responses that share it. In a row, tokens of a response see their prompt and themselves
and nothing else; positions restart behind the prompt for every response. The last token of a response is not fed in:
it is predicted, and predicts nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data import EncodedPairs
from training.layout import Layout, Span, Tree

Batching = Literal["shared", "packed", "padded"]


@dataclass(frozen=True)
class Pack:
    """One row of pairs, ready for a forward pass.

    Attributes:
        input_ids: Shape (B, T); B is 1 but for ``padded``.
        layout: who sees whom; None for ``padded``, where ``attention_mask`` says it.
        attention_mask: Shape (B, T), or None.
        rows: places, in the flattened hidden states, that predict a response token. Shape (R,).
        read: the same places in order, each once. Shape (at most R,).
        labels: the tokens that they predict. Shape (R,).
        num_tokens: tokens of each response, in the order of ``rows``. Shape (responses,).
        chosen, rejected: response of each pair. Shape (pairs,).
        pairs: index of each pair in its :class:`EncodedPairs`. Shape (pairs,).
    """

    input_ids: Tensor
    layout: Layout | None
    attention_mask: Tensor | None
    rows: Tensor
    read: Tensor
    labels: Tensor
    num_tokens: Tensor
    chosen: Tensor
    rejected: Tensor
    pairs: NDArray[np.int64]

    def to(self, device: torch.device) -> Pack:
        """The same on another device."""
        if self.input_ids.device == device:
            return self
        moved = {
            name: getattr(self, name).to(device, non_blocking=True)
            for name in ("input_ids", "rows", "read", "labels", "num_tokens", "chosen", "rejected")
        }
        mask = None if self.attention_mask is None else self.attention_mask.to(device)
        layout = None if self.layout is None else self.layout.to(device)
        return Pack(layout=layout, attention_mask=mask, pairs=self.pairs, **moved)

    def filled(self, count: int) -> Pack:
        """With ``count`` more tokens at the end of its row, which nothing reads; not for ``padded``."""
        if count == 0:
            return self
        assert self.layout is not None
        more = self.input_ids.new_zeros(1, count)
        return replace(self, input_ids=torch.cat([self.input_ids, more], 1), layout=self.layout.filled(count))


def pack_pairs(
    pairs: EncodedPairs, indices: Sequence[int] | NDArray[np.int64], *, token_budget: int, batching: Batching = "shared"
) -> list[Pack]:
    """Packs that hold the given pairs once each, of at most ``token_budget`` tokens (a longer pair has its own).

    The lengths are known, so nothing is padded but in ``padded``, where the budget counts padding too.
    """
    if batching == "padded":
        return [_padded(pairs, part) for part in _split(pairs, indices, token_budget, batching)]
    return [_packed(pairs, part, batching) for part in _split(pairs, indices, token_budget, batching)]


def _split(
    pairs: EncodedPairs, indices: Sequence[int] | NDArray[np.int64], token_budget: int, batching: Batching
) -> Iterator[NDArray[np.int64]]:
    """Consecutive parts of the pairs that fit the budget; with sharing, pairs of one prompt stay together."""
    order = np.asarray(indices, dtype=np.int64)
    if batching == "shared":
        _, first, group = np.unique(pairs.prompt[order], return_index=True, return_inverse=True)
        order = order[np.argsort(first[group], kind="stable")]
    prompt, chosen, rejected = (pairs.lengths(s[order]) for s in (pairs.prompt, pairs.chosen, pairs.rejected))
    part: list[int] = []
    used = longest = 0
    seen: set[int] = set()
    for i, index in enumerate(order):
        if batching == "shared":
            fresh = [(s, n) for s, n in _sequences(pairs, int(index)) if s not in seen]
            cost = used + sum(n for _, n in fresh)
        elif batching == "packed":
            cost = used + int(2 * prompt[i] + chosen[i] + rejected[i])
        else:
            longest = max(longest, int(prompt[i] + max(chosen[i], rejected[i])))
            cost = 2 * (len(part) + 1) * longest
        if part and cost > token_budget:
            yield np.asarray(part, dtype=np.int64)
            part, seen = [], set()
            longest = int(prompt[i] + max(chosen[i], rejected[i]))
            cost = {"shared": int(prompt[i] + chosen[i] + rejected[i]), "padded": 2 * longest}.get(
                batching, int(2 * prompt[i] + chosen[i] + rejected[i])
            )
        part.append(int(index))
        seen.update(s for s, _ in _sequences(pairs, int(index)))
        used = cost
    if part:
        yield np.asarray(part, dtype=np.int64)


def _sequences(pairs: EncodedPairs, index: int) -> list[tuple[int, int]]:
    found = (pairs.prompt[index], pairs.chosen[index], pairs.rejected[index])
    return [(int(s), int(pairs.offsets[s + 1] - pairs.offsets[s])) for s in found]


def _packed(pairs: EncodedPairs, part: NDArray[np.int64], batching: Batching) -> Pack:
    builder = _RowBuilder(pairs, share=batching == "shared")
    members = [builder.add(int(index)) for index in part]
    return builder.build(part, members)


class _RowBuilder:
    """Collects trees of a row; a prompt with another cut is another tree, a response is entered once a tree."""

    def __init__(self, pairs: EncodedPairs, *, share: bool) -> None:
        self.pairs = pairs
        self.share = share
        self.trees: dict[tuple[int, int, int], dict[int, int]] = {}
        self.num_responses = 0

    def add(self, index: int) -> tuple[tuple[tuple[int, int, int], int], tuple[tuple[int, int, int], int]]:
        """Enter a pair; returns the (tree, response) keys of its chosen and rejected."""
        pairs = self.pairs
        prompt = int(pairs.prompt[index])
        sides = (
            (int(pairs.chosen[index]), int(pairs.chosen_cut[index])),
            (int(pairs.rejected[index]), int(pairs.rejected_cut[index])),
        )
        keys = []
        for response, cut in sides:
            tree = (prompt, cut, 0 if self.share else self.num_responses)
            members = self.trees.setdefault(tree, {})
            if response not in members:
                members[response] = self.num_responses
                self.num_responses += 1
            keys.append((tree, response))
        return keys[0], keys[1]

    def build(self, part: NDArray[np.int64], members: list) -> Pack:
        """The row of everything entered."""
        ids: list[NDArray[np.int32]] = []
        positions: list[NDArray[np.int64]] = []
        rows: list[NDArray[np.int64]] = []
        labels: list[NDArray[np.int32]] = []
        trees: list[Tree] = []
        number: dict[tuple, int] = {}
        at = 0
        for key, responses in self.trees.items():
            prompt = self.pairs.sequence(key[0], key[1])
            begin, at = at, at + len(prompt)
            ids.append(prompt)
            positions.append(np.arange(len(prompt)))
            spans: list[Span] = []
            for response in responses:
                tokens = self.pairs.sequence(response)
                number[(key, response)] = len(labels)
                labels.append(tokens)
                fed = len(tokens) - 1
                rows.append(np.concatenate([[begin + len(prompt) - 1], np.arange(at, at + fed)]))
                ids.append(tokens[:-1])
                positions.append(np.arange(len(prompt), len(prompt) + fed))
                spans.append((at, at + fed))
                at += fed
            trees.append(Tree((begin, begin + len(prompt)), tuple(spans)))
        return Pack(
            input_ids=_long(np.concatenate(ids))[None],
            layout=Layout.of(tuple(trees), _long(np.concatenate(positions))[None]),
            attention_mask=None,
            rows=_long(np.concatenate(rows)),
            read=_long(np.unique(np.concatenate(rows))),
            labels=_long(np.concatenate(labels)),
            num_tokens=torch.tensor([len(tokens) for tokens in labels]),
            chosen=torch.tensor([number[chosen] for chosen, _ in members]),
            rejected=torch.tensor([number[rejected] for _, rejected in members]),
            pairs=part,
        )


def _padded(pairs: EncodedPairs, part: NDArray[np.int64]) -> Pack:
    """A rectangle of whole sequences, all chosen first, padded on the right."""
    sides = ((pairs.chosen, pairs.chosen_cut), (pairs.rejected, pairs.rejected_cut))
    prompts, responses = [], []
    for response, cut in sides:
        prompts += [pairs.sequence(int(pairs.prompt[i]), int(cut[i])) for i in part]
        responses += [pairs.sequence(int(response[i])) for i in part]
    width = max(len(p) + len(r) for p, r in zip(prompts, responses, strict=True)) - 1
    input_ids = np.zeros((len(prompts), width), dtype=np.int64)
    mask = np.zeros((len(prompts), width), dtype=np.int64)
    rows = []
    for i, (p, r) in enumerate(zip(prompts, responses, strict=True)):
        length = len(p) + len(r) - 1
        input_ids[i, :length] = np.concatenate([p, r[:-1]])
        mask[i, :length] = 1
        rows.append(i * width + np.arange(len(p) - 1, length))
    return Pack(
        input_ids=_long(input_ids),
        layout=None,
        attention_mask=_long(mask),
        rows=_long(np.concatenate(rows)),
        read=_long(np.unique(np.concatenate(rows))),
        labels=_long(np.concatenate(responses)),
        num_tokens=torch.tensor([len(tokens) for tokens in responses]),
        chosen=torch.arange(len(part)),
        rejected=torch.arange(len(part), 2 * len(part)),
        pairs=part,
    )


def _long(array: NDArray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.int64))
