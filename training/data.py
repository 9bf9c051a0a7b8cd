"""An export's pairs as token ids: one flat array of tokens, and per pair the sequences that it uses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from schemas.tokens import Template, Tokenizer, encode_groups
from training.preflight import check_values, numbers

Truncation = Literal["drop", "left"]
Advance = Callable[[int, str], None]

_GROUPS_AT_ONCE = 256
"""Prompts of one call of the tokenizer, which works on them in parallel."""


@dataclass(frozen=True)
class EncodedPairs:
    """N pairs over S distinct token sequences. A prompt's or response's tokens are stored once.

    Attributes:
        tokens: ids of all sequences, end to end. Shape (T,).
        offsets: where each sequence begins. Shape (S + 1,).
        prompt, chosen, rejected: sequence of each pair. Shape (N,).
        chosen_cut, rejected_cut: tokens dropped from the left of the prompt in front of that response. Shape (N,).
        reference_chosen_logps, reference_rejected_logps: nats, NaN where the export has none. Shape (N,).
        weight: > 0. Shape (N,).
        soft_label: 1 where the export has none. Shape (N,).
        pair_id, criterion, source, objective: as exported; objective is "" where not routed. Shape (N,).
        num_too_long: pairs that were dropped because they exceed the longest length.
        num_weightless: pairs that were dropped because their weight is 0.
        num_cut_otherwise: pairs that were dropped because their reference log-probs are of a prompt cut elsewhere.
    """

    tokens: NDArray[np.int32]
    offsets: NDArray[np.int64]
    prompt: NDArray[np.int64]
    chosen: NDArray[np.int64]
    rejected: NDArray[np.int64]
    chosen_cut: NDArray[np.int64]
    rejected_cut: NDArray[np.int64]
    reference_chosen_logps: NDArray[np.float64]
    reference_rejected_logps: NDArray[np.float64]
    weight: NDArray[np.float64]
    soft_label: NDArray[np.float64]
    pair_id: NDArray[np.object_]
    criterion: NDArray[np.object_]
    source: NDArray[np.object_]
    objective: NDArray[np.object_]
    num_too_long: int = 0
    num_weightless: int = 0
    num_cut_otherwise: int = 0

    def __len__(self) -> int:
        return len(self.prompt)

    def sequence(self, index: int, cut: int = 0) -> NDArray[np.int32]:
        """Token ids of a sequence without its first ``cut``."""
        return self.tokens[self.offsets[index] + cut : self.offsets[index + 1]]

    def lengths(self, sequence: NDArray[np.int64]) -> NDArray[np.int64]:
        """Number of tokens of each of the given sequences."""
        return self.offsets[sequence + 1] - self.offsets[sequence]

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt with a response, as they are fed in; 0 where there are no pairs."""
        prompt = self.lengths(self.prompt)
        sides = ((self.chosen, self.chosen_cut), (self.rejected, self.rejected_cut))
        return int(max((np.max(prompt - cut + self.lengths(side) - 1, initial=0) for side, cut in sides), default=0))

    @property
    def shared_lengths(self) -> NDArray[np.int64]:
        """Tokens of each pair with its prompt counted once. Shape (N,)."""
        return self.lengths(self.prompt) + self.lengths(self.chosen) + self.lengths(self.rejected)

    @cached_property
    def best_share(self) -> NDArray[np.float64]:
        """1 over the pairs of a prompt in which its best response is chosen, 0 in the other pairs. Shape (N,).

        The best response is one that is never rejected, so a prompt whose preferences go in a circle has none.
        """
        never_rejected = ~np.isin(self.chosen, self.rejected)
        numbers, place, times = np.unique(self.chosen, return_inverse=True, return_counts=True)
        prompts_of = np.zeros(len(numbers), np.int64)
        prompts_of[place] = self.prompt
        rivals = np.isin(numbers, self.chosen[never_rejected])
        per_prompt = {int(p): int(c) for p, c in zip(*np.unique(prompts_of[rivals], return_counts=True), strict=True)}
        shared = np.array([per_prompt.get(int(p), 1) for p in self.prompt], dtype=np.float64)
        return np.where(never_rejected, 1.0 / (times[place] * shared), 0.0)

    def labels(self, column: str, *, own_objective: str) -> NDArray[np.object_]:
        """Slice of each pair by ``criterion``, ``source`` or ``objective``. Shape (N,).

        A pair that is not routed has the run's own objective, one without criterion or source is in ``(none)``, and a
        label that reads ``all`` is written ``(all)``, as "all" is the whole set.
        """
        named = {"": own_objective if column == "objective" else "(none)", "all": "(all)"}
        return np.array([named.get(label, label) for label in getattr(self, column)], dtype=object)

    def take(self, rows: NDArray[np.int64]) -> EncodedPairs:
        """The given pairs, over the same tokens."""
        picked = {name: getattr(self, name)[rows] for name in _PER_PAIR}
        return EncodedPairs(tokens=self.tokens, offsets=self.offsets, **picked)

    def evenly(self, limit: int) -> EncodedPairs:
        """At most ``limit`` pairs (0 for all), evenly spaced, so that the choice does not depend on chance."""
        if limit == 0 or len(self) <= limit:
            return self
        rows = np.linspace(0, len(self) - 1, limit).astype(np.int64)
        counts = ("num_too_long", "num_weightless", "num_cut_otherwise")
        return replace(self.take(rows), **{name: getattr(self, name) for name in counts})


