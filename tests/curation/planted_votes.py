"""Votes drawn from annotators whose reliability and position bias are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray


@dataclass(frozen=True)
class Planted:
    """Judgments, and the truth behind them.

    Attributes:
        judgments: what the annotator model reads.
        kind: of each annotator, by number: careful, careless, biased or adversarial.
        theta: discrimination of each annotator.
        low_is_better: of each pair, by number.
    """

    judgments: pl.DataFrame
    kind: NDArray[np.str_]
    theta: NDArray[np.float64]
    low_is_better: NDArray[np.bool_]


def planted_votes(
    num_pairs: int = 2000, votes_a_pair: int = 5, num_annotators: int = 60, *, tie: float = 0.3, seed: int = 0
) -> Planted:
    """Six in ten annotators are careful, and two, one and one careless, biased and adversarial."""
    rng = np.random.default_rng(seed)
    kind = np.array(["careful"] * 6 + ["careless"] * 2 + ["biased", "adversarial"])[np.arange(num_annotators) % 10]
    careless, adversarial, careful = (
        rng.uniform(*ends, num_annotators) for ends in ((0, 0.4), (-1.4, -0.7), (0.5, 2.5))
    )
    theta = np.select([kind == "careless", kind == "adversarial"], [careless, adversarial], careful)
    beta = np.where(kind == "biased", 2.5, 0.0)
    strength = rng.normal(0.0, 1.8, num_pairs)
    pair = np.repeat(np.arange(num_pairs), votes_a_pair)
    annotator = np.concatenate([rng.choice(num_annotators, votes_a_pair, replace=False) for _ in range(num_pairs)])
    is_forward = rng.random(len(pair)) < 0.5
    sign = np.where(is_forward, 1.0, -1.0)
    x = theta[annotator] * strength[pair] * sign + beta[annotator]
    weights = np.stack((np.exp(x / 2), np.exp(-x / 2), np.full(len(x), tie)))
    drawn = rng.random(len(pair)) * weights.sum(axis=0)
    vote = np.select([drawn < weights[0], drawn < weights[0] + weights[1]], ["a", "b"], "tie")
    low, high = [f"{p:05d}-0" for p in pair], [f"{p:05d}-1" for p in pair]
    judgments = pl.DataFrame(
        {
            "pair_id": [f"{p:05d}" for p in pair],
            "response_a_id": np.where(is_forward, low, high),
            "response_b_id": np.where(is_forward, high, low),
            "vote": vote,
            "is_display_order_known": True,
            "annotator_id": [f"w{w:04d}" for w in annotator],
            "source": "planted",
        }
    )
    return Planted(judgments, kind, theta, strength > 0)
