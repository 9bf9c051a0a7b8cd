"""Agreement within slices: weeks, and strengths where the source gives them."""

from __future__ import annotations

from datetime import datetime

import krippendorff
import numpy as np
import polars as pl
import pytest

from curation.agreement import alpha_by_slice
from curation.annotators.coded import CodedJudgments
from curation.annotators.judgments import Judgments
from curation.annotators.votes import Votes
from curation.slices import nominal_patterns, ordinal_patterns, same_width, slice_labels

DAYS = {"p": datetime(2025, 12, 31), "q": datetime(2026, 1, 1), "r": datetime(2026, 1, 5), "s": None}
"""A Wednesday and a Thursday of the first ISO week of 2026, the Monday after, and a day that nobody noted."""

VOTES = [
    ("p", "u", "a", 3),
    ("p", "v", "a", 1),
    ("p", "w", "tie", None),
    ("q", "u", "b", 2),
    ("q", "v", "a", 1),
    ("r", "u", "b", 1),
    ("r", "v", "b", 3),
    ("s", "u", "a", 2),
    ("s", "v", "tie", None),
]


def judged() -> pl.DataFrame:
    frame = pl.DataFrame(VOTES, schema=["pair_id", "annotator_id", "vote", "strength_ordinal"], orient="row")
    return frame.with_columns(
        response_a_id=pl.col("pair_id") + "x",
        response_b_id=pl.col("pair_id") + "y",
        is_display_order_known=pl.lit(True),
        source=pl.lit("s"),
        batch=pl.lit(None, dtype=pl.String),
        annotated_at=pl.col("pair_id").replace_strict(DAYS, return_dtype=pl.Datetime),
    )


def coded_and_votes(frame: pl.DataFrame) -> tuple[CodedJudgments, Votes]:
    coded = CodedJudgments.of(Judgments.of(frame))
    return coded, Votes.of_coded(coded)


def alphas(level: str, frame: pl.DataFrame) -> dict[tuple[str, str], dict[str, float]]:
    coded, votes = coded_and_votes(frame)
    labels = slice_labels("overall", coded)
    made = nominal_patterns(votes, labels) if level == "nominal" else ordinal_patterns(coded, votes, labels)
    assert made is not None
    rows = alpha_by_slice(made, level=level, num_bootstraps=20, seed=0).iter_rows(named=True)
    return {(row["slice"], row["slice_value"]): row for row in rows}


def test_weeks_are_iso_weeks_and_slices_without_values_are_left_out() -> None:
    found = alphas("nominal", judged())
    assert {name for name, _ in found} == {"all", "criterion", "source", "week"}
    assert sorted(value for name, value in found if name == "week") == ["2026-W01", "2026-W02"]
    assert found["week", "2026-W01"]["num_votes"] == 5
    assert found["week", "2026-W02"]["alpha"] is None  # both votes are the same
    assert found["all", "all"]["num_units"] == 4


def test_the_alpha_of_a_week_is_that_of_its_votes_alone() -> None:
    first = judged().filter(pl.col("annotated_at") < datetime(2026, 1, 4))
    for level in ("nominal", "ordinal"):
        whole, alone = alphas(level, judged()), alphas(level, first)
        assert whole["week", "2026-W01"]["alpha"] == pytest.approx(alone["all", "all"]["alpha"])


def test_ordinal_alpha_of_strengths_is_the_packages_with_ties_in_the_middle() -> None:
    counts = np.zeros((4, 7))
    for pair, _, vote, strength in VOTES:
        # from 'y by 3' over a tie to 'x by 3'
        counts["pqrs".index(pair), 3 + {"a": 1, "b": -1, "tie": 0}[vote] * (strength or 0)] += 1
    expected = krippendorff.alpha(value_counts=counts, level_of_measurement="ordinal")
    assert alphas("ordinal", judged())["all", "all"]["alpha"] == pytest.approx(expected, abs=1e-9)


def test_votes_without_a_strength_and_sources_without_any_are_left_out() -> None:
    other = judged().with_columns(source=pl.lit("t"), strength_ordinal=pl.lit(None, dtype=pl.Int64))
    lacking = judged().with_columns(
        strength_ordinal=pl.when((pl.col("pair_id") != "q") | (pl.col("annotator_id") != "v")).then("strength_ordinal")
    )
    both = pl.concat([lacking, other.with_columns(pl.col("annotator_id") + "2")])
    found = alphas("ordinal", both)
    assert ("source", "t") not in found
    assert found["all", "all"]["num_units"] == 3  # q has one graded vote left
    coded, votes = coded_and_votes(other)
    assert ordinal_patterns(coded, votes, slice_labels("overall", coded)) is None


def test_scales_of_different_length_meet_at_the_tie() -> None:
    short, long = (
        pl.DataFrame({"slice": ["all"], "slice_value": ["all"], "counts": [counts], "num_same": [1]})
        for counts in ([1, 2, 3], [1, 0, 2, 0, 4])
    )
    assert same_width([short, long])["counts"].to_list() == [[0, 1, 2, 3, 0], [1, 0, 2, 0, 4]]
