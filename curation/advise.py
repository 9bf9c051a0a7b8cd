"""Advice from the diagnostics: which objective, which beta and which profile, with the figures that say so."""

from __future__ import annotations

import math
from dataclasses import dataclass

from schemas.wording import counted

FAILING_SHARE = 0.05
"""Share of pairs on which the assumption may fail before plain DPO is advised against."""

BETAS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
"""Betas that are worth training at; smaller ones hardly hold the policy at all."""

MIN_BETA = 0.05
"""Below this, changing the objective is better than lowering beta further."""

MANY_VOTES_SHARE = 0.5
"""Share of pairs with two or more votes from which votes carry more than the consensus."""

DOUBTFUL = 0.8
"""Posterior below which a hard label says more than the votes do: unanimous votes can be too few for it."""

DOUBTFUL_SHARE = 0.1
"""Share of pairs with several votes that are doubtful from which soft labels keep more than hard ones."""

SMALL_SET = 2_000
"""Pairs below which a dropped pair is dearer than a noisy one."""


@dataclass(frozen=True)
class Diagnostics:
    """Figures of a set under one reference policy.

    Attributes:
        num_pairs: pairs with a consensus.
        num_scored: of those, scored and not tied: the pairs that the shares below are of.
        share_failing: share with ``rlhf_margin <= 0``, for each of :data:`BETAS`.
        beta_max_quantile: ``beta_max`` below which the assumption holds on all but :data:`FAILING_SHARE` of the pairs.
        share_reference_wrong: share on which the reference prefers the rejected response.
        share_several_votes: share of pairs with two votes or more.
        share_doubtful: share of those on which ``p_chosen`` is below :data:`DOUBTFUL`.
        share_divided: share of those whose votes are not all the same.
        has_p_flip: whether label-noise scoring has run.
        num_degenerate: identical, empty, tied or truncated pairs.
    """

    num_pairs: int
    num_scored: int
    share_failing: dict[float, float]
    beta_max_quantile: float | None
    share_reference_wrong: float | None
    share_several_votes: float
    share_doubtful: float
    share_divided: float
    has_p_flip: bool
    num_degenerate: int


@dataclass(frozen=True)
class Advice:
    """What to train with, and why."""

    objective: str
    beta: float
    profile: str
    reasons: tuple[str, ...]


def advise(found: Diagnostics) -> Advice:
    """Recommend objective, beta and profile.

    beta is the largest of :data:`BETAS` at which the assumption fails on at most 5 % of the pairs. Where not even
    :data:`MIN_BETA` is that safe, CPO at 0.1 is advised, whose target margin does not rest on the assumption. Without
    scores only the votes can be judged.
    """
    kinds = "identical, empty, tied or too long to score"
    reasons = [f"{found.num_degenerate:,} of {counted(found.num_pairs, 'pair')} are degenerate ({kinds})."]
    if found.num_scored == 0:
        reasons.append("Nothing is scored yet, so no beta can be called safe: winnow score, then ask again.")
        if _has_doubtful_votes(found):
            return _by_votes(found, 0.1, reasons)
        return Advice("dpo", 0.1, "minimal", tuple(reasons))
    safe = [beta for beta in BETAS if found.share_failing[beta] <= FAILING_SHARE]
    reasons.append(_reference_reason(found))
    reasons.append(_beta_max_reason(found))
    if not safe or max(safe) < MIN_BETA:
        beta = 0.1
        reasons.append(
            f"At beta {MIN_BETA:g} the assumption fails on {found.share_failing[MIN_BETA]:.1%} of the scored pairs, at"
            f" {beta:g} on {found.share_failing[beta]:.1%}: DPO can lower its loss there without preferring chosen,"
            " CPO's target margin cannot."
        )
        return Advice("cpo", beta, "cpo", tuple(reasons))
    beta = max(safe)
    reasons.append(f"At beta {beta:g} the assumption fails on {found.share_failing[beta]:.1%} of the scored pairs.")
    return _by_votes(found, beta, reasons)


def _has_doubtful_votes(found: Diagnostics) -> bool:
    return found.share_several_votes >= MANY_VOTES_SHARE and found.share_doubtful >= DOUBTFUL_SHARE


def _by_votes(found: Diagnostics, beta: float, reasons: list[str]) -> Advice:
    """Between plain labels and soft ones, where DPO is safe."""
    if _has_doubtful_votes(found):
        reasons.append(
            f"{found.share_several_votes:.0%} of the pairs have several votes; on {found.share_doubtful:.0%} of those"
            f" the posterior that an annotator prefers chosen (p_chosen) is below {DOUBTFUL:g}, while the votes of"
            f" {found.share_divided:.0%} are not all the same: soft labels keep that doubt, hard ones throw it away."
        )
        return Advice("cdpo", beta, "annotator-consensus", tuple(reasons))
    if found.num_pairs < SMALL_SET or found.has_p_flip:
        why = f"only {counted(found.num_pairs, 'pair')}" if found.num_pairs < SMALL_SET else "p_flip is known"
        reasons.append(f"Few pairs with several votes are doubtful and {why}: keep the pairs and soften their labels.")
        return Advice("cdpo", beta, "uncertainty-aware", tuple(reasons))
    reasons.append(f"{found.share_several_votes:.0%} of the pairs have several votes: hard labels lose little here.")
    return Advice("dpo", beta, "dpo-safe", tuple(reasons))


def _reference_reason(found: Diagnostics) -> str:
    share = found.share_reference_wrong or 0.0
    return f"The reference prefers the rejected response on {share:.1%} of {found.num_scored:,} scored pairs."


def _beta_max_reason(found: Diagnostics) -> str:
    value = found.beta_max_quantile
    if value is None or math.isinf(value):
        return f"beta_max is infinite on at least {1 - FAILING_SHARE:.0%} of them: no beta breaks the assumption there."
    return f"beta_max is above {value:.3g} on {1 - FAILING_SHARE:.0%} of them."
