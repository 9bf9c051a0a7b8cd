"""What an objective carries from step to step: cpo_lagrangian's multiplier and kto's KL estimate."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from training import losses
from training.monitor import PairScores
from training.objectives import Objective
from training.settings import LossSettings


def step_sums(loss: LossSettings, scores: PairScores) -> tuple[float, float]:
    """What an objective's state takes in from its pairs of a step, as (sum, count); sums of parts add up.

    Args:
        loss: the objective.
        scores: of the pairs that train with it, and of no others.

    Returns:
        cpo_lagrangian: weighted violation ``max(0, gamma - d)`` [nats] and total weight. kto: log-ratios of policy to
        reference over all responses [nats] and their number. Zeros for an objective without a state.
    """
    if loss.objective is Objective.CPO_LAGRANGIAN:
        margin = scores.policy_margin_mean if loss.length_normalized else scores.policy_margin
        violation = losses.constraint_violation(torch.from_numpy(margin), gamma=loss.parameters["gamma"]).numpy()
        return float((violation * scores.weight).sum()), float(scores.weight.sum())
    if loss.objective is Objective.KTO:
        chosen = scores.chosen_logps - scores.reference_chosen_logps
        rejected = scores.rejected_logps - scores.reference_rejected_logps
        return float(chosen.sum() + rejected.sum()), 2.0 * len(scores)
    return 0.0, 0.0


@dataclass
class ObjectiveState:
    """Numbers that change once a step, from all pairs of the step that train with their objective, so that no split of
    a batch changes them. An objective occurs once in a run, as its own or as one to which pairs are routed.

    Attributes:
        multiplier: of cpo_lagrangian's constraint, >= 0.
        kl: kto's estimate of KL(policy || reference) from the step before, nats; 0 at the start, where both are equal.
    """

    multiplier: float = 0.0
    kl: float = 0.0

    def update(self, loss: LossSettings, total: float, count: float) -> None:
        """Take in a finished step.

        Args:
            loss: the objective whose numbers change.
            total, count: of :func:`step_sums` over all processes; a count of 0 changes nothing.
        """
        if count == 0:
            return
        if loss.objective is Objective.CPO_LAGRANGIAN:
            self.multiplier = losses.dual_ascent(
                self.multiplier,
                total / count,
                epsilon=loss.parameters["epsilon"],
                step=loss.parameters["multiplier_step"],
            )
        if loss.objective is Objective.KTO:
            self.kl = max(0.0, total / count)

    def as_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return asdict(self)
