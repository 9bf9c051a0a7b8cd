"""Slices of the votes on one criterion, within which agreement is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from curation.agreement import Ints, Merge, unit_patterns
from curation.annotators.voices import one_value_each
from curation.annotators.votes import NUM_VOTES, TIE, Votes


def slice_labels(criterion: str, judgments: pl.DataFrame, votes: Votes) -> dict[str, pl.Series]:
    """Which value of each slice every vote belongs to, in the order of the votes; slices without values are left out.

    Args:
        criterion: of the votes.
        judgments: what the votes were made from: ``source``, ``batch``, ``annotated_at``, ``prompt_group_id``.
        votes: of that frame.
    """
    given = judgments.select(
        source="source",
        batch="batch",
        week=pl.col("annotated_at").dt.strftime("%G-W%V"),
        prompt_group="prompt_group_id",
    )
    given = given.select(name for name in given.columns if given[name].null_count() < len(given))
    ordered = given[votes.row]
    return {
        "all": pl.repeat("all", votes.num_votes, eager=True),
        "criterion": pl.repeat(criterion, votes.num_votes, eager=True),
        **{name: ordered[name] for name in ordered.columns},
    }


def nominal_patterns(votes: Votes, labels: Mapping[str, pl.Series]) -> pl.DataFrame:
    """Vote counts of the units of every slice, for :func:`curation.agreement.alpha_by_slice`.

    A named annotator is one voice of a unit, however often they voted on its pair. Counts are in the order high, tie,
    low, as in :func:`ordinal_patterns`.
    """
    value = np.array([2, 0, 1])[votes.vote]
    return _patterns(votes.pair, value, NUM_VOTES, labels, _merge(votes, np.arange(votes.num_votes), middle=1))


def ordinal_patterns(judgments: pl.DataFrame, votes: Votes, labels: Mapping[str, pl.Series]) -> pl.DataFrame | None:
    """The same with the votes' strengths, from 'high by much' over a tie to 'low by much'; None where no vote has one.

    A tie counts as the middle in the sources that give strengths; other votes without one are left out.
    """
    strength = judgments["strength_ordinal"].gather(votes.row)
    if strength.null_count() == len(strength):
        return None
    graded = judgments.filter(pl.col("strength_ordinal").is_not_null())["source"].unique()
    is_graded = judgments["source"].gather(votes.row).is_in(graded.to_list())
    keep = ((strength.is_not_null() | pl.Series(votes.vote == TIE)) & is_graded).to_numpy()
    rank = strength.fill_null(0).to_numpy()
    most = int(rank.max())
    value = np.array([1, -1, 0])[votes.vote] * rank + most
    kept = {name: values.filter(pl.Series(keep)) for name, values in labels.items()}
    merge = _merge(votes, np.flatnonzero(keep), middle=most)
    return _patterns(votes.pair[keep], value[keep], 2 * most + 1, kept, merge)


def _merge(votes: Votes, rows: Ints, *, middle: int) -> Merge | None:
    """Makes one voice of an annotator's votes on a pair; None where nobody has several. ``rows``: votes in use."""
    if len(votes.weight) == 0:
        return None
    return lambda unit, chosen, value: one_value_each(unit, votes, rows[chosen], value, middle)


def _patterns(
    pair: Ints, value: Ints, num_values: int, labels: Mapping[str, pl.Series], merge: Merge | None
) -> pl.DataFrame:
    """Vote counts of every slice; slices that have one and the same value for all votes are counted once."""
    every = pl.repeat("", len(pair), eager=True)
    whole = unit_patterns(pair, value, num_values, name="all", labels=every, merge=merge)
    found = []
    for name, values in labels.items():
        if values.null_count() == 0 and (values == values.first()).all():
            found.append(whole.with_columns(slice=pl.lit(name), slice_value=pl.lit(values.first())))
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
