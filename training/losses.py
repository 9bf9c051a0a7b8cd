"""The objectives of preference training as pure functions of log-probs; every loss is per pair and unreduced.

Words used throughout: a *margin* is ``log pi(chosen) - log pi(rejected)``, ``policy_margin`` (d) of the model that is
trained and ``reference_margin`` (r) of the reference policy, both summed over the response's tokens or both per token.
``l(u) = -log sigmoid(u) = softplus(-u)``. At a tie of policy and reference (d = r) a logistic loss is log 2; at
``u = +inf`` it is 0 and at ``u = -inf`` it is +inf, with gradients 0 and -beta. Where a docstring says nothing else,
that is what happens.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus


def logistic_loss(logits: Tensor) -> Tensor:
    """``l(u) = -log sigmoid(u)``, stable at both ends. Any shape."""
    return -logsigmoid(logits)


def dpo_loss(policy_margin: Tensor, reference_margin: Tensor, *, beta: float) -> Tensor:
    """DPO, ``l(beta (d - r))`` (arXiv:2305.18290, eq. 7).

    Args:
        policy_margin, reference_margin: nats. Shape (B,).
        beta: strength of the pull towards the reference, > 0.

    Returns:
        Shape (B,); log 2 where the policy equals the reference.
    """
    return logistic_loss(beta * (policy_margin - reference_margin))


def cdpo_loss(policy_margin: Tensor, reference_margin: Tensor, soft_label: Tensor, *, beta: float) -> Tensor:
    """Conservative DPO, ``q l(u) + (1 - q) l(-u)`` with ``u = beta (d - r)``.

    Its minimum is at ``u = logit(q)``, so the margin stays finite for q < 1; at ``u = +-inf`` the loss is +inf unless
    q is exactly 1 or 0.

    Args:
        policy_margin, reference_margin: nats. Shape (B,).
        soft_label: probability q that the chosen response is the better one. Shape (B,).
        beta: strength of the pull towards the reference, > 0.
    """
    logits = beta * (policy_margin - reference_margin)
    return mix_labels(logistic_loss(logits), logistic_loss(-logits), soft_label)


def rdpo_loss(policy_margin: Tensor, reference_margin: Tensor, *, beta: float, label_noise: float) -> Tensor:
    """Robust DPO, ``[(1 - e) l(u) - e l(-u)] / (1 - 2e)`` (arXiv:2403.00409): unbiased under flips of rate e.

    It is not bounded below: at ``u = +inf`` it is -inf for e > 0.

    Args:
        policy_margin, reference_margin: nats. Shape (B,).
        beta: strength of the pull towards the reference, > 0.
        label_noise: rate e of flipped labels, in [0, 0.5).
    """
    logits = beta * (policy_margin - reference_margin)
    flipped = label_noise * logistic_loss(-logits) if label_noise > 0 else torch.zeros_like(logits)
    return ((1 - label_noise) * logistic_loss(logits) - flipped) / (1 - 2 * label_noise)


def ropo_loss(policy_margin: Tensor, reference_margin: Tensor, *, beta: float, alpha: float) -> Tensor:
    """ROPO's noise-tolerant loss (arXiv:2404.04102): ``4a/(1+a)^2 l(u) + 4a^2/(1+a)^2 sigmoid(-u)``.

    Its gradient in u, ``-4a/(1+a)^2 s (1 + a (1 - s))`` with ``s = sigmoid(-u)``, is largest (1) at
    ``s = (1 + a) / 2a`` and falls for pairs that contradict the policy strongly.

    Args:
        policy_margin, reference_margin: nats. Shape (B,).
        beta: strength of the pull towards the reference, > 0.
        alpha: trade-off a between DPO and the bounded regulariser, > 1.
    """
    logits = beta * (policy_margin - reference_margin)
    scale = 4 * alpha / (1 + alpha) ** 2
    return scale * logistic_loss(logits) + scale * alpha * torch.sigmoid(-logits)


def cpo_target_gap(reference_margin: Tensor, *, gamma: float, tau: float, alpha: float) -> Tensor:
    """How far Constrained Preference Optimization lifts its target over r, ``softplus(tau (gamma - r)) / (alpha tau)``.

    Near 0 where the reference prefers the chosen response by much more than gamma; near ``(gamma - r) / alpha`` where
    it prefers the rejected one. Nats. Shape (B,).
    """
    return softplus(tau * (gamma - reference_margin)) / (alpha * tau)


def cpo_loss(
    policy_margin: Tensor, reference_margin: Tensor, *, beta: float, gamma: float, tau: float, alpha: float
) -> Tensor:
    """Constrained Preference Optimization (arXiv:2605.20834): DPO towards a target margin of at least about gamma.

    ``l(beta (d - r) - (beta / alpha) softplus(tau (gamma - r)) / tau)``. At d = r the loss is above log 2, most where
    the reference prefers the rejected response; for tau -> inf and gamma = 0, alpha = 1 it is :func:`cpo_clip_loss`.
    For ``r = -inf`` it is NaN, as no finite policy can reach that target.

    Args:
        policy_margin, reference_margin: nats, per token in the authors' code. Shape (B,).
        beta: strength of the pull towards the target, > 0.
        gamma: least target margin, nats.
        tau: sharpness of the softplus, > 0, per nat.
        alpha: softness of the constraint, > 0; 1 asks for the whole gap.
    """
    gap = cpo_target_gap(reference_margin, gamma=gamma, tau=tau, alpha=alpha)
    return logistic_loss(beta * (policy_margin - reference_margin - gap))


def cpo_clip_loss(policy_margin: Tensor, reference_margin: Tensor, *, beta: float) -> Tensor:
    """Hard limit of :func:`cpo_loss`: ``l(beta (d - max(r, 0)))``.

    DPO where the reference prefers the chosen response; a reference-free logistic loss where it does not, so a policy
    that still prefers the rejected response never pays less than log 2.
    """
    return logistic_loss(beta * (policy_margin - reference_margin.clamp(min=0)))


def cpo_reference_margin(
    reference_chosen_logps_mean: Tensor, reference_rejected_logps_mean: Tensor, *, gamma: float
) -> Tensor:
    """``m = gamma (1 / pi_ref(w) + 1 / pi_ref(l))`` on length-normalised probabilities. Shape (B,)."""
    return gamma * (torch.exp(-reference_chosen_logps_mean) + torch.exp(-reference_rejected_logps_mean))


def cpo_reference_loss(
    policy_margin: Tensor,
    reference_margin: Tensor,
    reference_chosen_logps_mean: Tensor,
    reference_rejected_logps_mean: Tensor,
    *,
    beta: float,
    gamma: float,
) -> Tensor:
    """``l(beta (d - r) - m)`` with :func:`cpo_reference_margin` (arXiv:2605.20834, eq. 17).

    The stationary form of RLHF with a constraint term. For gamma > 0 the exact constrained objective is unbounded (its
    constraint term rewards moving probability without limit), so this is an approximation: it keeps the stationary
    point's margin and puts it into the logistic likelihood. With gamma = 0 it is DPO.

    Args:
        policy_margin, reference_margin: nats. Shape (B,).
        reference_chosen_logps_mean, reference_rejected_logps_mean: nats a token, <= 0. Shape (B,).
        beta: strength of the pull towards the reference, > 0.
        gamma: weight of the constraint term, >= 0.
    """
    lift = cpo_reference_margin(reference_chosen_logps_mean, reference_rejected_logps_mean, gamma=gamma)
    return logistic_loss(beta * (policy_margin - reference_margin) - lift)


def constraint_violation(policy_margin: Tensor, *, gamma: float) -> Tensor:
    """``max(0, gamma - d)``: how far a pair's policy margin falls short of gamma, nats. Shape (B,)."""
    return (gamma - policy_margin).clamp(min=0)


