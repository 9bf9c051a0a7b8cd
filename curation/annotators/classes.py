"""The prior over latent classes, fitted together with the scale of the responses' rewards.

The two trade off along a ridge on which one after the other would creep, so one Newton step moves both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg

from curation.annotators.confusion import Grid
from curation.annotators.em import Array

_LEAST_SHARE = 0.5
"""Least share of the complete-data information, in every direction, that a step counts on."""


@dataclass(frozen=True)
class Moments:
    """Sums over pairs of the mean and covariance of (class, mirrored classes as one; reward difference x strength).

    Attributes:
        mean: shape (K / 2 + 1,).
        covariance: shape (K / 2 + 1, K / 2 + 1).
    """

    mean: Array
    covariance: Array

    @classmethod
    def of_folded(cls, total: Array, square: Array) -> Moments:
        """Of pairs without rewards: their folded weights added up, shape (K / 2,), and the products of these."""
        half = len(total)
        second = np.diag(np.append(total, 0.0))
        second[:half, :half] -= square
        return cls(np.append(total, 0.0), second)

    @classmethod
    def of(cls, weights: Array, difference: Array | None, grid: Grid, *, num_pairs: int | None = None) -> Moments:
        """Of class weights of shape (E, K), rows summing to 1; one row stands for ``num_pairs`` pairs where given."""
        half = grid.size // 2
        folded = weights[:, :half] + weights[:, grid.mirror[:half]]
        times = 1.0 if num_pairs is None else float(num_pairs)
        if difference is None:
            total = np.append(folded.sum(axis=0) * times, 0.0)
            second = np.diag(total)
            second[:half, :half] -= times * folded.T @ folded
            return cls(total, second)
        lean = weights * grid.strength
        tilt = difference * lean.sum(axis=1)
        mean = np.column_stack((folded, tilt))
        second = np.zeros((half + 1, half + 1))
        second[:half, :half] = np.diag(folded.sum(axis=0))
        second[half, :half] = difference @ (lean[:, :half] + lean[:, grid.mirror[:half]])
        second[:half, half] = second[half, :half]
        second[half, half] = difference**2 @ (weights @ grid.strength**2)
        return cls(mean.sum(axis=0), second - mean.T @ mean)

    def plus(self, other: Moments) -> Moments:
        """Of both sets of pairs."""
        return Moments(self.mean + other.mean, self.covariance + other.covariance)


def class_step(
    class_prior: Array, believed: Moments, expected: Moments, grid: Grid, *, pseudo_pairs: Array, determined: float
) -> tuple[Array, float]:
    """One damped Newton step of the class prior and of the scale of rewards.

    Args:
        class_prior: shape (K,), symmetric.
        believed: moments of the pairs' posteriors.
        expected: moments of their priors.
        pseudo_pairs: pairs that the hyperprior adds to each class, shape (K,), symmetric.
        determined: number of well-determined rewards, the pull of their (refitted) normal prior on their scale.

    Returns:
        New class prior, shape (K,), and the factor by which rewards grow.
    """
    half = grid.size // 2
    folded = 2.0 * class_prior[:half]
    gradient = believed.mean - expected.mean
    gradient[:half] += 2.0 * pseudo_pairs[:half] - pseudo_pairs.sum() * folded
    gradient[half] -= determined
    complete = expected.covariance.copy()
    complete[:half, :half] += pseudo_pairs.sum() * (np.diag(folded) - np.outer(folded, folded))
    observed = complete - believed.covariance
    complete += np.eye(half + 1) * 1e-6 * max(float(np.trace(complete)), 1e-12)
    values, vectors = linalg.eigh(observed, complete)
    step = vectors @ ((vectors.T @ gradient) / np.maximum(values, _LEAST_SHARE))
    step = np.clip(step - np.append(np.full(half, step[:half] @ folded), 0.0), -0.7, 0.7)
    weights = folded * np.exp(step[:half])
    weights /= weights.sum()
    new = np.empty_like(class_prior)
    new[:half] = 0.5 * weights
    new[grid.mirror[:half]] = 0.5 * weights
    return new, float(np.exp(step[half]))
