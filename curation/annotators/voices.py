"""Votes as voices: who votes several times on a pair is still one voter.

In agreement and in exact tests the median of an annotator's votes on a pair counts, with a tie in the middle: the side
that has more than half of them, else a tie. The votes of a source that names nobody are taken to be of different
people. What repeated votes weigh in the likelihood says :mod:`curation.annotators.repeats`.
"""

from __future__ import annotations

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
    voices = votes.take(is_voice)
    # only what several votes stand behind is looked at, so that it costs little where few vote again
    is_more = np.append(~is_voice, False)
    is_of_several = is_more[:-1] | is_more[1:]
    several = np.flatnonzero(is_of_several)
    start = np.flatnonzero(is_voice[several])
    num, vote = np.diff(np.append(start, len(several))), votes.vote[several]
    low, high = (np.add.reduceat((vote == side).astype(np.int32), start) for side in (LOW, HIGH))
    voices.vote[is_of_several[is_voice]] = np.where(2 * low > num, LOW, np.where(2 * high > num, HIGH, TIE))
    return voices


def one_value_each(
    unit: NDArray[np.integer], votes: Votes, row: NDArray[np.integer], value: NDArray[np.integer], middle: int
) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """One value of each named annotator in each unit: the median of theirs, half a step to the ``middle``.

    Args:
        unit: of each value, shape (M,).
        votes: that the values come from.
        row: which vote each value is of, ascending, shape (M,).
        value: codes in rank order, shape (M,).
        middle: code of a tie.

    Returns:
        Unit and value of each voice.
    """
    annotator = votes.annotator[row].astype(np.int64)
    voice = np.where(votes.is_named[annotator], annotator, votes.num_annotators + row)
    # votes of one annotator on one pair stand beside one another, so who stands alone has one value
    is_again = voice[1:] == voice[:-1]
    is_of_several = np.append(is_again, False) | np.append(False, is_again)
    alone = np.flatnonzero(~is_of_several)
    several = np.flatnonzero(is_of_several)
    frame = pl.DataFrame({"unit": unit[several], "voice": voice[several], "value": value[several].astype(np.int32)})
    median = pl.col("value").median() - middle
    voices = frame.group_by("unit", "voice").agg(value=median.sign() * median.abs().floor() + middle)
    return (
        np.concatenate((unit[alone], voices["unit"].to_numpy())),
        np.concatenate((value[alone], voices["value"].cast(pl.Int32).to_numpy())),
    )
