"""Judgments as arrays: pairs, annotators and votes become integers.

A pair's *canonical* order is by response id: ``low`` and ``high``. A vote is stored canonically, together with the
display order in which it was given, so that position bias can be told from preference.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curation.annotators.coded import (
    BACKWARD,
    FORWARD,
    HIGH,
    LOW,
    NUM_CELLS,
    NUM_VOTES,
    TIE,
    UNKNOWN,
    UNNAMED,
    CodedJudgments,
)
from curation.annotators.em import ALL_ONE, Ballots
from curation.annotators.judgments import Judgments
from curation.annotators.repeats import repeat_weights

__all__ = ["BACKWARD", "FORWARD", "HIGH", "LOW", "NUM_CELLS", "NUM_VOTES", "TIE", "UNKNOWN", "UNNAMED", "Votes"]


@dataclass(frozen=True)
class Votes:
    """All votes on one criterion, sorted by pair, annotator and cell.

    Attributes:
        pair_ids: sorted, shape (P,), strings.
        response_ids: sorted, shape (R,), strings.
        low, high: index of each pair's responses, shape (P,), int32.
        annotator_ids: sorted, shape (A,), strings; ``unnamed:SOURCE`` where the source gives no annotator.
        pair: index of each vote's pair, shape (N,), int32, ascending.
        annotator: index of each vote's annotator, shape (N,), int32.
        vote: LOW, HIGH or TIE, shape (N,), int8.
        order: FORWARD, BACKWARD or UNKNOWN, shape (N,), int8.
    """

    pair_ids: pl.Series
    response_ids: pl.Series
    low: NDArray[np.int32]
    high: NDArray[np.int32]
    annotator_ids: pl.Series
    pair: NDArray[np.int32]
    annotator: NDArray[np.int32]
    vote: NDArray[np.int8]
    order: NDArray[np.int8]

    @classmethod
    def of(cls, judgments: pl.DataFrame) -> Votes:
        """Arrays of a frame as :meth:`Judgments.of` takes it."""
        return cls.of_coded(CodedJudgments.of(Judgments.of(judgments)))

    @classmethod
    def of_coded(cls, coded: CodedJudgments) -> Votes:
        """The votes of judgments that are numbers already; shares their arrays."""
        return cls(
            coded.pair_ids,
            coded.response_ids,
            coded.low,
            coded.high,
            coded.annotator_ids,
            coded.pair,
            coded.annotator,
            coded.vote,
            coded.order,
        )

    @property
    def low_ids(self) -> pl.Series:
        """The lower response id of each pair, shape (P,)."""
        return self.response_ids.gather(self.low)

    @property
    def high_ids(self) -> pl.Series:
        """The higher response id of each pair, shape (P,)."""
        return self.response_ids.gather(self.high)

    @property
    def num_pairs(self) -> int:
        """P."""
        return len(self.pair_ids)

    @property
    def num_annotators(self) -> int:
        """A."""
        return len(self.annotator_ids)

    @property
    def num_votes(self) -> int:
        """N."""
        return len(self.pair)

    @cached_property
    def cell(self) -> NDArray[np.int32]:
        """Annotator, display order and canonical vote as one number, shape (N,)."""
        return (self.annotator * NUM_CELLS + self.order * NUM_VOTES + self.vote).astype(np.int32)

    @cached_property
    def ballots(self) -> Ballots:
        """The votes as the compiled loops read them."""
        num_cells = self.num_annotators * NUM_CELLS
        return Ballots.of(self.pair, self.cell, num_pairs=self.num_pairs, num_cells=num_cells, weight=self.weight)

    @cached_property
    def weight(self) -> NDArray[np.float32]:
        """What each vote weighs in the likelihood, shape (N,); shape (0,) where nobody named votes twice on a pair."""
        is_first = self.is_first
        again = self.pair[~is_first & self.is_named[self.annotator]]
        if len(again) == 0:
            return ALL_ONE
        # only pairs on which somebody votes again are looked at
        has_again = np.zeros(self.num_pairs, dtype=bool)
        has_again[again] = True
        rows = np.flatnonzero(has_again[self.pair])
        number = np.cumsum(has_again, dtype=np.int32) - 1
        value = np.array([1.0, -1.0, 0.0])[self.vote[rows]]
        weight = np.ones(self.num_votes, dtype=np.float32)
        weight[rows] = repeat_weights(
            number[self.pair[rows]], self.annotator[rows], value, is_first[rows], self.is_named
        )
        return weight

    @cached_property
    def tally(self) -> NDArray[np.int32]:
        """Votes for low, for high and for neither, shape (P, 3)."""
        flat = np.bincount(self.pair.astype(np.int64) * NUM_VOTES + self.vote, minlength=self.num_pairs * NUM_VOTES)
        return flat.reshape(-1, NUM_VOTES).astype(np.int32)

    @property
    def is_named(self) -> NDArray[np.bool_]:
        """Annotators that the source names, shape (A,); the votes of one that it does not are of different people."""
        return ~self.annotator_ids.str.starts_with(UNNAMED).to_numpy()

    @property
    def is_first(self) -> NDArray[np.bool_]:
        """Whether a vote is the first of its annotator on its pair, shape (N,)."""
        is_new = np.ones(self.num_votes, dtype=bool)
        is_new[1:] = (self.pair[1:] != self.pair[:-1]) | (self.annotator[1:] != self.annotator[:-1])
        return is_new

    @cached_property
    def num_annotators_of_pair(self) -> NDArray[np.int32]:
        """Distinct annotators of each pair, shape (P,)."""
        return np.bincount(self.pair[self.is_first], minlength=self.num_pairs).astype(np.int32)

    def of_pairs(self, chosen: NDArray[np.integer]) -> Votes:
        """The votes of some pairs, which are numbered anew; ``chosen`` ascends."""
        number = np.full(self.num_pairs, -1, dtype=np.int32)
        number[chosen] = np.arange(len(chosen), dtype=np.int32)
        pair = number[self.pair]
        keep = pair >= 0
        return Votes(
            self.pair_ids.gather(chosen),
            self.response_ids,
            self.low[chosen],
            self.high[chosen],
            self.annotator_ids,
            pair[keep],
            self.annotator[keep],
            self.vote[keep],
            self.order[keep],
        )

    def take(self, keep: NDArray[np.bool_]) -> Votes:
        """The same pairs and annotators with only some of the votes; a pair may be left without any."""
        return Votes(
            self.pair_ids,
            self.response_ids,
            self.low,
            self.high,
            self.annotator_ids,
            self.pair[keep],
            self.annotator[keep],
            self.vote[keep],
            self.order[keep],
        )
