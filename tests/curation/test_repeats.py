"""Who votes several times on a pair is one voter: in agreement, in exact tests and in the likelihood."""

from __future__ import annotations

import krippendorff
import numpy as np
import polars as pl
import pytest

from curation.agreement import alpha_by_slice
from curation.annotators.coded import CodedJudgments
from curation.annotators.em import ALL_ONE
from curation.annotators.estimates import annotator_estimates, pair_estimates
from curation.annotators.judgments import Judgments
from curation.annotators.model import fit, predict
from curation.annotators.repeats import repeat_weights
from curation.annotators.voices import one_vote_each
from curation.annotators.votes import Votes
from curation.slices import nominal_patterns, ordinal_patterns, slice_labels
from tests.benchmarks.annotators import hold_out
from tests.curation.planted_votes import planted_votes
from tests.real_votes import judgments

Row = tuple[str, str | None, str]


def frame(rows: list[Row]) -> pl.DataFrame:
    """Judgments of (pair, annotator, vote) on responses x and y, x shown first."""
    made = pl.DataFrame(rows, schema=dict.fromkeys(("pair_id", "annotator_id", "vote"), pl.String), orient="row")
    return made.with_columns(
        response_a_id=pl.col("pair_id") + "x",
        response_b_id=pl.col("pair_id") + "y",
        is_display_order_known=pl.lit(True),
        source=pl.lit("s"),
        batch=pl.lit(None, dtype=pl.String),
        annotated_at=pl.lit(None, dtype=pl.Datetime),
        prompt_group_id=pl.lit(None, dtype=pl.String),
    )


def coded_and_votes(judged: pl.DataFrame) -> tuple[CodedJudgments, Votes]:
    coded = CodedJudgments.of(Judgments.of(judged))
    return coded, Votes.of_coded(coded)


def alpha(judged: pl.DataFrame, *, level: str = "nominal") -> dict[str, float]:
    coded, votes = coded_and_votes(judged)
    labels = slice_labels("overall", coded)
    patterns = nominal_patterns(votes, labels) if level == "nominal" else ordinal_patterns(coded, votes, labels)
    assert patterns is not None
    return alpha_by_slice(patterns, level=level, num_bootstraps=20, seed=0).row(0, named=True)


def sampled(times: int) -> list[Row]:
    """Two people who agree on 30 of 40 pairs, and a judge who sides with one of them, ``times`` on each pair."""
    rows: list[Row] = []
    for i in range(40):
        first, second = ("a" if i % 2 else "b"), ("a" if (i % 2) ^ (i % 4 == 0) else "b")
        rows += [(f"p{i:02d}", "u", first), (f"p{i:02d}", "v", second)]
        rows += [(f"p{i:02d}", "judge", first)] * times
    return rows


def test_one_annotator_who_votes_twice_agrees_with_nobody() -> None:
    rows: list[Row] = [(f"p{i}", "u", "ab"[i % 2]) for i in range(50) for _ in range(2)]
    row = alpha(frame(rows))
    assert row["alpha"] is None
    assert (row["num_units"], row["num_units_excluded"]) == (0, 50)
    assert pair_estimates(fit(Votes.of(frame(rows))))["vote_q_value"].null_count() == 50
    tested = annotator_estimates(fit(Votes.of(frame(rows)))).row(0, named=True)
    assert (tested["num_tested"], tested["agreement_q_value"]) == (0, None)


def test_unnamed_voters_are_different_people() -> None:
    row = alpha(frame([(f"p{i}", None, "ab"[i % 2]) for i in range(50) for _ in range(2)]))
    assert (row["alpha"], row["num_units"]) == (1.0, 50)


def test_the_side_with_more_than_half_of_the_votes_counts_else_a_tie() -> None:
    said = {"p": "aab", "q": "ab", "r": ["a", "tie", "tie"], "s": ["b", "b", "tie"], "t": ["a", "a", "tie", "b"]}
    rows: list[Row] = [(pair, "u", vote) for pair, votes in said.items() for vote in votes]
    each = one_vote_each(Votes.of(frame(rows)))
    assert each.tally.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 1], [0, 1, 0], [0, 0, 1]]