def cpo_lagrangian_loss(
    policy_margin: Tensor, reference_margin: Tensor, *, beta: float, gamma: float, multiplier: float
) -> Tensor:
    """Per-pair part of the Lagrangian of: minimise DPO subject to ``mean(max(0, gamma - d)) <= epsilon``.

    ``l(beta (d - r)) + multiplier * max(0, gamma - d)``; the constant ``- multiplier * epsilon`` has no gradient. The
    multiplier is raised and lowered by :func:`dual_ascent`. At ``d = gamma`` the gradient of the second term is 0.
    """
    violation = constraint_violation(policy_margin, gamma=gamma)
    return dpo_loss(policy_margin, reference_margin, beta=beta) + multiplier * violation


def dual_ascent(multiplier: float, mean_violation: float, *, epsilon: float, step: float) -> float:
    """One step of projected dual ascent: ``max(0, multiplier + step (mean_violation - epsilon))``."""
    return max(0.0, multiplier + step * (mean_violation - epsilon))


def ipo_loss(policy_margin: Tensor, reference_margin: Tensor, *, beta: float) -> Tensor:
    """IPO, ``(d - r - 1 / (2 beta))^2`` (arXiv:2310.12036, eq. 17); +inf at infinite margins of either sign."""
    return (policy_margin - reference_margin - 1 / (2 * beta)) ** 2


def hinge_loss(policy_margin: Tensor, reference_margin: Tensor, *, beta: float) -> Tensor:
    """Hinge (SLiC, arXiv:2305.10425, on the DPO logits): ``max(0, 1 - beta (d - r))``; 1 at a tie, 0 at +inf."""
    return (1 - beta * (policy_margin - reference_margin)).clamp(min=0)


