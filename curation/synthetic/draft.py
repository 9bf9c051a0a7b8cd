"""The generated world as arrays of numbers: prompts, responses, pairs and votes, with what is planted in each."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TypeVar

import numpy as np

from curation.synthetic.crowd import Crowd, Floats, assign, cast
from curation.synthetic.graph import MOST_RESPONSES, cycle_directions
from curation.synthetic.sentences import SLOTS
from curation.synthetic.settings import WorldSettings
from curation.synthetic.texts import Bools, Ints

PLANS = ("plain", "identical", "near_identical", "cycle")
CAUSES = ("annotator", "flipped", "cycle", "repeated", "near_duplicate")
"""Why a vote says what it says: its annotator meant it, or it was planted."""

WEEKS = 12
LATE_WEEKS = 2
"""Of :data:`WEEKS`, those at the end in which pairs are judged again."""


@dataclass(frozen=True)
class Prompts:
    """Shape ``(num_prompts,)``: how many responses, index into :data:`PLANS`, and the prompt that it nearly repeats."""

    num_responses: Ints
    plan: Ints
    original: Ints  # -1 where it repeats none


@dataclass(frozen=True)
class Responses:
    """Shape ``(num_responses,)``: prompt, number within the prompt, good slots, and the response that it repeats."""

    prompt: Ints
    rank: Ints
    num_good: Ints
    original: Ints  # -1 where it repeats none

    @property
    def quality(self) -> Floats:
        """Share of good slots."""
        return self.num_good / len(SLOTS)


@dataclass(frozen=True)
class Pairs:
    """Shape ``(num_pairs,)``: prompt, two responses, the direction that is forced on the votes (0: none), flips."""

    prompt: Ints
    first: Ints
    second: Ints
    forced: Ints
    is_flipped: Bools
    original: Ints  # pair that it nearly repeats, with the opposite label; -1 where none


@dataclass(frozen=True)
class Votes:
    """Shape ``(num_votes,)``: 1 for the pair's first response, -1 for its second, 0 for a tie; times in weeks."""

    pair: Ints
    annotator: Ints
    is_first_shown_first: Bools
    value: Ints
    cause: Ints  # index into CAUSES
    at: Floats


Rows = TypeVar("Rows", Prompts, Responses, Pairs, Votes)


def join(one: Rows, other: Rows) -> Rows:
    """Rows of both, one after the other."""
    names = one.__dataclass_fields__
    return type(one)(**{name: np.concatenate([getattr(one, name), getattr(other, name)]) for name in names})


def draw_prompts(rng: np.random.Generator, num_prompts: int, settings: WorldSettings) -> Prompts:
    """How many responses each prompt has, and what is planted in it."""
    num_responses = 2 + draw(rng, num_prompts, settings.responses_weights)
    lottery = rng.random(num_prompts)
    identical = lottery < settings.identical_share
    near = ~identical & (lottery < settings.identical_share + settings.near_identical_share)
    two = num_responses == 2
    plan = np.select([two & identical, two & near, ~two & (lottery < settings.cycle_share)], [1, 2, 3], default=0)
    return Prompts(num_responses, plan, np.full(num_prompts, -1))


def draw_responses(rng: np.random.Generator, prompts: Prompts) -> Responses:
    """Responses of all prompts; within a prompt no two have the same quality, but for planted copies."""
    prompt = np.repeat(np.arange(len(prompts.num_responses)), prompts.num_responses)
    starts = np.cumsum(prompts.num_responses) - prompts.num_responses
    rank = np.arange(len(prompt)) - starts[prompt]
    levels = rng.random((len(prompts.num_responses), len(SLOTS) + 1)).argsort(axis=1)
    num_good = levels[prompt, rank]
    is_copy = np.isin(prompts.plan[prompt], (1, 2)) & (rank == 1)
    original = np.where(is_copy, starts[prompt], -1)
    return Responses(prompt, rank, np.where(is_copy, num_good[original], num_good), original)


