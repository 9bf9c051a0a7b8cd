"""The graded confusion model: three numbers an annotator say how votes come from a pair's latent class.

A class z is a signed strength ``s`` (positive where the lower response id is better) and an evenness ``t`` (how much
the pair invites a tie). Annotator j, who saw the lower id first (o = 1), second (o = -1) or in unknown order (o = 0),
votes low, high or tie with probabilities in proportion to::

    exp((theta_j s + o beta_j) / 2),  exp(-(theta_j s + o beta_j) / 2),  exp(tau_j + t)

``theta`` is discrimination (0 a coin, below 0 an adversary), ``beta`` position bias in
log-odds, ``tau`` tie tendency. It is Dawid-Skene with a confusion matrix that is log-linear in the class, and, given
the class, Davidson's model of ties (Journal of the American Statistical Association 65, 1970).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from curation.annotators import confusion_kernels
from curation.annotators.em import Array
from curation.annotators.votes import NUM_VOTES

ORDER_SIGN = np.array([1.0, -1.0, 0.0])
"""o of FORWARD, BACKWARD, UNKNOWN."""

THETA, BETA, TAU = 0, 1, 2
NO_TIES = -40.0
"""tau of a set in which nobody ever said tie."""


@dataclass(frozen=True)
class Grid:
    """The latent classes.

    Attributes:
        strength: s of each class, shape (K,); every value stands with both signs.
        evenness: t of each class, shape (K,).
        mirror: index of the class with -s and the same t, shape (K,).
    """

    strength: Array
    evenness: Array
    mirror: np.ndarray

    @classmethod
    def of(cls, strengths: tuple[float, ...], evennesses: tuple[float, ...]) -> Grid:
        """All combinations of positive strengths, both signs, and evennesses."""
        signed = np.concatenate((-np.array(strengths)[::-1], np.array(strengths)))
        strength = np.repeat(signed, len(evennesses))
        evenness = np.tile(np.array(evennesses), len(signed))
        index = np.arange(len(strength)).reshape(len(signed), -1)
        return cls(strength, evenness, index[::-1].ravel())

    @property
    def size(self) -> int:
        """K."""
        return len(self.strength)

    def symmetric(self, weights: Array) -> Array:
        """Weights averaged over each class and its mirror image: response ids carry no preference."""
        return 0.5 * (weights + weights[self.mirror])


def vote_probabilities(parameters: Array, grid: Grid) -> Array:
    """P(vote | class) of each annotator and display order.

    Args:
        parameters: theta, beta, tau of each annotator, shape (A, 3).

    Returns:
        Shape (A, 3 orders, 3 votes, K).
    """
    table = np.empty((len(parameters), NUM_VOTES, NUM_VOTES, grid.size))
    confusion_kernels.fill_probabilities(parameters, grid.strength, grid.evenness, ORDER_SIGN, table)
    return table


@dataclass(frozen=True)
class NormalPrior:
    """Population of annotators: theta, beta and tau are independent normals.

    Attributes:
        mean: shape (3,).
        variance: shape (3,).
    """

    mean: Array
    variance: Array


def newton_step(
    parameters: Array, counts: Array, missing: Array, grid: Grid, prior: NormalPrior, *, max_step: float = 1.0
) -> Array:
    """One damped Newton step of every annotator towards the penalised maximum of the log-likelihood.

    Args:
        parameters: shape (A, 3).
        counts: expected votes of each cell and class, shape (9 A, K).
        missing: share of the complete-data information that is missing, shape (A, 3); 0 gives EM's own step.

    Returns:
        New parameters, shape (A, 3).
    """
    gradient, information = gradient_and_information(parameters, counts, grid)
    gradient -= (parameters - prior.mean) / prior.variance
    kept = np.sqrt(1.0 - missing)
    information *= kept[:, :, None] * kept[:, None, :]
    information += np.diag(1.0 / prior.variance)
    step = np.linalg.solve(information, gradient[:, :, None])[:, :, 0]
    return parameters + np.clip(step, -max_step, max_step)


def gradient_and_information(parameters: Array, counts: Array, grid: Grid) -> tuple[Array, Array]:
    """Gradient and expected information of the complete-data log-likelihood in (theta, beta, tau).

    Returns:
        Shapes (A, 3) and (A, 3, 3).
    """
    table = vote_probabilities(parameters, grid)
    gradient, upper = np.zeros((len(parameters), 3)), np.zeros((len(parameters), 3, 3))
    confusion_kernels.add_information(counts.reshape(table.shape), table, grid.strength, ORDER_SIGN, gradient, upper)
    return gradient, symmetric(upper)


def squared_scores(table: Array, counts: Array, grid: Grid) -> Array:
    """Expected sums of products of the derivatives of log P(vote | class) by (theta, beta, tau), shape (A, 3, 3).

    Args:
        table: P(vote | class) of each cell, shape (9 A, K).
        counts: expected votes of each cell and class, shape (9 A, K).
        grid: latent classes.
    """
    shape = (-1, NUM_VOTES, NUM_VOTES, grid.size)
    upper = np.zeros((len(table) // (NUM_VOTES * NUM_VOTES), 3, 3))
    confusion_kernels.add_squares(table.reshape(shape), grid.strength, ORDER_SIGN, counts.reshape(shape), upper)
    return symmetric(upper)


def symmetric(upper: Array) -> Array:
    """Symmetric matrices from their upper halves, shape (A, 3, 3); what is below the diagonal is 0."""
    return upper + np.triu(upper, 1).swapaxes(1, 2)
