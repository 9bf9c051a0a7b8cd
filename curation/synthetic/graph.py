"""Cycles in the preference graphs of small prompts: planting them, and finding those that the votes really make."""

from __future__ import annotations

import numpy as np

from curation.synthetic.crowd import Floats
from curation.synthetic.texts import Bools, Ints

MOST_RESPONSES = 5
"""Responses that a prompt can have."""


def cycle_directions(
    rng: np.random.Generator, quality: Floats, pair_prompt: Ints, first_rank: Ints, second_rank: Ints
) -> Ints:
    """Which way the votes must go so that each prompt has a cycle through three or more of its responses.

    The cycle runs down the true order, so that only its last step, from the worst to the best, is wrong.

    Args:
        quality: of each prompt's responses, NaN where there is none. Shape ``(num_prompts, MOST_RESPONSES)``.
        pair_prompt: row of each pair's prompt. Shape ``(num_pairs,)``.
        first_rank, second_rank: columns of its two responses. Same shape.

    Returns:
        1 where the pair's first response must win, -1 where its second must, 0 where the pair is not on the cycle.
    """
    exists = ~np.isnan(quality)
    num_responses = exists.sum(axis=1)
    length = rng.integers(3, num_responses + 1)
    lottery = np.where(exists, rng.random(quality.shape), np.inf)
    is_chosen = lottery.argsort(axis=1).argsort(axis=1) < length[:, None]
    position = np.where(is_chosen, -quality, np.inf).argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
    first, second = position[pair_prompt, first_rank], position[pair_prompt, second_rank]
    both = is_chosen[pair_prompt, first_rank] & is_chosen[pair_prompt, second_rank]
    closes = np.abs(first - second) == length[pair_prompt] - 1
    follows = np.abs(first - second) == 1
    downhill = np.sign(second - first)
    return np.where(both & closes, -downhill, np.where(both & follows, downhill, 0))


def on_cycle(num_prompts: int, pair_prompt: Ints, first_rank: Ints, second_rank: Ints, label: Ints) -> Bools:
    """Whether each pair's majority preference lies on a cycle of its prompt's graph.

    Args:
        pair_prompt, first_rank, second_rank: as in :func:`cycle_directions`.
        label: 1, -1 or 0 for a majority for the first response, for the second, or for neither. Shape ``(num_pairs,)``.
    """
    reaches = np.zeros((num_prompts, MOST_RESPONSES, MOST_RESPONSES), dtype=bool)
    winner = np.where(label >= 0, first_rank, second_rank)
    loser = np.where(label >= 0, second_rank, first_rank)
    decided = label != 0
    reaches[pair_prompt[decided], winner[decided], loser[decided]] = True
    for middle in range(MOST_RESPONSES):  # Warshall's closure
        reaches |= reaches[:, :, middle, None] & reaches[:, None, middle, :]
    return decided & reaches[pair_prompt, loser, winner]
