"""Votes as voices: who votes several times on a pair is still one voter.

In agreement and in exact tests the median of an annotator's votes on a pair counts, with a tie in the middle: the side
that has more than half of them, else a tie. The votes of a source that names nobody are taken to be of different
people. What repeated votes weigh in the likelihood says :mod:`curation.annotators.repeats`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curation.annotators.votes import HIGH, LOW, TIE, Votes


def one_vote_each(votes: Votes, *, is_unnamed_one: bool = False) -> Votes:
    """The same pairs and annotators with one vote of each named annotator on each pair; the order is that of the first.

    Args:
        votes: of any number.
        is_unnamed_one: count all voters that a source does not name as one annotator too.
    """
    is_voice = votes.is_first
    if not is_unnamed_one:
        is_voice |= ~votes.is_named[votes.annotator]
    if is_voice.all():
        return votes
    start = np.flatnonzero(is_voice)
    num = np.diff(np.append(start, votes.num_votes))
    low, high = (np.add.reduceat((votes.vote == side).astype(np.int32), start) for side in (LOW, HIGH))
    vote = np.where(2 * low > num, LOW, np.where(2 * high > num, HIGH, TIE)).astype(np.int8)
    return replace(votes.take(is_voice), vote=vote)


def one_value_each(
    unit: NDArray[np.integer], votes: Votes, row: NDArray[np.integer], value: NDArray[np.integer], middle: int
) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """One value of each named annotator in each unit: the median of theirs, half a step to the ``middle``.

    Args:
        unit: of each value, shape (M,).
        votes: that the values come from.
        row: which vote each value is of, shape (M,).
        value: codes in rank order, shape (M,).
        middle: code of a tie.

    Returns:
        Unit and value of each voice.
    """
    annotator = votes.annotator[row].astype(np.int64)
    voice = np.where(votes.is_named[annotator], annotator, votes.num_annotators + row)
    frame = pl.DataFrame({"unit": unit, "voice": voice, "value": value.astype(np.int32)})
    median = pl.col("value").median() - middle
    voices = frame.group_by("unit", "voice").agg(value=median.sign() * median.abs().floor() + middle)
    return voices["unit"].to_numpy(), voices["value"].cast(pl.Int32).to_numpy()
