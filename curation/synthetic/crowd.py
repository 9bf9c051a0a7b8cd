"""The annotators of the generated world, and how each kind of them votes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curation.synthetic.texts import Bools, Ints
from schemas.errors import ConfigError

Floats = NDArray[np.float64]

KINDS = ("careful", "careless", "position_biased", "adversarial")
_RELIABILITY = np.array([(0.88, 0.97), (0.52, 0.7), (0.82, 0.93), (0.05, 0.2)])
_BIAS = (1.6, 2.6)
MOST_VOTES = 5
"""Votes that a pair can get."""


@dataclass(frozen=True)
class Crowd:
    """Who votes; every array has shape ``(num_annotators,)``.

    Attributes:
        kind: index into :data:`KINDS`.
        reliability: probability of voting for the better response, when not tying and without position bias.
        position_bias: log-odds shift towards the response shown first.
        tie_tendency: probability of a tie on responses of equal quality.
        activity: share of all votes.
    """

    kind: Ints
    reliability: Floats
    position_bias: Floats
    tie_tendency: Floats
    activity: Floats

    def __len__(self) -> int:
        return len(self.kind)


def draw_crowd(rng: np.random.Generator, num_annotators: int, kind_weights: tuple[float, ...]) -> Crowd:
    """A crowd in which every kind has its share, to the nearest whole annotator.

    Raises:
        ConfigError: fewer annotators than twice the votes that a pair can get.
    """
    if num_annotators < 2 * MOST_VOTES:
        raise ConfigError(f"{num_annotators} annotators are too few", mend=f"use at least {2 * MOST_VOTES}")
    ends = np.cumsum(kind_weights) / np.sum(kind_weights)
    kind = rng.permutation(np.searchsorted(ends, (np.arange(num_annotators) + 0.5) / num_annotators))
    low, high = _RELIABILITY[kind].T
    bias = rng.uniform(*_BIAS, size=num_annotators) * rng.choice([1, 1, 1, -1], size=num_annotators)
    activity = rng.lognormal(sigma=0.5, size=num_annotators)
    return Crowd(
        kind=kind,
        reliability=rng.uniform(low, high),
        position_bias=np.where(kind == KINDS.index("position_biased"), bias, 0.0),
        tie_tendency=rng.uniform(0.1, 0.5, size=num_annotators),
        activity=activity / activity.sum(),
    )


def assign(rng: np.random.Generator, crowd: Crowd, num_pairs: int) -> Ints:
    """Annotators for every pair, all different within a row. Shape ``(num_pairs, MOST_VOTES)``."""
    ends = np.cumsum(crowd.activity)
    chosen = np.empty((num_pairs, MOST_VOTES), dtype=np.int64)
    open_rows = np.arange(num_pairs)
    while len(open_rows):
        draw = np.searchsorted(ends, rng.random((len(open_rows), MOST_VOTES)) * ends[-1])
        chosen[open_rows] = draw
        ordered = np.sort(draw, axis=1)
        open_rows = open_rows[(ordered[:, 1:] == ordered[:, :-1]).any(axis=1)]
    return chosen


def cast(
    rng: np.random.Generator, crowd: Crowd, annotator: Ints, better: Ints, is_first_shown_first: Bools, gap: Floats
) -> Ints:
    """Votes: 1 for the pair's first response, -1 for its second, 0 for a tie.

    An annotator who does not tie votes for the response in front with log-odds
    ``+-logit(reliability) + position_bias``, plus where it is the better one.

    Args:
        annotator: who votes. Shape ``(num_votes,)``, as of every array.
        better: 1 where the pair's first response is better, -1 where its second is, 0 where they are equal.
        is_first_shown_first: whether the pair's first response was shown first.
        gap: difference of quality, 0 to 1; ties become rarer with it.
    """
    in_front = np.where(is_first_shown_first, 1, -1)
    reliability = crowd.reliability[annotator]
    log_odds = better * in_front * np.log(reliability / (1 - reliability)) + crowd.position_bias[annotator]
    prefers_front = rng.random(len(annotator)) < 1 / (1 + np.exp(-log_odds))
    ties = rng.random(len(annotator)) < crowd.tie_tendency[annotator] * np.exp(-5 * gap)
    return np.where(ties, 0, np.where(prefers_front, in_front, -in_front))
