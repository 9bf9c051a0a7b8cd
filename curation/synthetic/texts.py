"""Prompts and responses as columns of text: index arithmetic over the sentence banks, no loop over rows."""

from __future__ import annotations

from math import prod

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curation.synthetic.sentences import NUM_FRAMES, PROMPT_SHAPE, SLOTS, prompt_banks, response_banks
from schemas.errors import ConfigError

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_STRIDES = np.array([1, 5, 7, 11])  # coprime to the number of frames: siblings never share a frame


def draw_prompts(rng: np.random.Generator, num_prompts: int, half: int) -> Ints:
    """Codes of distinct prompts, uniform over one half, 0 or 1, of what the banks can say. Shape ``(num_prompts,)``.

    The judged prompts come from one half and those of the policy's corpus from the other, so none is in both.

    Raises:
        ConfigError: more prompts are asked for than the banks can say.
    """
    most = prod(PROMPT_SHAPE) // 2
    if not 1 <= num_prompts <= most:
        raise ConfigError(f"--prompts {num_prompts} is out of range", mend=f"choose from 1 to {most}")
    return 2 * rng.choice(most, size=num_prompts, replace=False) + half


def prompt_topics(codes: Ints) -> Ints:
    """Topic of each prompt."""
    return np.unravel_index(codes, PROMPT_SHAPE)[0]


def prompt_texts(codes: Ints) -> pl.Series:
    """Text of each prompt: a question, a bit of life, a constraint."""
    topic, question, person, situation, constraint, number = np.unravel_index(codes, PROMPT_SHAPE)
    _, num_questions, _, num_situations, _, num_numbers = PROMPT_SHAPE
    settings, questions, constraints = prompt_banks()
    return pl.select(
        pl.concat_str(
            questions.gather(topic * num_questions + question),
            settings.gather(person * num_situations + situation),
            constraints.gather(constraint * num_numbers + number),
            separator=" ",
        ).alias("text")
    ).to_series()


def response_texts(rng: np.random.Generator, prompt: Ints, rank: Ints, topic: Ints, is_good: Bools) -> pl.Series:
    """Text of each response; siblings share no sentence frame.

    Args:
        prompt: number of its prompt, from 0. Shape ``(num_responses,)``.
        rank: its number among the prompt's responses, below 12. Same shape.
        topic: its prompt's topic. Same shape.
        is_good: which slots are good. Shape ``(num_responses, 5)``.
    """
    num_prompts = int(prompt.max(initial=-1)) + 1
    columns, variants = [], []
    for slot, (bank, num_variants) in enumerate(response_banks()):
        start = rng.integers(num_variants, size=num_prompts)[prompt]
        stride = _STRIDES[rng.integers(len(_STRIDES), size=num_prompts)][prompt]
        variants.append(
            (start + rank * stride + NUM_FRAMES * rng.integers(num_variants, size=len(prompt))) % num_variants
        )
        if SLOTS[slot] == "second":  # a second step never repeats the first one; both banks list six steps alike
            repeats = (variants[1] // NUM_FRAMES) % 6 == (variants[2] // NUM_FRAMES) % 6
            variants[2] = np.where(repeats, (variants[2] + NUM_FRAMES) % num_variants, variants[2])
        columns.append(bank.gather((2 * topic + is_good[:, slot]) * num_variants + variants[slot]))
    return pl.select(pl.concat_str(*columns, separator=" ").alias("text")).to_series()


def good_slots(rng: np.random.Generator, num_good: Ints) -> Bools:
    """A random choice of that many good slots a row. Shape ``(num_responses, 5)``."""
    order = rng.random((len(num_good), len(SLOTS))).argsort(axis=1).argsort(axis=1)
    return order < num_good[:, None]
