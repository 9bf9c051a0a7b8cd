"""From a batch's log-probs and a resolved objective to the loss of each pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training import losses
from training.monitor import PairScores
from training.objective_state import ObjectiveState
from training.objectives import Objective
from training.policy import PairLogps
from training.settings import LossSettings


@dataclass(frozen=True)
class PairBatch:
    """Everything a loss may look at, float64. Shape (B,) each.

    Attributes:
        policy: log-probs of the model that is trained, with gradient.
        reference_chosen_logps, reference_rejected_logps: nats; NaN where unknown.
        soft_label: probability that the chosen response is the better one.
        best_share: part that this pair takes of its prompt's likelihood term in rrhf.
    """

    policy: PairLogps
    reference_chosen_logps: Tensor
    reference_rejected_logps: Tensor
    soft_label: Tensor
    best_share: Tensor

    @property
    def reference_margin(self) -> Tensor:
        """Summed margin of the reference policy."""
        return self.reference_chosen_logps - self.reference_rejected_logps

    def flipped(self) -> PairBatch:
        """The same pairs with chosen and rejected exchanged."""
        p = self.policy
        return PairBatch(
            PairLogps(p.rejected_logps, p.chosen_logps, p.rejected_num_tokens, p.chosen_num_tokens),
            self.reference_rejected_logps,
            self.reference_chosen_logps,
            1 - self.soft_label,
            self.best_share,
        )

    def take(self, rows: Tensor) -> PairBatch:
        """The given pairs (numbers or a mask)."""
        policy = PairLogps(**{name: getattr(self.policy, name)[rows] for name in PairLogps.__dataclass_fields__})
        names = ("reference_chosen_logps", "reference_rejected_logps", "soft_label", "best_share")
        return PairBatch(policy, *(getattr(self, name)[rows] for name in names))

    def scores(self, losses: Tensor, weight: Tensor) -> PairScores:
        """The same as arrays, without gradient, with each pair's loss and weight."""
        tensors = {
            "chosen_logps": self.policy.chosen_logps,
            "rejected_logps": self.policy.rejected_logps,
            "reference_chosen_logps": self.reference_chosen_logps,
            "reference_rejected_logps": self.reference_rejected_logps,
            "chosen_num_tokens": self.policy.chosen_num_tokens,
            "rejected_num_tokens": self.policy.rejected_num_tokens,
            "weight": weight,
            "loss": losses,
        }
        # one copy off a GPU, which waits for it
        values = torch.stack([tensor.detach().double() for tensor in tensors.values()]).cpu().numpy()
        return PairScores(**dict(zip(tensors, values, strict=True)))


def pair_loss(batch: PairBatch, loss: LossSettings, state: ObjectiveState) -> Tensor:
    """Loss of each pair: the objective's expectation under the soft label, or the objective and the SFT term, which
    is for certain labels alone. Shape (B,).
    """
    value = _hard_loss(batch, loss, state)
    if bool((batch.soft_label < 1).any()):
        value = losses.mix_labels(value, _hard_loss(batch.flipped(), loss, state), batch.soft_label)
    if loss.sft_weight > 0:
        value = value + losses.sft_loss(batch.policy.chosen_logps_mean, sft_weight=loss.sft_weight)
    return value


def routed_loss(batch: PairBatch, route: Tensor, objectives: Sequence[LossSettings], state: ObjectiveState) -> Tensor:
    """Loss of each pair under the objective that it is routed to.

    Args:
        batch: B pairs.
        route: number of each pair's objective. Shape (B,).
        objectives: all that are numbered.
        state: of the run's objective.

    Returns:
        Shape (B,).
    """
    if len(objectives) == 1:
        return pair_loss(batch, objectives[0], state)
    parts, places = [], []
    for number, loss in enumerate(objectives):
        rows = torch.nonzero(route == number).squeeze(1)
        if len(rows):
            parts.append(pair_loss(batch.take(rows), loss, state))
            places.append(rows)
    return torch.cat(parts)[torch.argsort(torch.cat(places))]


def route_of(names: NDArray[np.object_], objectives: Sequence[LossSettings]) -> NDArray[np.int64]:
    """Number of each pair's objective: the first, but where the pair is routed to another. Shape (B,)."""
    numbers = {loss.objective.value: number for number, loss in enumerate(objectives)}
    return np.array([numbers.get(name, 0) for name in names], dtype=np.int64)


def margins(batch: PairBatch, *, length_normalized: bool) -> tuple[Tensor, Tensor]:
    """Policy and reference margin, summed or per token. Shape (B,) each."""
    p = batch.policy
    if not length_normalized:
        return p.policy_margin, batch.reference_margin
    w, r = p.chosen_num_tokens, p.rejected_num_tokens
    policy = p.chosen_logps / w - p.rejected_logps / r
    return policy, batch.reference_chosen_logps / w - batch.reference_rejected_logps / r


def _hard_loss(batch: PairBatch, loss: LossSettings, state: ObjectiveState) -> Tensor:
    """The objective as if every label were certain. Shape (B,)."""
    policy = batch.policy
    values = loss.parameters
    d, r = margins(batch, length_normalized=loss.length_normalized)
    match loss.objective:
        case Objective.DPO | Objective.CDPO:
            return losses.dpo_loss(d, r, **values)
        case Objective.RDPO:
            return losses.rdpo_loss(d, r, **values)
        case Objective.ROPO:
            return losses.ropo_loss(d, r, **values)
        case Objective.CPO:
            return losses.cpo_loss(d, r, **values)
        case Objective.CPO_CLIP:
            return losses.cpo_clip_loss(d, r, **values)
        case Objective.CPO_REFERENCE:
            w_mean = batch.reference_chosen_logps / policy.chosen_num_tokens
            l_mean = batch.reference_rejected_logps / policy.rejected_num_tokens
            return losses.cpo_reference_loss(d, r, w_mean, l_mean, **values)
        case Objective.CPO_LAGRANGIAN:
            beta, gamma = values["beta"], values["gamma"]
            return losses.cpo_lagrangian_loss(d, r, beta=beta, gamma=gamma, multiplier=state.multiplier)
        case Objective.IPO:
            return losses.ipo_loss(d, r, **values)
        case Objective.HINGE:
            return losses.hinge_loss(d, r, **values)
        case Objective.KTO:
            chosen = policy.chosen_logps - batch.reference_chosen_logps
            rejected = policy.rejected_logps - batch.reference_rejected_logps
            return losses.kto_loss(chosen, rejected, state.kl, **values)
        case Objective.ORPO:
            return losses.orpo_loss(policy.chosen_logps_mean, policy.rejected_logps_mean, **values)
        case Objective.SIMPO:
            return losses.simpo_loss(policy.chosen_logps_mean, policy.rejected_logps_mean, **values)
        case Objective.RRHF:
            ranking = losses.rrhf_ranking_loss(policy.chosen_logps_mean, policy.rejected_logps_mean)
            return ranking - batch.best_share * policy.chosen_logps_mean
        case Objective.CPO_CONTRASTIVE:
            return losses.logistic_loss(values["beta"] * d)
