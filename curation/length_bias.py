"""Length bias: how much an annotator's votes, and the whole set's, go with the length of a response."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curation.annotators.votes import LOW, TIE, Votes
from curation.compiled import compiled

Array = NDArray[np.float64]

_PRIOR_VARIANCE = 1.0
_ROUNDS = 20
_Z95 = 1.959963984540054


@dataclass(frozen=True)
class LengthBias:
    """Slopes of a logistic regression of the vote on log2 of the ratio of lengths, in log-odds a doubling.

    It is an association: where longer responses are better, careful annotators have one too. Compare annotators.

    Attributes:
        slope, low, high: of each annotator with the 95 % interval, shape (A,); NaN without a vote that is no tie.
        set_slope, set_low, set_high: of all votes together.
    """

    slope: Array
    low: Array
    high: Array
    set_slope: float
    set_low: float
    set_high: float


def length_bias(votes: Votes, responses: pl.DataFrame) -> LengthBias:
    """Slopes of the set and of each annotator; an annotator's is drawn to the set's by a normal prior of variance 1.

    Args:
        votes: on one criterion.
        responses: ``response_id``, ``num_chars``; votes on a response without a length are left out.
    """
    log_chars = _log_chars(votes.response_ids, responses)
    ratio = log_chars[votes.low] - log_chars[votes.high]
    has_length = ~np.isnan(ratio)
    x = np.where(has_length, ratio, 0.0)  # says nothing of any slope
    nobody = np.zeros(1, dtype=np.int32)
    whole, whole_error = _slopes(votes, x, np.broadcast_to(nobody, votes.num_votes), 1, mean=0.0, variance=100.0)
    slope, error = _slopes(votes, x, votes.annotator, votes.num_annotators, mean=whole[0], variance=_PRIOR_VARIANCE)
    is_used = (votes.vote != TIE) & has_length[votes.pair]
    has_votes = np.bincount(votes.annotator[is_used], minlength=votes.num_annotators) > 0
    slope = np.where(has_votes, slope, np.nan)
    half = _Z95 * whole_error[0]
    return LengthBias(
        slope,
        slope - _Z95 * error,
        slope + _Z95 * error,
        float(whole[0]),
        float(whole[0] - half),
        float(whole[0] + half),
    )


def _log_chars(ids: pl.Series, responses: pl.DataFrame) -> Array:
    """log2 of one more than the characters; NaN where they are not known."""
    lengths = pl.DataFrame({"response_id": ids}).join(
        responses.select("response_id", "num_chars"), on="response_id", how="left", maintain_order="left"
    )
    return np.log2(lengths["num_chars"].cast(pl.Float64).fill_null(np.nan).to_numpy() + 1.0)


def _slopes(
    votes: Votes, x: Array, group: NDArray[np.int32], num_groups: int, *, mean: float, variance: float
) -> tuple[Array, Array]:
    """Slope and standard error of each group's logistic regression without intercept, by damped Newton steps.

    Args:
        votes: ties are left out.
        x: of each pair, shape (P,).
        group: of each vote, shape (N,).
    """
    slope = np.full(num_groups, mean)
    information = np.full(num_groups, 1.0 / variance)
    for _ in range(_ROUNDS):
        gradient, information = np.zeros(num_groups), np.zeros(num_groups)
        _add_derivatives(votes.pair, votes.vote, group, x, slope, gradient, information)
        gradient -= (slope - mean) / variance
        information += 1.0 / variance
        step = np.clip(gradient / information, -1.0, 1.0)
        slope = slope + step
        if np.abs(step).max(initial=0.0) < 1e-8:
            break
    return slope, 1.0 / np.sqrt(information)


@compiled
def _add_derivatives(pair, vote, group, x, slope, gradient, information):  # type: ignore[no-untyped-def]
    """Add each vote's derivatives to ``gradient`` and ``information``, shape (num_groups,)."""
    for n in range(pair.shape[0]):
        if vote[n] != TIE:
            z, g = x[pair[n]], group[n]
            p = 1.0 / (1.0 + math.exp(-z * slope[g]))
            gradient[g] += z * ((1.0 if vote[n] == LOW else 0.0) - p)
            information[g] += z * z * p * (1.0 - p)