def draw_pairs(
    rng: np.random.Generator, prompts: Prompts, responses: Responses, settings: WorldSettings
) -> tuple[Pairs, Bools, Bools]:
    """All pairs of every prompt's responses, with flips and cycles.

    Returns:
        The pairs, which of them are to be judged again, and which are to get an opposing near-duplicate.
    """
    starts = np.cumsum(prompts.num_responses) - prompts.num_responses
    parts = []
    for size in range(2, MOST_RESPONSES + 1):
        choices = np.array(list(combinations(range(size), 2)))
        of_size = np.flatnonzero(prompts.num_responses == size)
        parts.append((np.repeat(of_size, len(choices)), np.tile(choices, (len(of_size), 1))))
    prompt = np.concatenate([part[0] for part in parts])
    ranks = np.concatenate([part[1] for part in parts])
    order = np.argsort(prompt, kind="stable")
    prompt, ranks = prompt[order], ranks[order]

    forced = _force_cycles(rng, prompts, responses, prompt, ranks)
    lottery = np.where(prompts.plan[prompt] == 0, rng.random(len(prompt)), np.inf)
    ends = np.cumsum([settings.flipped_share, settings.repeated_share, settings.near_duplicate_share])
    is_flipped = lottery < ends[0]
    pairs = Pairs(
        prompt, starts[prompt] + ranks[:, 0], starts[prompt] + ranks[:, 1], forced, is_flipped, prompt * 0 - 1
    )
    return pairs, (lottery >= ends[0]) & (lottery < ends[1]), (lottery >= ends[1]) & (lottery < ends[2])


def _force_cycles(
    rng: np.random.Generator, prompts: Prompts, responses: Responses, pair_prompt: Ints, ranks: Ints
) -> Ints:
    is_cycle = prompts.plan == PLANS.index("cycle")
    row = np.cumsum(is_cycle) - 1
    quality = np.full((int(is_cycle.sum()), MOST_RESPONSES), np.nan)
    of_cycle = is_cycle[responses.prompt]
    quality[row[responses.prompt[of_cycle]], responses.rank[of_cycle]] = responses.quality[of_cycle]
    there = is_cycle[pair_prompt]
    forced = np.zeros(len(pair_prompt), dtype=np.int64)
    if there.any():
        forced[there] = cycle_directions(rng, quality, row[pair_prompt[there]], *ranks[there].T)
    return forced


def draw_votes(
    rng: np.random.Generator, crowd: Crowd, responses: Responses, pairs: Pairs, settings: WorldSettings
) -> Votes:
    """One to five votes on every pair, by different annotators, each in a display order of their own."""
    num_votes = 1 + draw(rng, len(pairs.prompt), settings.votes_weights)
    pair = np.repeat(np.arange(len(pairs.prompt)), num_votes)
    place = np.arange(len(pair)) - (np.cumsum(num_votes) - num_votes)[pair]
    annotator = assign(rng, crowd, len(pairs.prompt))[pair, place]
    shown = rng.random(len(pair)) < 0.5
    difference = (responses.num_good[pairs.first] - responses.num_good[pairs.second])[pair]
    value = cast(rng, crowd, annotator, np.sign(difference), shown, np.abs(difference) / len(SLOTS))
    forced = pairs.forced[pair]
    value = np.where(forced != 0, forced, np.where(pairs.is_flipped[pair], -value, value))
    cause = np.where(forced != 0, CAUSES.index("cycle"), np.where(pairs.is_flipped[pair], CAUSES.index("flipped"), 0))
    start = rng.uniform(0, WEEKS - LATE_WEEKS - 1, size=len(pairs.prompt))
    return Votes(pair, annotator, shown, value, cause, start[pair] + rng.exponential(0.1, size=len(pair)).clip(max=1))


def draw(rng: np.random.Generator, size: int, weights: tuple[float, ...]) -> Ints:
    """Random indices with these weights."""
    ends = np.cumsum(weights) / np.sum(weights)
    return np.searchsorted(ends[:-1], rng.random(size), side="right").astype(np.int64)
