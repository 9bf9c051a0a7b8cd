"""The formulas of preference diagnostics in plain arithmetic, for one pair: the reference that SQL is tested against.

Every margin is in nats and belongs to somebody: ``reference_margin`` and ``policy_margin`` are
``logps(chosen) - logps(rejected)`` of that model.
"""

from __future__ import annotations

import math


def reward_gap(p_chosen: float) -> float:
    """Bradley-Terry reward difference in nats, ``logit(p_chosen)``.

    Args:
        p_chosen: posterior probability that a random annotator prefers the chosen response, in (0, 1).
    """
    return math.log(p_chosen) - math.log1p(-p_chosen)


def rlhf_margin(reference_margin: float, reward_gap: float, *, beta: float) -> float:
    """Margin of the KL-regularised optimum, ``reference_margin + reward_gap / beta``, in nats."""
    return reference_margin + reward_gap / beta


def assumption_holds(reference_margin: float, reward_gap: float, *, beta: float) -> bool:
    """Whether the optimum itself prefers the chosen response, ``rlhf_margin > 0``."""
    return rlhf_margin(reference_margin, reward_gap, beta=beta) > 0


def beta_max(reference_margin: float, reward_gap: float) -> float:
    """The beta up to which the assumption holds: ``reward_gap / -reference_margin``, infinite where the reference
    does not prefer the rejected response."""
    return reward_gap / -reference_margin if reference_margin < 0 else math.inf


def is_undesirable(policy_margin: float, reference_margin: float) -> bool:
    """Member of the set U: better than the reference, and still preferring the rejected response."""
    return reference_margin < policy_margin < 0


def is_absolutely_right(policy_margin: float) -> bool:
    """Counts for absolute accuracy: the policy prefers the chosen response. A tie does not count."""
    return policy_margin > 0


def is_relatively_right(policy_margin: float, reference_margin: float) -> bool:
    """Counts for relative accuracy: the policy prefers the chosen response more than the reference does."""
    return policy_margin > reference_margin


def curl_ratio(gradient_energy: float, total_energy: float) -> float:
    """Share of a preference graph's energy that no ranking explains, ``1 - gradient / total``."""
    return 1 - gradient_energy / total_energy


def curl_ratio_expected(num_responses: int) -> float:
    """Expectation of :func:`curl_ratio` under no preference on a complete graph, ``1 - 2 / n``."""
    return 1 - 2 / num_responses
