"""What the repeated votes of one annotator on one pair weigh: a judge sampled sixteen times is not sixteen people.

``m`` votes that go together with correlation ``rho``, beyond what the votes of others on the pair explain, are worth
``m / (1 + (m - 1) rho)`` independent ones (the design effect of L. Kish, Survey Sampling, 1965): each of them weighs
``1 / (1 + (m - 1) rho)``.
A judge that always repeats itself has one vote, one whose samples scatter like different people has nearly all.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_PRIOR_BLOCKS = 10.0
"""Pairs' worth of all annotators' repeats that an annotator's own correlation is mixed with."""


def repeat_weights(
    pair: NDArray[np.int32],
    annotator: NDArray[np.int32],
    value: Array,
    is_first: NDArray[np.bool_],
    is_named: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """Weight of each vote in the likelihood; 1 for who votes once on a pair or is not named. Shape (N,).

    Args:
        pair, annotator: of each vote, sorted by both, shape (N,).
        value: 1 for the lower response, -1 for the higher one, 0 for a tie, shape (N,).
        is_first: whether a vote is the first of its annotator on its pair, shape (N,).
        is_named: of each annotator, shape (A,).
    """
    start = np.flatnonzero(is_first)
    num = np.diff(np.append(start, len(pair)))
    owner, of_pair = annotator[start], pair[start]
    is_repeated = (num > 1) & is_named[owner]
    total = np.add.reduceat(value, start)
    squares = np.add.reduceat(value * value, start)
    others_total = np.bincount(of_pair, total)[of_pair] - total
    others_num = np.bincount(of_pair, num)[of_pair] - num
    # of two votes of the same annotator, of one of theirs and one of another's, and of a vote with itself
    within = (total**2 - squares) / np.maximum(num * (num - 1), 1)
    between = total / num * others_total / np.maximum(others_num, 1)
    excess, rest = within - between, squares / num - between
    excess, rest = (np.bincount(owner[is_repeated], x[is_repeated], len(is_named)) for x in (excess, rest))
    blocks = np.bincount(owner[is_repeated], minlength=len(is_named))
    rest_a_block = max(float(rest.sum() / blocks.sum()), 1e-9)
    pooled = np.clip(excess.sum() / blocks.sum() / rest_a_block, 0.0, 1.0)
    prior = _PRIOR_BLOCKS * rest_a_block
    correlation = np.clip((excess + prior * pooled) / np.maximum(rest + prior, 1e-9), 0.0, 1.0)
    weight = np.where(is_repeated, 1.0 / (1.0 + (num - 1) * correlation[owner]), 1.0)
    return np.repeat(weight.astype(np.float32), num)