_PER_PAIR = (
    "prompt",
    "chosen",
    "rejected",
    "chosen_cut",
    "rejected_cut",
    "reference_chosen_logps",
    "reference_rejected_logps",
    "weight",
    "soft_label",
    "pair_id",
    "criterion",
    "source",
    "objective",
)


def encode_pairs(
    table: pa.Table,
    tokenizer: Tokenizer,
    *,
    template: Template = "auto",
    max_length: int | None = None,
    truncate: Truncation = "drop",
    advance: Advance | None = None,
) -> EncodedPairs:
    """Turn an export's rows into tokens; every prompt is tokenized once with all of its responses.

    Args:
        table: columns of :data:`training.export_folder.COLUMNS`.
        tokenizer: of the policy.
        template: as the scorer used it.
        max_length: most tokens of a prompt with one response; None for no limit.
        truncate: whether a longer pair is dropped and counted, or its prompt cut from the left.
        advance: called with (rows done, note) as encoding goes on.

    Raises:
        TokenError: a conversation cannot be tokenized.
        TrainingError: a weight or soft label is out of range.
    """
    store = _Store()
    rows = {name: np.zeros(table.num_rows, dtype=np.int64) for name in ("prompt", "chosen", "rejected")}
    groups = list(_groups(table))
    for begin in range(0, len(groups), _GROUPS_AT_ONCE):
        part = groups[begin : begin + _GROUPS_AT_ONCE]
        asked = [(json.loads(prompt), list(texts)) for prompt, _, texts in part]
        for (_, members, texts), group in zip(part, encode_groups(tokenizer, asked, template=template), strict=True):
            prompt_at = store.add(group.prompt_ids)
            response_at = {text: store.add(ids) for text, ids in zip(texts, group.response_ids, strict=True)}
            for row, chosen, rejected in members:
                rows["prompt"][row] = prompt_at
                rows["chosen"][row] = response_at[chosen]
                rows["rejected"][row] = response_at[rejected]
        if advance is not None:
            advance(sum(len(members) for _, members, _ in part), "")
    whole = EncodedPairs(
        tokens=np.concatenate(store.sequences) if store.sequences else np.zeros(0, np.int32),
        offsets=np.cumsum([0, *(len(each) for each in store.sequences)], dtype=np.int64),
        chosen_cut=np.zeros(table.num_rows, np.int64),
        rejected_cut=np.zeros(table.num_rows, np.int64),
        num_too_long=0,
        num_weightless=0,
        num_cut_otherwise=0,
        **rows,
        **_columns(table),
    )
    return _fit(whole, max_length, truncate)


class _Store:
    def __init__(self) -> None:
        self.sequences: list[NDArray[np.int32]] = []

    def add(self, ids: Sequence[int]) -> int:
        self.sequences.append(np.asarray(ids, dtype=np.int32))
        return len(self.sequences) - 1


_Member = tuple[int, str, str]


def _groups(table: pa.Table) -> Iterator[tuple[str, list[_Member], dict[str, None]]]:
    """Each prompt with its rows (number, chosen, rejected) and its distinct responses, in order of appearance."""
    members: dict[str, list[_Member]] = {}
    prompts = table.column("prompt").to_pylist()
    chosen, rejected = table.column("chosen").to_pylist(), table.column("rejected").to_pylist()
    for row, prompt in enumerate(prompts):
        members.setdefault(prompt, []).append((row, chosen[row], rejected[row]))
    for prompt, found in members.items():
        yield prompt, found, dict.fromkeys(text for member in found for text in member[1:])


def _columns(table: pa.Table) -> dict[str, NDArray]:
    columns: dict[str, NDArray] = {
        "reference_chosen_logps": numbers(table, "reference_chosen_logps", np.nan),
        "reference_rejected_logps": numbers(table, "reference_rejected_logps", np.nan),
        "weight": numbers(table, "weight", 1.0),
        "soft_label": numbers(table, "soft_label", 1.0),
    }
    for name in ("pair_id", "criterion", "source", "objective"):
        columns[name] = np.asarray(table.column(name).fill_null("").to_pylist(), dtype=object)
    check_values(table)
    return columns


def _fit(pairs: EncodedPairs, max_length: int | None, truncate: Truncation) -> EncodedPairs:
    """Drop pairs without weight; drop or cut those that are too long."""
    keep = pairs.weight > 0
    num_weightless = int((~keep).sum())
    cuts = {"chosen_cut": pairs.chosen_cut, "rejected_cut": pairs.rejected_cut}
    if max_length is not None:
        prompt = pairs.lengths(pairs.prompt)
        for name, response in (("chosen_cut", pairs.chosen), ("rejected_cut", pairs.rejected)):
            cuts[name] = np.maximum(prompt + pairs.lengths(response) - max_length, 0)
        longest = np.maximum(cuts["chosen_cut"], cuts["rejected_cut"])
        fits = longest < prompt if truncate == "left" else longest == 0
    else:
        fits = np.ones(len(pairs), dtype=bool)
    num_too_long = int((keep & ~fits).sum())
    rows = np.flatnonzero(keep & fits)
    picked = {name: getattr(pairs, name)[rows] for name in _PER_PAIR}
    picked.update({name: cut[rows] for name, cut in cuts.items()})
    return EncodedPairs(
        tokens=pairs.tokens,
        offsets=pairs.offsets,
        num_too_long=num_too_long,
        num_weightless=num_weightless,
        **picked,
    )
