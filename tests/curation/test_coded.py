"""Judgments become the same numbers in whatever batches they come, and only in the order of their pairs."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.annotators import judgments as names
from curation.annotators.coded import CodedJudgments, chunks_of_pairs, opposed
from curation.annotators.judgments import Judgments, Labels, encode
from tests.real_votes import judgments as real_judgments


def whole() -> pl.DataFrame:
    """Real votes with some batches, strengths, weeks, unnamed voters and two sources."""
    frame = real_judgments("llmfao").with_row_index("n")
    n = pl.col("n").cast(pl.Int64)
    return frame.with_columns(
        judgment_id=pl.format("j{}", n),
        batch=pl.when(n % 7 > 0).then(pl.format("batch-{}", n % 5)),
        strength_ordinal=pl.when(n % 3 > 0).then(n % 3).cast(pl.Int16),
        annotated_at=pl.lit(datetime(2026, 1, 5)) + n * timedelta(hours=1),
        source=pl.when(n % 11 > 5).then(pl.lit("s")).otherwise(pl.lit("t")),
        annotator_id=pl.when(n % 13 > 0).then("annotator_id"),
    )


def cut(frame: pl.DataFrame, size: int) -> Judgments:
    given = Judgments.of(frame)
    (votes,), (pairs,) = given.votes, given.pairs
    return Judgments(votes.iter_slices(size), pairs.iter_slices(size))


@pytest.mark.parametrize("size", [1, 17, 4000])
def test_batches_of_any_size_give_the_same_numbers(size: int) -> None:
    frame = whole().head(3000)
    at_once, in_parts = CodedJudgments.of(Judgments.of(frame)), CodedJudgments.of(cut(frame, size))
    for field in fields(CodedJudgments):
        one, other = getattr(at_once, field.name), getattr(in_parts, field.name)
        if isinstance(one, Labels):
            assert one.names.to_list() == other.names.to_list()
            one, other = one.code, other.code
        assert np.array_equal(np.asarray(one), np.asarray(other)), field.name


def test_every_vote_keeps_what_was_said_of_it() -> None:
    frame = whole()
    coded = CodedJudgments.of(cut(frame, 1000))
    is_forward = coded.order == 0
    low, high = (coded.response_ids.gather(ends[coded.pair]) for ends in (coded.low, coded.high))
    found = pl.DataFrame(
        {
            "pair_id": coded.pair_ids.gather(coded.pair),
            "prompt_id": coded.prompt_ids.gather(coded.prompt[coded.pair]),
            "annotator_id": coded.annotator_ids.gather(coded.annotator),
            "source": coded.source.names.gather(coded.source.code),
            "week": coded.week.names.gather(coded.week.code),
            "strength": coded.strength,
            "response_a_id": low.zip_with(pl.Series(is_forward), high),
            "vote": np.where(coded.vote == 2, "tie", np.where((coded.vote == 0) == is_forward, "a", "b")),
            "batch": pl.Series(coded.batch.code).replace_strict(dict(enumerate(coded.batch.names)), default=None),
        }
    )
    expected = frame.select(
        "pair_id",
        "prompt_id",
        pl.coalesce("annotator_id", pl.lit("unnamed:") + pl.col("source")),
        "source",
        pl.col("annotated_at").dt.strftime("%G-W%V").alias("week"),
        pl.col("strength_ordinal").fill_null(-1).alias("strength"),
        "response_a_id",
        "vote",
        "batch",
    )
    assert found.sort(found.columns).equals(expected.sort(expected.columns))
    is_opposed = opposed(coded.pair, coded.vote)
    said = ("pair_id", "annotator_id", "vote", "response_a_id")
    by_id = {row[0]: row[1:] for row in expected.select(frame["judgment_id"], *said).iter_rows()}
    assert [by_id[i] for i in coded.opposed_ids] == found.filter(is_opposed).select(said).rows()
    assert 100 < coded.opposed_ids.n_unique() == is_opposed.sum()


def test_an_order_that_does_not_ascend_is_refused() -> None:
    given = Judgments.of(whole().head(100))
    (votes,), (pairs,) = given.votes, given.pairs
    with pytest.raises(ValueError, match="not handed over in ascending order of pair_id"):
        CodedJudgments.of(Judgments([votes.reverse()], [pairs]))
    with pytest.raises(ValueError, match="not handed over in ascending order of pair_id"):
        CodedJudgments.of(Judgments([votes, votes], [pairs]))


def test_pairs_of_other_judgments_are_refused() -> None:
    given = Judgments.of(whole().head(100))
    (votes,), (pairs,) = given.votes, given.pairs
    with pytest.raises(ValueError, match="are not those of the judgments"):
        CodedJudgments.of(Judgments([votes], [pairs.reverse()]))
    with pytest.raises(ValueError, match=rf"{len(pairs) - 1} pairs were handed over, and judgments on {len(pairs)}"):
        CodedJudgments.of(Judgments([votes], [pairs.head(-1)]))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=3), min_size=1, max_size=60), st.integers(1, 20))
def test_strings_are_numbered_by_rank_in_ranges_of_any_size(values: list[str], size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(names, "_RANGE_VALUES", size)
        distinct, code = encode(pl.Series(values))
    expected = sorted(set(values), key=str.encode)
    assert distinct.to_list() == expected
    assert [expected[c] for c in code] == values


def test_chunks_end_where_a_pair_ends() -> None:
    pair = np.array([0, 0, 1, 1, 1, 1, 2, 5, 5])
    assert list(chunks_of_pairs(pair, 3)) == [(0, 6), (6, 9)]
    assert list(chunks_of_pairs(pair[:0], 3)) == []
