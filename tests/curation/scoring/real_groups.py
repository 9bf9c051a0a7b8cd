"""Groups of real data as tokens, and their log-probs by a straightforward pass of transformers: the oracle."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from curation.scoring.engine import ResponseScore
from curation.scoring.policy import ReferencePolicy, load_tokenizer, open_policy
from curation.scoring.settings import ScoringSettings
from schemas.tokens import EncodedGroup, encode_groups
from tests.real_data import shared

TEXTS = tuple[list[dict[str, str]], list[str]]
_TURN = "\n\nAssistant:"


def hh_texts(path: Path | None = None) -> Iterator[TEXTS]:
    """HH pairs, as turns, that agree before the last assistant turn and have two answers; by default the published."""
    with gzip.open(path or shared("data/hh_rlhf/harmless-base-test.jsonl.gz"), "rt", encoding="utf-8") as stream:
        for line in stream:
            row = json.loads(line)
            (head, chosen), (other, rejected) = (row[key].rsplit(_TURN, 1) for key in ("chosen", "rejected"))
            if head == other and chosen.strip() and rejected.strip():
                yield _turns(head), [chosen.strip(), rejected.strip()]


def _turns(head: str) -> list[dict[str, str]]:
    messages = []
    for exchange in head.split("\n\nHuman:")[1:]:
        human, *answers = exchange.split(_TURN)
        messages.append({"role": "user", "content": human.strip()})
        messages += [{"role": "assistant", "content": answer.strip()} for answer in answers]
    return messages


def fgrlhf_texts() -> Iterator[TEXTS]:
    """Questions with their passages, which are long, and four answers each."""
    with gzip.open(shared("data/fgrlhf_qa/dev_feedback.jsonl.gz"), "rt", encoding="utf-8") as stream:
        for line in stream:
            row = json.loads(line)
            passages = "\n".join(" ".join(passage) for passage in row["passages"])
            answers = [answer["prediction"] if isinstance(answer, dict) else answer for answer in row["predictions"]]
            yield [{"role": "user", "content": f"{row['question']}\n{passages}"}], [text.strip() for text in answers]


def blimp_texts() -> Iterator[TEXTS]:
    """Minimal pairs: no prompt, two sentences."""
    with gzip.open(shared("data/blimp/pairs.jsonl.gz"), "rt", encoding="utf-8") as stream:
        for line in stream:
            row = json.loads(line)
            yield [], [row["good"], row["bad"]]


def tiny_policy(**settings: Any) -> ReferencePolicy:
    """The small trained policy."""
    return open_policy(ScoringSettings(**settings), str(shared("models/tiny-en")))


@cache
def tiny_tokenizer() -> Any:
    return load_tokenizer(shared("models/tiny-en"))


def encoded(texts: Iterator[TEXTS], count: int, *, max_length: int = 1024) -> list[EncodedGroup]:
    """The first groups; a prompt that is too long keeps its last tokens."""
    groups = encode_groups(tiny_tokenizer(), list(islice(texts, count)))
    assert len(groups) == count
    room = [max_length - max(map(len, group.response_ids)) for group in groups]
    return [EncodedGroup(g.prompt_ids[-size:], g.response_ids) for g, size in zip(groups, room, strict=True)]


@cache
def exactness_groups() -> tuple[EncodedGroup, ...]:
    """500 HH responses, 500 BLiMP sentences, long prompts with four answers, and every border of a cache block.

    The last are prompts of 30 to 34, 63 to 65, 95 to 97 tokens with three answers, of which two begin alike.
    """
    hh, blimp = encoded(hh_texts(), 250), encoded(blimp_texts(), 250)
    long = encoded(fgrlhf_texts(), 6)
    edges = []
    base = [group for group in hh if len(group.prompt_ids) >= 97]
    for number, length in enumerate((30, 31, 32, 33, 34, 63, 64, 65, 95, 96, 97)):
        group = base[number]
        one, other = group.response_ids
        alike = [*one[: min(len(one) - 1, number)], *other]
        edges.append(EncodedGroup(group.prompt_ids[-length:], [one, alike, other]))
    return (*hh, *blimp, *long, *edges)


@cache
def exact_logps() -> tuple[tuple[float, ...], ...]:
    """The oracle's answer to :func:`exactness_groups`."""
    return tuple(tuple(values) for values in oracle(exactness_groups()))


def worst(found: Sequence[Sequence[ResponseScore]], expected: Sequence[Sequence[float]]) -> float:
    """Largest difference of log-probs, in nats; NaN where one of them is."""
    differences = [
        score.logps - value
        for scores, values in zip(found, expected, strict=True)
        for score, value in zip(scores, values, strict=True)
    ]
    return float(np.abs(differences).max())


def every_response_alone(
    groups: Sequence[EncodedGroup], expected: Sequence[Sequence[float]], *, seed: int
) -> tuple[list[EncodedGroup], list[list[float]]]:
    """Each response as its own group, in random order."""
    alone = [
        (EncodedGroup(group.prompt_ids, [ids]), [value])
        for group, values in zip(groups, expected, strict=True)
        for ids, value in zip(group.response_ids, values, strict=True)
    ]
    random.Random(seed).shuffle(alone)
    return [group for group, _ in alone], [values for _, values in alone]


@cache
def oracle_model() -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(shared("models/tiny-en"), dtype=torch.float32).eval()


@torch.inference_mode()
def oracle_logps(prompt_ids: Sequence[int], response_ids: Sequence[int], model: Any = None) -> float:
    """Log-prob of one response, one sequence at a time, full logits, float32."""
    ids = torch.tensor([[*prompt_ids, *response_ids]])
    logits = (model or oracle_model())(ids).logits[0, len(prompt_ids) - 1 : -1].log_softmax(-1)
    return float(logits.gather(-1, torch.tensor(response_ids)[:, None]).sum())


def oracle(groups: Sequence[EncodedGroup], model: Any = None) -> list[list[float]]:
    return [[oracle_logps(group.prompt_ids, ids, model) for ids in group.response_ids] for group in groups]
