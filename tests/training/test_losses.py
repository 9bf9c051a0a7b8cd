"""Every objective against values worked out by hand, its gradient against finite differences, and its ends.

The example is a pair of two responses of two tokens. The policy gives the chosen tokens 1/2 and 1/4, the rejected 1/2
and 1/2; the reference gives the chosen 1/2 and 1/2, the rejected 1/4 and 1/4. So d = -ln 2 and r = 2 ln 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from training import losses

LN2 = math.log(2)
D, R = -LN2, 2 * LN2
W_MEAN, L_MEAN = -1.5 * LN2, -LN2
REF_W_MEAN, REF_L_MEAN = -LN2, -2 * LN2


def t(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


HAND_WORKED: dict[str, tuple[Callable[[], Tensor], float]] = {
    "dpo": (lambda: losses.dpo_loss(t(D), t(R), beta=1), math.log(9)),
    "cdpo": (
        lambda: losses.cdpo_loss(t(D), t(R), t(0.75), beta=1),
        0.75 * math.log(9) + 0.25 * math.log(9 / 8),
    ),
    "rdpo": (
        lambda: losses.rdpo_loss(t(D), t(R), beta=1, label_noise=0.25),
        (0.75 * math.log(9) - 0.25 * math.log(9 / 8)) / 0.5,
    ),
    # 4a/(1+a)^2 = 3/4 and sigmoid(3 ln 2) = 8/9, so the regulariser is 3/4 * 3 * 8/9 = 2
    "ropo": (lambda: losses.ropo_loss(t(D), t(R), beta=1, alpha=3), 0.75 * math.log(9) + 2),
    # softplus(-2 ln 2) = ln(5/4), so u = -ln 8 - ln(5/4) = -ln 10
    "cpo": (lambda: losses.cpo_loss(t(D), t(R), beta=1, gamma=0, tau=1, alpha=1), math.log(11)),
    # the reference prefers the rejected by 2 ln 2: softplus(2 ln 2) = ln 5, u = -ln 2 + 2 ln 2 - ln 5 = ln(2/5)
    "cpo where the reference is wrong": (
        lambda: losses.cpo_loss(t(D), t(-R), beta=1, gamma=0, tau=1, alpha=1),
        math.log(1 + 5 / 2),
    ),
    # alpha halves the gap: ln 5 / 2
    "cpo with alpha": (
        lambda: losses.cpo_loss(t(D), t(-R), beta=1, gamma=0, tau=1, alpha=2),
        math.log(1 + math.sqrt(5) / 2),
    ),
    # softplus(2 (ln 4 - ln 4)) / 2 = ln 2 / 2, u = -3 ln 2 - ln 2 / 2
    "cpo with gamma and tau": (
        lambda: losses.cpo_loss(t(D), t(R), beta=1, gamma=2 * LN2, tau=2, alpha=1),
        math.log(1 + 8 * math.sqrt(2)),
    ),
    "cpo_clip": (lambda: losses.cpo_clip_loss(t(D), t(R), beta=1), math.log(9)),
    "cpo_clip where the reference is wrong": (lambda: losses.cpo_clip_loss(t(D), t(-R), beta=1), math.log(3)),
    # 1/pi_ref are 2 and 4 a token, so m = 6 gamma = ln 2 and u = -4 ln 2
    "cpo_reference": (
        lambda: losses.cpo_reference_loss(t(D), t(R), t(REF_W_MEAN), t(REF_L_MEAN), beta=1, gamma=LN2 / 6),
        math.log(17),
    ),
    "cpo_lagrangian": (
        lambda: losses.cpo_lagrangian_loss(t(D), t(R), beta=1, gamma=0, multiplier=2),
        math.log(9) + 2 * LN2,
    ),
    "ipo": (lambda: losses.ipo_loss(t(D), t(R), beta=0.5), (3 * LN2 + 1) ** 2),
    "hinge": (lambda: losses.hinge_loss(t(D), t(R), beta=1), 1 + 3 * LN2),
    # log-ratios are -ln 2 and 2 ln 2: sigmoid(ln 2) + sigmoid(2 ln 2) = 2/3 + 4/5
    "kto": (lambda: losses.kto_loss(t(-LN2), t(2 * LN2), 0.0, beta=1), 22 / 15),
    # with z = ln 2: sigmoid(2 ln 2) = 4/5 at weight 2, and sigmoid(ln 2) = 2/3 at weight 3
    "kto with kl and weights": (
        lambda: losses.kto_loss(t(-LN2), t(2 * LN2), LN2, beta=1, desirable_weight=2, undesirable_weight=3),
        1.6 + 2,
    ),
    # the rejected has odds 1, so the odds-ratio term is -log p(w) = 1.5 ln 2
    "orpo": (lambda: losses.orpo_loss(t(W_MEAN), t(L_MEAN), beta=1), 3 * LN2),
    "simpo": (lambda: losses.simpo_loss(t(W_MEAN), t(L_MEAN), beta=2, gamma=LN2), math.log(5)),
    "rrhf": (
        lambda: losses.rrhf_loss(t(W_MEAN, L_MEAN), torch.tensor([0]), torch.tensor([1]), torch.tensor(0)),
        0.5 * LN2 + 1.5 * LN2,
    ),
    "cpo_contrastive": (lambda: losses.cpo_contrastive_loss(t(D), t(W_MEAN), beta=1), math.log(3) + 1.5 * LN2),
    "sft": (lambda: losses.sft_loss(t(W_MEAN), sft_weight=2), 3 * LN2),
}


@pytest.mark.parametrize("name", HAND_WORKED)
def test_two_token_example(name: str) -> None:
    compute, expected = HAND_WORKED[name]
    assert float(compute()) == pytest.approx(expected, rel=1e-12)


def test_rrhf_ranks_several_responses() -> None:
    """Three responses at -1, -2 and -1.5 nats a token, in that order of merit: only the last two are out of order."""
    value = losses.rrhf_loss(t(-1, -2, -1.5), torch.tensor([0, 0, 1]), torch.tensor([1, 2, 2]), torch.tensor(0))
    assert float(value) == pytest.approx(0.5 + 1)


OF_MARGINS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "dpo": lambda d, r: losses.dpo_loss(d, r, beta=0.3),
    "cdpo": lambda d, r: losses.cdpo_loss(d, r, torch.full_like(d, 0.7), beta=0.3),
    "rdpo": lambda d, r: losses.rdpo_loss(d, r, beta=0.3, label_noise=0.2),
    "ropo": lambda d, r: losses.ropo_loss(d, r, beta=0.3, alpha=6),
    "cpo": lambda d, r: losses.cpo_loss(d, r, beta=2.5, gamma=0.05, tau=2, alpha=1),
    "cpo_clip": lambda d, r: losses.cpo_clip_loss(d, r, beta=0.3),
    "cpo_reference": lambda d, r: losses.cpo_reference_loss(d, r, r - 1, -r - 1, beta=0.3, gamma=0.1),
    "cpo_lagrangian": lambda d, r: losses.cpo_lagrangian_loss(d, r, beta=0.3, gamma=0.5, multiplier=1.5),
    "ipo": lambda d, r: losses.ipo_loss(d, r, beta=0.3),
    "hinge": lambda d, r: losses.hinge_loss(d, r, beta=0.3),
    "kto": lambda d, r: losses.kto_loss(d, r, 0.2, beta=0.3),
}
OF_MEANS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "orpo": lambda w, x: losses.orpo_loss(w, x, beta=0.3),
    "simpo": lambda w, x: losses.simpo_loss(w, x, beta=2, gamma=1),
    "rrhf": lambda w, x: losses.rrhf_ranking_loss(w, x) + losses.sft_loss(w, sft_weight=1),
    "cpo_contrastive": lambda w, x: losses.cpo_contrastive_loss(w - x, w, beta=0.3),
}


@pytest.mark.parametrize("name", [*OF_MARGINS, *OF_MEANS])
def test_gradients_are_those_of_the_formula(name: str) -> None:
    """Away from the kinks of the piecewise ones."""
    generator = torch.Generator().manual_seed(3)
    first = torch.randn(12, generator=generator, dtype=torch.float64) * 3
    second = torch.randn(12, generator=generator, dtype=torch.float64) * 3
    if name in OF_MEANS:
        first, second = -first.abs() - 0.01, -second.abs() - 0.01
    function = (OF_MARGINS | OF_MEANS)[name]
    assert torch.autograd.gradcheck(function, (first.requires_grad_(), second.requires_grad_()))


LOGISTIC = ["dpo", "cpo_clip", "ropo", "cpo_lagrangian", "hinge"]


@pytest.mark.parametrize("name", LOGISTIC)
def test_ends_of_losses_that_vanish(name: str) -> None:
    """At +inf the loss and its gradient are 0; at -inf it is +inf with a finite gradient."""
    margin = t(math.inf, -math.inf, 1e4, -1e4).requires_grad_()
    value = OF_MARGINS[name](margin, t(0, 0, 0, 0))
    assert value[0] == 0
    assert value[1] == math.inf
    assert float(value[2].detach()) == pytest.approx(0, abs=1e-9)
    (gradient,) = torch.autograd.grad(value[[0, 2, 3]].sum(), margin)
    assert torch.isfinite(gradient[2:]).all()
    assert gradient[2] == 0
    assert gradient[3] < 0


def test_ties_of_policy_and_reference() -> None:
    margin = t(-3, 0, 3)
    assert losses.dpo_loss(margin, margin, beta=0.1).tolist() == pytest.approx([LN2] * 3)
    assert losses.hinge_loss(margin, margin, beta=0.1).tolist() == [1, 1, 1]
    assert losses.ipo_loss(margin, margin, beta=0.1).tolist() == pytest.approx([25] * 3)
    assert losses.kto_loss(t(0), t(0), 0.0, beta=0.1).tolist() == [1]
    assert losses.ropo_loss(margin, margin, beta=1, alpha=3).tolist() == pytest.approx([0.75 * LN2 + 1.125] * 3)
    clip = losses.cpo_clip_loss(margin, margin, beta=0.1)
    assert clip[0] > LN2
    assert clip[1:].tolist() == pytest.approx([LN2] * 2)
    assert bool((losses.cpo_loss(margin, margin, beta=1, gamma=0, tau=2, alpha=1) > LN2).all())


def test_ends_of_the_others() -> None:
    inf = math.inf
    assert losses.ipo_loss(t(inf, -inf), t(0, 0), beta=0.1).tolist() == [inf, inf]
    assert losses.rdpo_loss(t(inf, -inf), t(0, 0), beta=1, label_noise=0.2).tolist() == [-inf, inf]
    assert losses.rdpo_loss(t(inf), t(0), beta=1, label_noise=0.0).tolist() == [0]
    assert losses.cdpo_loss(t(inf, inf, -inf), t(0, 0, 0), t(1, 0.9, 0), beta=1).tolist() == [0, inf, 0]
    assert losses.kto_loss(t(inf, -inf), t(-inf, inf), 0.0, beta=1).tolist() == [0, 2]
    assert losses.cpo_loss(t(1), t(inf), beta=1, gamma=0, tau=1, alpha=1).tolist() == [inf]
    assert math.isnan(float(losses.cpo_loss(t(1), t(-inf), beta=1, gamma=0, tau=1, alpha=1)))
    assert losses.cpo_clip_loss(t(1), t(-inf), beta=1).tolist() == pytest.approx([math.log1p(math.exp(-1))])
    assert losses.simpo_loss(t(-inf), t(-1), beta=1, gamma=0).tolist() == [inf]
    assert losses.orpo_loss(t(-1e-300), t(-1), beta=1).tolist() == pytest.approx([0], abs=1e-12)


def test_ends_and_ties_of_ranking_contrastive_and_reference() -> None:
    inf = math.inf
    assert losses.rrhf_ranking_loss(t(-1, -1, 0), t(-1, -inf, -2)).tolist() == [0, 0, 0]
    assert losses.rrhf_ranking_loss(t(-inf), t(-1)).tolist() == [inf]
    contrastive = losses.cpo_contrastive_loss(t(inf, -inf, 0), t(-1, -1, -1), beta=1, sft_weight=0.5)
    assert contrastive.tolist() == [0.5, inf, pytest.approx(LN2 + 0.5)]
    means = (t(0, 0, 0), t(0, 0, 0))  # probabilities of 1, so that m is twice gamma
    reference = losses.cpo_reference_loss(t(inf, -inf, 2), t(0, 0, 2), *means, beta=1, gamma=0.5)
    assert reference.tolist() == [0, inf, pytest.approx(math.log1p(math.e))]
    unlikely = losses.cpo_reference_loss(t(1), t(0), t(-inf), t(-1), beta=1, gamma=0.5)
    assert unlikely.tolist() == [inf]
    simpo = losses.simpo_loss(t(-1, -1), t(-1, -inf), beta=2, gamma=0)
    assert simpo.tolist() == [pytest.approx(LN2), 0]


def test_orpo_of_a_response_that_is_certain_has_a_gradient() -> None:
    """A log-prob of exactly 0, of the chosen, of the rejected and of both."""
    for chosen, rejected in ((0.0, -1.0), (-1.0, 0.0), (0.0, 0.0)):
        w, x = t(chosen).requires_grad_(), t(rejected).requires_grad_()
        loss = losses.orpo_loss(w, x, beta=0.3)
        loss.backward()
        assert all(bool(torch.isfinite(value).all()) for value in (loss.detach(), w.grad, x.grad)), (chosen, rejected)


def test_log_odds_is_exact_at_both_ends() -> None:
    """At p = 1 - 1e-12 the odds are 1e12; at p = e^-800, whose probability underflows, the log-odds are -800."""
    logps = t(math.log1p(-1e-12), -LN2, -800).requires_grad_()
    value = losses.log_odds(logps)
    assert value.tolist() == pytest.approx([math.log(1e12), 0, -800], rel=1e-4, abs=1e-12)
    (gradient,) = torch.autograd.grad(value.sum(), logps)
    assert torch.isfinite(gradient).all()


def test_clip_is_the_hard_limit_of_cpo() -> None:
    d, r = t(-2, 0.5, 3), t(-1.5, 0.3, 2)
    soft = losses.cpo_loss(d, r, beta=0.7, gamma=0, tau=1e6, alpha=1)
    assert soft.tolist() == pytest.approx(losses.cpo_clip_loss(d, r, beta=0.7).tolist(), rel=1e-9)


def test_cpo_reference_without_gamma_is_dpo() -> None:
    d, r = t(-2, 0.5), t(-1.5, 0.3)
    assert torch.equal(
        losses.cpo_reference_loss(d, r, t(-1, -2), t(-3, -1), beta=0.7, gamma=0), losses.dpo_loss(d, r, beta=0.7)
    )


def test_rdpo_is_unbiased_under_flips() -> None:
    """The expectation over labels flipped at rate e is the clean DPO loss."""
    d, r, e = t(-2, 0.5, 3), t(-1.5, 0.3, 2), 0.2
    right = losses.rdpo_loss(d, r, beta=0.7, label_noise=e)
    flipped = losses.rdpo_loss(-d, -r, beta=0.7, label_noise=e)
    clean = losses.dpo_loss(d, r, beta=0.7)
    assert ((1 - e) * right + e * flipped).tolist() == pytest.approx(clean.tolist())


def test_ropo_gradient_peaks_at_one_inside() -> None:
    """With a = 3 it is largest, 1, at sigmoid(-u) = 2/3, and smaller for pairs that contradict the policy strongly."""
    u = t(-20, -LN2, 5).requires_grad_()
    (gradient,) = torch.autograd.grad(losses.ropo_loss(u, torch.zeros(3), beta=1, alpha=3).sum(), u)
    assert gradient[1] == pytest.approx(-1)
    assert gradient[0] == pytest.approx(-0.75, rel=1e-6)
    assert abs(gradient[2]) < 0.1


def test_dual_ascent_rises_with_violation_and_stays_positive() -> None:
    assert losses.dual_ascent(0.5, 0.3, epsilon=0.1, step=2) == pytest.approx(0.9)
    assert losses.dual_ascent(0.1, 0.0, epsilon=0.1, step=2) == 0