def kto_loss(
    chosen_logratio: Tensor,
    rejected_logratio: Tensor,
    kl: Tensor | float,
    *,
    beta: float,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> Tensor:
    """KTO of a pair's two responses (arXiv:2402.01306, eq. 8), each judged on its own.

    ``l_D (1 - sigmoid(beta (a_w - z))) + l_U (1 - sigmoid(beta (z - a_l)))`` with a the log-ratio to the reference and
    z the KL estimate, which carries no gradient. Bounded by 0 and ``l_D + l_U``.

    Args:
        chosen_logratio, rejected_logratio: ``log pi - log pi_ref`` of a whole response, nats. Shape (B,).
        kl: estimate z >= 0 of KL(pi || pi_ref), nats.
        beta: > 0. desirable_weight, undesirable_weight: l_D and l_U.
    """
    desirable = desirable_weight * torch.sigmoid(-beta * (chosen_logratio - kl))
    return desirable + undesirable_weight * torch.sigmoid(-beta * (kl - rejected_logratio))


def log_odds(logps_mean: Tensor) -> Tensor:
    """``log(p / (1 - p))`` of the length-normalised probability ``p = exp(logps_mean)``.

    A log-prob of 0 counts as the largest number below it, so its log-odds are finite (708 in float64), with gradient 0.
    """
    logps_mean = logps_mean.clamp(max=-torch.finfo(logps_mean.dtype).tiny)
    # log(1 - e^x), stable on both sides of -log 2 (Maechler 2012); where() needs both branches finite for its gradient
    near = logps_mean > -math.log(2)
    of_near = torch.log(-torch.expm1(torch.where(near, logps_mean, torch.full_like(logps_mean, -0.5))))
    of_far = torch.log1p(-torch.exp(torch.where(near, torch.full_like(logps_mean, -1.0), logps_mean)))
    return logps_mean - torch.where(near, of_near, of_far)


def orpo_loss(chosen_logps_mean: Tensor, rejected_logps_mean: Tensor, *, beta: float) -> Tensor:
    """ORPO (arXiv:2403.07691, eq. 6): ``-logps_mean(w) + beta l(log_odds(w) - log_odds(l))``. No reference.

    Args:
        chosen_logps_mean, rejected_logps_mean: nats a token, < 0. Shape (B,).
        beta: weight of the odds-ratio term (the paper's lambda), > 0.
    """
    return -chosen_logps_mean + beta * logistic_loss(log_odds(chosen_logps_mean) - log_odds(rejected_logps_mean))


def simpo_loss(chosen_logps_mean: Tensor, rejected_logps_mean: Tensor, *, beta: float, gamma: float) -> Tensor:
    """SimPO (arXiv:2405.14734, eq. 6): ``l(beta (logps_mean(w) - logps_mean(l)) - gamma)``. No reference.

    ``gamma`` is the target reward margin of the paper, in units of the reward, so it is not multiplied by beta.
    """
    return logistic_loss(beta * (chosen_logps_mean - rejected_logps_mean) - gamma)


def cpo_contrastive_loss(
    policy_margin: Tensor, chosen_logps_mean: Tensor, *, beta: float, sft_weight: float = 1.0
) -> Tensor:
    """Contrastive Preference Optimization (arXiv:2401.08417, eq. 5): ``l(beta d) - sft_weight logps_mean(w)``."""
    return logistic_loss(beta * policy_margin) + sft_loss(chosen_logps_mean, sft_weight=sft_weight)


def rrhf_ranking_loss(better_logps_mean: Tensor, worse_logps_mean: Tensor) -> Tensor:
    """RRHF's ranking term for each ordered two responses of one prompt (arXiv:2304.05302, eq. 2):
    ``max(0, p_worse - p_better)``, p being the log-prob a token; 0 at a tie and at +inf.
    """
    return (worse_logps_mean - better_logps_mean).clamp(min=0)


def rrhf_loss(logps_mean: Tensor, better: Tensor, worse: Tensor, best: Tensor) -> Tensor:
    """RRHF of one prompt with several ranked responses (arXiv:2304.05302, eq. 2 to 4): the ranking term over every
    ordered two, plus the negative log-prob a token of the best.

    The paper sums the likelihood term over the tokens; the authors' code (GanjinZero/RRHF, train.py) averages it, and
    multiplies the ranking term by 100. Here it is averaged and both terms count the same, so that neither grows with
    the length of the response. The trainer has the prompt as pairs, whose losses sum to this.

    Args:
        logps_mean: of the R responses, nats a token. Shape (R,).
        better, worse: indices of the responses of each ordered two. Shape (P,).
        best: index of the best response. Shape ().

    Returns:
        Shape ().
    """
    return rrhf_ranking_loss(logps_mean[better], logps_mean[worse]).sum() - logps_mean[best]


def sft_loss(chosen_logps_mean: Tensor, *, sft_weight: float) -> Tensor:
    """The RPO term (arXiv:2404.19733): ``-sft_weight logps_mean(w)``, added to any loss. Shape (B,)."""
    return -sft_weight * chosen_logps_mean


def mix_labels(loss_as_labelled: Tensor, loss_if_flipped: Tensor, soft_label: Tensor) -> Tensor:
    """Expected loss when the label is right with probability q: ``q a + (1 - q) b``.

    A branch of probability exactly 0 does not count even where its loss is infinite. Shape (B,).
    """
    right = torch.where(soft_label > 0, soft_label * loss_as_labelled, torch.zeros_like(loss_as_labelled))
    return right + torch.where(soft_label < 1, (1 - soft_label) * loss_if_flipped, torch.zeros_like(loss_if_flipped))
