"""The annotator model recovers who is reliable, and says no more than the votes do."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy.stats import spearmanr

from curation.annotators.estimates import annotator_estimates, pair_estimates
from curation.annotators.model import fit, predict
from curation.annotators.votes import Votes
from curation.settings import AnnotatorSettings
from curation.significance import fewest_false
from curation.synthetic.world import world
from tests.benchmarks.annotators import hold_out, mixed
from tests.benchmarks.flags import judged, row
from tests.curation.planted_votes import Planted, planted_votes
from tests.real_votes import judgments

COLUMNS = ("pair_id", "response_a_id", "response_b_id", "vote", "annotator_id")


@pytest.fixture(scope="module")
def planted() -> Planted:
    return planted_votes()


@pytest.fixture(scope="module")
def annotators(planted: Planted) -> pl.DataFrame:
    return annotator_estimates(fit(Votes.of(planted.judgments)))


def frame(rows: list[tuple[str, str, str, str, str | None]], *, known: bool = True) -> pl.DataFrame:
    made = pl.DataFrame(rows, schema=dict.fromkeys(COLUMNS, pl.String), orient="row")
    made = made.with_columns(is_display_order_known=pl.lit(known), source=pl.lit("s"))
    return made.select(sorted(made.columns))


def test_planted_reliabilities_are_recovered(planted: Planted, annotators: pl.DataFrame) -> None:
    assert annotators["num_votes"].min() >= 30
    assert spearmanr(planted.theta, annotators["reliability"].to_numpy()).statistic >= 0.9


@pytest.mark.parametrize(("kind", "flag"), [("adversarial", "is_adversarial"), ("biased", "is_position_biased")])
def test_bad_annotators_are_flagged_and_others_are_not(
    planted: Planted, annotators: pl.DataFrame, kind: str, flag: str
) -> None:
    flagged = annotators[flag].to_numpy()
    assert flagged[planted.kind == kind].mean() >= 0.9
    assert flagged[planted.kind != kind].mean() <= 0.05


def test_intervals_of_unbiased_annotators_hold_zero(planted: Planted, annotators: pl.DataFrame) -> None:
    inside = (annotators["position_bias_low"] < 0) & (annotators["position_bias_high"] > 0)
    assert inside.to_numpy()[planted.kind != "biased"].mean() >= 0.9


def test_the_consensus_is_right_as_often_as_it_says(planted: Planted) -> None:
    pairs = pair_estimates(fit(Votes.of(planted.judgments))).sort("pair_id")
    low_is_chosen = pairs["chosen_id"].str.ends_with("-0").to_numpy()
    is_right = low_is_chosen == planted.low_is_better
    stated = pairs["p_consensus_right"].to_numpy()
    assert is_right.mean() == pytest.approx(stated.mean(), abs=0.02)
    unsure = stated < 0.8
    assert is_right[unsure].mean() == pytest.approx(stated[unsure].mean(), abs=0.06)


def test_neither_the_order_of_rows_nor_the_names_of_responses_matter(planted: Planted) -> None:
    judgments = planted.judgments.head(2000)
    swap = (
        pl.col("response_a_id").str.replace_many(["-0", "-1"], ["-z", "-0"]),
        pl.col("response_b_id").str.replace_many(["-0", "-1"], ["-z", "-0"]),
    )
    renamed = judgments.with_columns(*swap)
    first, shuffled, second = (
        pair_estimates(fit(Votes.of(each))).sort("pair_id")
        for each in (judgments, judgments.sample(fraction=1.0, shuffle=True, seed=1), renamed)
    )
    assert first.equals(shuffled)
    assert np.abs(first["p_chosen"].to_numpy() - second["p_chosen"].to_numpy()).max() < 1e-9


def test_reliabilities_of_the_generated_world_are_recovered() -> None:
    made = world(1, 4000, 40, with_text=False)
    judgments = made.judgments.with_columns(is_display_order_known=pl.lit(True), source=pl.lit("world"))
    found = annotator_estimates(fit(Votes.of(judgments))).sort("annotator_id")
    truth = made.annotators.sort("annotator_id")
    is_judged = found["num_votes"].to_numpy() >= 30
    assert spearmanr(truth["reliability"].filter(is_judged), found["reliability"].filter(is_judged)).statistic >= 0.9
    bad = truth["kind"].is_in(["adversarial", "position_biased"])
    flagged = found["is_adversarial"] | found["is_position_biased"]
    assert flagged.filter(bad).mean() >= 0.9
    assert flagged.filter(~bad).mean() <= 0.05


@pytest.mark.slow
def test_adversaries_with_some_eighty_votes_are_flagged_and_nobody_else() -> None:
    kinds, flagged = [], []
    for seed in range(8):
        made = world(seed, 300, 30, with_text=False)
        judgments = made.judgments.with_columns(is_display_order_known=pl.lit(True), source=pl.lit("world"))
        kinds.append(made.annotators.sort("annotator_id")["kind"])
        flagged.append(annotator_estimates(fit(Votes.of(judgments))).sort("annotator_id")["is_adversarial"])
    kind, is_flagged = pl.concat(kinds), pl.concat(flagged)
    assert is_flagged.filter(kind == "adversarial").mean() >= 0.9
    assert is_flagged.filter(kind != "adversarial").mean() <= 0.05


def test_an_even_pair_is_tied_and_its_lower_response_stands_as_chosen() -> None:
    rows = [(f"p{i}", f"p{i}x", f"p{i}y", vote, who) for i in range(4) for vote, who in (("a", "u"), ("a", "v"))]
    rows += [("even", "ex", "ey", "a", "u"), ("even", "ey", "ex", "a", "v")]
    pairs = pair_estimates(fit(Votes.of(frame(rows, known=False))))
    even = pairs.filter(pl.col("pair_id") == "even").row(0, named=True)
    assert even["is_tied"]
    assert even["chosen_id"] == "ex"
    assert even["p_chosen"] == 0.5


def test_a_published_label_without_annotators_is_the_consensus() -> None:
    rows: list[tuple[str, str, str, str, str | None]] = [(f"p{i}", f"w{i}", f"a{i}", "a", None) for i in range(50)]
    model = fit(Votes.of(frame(rows, known=False)))
    pairs, annotators = pair_estimates(model), annotator_estimates(model)
    assert pairs["chosen_id"].str.starts_with("w").all()
    assert 0.55 < pairs["p_chosen"].min() <= pairs["p_chosen"].max() < 0.75
    assert pairs["vote_q_value"].null_count() == 50
    assert annotators["annotator_id"].to_list() == ["unnamed:s"]
    assert annotators["reliability_low"][0] < 0.6
    assert not annotators["is_adversarial"][0]


def test_one_vote_never_makes_a_perfect_annotator(planted: Planted) -> None:
    rows = [("00000", "00000-0", "00000-1", "a", "newcomer")]
    votes = Votes.of(pl.concat([planted.judgments, frame(rows)], how="diagonal"))
    found = annotator_estimates(fit(votes)).filter(pl.col("annotator_id") == "newcomer").row(0, named=True)
    assert found["reliability_low"] < 0.5 < found["reliability_high"] < 1
    assert not found["is_position_biased"]


def test_probabilities_are_never_certain(planted: Planted) -> None:
    rows = [("sure", "s0", "s1", "a", f"w{i:04d}") for i in range(0, 100)]
    votes = Votes.of(pl.concat([planted.judgments, frame(rows)], how="diagonal"))
    pairs = pair_estimates(fit(votes))
    assert pairs["p_chosen"].min() >= 0.5
    assert pairs["p_chosen"].max() < 1
    assert pairs["p_tie"].is_between(0, 1, closed="none").all()


def test_a_large_set_starts_from_a_sample_and_comes_to_the_same_end(planted: Planted) -> None:
    votes = Votes.of(planted.judgments)
    whole = annotator_estimates(fit(votes))
    sampled = annotator_estimates(fit(votes, AnnotatorSettings(sample_votes=2000)))
    assert np.abs(whole["reliability"].to_numpy() - sampled["reliability"].to_numpy()).max() < 0.02


def test_it_predicts_held_out_votes_better_than_their_shares(planted: Planted) -> None:
    train, test = hold_out(Votes.of(planted.judgments), least=5, seed=0)
    rows, label = np.arange(test.num_votes), test.vote.astype(np.int64)
    ours = predict(fit(train), test)
    assert ours.sum(axis=1) == pytest.approx(1.0)
    shares = train.tally[test.pair] / train.tally[test.pair].sum(axis=1, keepdims=True)
    peer, _ = mixed(shares, label, np.bincount(train.vote) / train.num_votes)
    assert -np.log(ours[rows, label]).mean() < -np.log(peer[rows, label]).mean() - 0.02


@pytest.mark.parametrize("name", ["cragc25", "llmfao"])
def test_the_fit_of_real_votes_settles_and_more_rounds_change_little(name: str) -> None:
    votes = Votes.of(judgments(name))
    model = fit(votes)
    assert model.is_converged
    assert abs(model.history[-1] - model.history[-11]) < 1e-4 * votes.num_votes
    tighter = fit(votes, AnnotatorSettings(tolerance=1e-5, max_rounds=300))
    assert tighter.is_converged
    reliability = [annotator_estimates(each)["reliability"].to_numpy() for each in (model, tighter)]
    assert np.abs(reliability[0] - reliability[1]).max() < 0.02


def test_a_few_who_always_agree_are_not_perfect_and_the_fit_settles() -> None:
    rows = [(f"p{i}", f"p{i}x", f"p{i}y", "a", who) for i in range(8) for who in "uvw"]
    model = fit(Votes.of(frame(rows, known=False)))
    assert model.is_converged
    assert annotator_estimates(model)["reliability"].max() < 0.97


def test_who_differs_from_the_rest_by_hand() -> None:
    """Five vote alike on ten pairs, c against them on all: of c's ten votes none agrees, of the rest's 50 all do."""
    rows = [(f"p{i}", f"p{i}x", f"p{i}y", "ab"[who == "c"], who) for i in range(10) for who in "uvwxyc"]
    found = annotator_estimates(fit(Votes.of(frame(rows, known=False)))).sort("annotator_id")
    assert found["num_agreeing"].to_list() == [0, *[10] * 5]
    assert found["num_tested"].to_list() == [10] * 6
    # the rest of c agrees always, so c's agreement has probability 0; the others' is 10 of 10 against 40 of 50
    p_value = 2 * 0.8**10
    assert found["agreement_q_value"].to_list() == pytest.approx([0.0, *[p_value] * 5], abs=1e-12)
    assert found["is_careless"].to_list() == [True, *[False] * 5]


def test_votes_against_a_coin_by_hand() -> None:
    said = {"p": "aaaaa", "q": "aaab", "r": "a", "s": ["tie", "tie"], "t": ["a", "a", "tie"]}
    rows = [
        (pair, f"{pair}x", f"{pair}y", vote, f"w{i}") for pair, votes in said.items() for i, vote in enumerate(votes)
    ]
    found = pair_estimates(fit(Votes.of(frame(rows, known=False)))).sort("pair_id")["vote_q_value"].to_list()
    # p-values 2/32, 2 x 5/16, none, 1 (no vote is for either), 2/4; of four tests the least one counts four times
    assert found == [pytest.approx(4 * 2 / 32), pytest.approx(4 * 0.625 / 3), None, 1.0, pytest.approx(4 * 0.625 / 3)]


@pytest.mark.slow
@pytest.mark.parametrize(("num_votes", "least_biased", "least_correlation"), [(60, 0.9, 0.75), (240, 0.97, 0.88)])
def test_bad_annotators_of_the_default_world_are_caught_at_five_percent_false_alarms(
    num_votes: int, least_biased: float, least_correlation: float
) -> None:
    """What docs/diagnosis.md says of them, each kind by itself and over several seeds."""
    found = row(pl.concat([judged(seed, num_votes) for seed in range(3)]))
    assert found["adversarial"]["caught_at_5_percent"] >= 0.95
    assert found["position_biased"]["caught_at_5_percent"] >= least_biased
    assert found["rank_correlation"] >= least_correlation
    for kind, least in (("adversarial", 0.9), ("position_biased", 0.6)):
        assert found[kind]["flagged"] >= least
        assert found[kind]["honest_flagged"] <= 0.02


def test_the_findings_of_which_few_are_false() -> None:
    probability = np.array([0.3, 0.001, 0.14, 0.002, 0.09])
    # means of the smallest ones: 0.001, 0.0015, 0.031, 0.058
    assert fewest_false(probability, 0.05).tolist() == [False, True, False, True, True]
    assert not fewest_false(np.array([0.2, 0.9]), 0.05).any()