@pytest.mark.parametrize("times", [2, 16])
def test_sixteen_samples_of_a_judge_change_neither_agreement_nor_tests(times: int) -> None:
    once, often = frame(sampled(1)), frame(sampled(times))
    expected = krippendorff.alpha(
        value_counts=Votes.of(once).tally, level_of_measurement="nominal", value_domain=[0, 1, 2]
    )
    assert alpha(once)["alpha"] == pytest.approx(expected, abs=1e-9)
    assert alpha(often) == alpha(once)
    models = [fit(Votes.of(each)) for each in (once, often)]
    q_values = [pair_estimates(model)["vote_q_value"].to_list() for model in models]
    assert q_values[0] == q_values[1]
    tested = [annotator_estimates(model).select("annotator_id", "num_tested", "num_agreeing") for model in models]
    assert tested[0].equals(tested[1])
    reliable = [annotator_estimates(model)["reliability"].to_numpy() for model in models]
    assert np.abs(reliable[0] - reliable[1]).max() < 1e-4
    assert pair_estimates(models[1])["p_chosen"].to_numpy() == pytest.approx(
        pair_estimates(models[0])["p_chosen"].to_numpy(), abs=1e-4
    )


def test_a_slice_counts_an_annotator_once_and_strengths_by_their_median() -> None:
    judged = frame([("p", "u", "a"), ("p", "u", "a"), ("p", "u", "b"), ("p", "v", "a")]).with_columns(
        batch=pl.Series(["one", "one", "two", "two"]), strength_ordinal=pl.Series([3, 1, 1, 2])
    )
    coded, votes = coded_and_votes(judged)
    nominal = nominal_patterns(votes, slice_labels("overall", coded))
    counts = {(row["slice"], row["slice_value"]): row["counts"] for row in nominal.iter_rows(named=True)}
    assert counts["all", "all"] == [0, 0, 2]  # high, tie, low
    assert (counts["batch", "one"], counts["batch", "two"]) == ([0, 0, 1], [1, 0, 1])
    ordinal = ordinal_patterns(coded, votes, slice_labels("overall", coded))
    assert ordinal is not None
    # u: the median of 3, 1 and -1 is 1; v: 2; the scale goes from -3 to 3
    assert ordinal.filter(slice="all")["counts"].to_list() == [[0, 0, 0, 0, 1, 1, 0]]


def test_votes_weigh_by_how_much_they_repeat_what_others_do_not_say() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random(400) < 0.5
    rows: list[Row] = []
    for i, is_a in enumerate(truth):
        rows += [(f"p{i:03d}", f"w{k}", "ab"[int(is_a ^ (rng.random() < 0.7))]) for k in range(6)]
        echo, fresh = rng.random() < 0.7, rng.random(4) < 0.7
        rows += [(f"p{i:03d}", "echo", "ab"[int(is_a ^ echo)])] * 4
        rows += [(f"p{i:03d}", "fresh", "ab"[int(is_a ^ one)]) for one in fresh]
    votes = Votes.of(frame(rows))
    weight = {name: votes.weight[votes.annotator == i].mean() for i, name in enumerate(votes.annotator_ids)}
    assert weight["echo"] == pytest.approx(1 / 4, abs=0.02)
    assert weight["fresh"] > 0.8
    assert weight["w0"] == 1.0


def test_where_nobody_repeats_votes_have_no_weights() -> None:
    assert len(Votes.of(planted_votes(50).judgments).weight) == 0
    assert len(Votes.of(frame([("p", None, "a"), ("p", None, "b")])).weight) == 0


def test_an_annotator_who_alone_repeats_has_one_vote_a_pair() -> None:
    weight = repeat_weights(
        np.zeros(3, np.int32), np.zeros(3, np.int32), np.ones(3), np.array([True, False, False]), np.array([True])
    )
    assert weight == pytest.approx([1 / 3] * 3)


def test_on_cragc25_the_weights_predict_other_peoples_votes_better(monkeypatch: pytest.MonkeyPatch) -> None:
    def loss() -> float:
        train, test = hold_out(Votes.of(judgments("cragc25")), least=5, seed=0)
        return float(-np.log(predict(fit(train), test)[np.arange(test.num_votes), test.vote]).mean())

    weighed = loss()
    monkeypatch.setattr(Votes, "weight", ALL_ONE)
    assert weighed < loss() - 0.002
