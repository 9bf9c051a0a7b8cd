"""Metrics that tell the truth about preference training, from the margins of pairs before and after."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

ROUNDING = 1e-5
"""Nats a root token by which two passes in float32 may differ: three times what was measured, curation/NOTES.md."""


@dataclass(frozen=True)
class PairScores:
    """Log-probs of pairs under a policy and under the reference; reference values are NaN where unknown.

    Attributes:
        chosen_logps, rejected_logps: of the policy, nats. Shape (N,).
        reference_chosen_logps, reference_rejected_logps: nats. Shape (N,).
        chosen_num_tokens, rejected_num_tokens: Shape (N,).
        weight: Shape (N,).
        loss: of each pair, nats; NaN where no objective was given. Shape (N,).
    """

    chosen_logps: Array
    rejected_logps: Array
    reference_chosen_logps: Array
    reference_rejected_logps: Array
    chosen_num_tokens: Array
    rejected_num_tokens: Array
    weight: Array
    loss: Array

    def __len__(self) -> int:
        return len(self.chosen_logps)

    @property
    def policy_margin(self) -> Array:
        """Summed, nats."""
        return self.chosen_logps - self.rejected_logps

    @property
    def policy_margin_mean(self) -> Array:
        """Per token, nats."""
        return self.chosen_logps / self.chosen_num_tokens - self.rejected_logps / self.rejected_num_tokens

    @property
    def reference_margin(self) -> Array:
        """Summed, nats."""
        return self.reference_chosen_logps - self.reference_rejected_logps

    @property
    def is_above_reference(self) -> NDArray[np.bool_]:
        """Whether ``policy_margin > reference_margin`` by more than rounding, so that no policy is above itself."""
        rounding = ROUNDING * np.sqrt(self.chosen_num_tokens + self.rejected_num_tokens)
        return self.policy_margin - self.reference_margin > rounding

    @property
    def is_undesirable(self) -> NDArray[np.bool_]:
        """Members of U: ``reference_margin < policy_margin < 0``, the first as in :attr:`is_above_reference`."""
        return self.is_above_reference & (self.policy_margin < 0)

    def take(self, rows: NDArray) -> PairScores:
        """The given pairs (numbers or a mask)."""
        return PairScores(**{name: getattr(self, name)[rows] for name in self.__dataclass_fields__})


def join_scores(parts: list[PairScores]) -> PairScores:
    """Several sets of pairs as one."""
    names = PairScores.__dataclass_fields__
    return PairScores(**{n: np.concatenate([np.zeros(0), *(getattr(part, n) for part in parts)]) for n in names})


def metrics(scores: PairScores) -> dict[str, float]:
    """Metrics of a set of pairs. Every pair counts the same but in ``loss``, which is weighted.

    Returns:
        loss [nats]: weighted mean. absolute_accuracy, absolute_accuracy_mean [share]: policy margin > 0, summed and per
        token. share_reference_wrong [share]: reference margin < 0. share_turned [share]: of those, policy margin > 0.
        relative_accuracy [share]: policy margin > reference margin, beyond rounding. share_undesirable [share]: members
        of U. chosen_drift, rejected_drift [nats]: mean log-prob minus the reference's; both below 0 is likelihood
        displacement. kl_chosen [nats]: estimate of KL(policy || reference) on the chosen responses,
        ``mean(rho - 1 - log rho)`` a token with rho the reference's probability of the response's mean token over the
        policy's. policy_margin, reference_margin [nats]: means. share_with_reference [share]: pairs with reference
        log-probs, given where it is below 1. Metrics that need a reference are over those pairs, and left out where
        there are none; the loss is over the pairs that have one. All are left out of an empty set.
    """
    if len(scores) == 0:
        return {}
    found = {
        "absolute_accuracy": float((scores.policy_margin > 0).mean()),
        "absolute_accuracy_mean": float((scores.policy_margin_mean > 0).mean()),
        "policy_margin": float(scores.policy_margin.mean()),
        "chosen_logps_mean": float((scores.chosen_logps / scores.chosen_num_tokens).mean()),
    }
    has_loss, has_reference = ~np.isnan(scores.loss), ~np.isnan(scores.reference_margin)
    if has_loss.any():
        found["loss"] = float(np.average(scores.loss[has_loss], weights=scores.weight[has_loss]))
    if has_reference.any():
        found.update(_against_reference(scores.take(has_reference)))
    if not has_reference.all():
        found["share_with_reference"] = float(has_reference.mean())
    return found


def metrics_by_slice(scores: PairScores, labels: NDArray[np.object_]) -> dict[str, dict[str, float]]:
    """Metrics of the pairs of each label, by label. Shape of the labels (N,)."""
    return {label: metrics(scores.take(labels == label)) for label in sorted(set(labels))}


def _against_reference(scores: PairScores) -> dict[str, float]:
    wrong = scores.reference_margin < 0
    drift = scores.chosen_logps - scores.reference_chosen_logps
    log_rho = -drift / scores.chosen_num_tokens
    found = {
        "relative_accuracy": float(scores.is_above_reference.mean()),
        "share_undesirable": float(scores.is_undesirable.mean()),
        "share_reference_wrong": float(wrong.mean()),
        "reference_margin": float(scores.reference_margin.mean()),
        "chosen_drift": float(drift.mean()),
        "rejected_drift": float((scores.rejected_logps - scores.reference_rejected_logps).mean()),
        "kl_chosen": float((np.exp(np.minimum(log_rho, 80.0)) - 1 - log_rho).mean()),
    }
    if wrong.any():
        found["share_turned"] = float((scores.policy_margin[wrong] > 0).mean())
    return found
