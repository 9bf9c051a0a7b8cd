"""The diagnostics' formulas on a pair of two-token responses whose probabilities are known.

The reference gives the chosen tokens 1/4 and 1/4 and the rejected 1/2 and 1/2: its margin is ln(1/16) - ln(1/4).
Three of four annotators prefer the chosen one.
"""

from __future__ import annotations

import math

import pytest

from schemas import formulas

LN2, LN3 = math.log(2), math.log(3)
REFERENCE = -2 * LN2


def test_reward_gap_and_rlhf_margin() -> None:
    gap = formulas.reward_gap(0.75)
    assert gap == pytest.approx(LN3)
    assert formulas.rlhf_margin(REFERENCE, gap, beta=0.5) == pytest.approx(2 * LN3 - 2 * LN2)


def test_assumption_holds_exactly_below_beta_max() -> None:
    gap = formulas.reward_gap(0.75)
    most = formulas.beta_max(REFERENCE, gap)
    assert most == pytest.approx(LN3 / (2 * LN2))
    assert formulas.assumption_holds(REFERENCE, gap, beta=most * 0.999)
    assert not formulas.assumption_holds(REFERENCE, gap, beta=most * 1.001)
    assert formulas.beta_max(0.0, gap) == math.inf
    assert formulas.beta_max(1.0, gap) == math.inf


def test_undesirable_is_better_than_the_reference_and_still_wrong() -> None:
    """A policy that gives the chosen tokens 1/2 and 1/4 has margin -ln 2: between -2 ln 2 and 0."""
    assert formulas.is_undesirable(-LN2, REFERENCE)
    assert not formulas.is_undesirable(LN2, REFERENCE)
    assert not formulas.is_undesirable(0.0, REFERENCE)
    assert not formulas.is_undesirable(REFERENCE, REFERENCE)
    assert not formulas.is_undesirable(-3 * LN2, REFERENCE)


def test_accuracies_do_not_count_ties() -> None:
    assert formulas.is_absolutely_right(1e-9)
    assert not formulas.is_absolutely_right(0.0)
    assert formulas.is_relatively_right(-LN2, REFERENCE)
    assert not formulas.is_relatively_right(REFERENCE, REFERENCE)


def test_curl_ratio_of_rock_paper_scissors() -> None:
    """Three equal steps around a loop: no ranking explains any of it. By chance a third would stay unexplained."""
    assert formulas.curl_ratio(0.0, 3.0) == 1
    assert formulas.curl_ratio(3.0, 3.0) == 0
    assert formulas.curl_ratio_expected(3) == pytest.approx(1 / 3)
