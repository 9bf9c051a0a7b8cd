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

from curation.annotators.em import ALL_ONE, Ballots
from curation.annotators.repeats import repeat_weights

LOW, HIGH, TIE = 0, 1, 2
"""Codes of a canonical vote: for the lower response id, for the higher one, for neither."""

FORWARD, BACKWARD, UNKNOWN = 0, 1, 2
"""Codes of the display order: the lower id first, the higher id first, not known."""

UNNAMED = "unnamed:"
"""Beginning of the id that stands for the voters of a source that names nobody."""

NUM_VOTES = 3
NUM_CELLS = 9
"""Cells of one annotator: display order x canonical vote."""

COLUMNS = (
    "pair_id",
    "response_a_id",
    "response_b_id",
    "vote",
    "is_display_order_known",
    "annotator_id",
    "source",
)
"""Columns of ``raw.judgments`` that the annotator model reads."""


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
        row: where the vote stands in the frame that it came from, shape (N,).
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
    row: NDArray[np.int32]

    @classmethod
    def of(cls, judgments: pl.DataFrame) -> Votes:
        """Arrays of a frame with the columns of ``COLUMNS``; rows may stand in any order."""
        pair_ids, pair = encode(judgments["pair_id"])
        named = judgments.select(
            pl.when(pl.col("annotator_id").is_null())
            .then(pl.lit(UNNAMED) + pl.col("source"))
            .otherwise(pl.col("annotator_id"))
            .alias("annotator_id")
        )["annotator_id"]
        annotator_ids, annotator = encode(named)
        is_forward = (judgments["response_a_id"] < judgments["response_b_id"]).to_numpy()
        is_known = judgments["is_display_order_known"].to_numpy()
        is_tie = (judgments["vote"] == "tie").to_numpy()
        is_first = (judgments["vote"] == "a").to_numpy()
        vote = np.where(is_tie, TIE, np.where(is_first == is_forward, LOW, HIGH)).astype(np.int8)
        order = np.where(is_known, np.where(is_forward, FORWARD, BACKWARD), UNKNOWN).astype(np.int8)
        cell = annotator * np.int64(NUM_CELLS) + order * NUM_VOTES + vote
        key = pair * np.int64(len(annotator_ids) * NUM_CELLS) + cell
        sequence = pl.Series(key).arg_sort().to_numpy().astype(np.int32)
        pair = pair[sequence]
        first = sequence[np.searchsorted(pair, np.arange(len(pair_ids), dtype=pair.dtype))]
        ends = judgments.select("response_a_id", "response_b_id")[first]
        response_ids, code = encode(pl.concat([ends["response_a_id"], ends["response_b_id"]], rechunk=False))
        one, other = code[: len(first)], code[len(first) :]
        return cls(
            pair_ids,
            response_ids,
            np.minimum(one, other),
            np.maximum(one, other),
            annotator_ids,
            pair,
            annotator[sequence],
            vote[sequence],
            order[sequence],
            sequence,
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
        if not self.is_named[self.annotator[~is_first]].any():
            return ALL_ONE
        value = np.array([1.0, -1.0, 0.0])[self.vote]
        return repeat_weights(self.pair, self.annotator, value, is_first, self.is_named)

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
            self.row[keep],
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
            self.row[keep],
        )


def encode(values: pl.Series) -> tuple[pl.Series, NDArray[np.int32]]:
    """Sorted distinct strings, and each value's index among them, shape (N,); none may be NULL."""
    distinct = compact(values.unique().sort())
    numbered = pl.DataFrame({"value": distinct, "code": np.arange(len(distinct), dtype=np.int32)})
    coded = pl.DataFrame({"value": values}).join(numbered, on="value", how="left", maintain_order="left")
    return distinct, coded["code"].to_numpy()


def compact(strings: pl.Series) -> pl.Series:
    """The same strings without the bytes of those that were left out when they were picked from a longer series."""
    copied = pl.from_arrow(strings.to_arrow())
    assert isinstance(copied, pl.Series)
    return copied.alias(strings.name)
