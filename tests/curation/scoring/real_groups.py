"""Groups of real data as tokens, and their log-probs by a straightforward pass of transformers: the oracle."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import islice
from typing import Any

import torch

from curation.scoring.policy import ReferencePolicy, load_tokenizer, open_policy
from curation.scoring.settings import ScoringSettings
from schemas.tokens import EncodedGroup, encode_groups
from tests.real_data import shared

TEXTS = tuple[list[dict[str, str]], list[str]]
_TURN = "\n\nAssistant:"


def hh_texts() -> Iterator[TEXTS]:
    """HH pairs that agree before the last assistant turn and have two answers, as turns."""
    with gzip.open(shared("data/hh_rlhf/harmless-base-test.jsonl.gz"), "rt", encoding="utf-8") as stream:
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
    """Questions with their passages and four answers each."""
    with gzip.open(shared("data/fgrlhf_qa/dev_feedback.jsonl.gz"), "rt", encoding="utf-8") as stream:
        for line in stream:
            row = json.loads(line)
            passages = "\n".join(" ".join([*passage[:1], *map(str, passage[1:])]) for passage in row["passages"])
            answers = [row[f"prediction {number}"].strip() for number in (1, 2, 3, 4)]
            yield [{"role": "user", "content": f"{row['question']}\n{passages}"}], answers


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
    """The first groups that fit."""
    groups: list[EncodedGroup] = []
    while len(groups) < count:
        batch = list(islice(texts, count - len(groups)))
        assert batch, f"only {len(groups)} groups"
        found = encode_groups(tiny_tokenizer(), batch)
        groups += [g for g in found if len(g.prompt_ids) + max(map(len, g.response_ids)) <= max_length]
    return groups


@cache
def oracle_model() -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(shared("models/tiny-en"), dtype=torch.float32).eval()


@torch.inference_mode()
def oracle_logps(prompt_ids: Sequence[int], response_ids: Sequence[int]) -> float:
    """Log-prob of one response, one sequence at a time, full logits, float32."""
    ids = torch.tensor([[*prompt_ids, *response_ids]])
    logits = oracle_model()(ids).logits[0, len(prompt_ids) - 1 : -1].log_softmax(-1)
    return float(logits.gather(-1, torch.tensor(response_ids)[:, None]).sum())


def oracle(groups: Sequence[EncodedGroup]) -> list[list[float]]:
    return [[oracle_logps(group.prompt_ids, ids) for ids in group.response_ids] for group in groups]
