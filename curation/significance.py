"""Exact tests, and their correction for being many."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]


def binomial_p_values(successes: NDArray[np.integer], trials: NDArray[np.integer], chance: Array | float) -> Array:
    """Exact two-sided binomial p-values: twice the smaller tail, at most 1. Broadcasts; no trials give 1.

    Args:
        successes, trials: counts.
        chance: probability of a success under the null hypothesis.
    """
    lower = stats.binom.cdf(successes, trials, chance)
    upper = stats.binom.sf(successes - 1, trials, chance)
    return np.minimum(1.0, 2.0 * np.minimum(lower, upper))


def benjamini_hochberg(p_values: Array) -> Array:
    """Adjusted p-values that bound the false discovery rate; NaN stays NaN and is not counted.

    Y. Benjamini and Y. Hochberg, Journal of the Royal Statistical Society B 57 (1995). Shape kept.
    """
    q_values = np.full(p_values.shape, np.nan)
    is_tested = ~np.isnan(p_values)
    tested = p_values[is_tested]
    sequence = np.argsort(-tested, kind="stable")
    ranks = np.arange(len(tested), 0, -1)
    adjusted = np.minimum.accumulate(tested[sequence] * len(tested) / np.maximum(ranks, 1))
    back = np.empty_like(adjusted)
    back[sequence] = np.minimum(adjusted, 1.0)
    q_values[is_tested] = back
    return q_values


def fewest_false(probability_false: Array, rate: float) -> NDArray[np.bool_]:
    """The largest set of findings of which, on average over the posterior, at most a share ``rate`` is false.

    Args:
        probability_false: posterior probability that each finding is false, shape (N,).
        rate: between 0 and 1.

    Returns:
        Whether each one is in the set, shape (N,). M. A. Newton et al., Biostatistics 5 (2004).
    """
    sequence = np.argsort(probability_false, kind="stable")
    mean = np.cumsum(probability_false[sequence]) / np.arange(1, len(sequence) + 1)
    found = np.zeros(len(sequence), dtype=bool)
    found[sequence[: np.searchsorted(mean, rate, side="right")]] = True
    return found
