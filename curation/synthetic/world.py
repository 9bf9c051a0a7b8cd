"""The generated world: judgments whose truth is known, as polars frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from curation.synthetic import draft, repeats
from curation.synthetic.crowd import KINDS, Crowd, draw_crowd
from curation.synthetic.frames import annotator_names, judgments_frame, pairs_frame, prompts_frame, responses_frame
from curation.synthetic.settings import WorldSettings
from curation.synthetic.texts import Bools, Ints, draw_prompts, good_slots, prompt_texts, prompt_topics, response_texts
from curation.synthetic.topics import TOPICS

_WORLD, _HABITS = 0, 1  # streams of random numbers, so that the habits do not depend on the size of the world

_PROMPT_VARIANTS = (" Thanks!", " Thank you.", " Any hint helps.", " Please be honest.")
_RESPONSE_VARIANTS = (" Good luck.", " Have fun.", " All the best.", " Take care.", "")


@dataclass(frozen=True)
class World:
    """Everything about a generated world, observed and true.

    Attributes:
        seed: what it was made from.
        settings: shares of what is planted.
        prompts: prompt_id, text, topic, plan (plain, identical, near_identical, cycle), is_bad_favored (the reference
            policy has learned to write bad responses on this topic), near_duplicate_of (prompt_id).
        responses: response_id, prompt_id, text, quality (0 to 1).
        pairs: pair_id, prompt_id, criterion, response_1_id, response_2_id, better_id (NULL where equally good),
            label_id (majority of the votes; NULL where even, or where both texts are one), favored_id (what the
            policy's habit favors; NULL where equally good), num_votes. Planted: is_flipped, is_repeated,
            is_self_contradicted, opposes_pair_id (its near-duplicate with the opposite label), is_cycle_planted,
            is_identical, is_near_identical. True of the votes, planted or not: is_on_cycle, has_opposing_votes.
        annotators: annotator_id, kind, reliability, position_bias (log-odds), num_votes.
        judgments: pair_id, prompt_id, response_a_id, response_b_id (in display order), vote, annotator_id, criterion,
            annotated_at, batch, cause (annotator, flipped, cycle, repeated, near_duplicate); by time.
    """

    seed: int
    settings: WorldSettings
    prompts: pl.DataFrame
    responses: pl.DataFrame
    pairs: pl.DataFrame
    annotators: pl.DataFrame
    judgments: pl.DataFrame


def world(
    seed: int = 0,
    num_prompts: int = 1000,
    num_annotators: int = 40,
    *,
    settings: WorldSettings | None = None,
    with_text: bool = True,
) -> World:
    """Generate a world; the same arguments give the same frames.

    Args:
        seed: of everything.
        num_prompts: prompts, before near-duplicates of some of them are added.
        num_annotators: annotators of all kinds, at least 10.
        settings: shares of what is planted.
        with_text: without, ``text`` is NULL and identifiers are hashes of row numbers: for tests of scale that need
            votes alone.

    Raises:
        ConfigError: a count is out of range.
    """
    settings = settings or WorldSettings()
    rng = np.random.default_rng([seed, _WORLD])
    codes = draw_prompts(rng, num_prompts, half=0)
    crowd = draw_crowd(rng, num_annotators, settings.kind_weights)
    prompts = draft.draw_prompts(rng, num_prompts, settings)
    responses = draft.draw_responses(rng, prompts)
    pairs, is_repeated, is_doubled = draft.draw_pairs(rng, prompts, responses, settings)
    votes = draft.draw_votes(rng, crowd, responses, pairs, settings)
    again = repeats.judge_again(rng, crowd, votes, len(pairs.prompt), is_repeated)
    copies = repeats.nearly_repeat(rng, crowd, prompts, responses, pairs, votes, is_doubled, settings)

    topic = prompt_topics(codes)
    texts = _texts(rng, codes, topic, prompts, responses, *copies[:2]) if with_text else None
    prompts, responses = draft.join(prompts, copies[0]), draft.join(responses, copies[1])
    pairs, votes = draft.join(pairs, copies[2]), draft.join(draft.join(votes, again), copies[3])
    topic = np.concatenate([topic, topic[copies[0].original]])

    is_bad_favored = bad_topics(seed, settings)[topic]
    prompt_rows = prompts_frame(seed, prompts, topic, is_bad_favored, texts and texts[0])
    response_rows = responses_frame(prompt_rows, responses, texts and texts[1])
    pair_rows = pairs_frame(prompt_rows, response_rows, prompts, responses, pairs, votes, again, is_bad_favored)
    return World(
        seed=seed,
        settings=settings,
        prompts=prompt_rows,
        responses=response_rows.unique("response_id", keep="first", maintain_order=True),
        pairs=pair_rows,
        annotators=_annotators(crowd, votes.annotator),
        judgments=judgments_frame(pair_rows, votes),
    )


def bad_topics(seed: int, settings: WorldSettings) -> Bools:
    """Topics in which the reference policy has learned to write bad responses. Shape ``(num_topics,)``."""
    order = np.random.default_rng([seed, _HABITS]).permutation(len(TOPICS))
    return order < round(settings.favored_bad_share * len(TOPICS))


def _annotators(crowd: Crowd, of_votes: Ints) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "annotator_id": annotator_names(len(crowd)),
            "kind": pl.Series(KINDS).gather(crowd.kind),
            "reliability": crowd.reliability,
            "position_bias": crowd.position_bias,
            "num_votes": np.bincount(of_votes, minlength=len(crowd)),
        }
    )


def _texts(
    rng: np.random.Generator,
    codes: Ints,
    topic: Ints,
    prompts: draft.Prompts,
    responses: draft.Responses,
    new_prompts: draft.Prompts,
    new_responses: draft.Responses,
) -> tuple[pl.Series, pl.Series]:
    """Texts of all prompts and responses, copies and near-copies included."""
    prompt = prompt_texts(codes)
    prompt = prompt.append(_vary(rng, prompt.gather(new_prompts.original), _PROMPT_VARIANTS))
    is_good = good_slots(rng, responses.num_good)
    response = response_texts(rng, responses.prompt, responses.rank, topic[responses.prompt], is_good)
    response = _plant_copies(prompts, responses, response)
    near = _vary(rng, response.gather(new_responses.original), _RESPONSE_VARIANTS)
    return prompt, response.append(near)


def _vary(rng: np.random.Generator, texts: pl.Series, variants: tuple[str, ...]) -> pl.Series:
    return texts + pl.Series(variants).gather(rng.integers(len(variants), size=len(texts)))


def _plant_copies(prompts: draft.Prompts, responses: draft.Responses, texts: pl.Series) -> pl.Series:
    """Second responses that copy the first: word for word, with other white space, or with other last words."""
    copies = np.flatnonzero(responses.original >= 0)
    plan = prompts.plan[responses.prompt[copies]]
    original = texts.gather(responses.original[copies])
    spaced = original.str.replace(". ", ".  ", literal=True) + "\n"
    odd = pl.Series(np.arange(len(copies)) % 2 == 1)
    is_identical = pl.Series(plan == draft.PLANS.index("identical"))
    identical = pl.select(pl.when(odd).then(spaced).otherwise(original)).to_series()
    near = original + pl.Series(_RESPONSE_VARIANTS[:-1]).gather(np.arange(len(copies)) % (len(_RESPONSE_VARIANTS) - 1))
    copied = pl.select(pl.when(is_identical).then(identical).otherwise(near)).to_series()
    return texts.scatter(copies, copied)
