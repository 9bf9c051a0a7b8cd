"""Every kind of contradiction is found with its evidence, and nothing else is."""

from __future__ import annotations

import json

import polars as pl
import pytest

from curation.annotators.coded import CodedJudgments
from curation.annotators.estimates import pair_estimates
from curation.annotators.judgments import Judgments
from curation.annotators.model import fit
from curation.annotators.votes import Votes
from curation.contradictions import between_pairs, between_votes
from curation.diagnosis import graphs_of
from tests.real_votes import judgments as real_judgments

NEAR = pl.DataFrame(schema={"kind": pl.String, "item_id": pl.String, "group_id": pl.String})

Row = tuple[str, str, str, str, str | None, str]


def judgments(rows: list[Row], *, prompt: str = "prompt") -> pl.DataFrame:
    """Of (pair, first response, second response, vote, annotator, source)."""
    names = ("pair_id", "response_a_id", "response_b_id", "vote", "annotator_id", "source")
    frame = pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row").with_row_index("n")
    return frame.select(
        *names, judgment_id=pl.format("j{}", "n"), prompt_id=pl.lit(prompt), is_display_order_known=pl.lit(True)
    )


def find(frame: pl.DataFrame, near: pl.DataFrame = NEAR) -> pl.DataFrame:
    prompts = frame.group_by("pair_id").agg(pl.col("prompt_id").first())
    coded = CodedJudgments.of(Judgments.of(frame))
    pairs = pair_estimates(fit(Votes.of_coded(coded))).join(prompts, on="pair_id", maintain_order="left")
    pairs = pairs.with_columns(criterion=pl.lit("overall"))
    graphs = graphs_of(pairs, coded.prompt, seed=0)
    found = (
        between_votes(coded, pairs),
        between_pairs(pairs, near, graphs["pair_graph"], graphs["preference_components"]),
    )
    return pl.concat(found).sort("kind", "contradiction_id", "pair_id", "annotator_id")


def kinds(found: pl.DataFrame) -> dict[str, int]:
    return dict(found.group_by("kind").len().iter_rows())


def test_agreement_is_no_contradiction_and_neither_is_a_tie() -> None:
    assert find(
        judgments([("p", "x", "y", "a", "u", "s"), ("p", "y", "x", "b", "v", "s"), ("p", "x", "y", "tie", "w", "s")])
    ).is_empty()


def test_two_annotators_on_one_pair() -> None:
    rows: list[Row] = [("p", "x", "y", "a", "u", "s"), ("p", "x", "y", "a", "v", "s"), ("p", "x", "y", "b", "w", "s")]
    found = find(judgments(rows))
    assert kinds(found) == {"between_annotators": 1}
    row = found.row(0, named=True)
    assert (row["num_for"], row["num_against"]) == (2, 1)
    assert json.loads(row["evidence"]) == {"for": ["j0", "j1"], "against": ["j2"]}


def test_one_annotator_against_themselves_in_swapped_order() -> None:
    found = find(judgments([("p", "x", "y", "a", "u", "s"), ("p", "y", "x", "a", "u", "s")]))
    assert kinds(found) == {"within_annotator": 1, "between_orders": 1}
    row = found.filter(pl.col("kind") == "within_annotator").row(0, named=True)
    assert row["annotator_id"] == "u"
    assert json.loads(row["evidence"])["is_swapped"]


def test_one_annotator_who_repeats_themselves_differently() -> None:
    found = find(judgments([("p", "x", "y", "a", "u", "s"), ("p", "x", "y", "b", "u", "s")]))
    assert kinds(found) == {"within_annotator": 1}
    assert not json.loads(found["evidence"][0])["is_swapped"]


def test_two_sources() -> None:
    rows: list[Row] = [("p", "x", "y", "a", None, "s"), ("p", "x", "y", "b", None, "t")]
    assert kinds(find(judgments(rows))) == {"between_annotators": 1, "between_sources": 1}


def test_near_duplicates_with_the_opposite_label() -> None:
    first = judgments([("p", "x", "y", "a", "u", "s"), ("p", "x", "y", "a", "v", "s")], prompt="one")
    second = judgments([("q", "x2", "y2", "b", "u", "s")], prompt="two")
    third = judgments([("r", "x", "z", "b", "u", "s")], prompt="one")
    near = pl.DataFrame(
        [("prompt", "one", "one"), ("prompt", "two", "one"), *(("response", r, r[0]) for r in ("x", "x2", "y", "y2"))],
        schema=NEAR.schema,
        orient="row",
    )
    found = find(pl.concat([first, second, third]), near)
    assert kinds(found) == {"between_near_duplicates": 2}
    assert found.select("pair_id", "other_pair_id", "num_for", "num_against").rows() == [
        ("p", "q", 2, 1),
        ("q", "p", 1, 2),
    ]
    assert found["contradiction_id"].n_unique() == 1


def test_a_cycle_touches_each_of_its_pairs() -> None:
    rows: list[Row] = [("p", "x", "y", "a", "u", "s"), ("q", "y", "z", "a", "u", "s"), ("r", "x", "z", "b", "u", "s")]
    found = find(judgments(rows))
    assert kinds(found) == {"transitive": 3}
    assert json.loads(found["evidence"][0])["response_ids"] == ["x", "y", "z"]
    assert found["contradiction_id"].n_unique() == 1


@pytest.mark.slow
def test_pairs_of_cragc25_that_were_shown_in_both_orders() -> None:
    frame = real_judgments("cragc25").filter(~pl.col("annotator_id").str.starts_with("llm"))
    is_forward = pl.col("response_a_id") < pl.col("response_b_id")
    orders = frame.group_by("pair_id").agg(orders=is_forward.n_unique())
    both = set(orders.filter(pl.col("orders") == 2)["pair_id"])
    assert len(both) == 377
    found = find(frame.with_row_index("n").with_columns(judgment_id=pl.format("j{}", "n")))
    opposed = found.filter(pl.col("kind") == "between_orders")
    assert 0 < len(opposed) < 377
    assert set(opposed["pair_id"]) <= both
