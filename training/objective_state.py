"""What an objective carries from step to step: cpo_lagrangian's multiplier and kto's KL estimate."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from training import losses
from training.objectives import Objective
from training.settings import LossSettings


@dataclass
class ObjectiveState:
    """Numbers that change once a step, from the whole step's pairs, so that no split of a batch changes them.

    Attributes:
        multiplier: of cpo_lagrangian's constraint, >= 0.
        kl: kto's estimate of KL(policy || reference) from the step before, nats; 0 at the start, where both are equal.
    """

    multiplier: float = 0.0
    kl: float = 0.0

    def update(self, loss: LossSettings, *, mean_violation: float, mean_logratio: float) -> None:
        """Take in a finished step.

        Args:
            loss: the run's objective.
            mean_violation: weighted mean of ``max(0, gamma - d)``, nats.
            mean_logratio: mean log-ratio of policy to reference over all chosen and rejected responses, nats.
        """
        if loss.objective is Objective.CPO_LAGRANGIAN:
            self.multiplier = losses.dual_ascent(
                self.multiplier,
                mean_violation,
                epsilon=loss.parameters["epsilon"],
                step=loss.parameters["multiplier_step"],
            )
        if loss.objective is Objective.KTO:
            self.kl = max(0.0, mean_logratio)

    def as_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return asdict(self)
