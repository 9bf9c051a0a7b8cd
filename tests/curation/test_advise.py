"""Advice follows the figures."""

from __future__ import annotations

import math
from dataclasses import replace

from curation.advise import BETAS, Diagnostics, advise

SAFE = Diagnostics(
    num_pairs=10_000,
    num_scored=9_900,
    share_failing=dict.fromkeys(BETAS, 0.0),
    beta_max_quantile=math.inf,
    share_reference_wrong=0.01,
    share_several_votes=0.0,
    share_doubtful=0.0,
    share_divided=0.0,
    has_p_flip=False,
    num_degenerate=100,
)


def failing_above(beta: float) -> dict[float, float]:
    return {each: 0.0 if each <= beta else 0.4 for each in BETAS}


def test_where_the_assumption_holds_dpo_at_the_largest_beta_is_advised() -> None:
    advice = advise(SAFE)
    assert (advice.objective, advice.beta, advice.profile) == ("dpo", max(BETAS), "dpo-safe")


def test_beta_is_the_largest_one_that_keeps_the_assumption() -> None:
    advice = advise(replace(SAFE, share_failing=failing_above(0.1), beta_max_quantile=0.12))
    assert (advice.objective, advice.beta) == ("dpo", 0.1)
    assert any("0.12" in reason for reason in advice.reasons)


def test_where_no_practical_beta_is_safe_cpo_is_advised_with_the_share_that_fails() -> None:
    advice = advise(replace(SAFE, share_failing=failing_above(0.02), beta_max_quantile=0.03))
    assert (advice.objective, advice.beta, advice.profile) == ("cpo", 0.1, "cpo")
    assert any("40.0%" in reason for reason in advice.reasons)


def test_doubtful_votes_call_for_consensus_and_soft_labels() -> None:
    advice = advise(replace(SAFE, share_several_votes=0.9, share_doubtful=0.4))
    assert (advice.objective, advice.profile) == ("cdpo", "annotator-consensus")


def test_doubt_is_not_called_division() -> None:
    """Two equal votes of unknown annotators are unanimous, and the posterior is below 0.8 all the same."""
    found = replace(SAFE, share_several_votes=1.0, share_doubtful=1.0, share_divided=2 / 3)
    said = advise(found).reasons[-1]
    assert "100% of the pairs have several votes; on 100% of those the posterior" in said
    assert "(p_chosen) is below 0.8, while the votes of 67% are not all the same" in said


def test_a_small_set_keeps_its_pairs() -> None:
    assert advise(replace(SAFE, num_pairs=500)).profile == "uncertainty-aware"


def test_without_scores_no_beta_is_called_safe() -> None:
    advice = advise(replace(SAFE, num_scored=0))
    assert advice.profile == "minimal"
    assert any("no beta can be called safe" in reason for reason in advice.reasons)
    assert (
        advise(replace(SAFE, num_scored=0, share_several_votes=0.9, share_doubtful=0.4)).profile
        == "annotator-consensus"
    )
