"""Slices of the votes on one criterion, within which agreement is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from curation.agreement import Ints, Merge, unit_patterns
from curation.annotators.coded import CodedJudgments
from curation.annotators.judgments import Labels
from curation.annotators.voices import one_value_each
from curation.annotators.votes import NUM_VOTES, TIE, Votes


def slice_labels(criterion: str, coded: CodedJudgments, prompt_groups: Labels | None = None) -> dict[str, Labels]:
    """Which value of each slice every vote belongs to; slices without values are left out.

    Args:
        criterion: of the judgments.
        coded: the judgments.
        prompt_groups: group of near-duplicates of each of their prompts, shape (Q,); None for no groups.
    """
    labels = {"all": _constant("all", len(coded.pair)), "criterion": _constant(criterion, len(coded.pair))}
    given = {"source": coded.source, "batch": coded.batch, "week": coded.week}
    if prompt_groups is not None:
        given["prompt_group"] = Labels(prompt_groups.names, prompt_groups.code[coded.prompt][coded.pair])
    return labels | {name: values for name, values in given.items() if not values.is_empty}


def _constant(name: str, num: int) -> Labels:
    return Labels(pl.Series([name]), np.broadcast_to(np.int32(0), num))


def nominal_patterns(votes: Votes, labels: Mapping[str, Labels]) -> pl.DataFrame:
    """Vote counts of the units of every slice, for :func:`curation.agreement.alpha_by_slice`.

    A named annotator is one voice of a unit, however often they voted on its pair. Counts are in the order high, tie,
    low, as in :func:`ordinal_patterns`.
    """
    value = np.array([2, 0, 1], dtype=np.int8)[votes.vote]
    return _patterns(votes.pair, value, NUM_VOTES, labels, _merge(votes, None, middle=1))


def ordinal_patterns(coded: CodedJudgments, votes: Votes, labels: Mapping[str, Labels]) -> pl.DataFrame | None:
    """The same with the votes' strengths, from 'high by much' over a tie to 'low by much'; None where no vote has one.

    A tie counts as the middle in the sources that give strengths; other votes without one are left out.
    """
    has_strength = coded.strength >= 0
    if not has_strength.any():
        return None
    is_graded = np.zeros(len(coded.source.names), dtype=bool)
    is_graded[np.unique(coded.source.code[has_strength])] = True
    keep = np.flatnonzero((has_strength | (votes.vote == TIE)) & is_graded[coded.source.code])
    rank = np.maximum(coded.strength[keep], np.int16(0)).astype(np.int32)
    most = int(coded.strength.max())
    value = np.array([1, -1, 0], dtype=np.int32)[votes.vote[keep]] * rank + most
    kept = {name: Labels(values.names, values.code[keep]) for name, values in labels.items()}
    return _patterns(votes.pair[keep], value, 2 * most + 1, kept, _merge(votes, keep, middle=most))


def _merge(votes: Votes, rows: Ints | None, *, middle: int) -> Merge | None:
    """Makes one voice of an annotator's votes on a pair; None where nobody has several.

    ``rows``: the votes in use, None for all.
    """
    if len(votes.weight) == 0:
        return None
    return lambda unit, chosen, value: one_value_each(
        unit, votes, chosen if rows is None else rows[chosen], value, middle
    )


def _patterns(
    pair: Ints, value: Ints, num_values: int, labels: Mapping[str, Labels], merge: Merge | None
) -> pl.DataFrame:
    """Vote counts of every slice; slices that have one and the same value for all votes are counted once."""
    everything = _constant("all", len(pair))
    whole = unit_patterns(pair, value, num_values, name="all", labels=everything, merge=merge)
    found = []
    for name, values in labels.items():
        if values.is_constant:
            found.append(whole.with_columns(slice=pl.lit(name), slice_value=pl.lit(values.names[int(values.code[0])])))
        else:
            found.append(unit_patterns(pair, value, num_values, name=name, labels=values, merge=merge))
    return pl.concat(found)


def same_width(patterns: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Patterns of criteria with scales of different length, counts padded to the longest, the tie in the middle."""
    widths = [len(part["counts"][0]) for part in patterns]
    padded = []
    for part, width in zip(patterns, widths, strict=True):
        zeros = pl.lit([0] * ((max(widths) - width) // 2), dtype=pl.List(pl.Int64))
        padded.append(part.with_columns(counts=zeros.list.concat(pl.col("counts")).list.concat(zeros)))
    return pl.concat(padded)
