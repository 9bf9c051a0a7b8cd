"""Opposing duplicates: a pair that is judged again, or whose near-duplicate is judged, with the opposite label."""

from __future__ import annotations

import numpy as np

from curation.synthetic.crowd import Crowd, assign
from curation.synthetic.draft import CAUSES, LATE_WEEKS, WEEKS, Pairs, Prompts, Responses, Votes, draw
from curation.synthetic.settings import WorldSettings
from curation.synthetic.texts import Bools, Ints


def labels(num_pairs: int, votes: Votes) -> Ints:
    """Majority of each pair's votes: 1 for its first response, -1 for its second, 0 where they are even."""
    return np.sign(np.bincount(votes.pair, weights=votes.value, minlength=num_pairs)).astype(np.int64)


def judge_again(rng: np.random.Generator, crowd: Crowd, votes: Votes, num_pairs: int, chosen: Bools) -> Votes:
    """One late vote against the label on each chosen pair: every other time by somebody who voted for the label.

    Pairs whose votes are even have no label to oppose and are left alone.
    """
    label = labels(num_pairs, votes)
    for_label = np.flatnonzero((votes.value == label[votes.pair]) & (label[votes.pair] != 0))
    pair, first = np.unique(votes.pair[for_label], return_index=True)
    keep = chosen[pair]
    pair, supporter = pair[keep], votes.annotator[for_label[first[keep]]]
    stranger = _stranger(rng, crowd, votes, num_pairs, pair)
    annotator = np.where(np.arange(len(pair)) % 2 == 0, supporter, stranger)
    at = rng.uniform(WEEKS - LATE_WEEKS, WEEKS, size=len(pair))
    cause = np.full(len(pair), CAUSES.index("repeated"))
    return Votes(pair, annotator, rng.random(len(pair)) < 0.5, -label[pair], cause, at)


def _stranger(rng: np.random.Generator, crowd: Crowd, votes: Votes, num_pairs: int, pair: Ints) -> Ints:
    """Somebody who has not judged the pair yet: the crowd has more members than a pair has votes."""
    row = np.full(num_pairs, -1)
    row[pair] = np.arange(len(pair))
    has_judged = np.zeros((len(pair), len(crowd)), dtype=bool)
    relevant = row[votes.pair] >= 0
    has_judged[row[votes.pair[relevant]], votes.annotator[relevant]] = True
    lottery = rng.random(has_judged.shape, dtype=np.float32)
    lottery[has_judged] = -1
    return lottery.argmax(axis=1)


def nearly_repeat(
    rng: np.random.Generator,
    crowd: Crowd,
    prompts: Prompts,
    responses: Responses,
    pairs: Pairs,
    votes: Votes,
    chosen: Bools,
    settings: WorldSettings,
) -> tuple[Prompts, Responses, Pairs, Votes]:
    """New prompts that nearly repeat an old one, with two nearly repeated responses and only opposite votes.

    At most one pair a prompt is repeated, and none whose votes are even. The rows returned go behind those that are
    there: their indices start where those end.
    """
    label = labels(len(pairs.prompt), votes)
    candidates = np.flatnonzero(chosen & (label != 0))
    source = candidates[np.unique(pairs.prompt[candidates], return_index=True)[1]]
    number = np.arange(len(source))
    new_prompt = len(prompts.plan) + number
    new_prompts = Prompts(np.full(len(source), 2), np.zeros(len(source), dtype=np.int64), pairs.prompt[source])

    old = np.stack([pairs.first[source], pairs.second[source]], axis=1).ravel()
    rank = np.tile([0, 1], len(source))
    new_responses = Responses(np.repeat(new_prompt, 2), rank, responses.num_good[old], old)

    first = len(responses.prompt) + 2 * number
    nothing = np.zeros(len(source), dtype=np.int64)
    new_pairs = Pairs(new_prompt, first, first + 1, -label[source], nothing > 0, source)

    num_votes = 1 + draw(rng, len(source), settings.votes_weights)
    of = np.repeat(number, num_votes)
    place = np.arange(len(of)) - (np.cumsum(num_votes) - num_votes)[of]
    annotator = assign(rng, crowd, len(source))[of, place]
    at = rng.uniform(WEEKS - LATE_WEEKS, WEEKS, size=len(of))
    cause = np.full(len(of), CAUSES.index("near_duplicate"))
    new_votes = Votes(len(pairs.prompt) + of, annotator, rng.random(len(of)) < 0.5, -label[source][of], cause, at)
    return new_prompts, new_responses, new_pairs, new_votes
