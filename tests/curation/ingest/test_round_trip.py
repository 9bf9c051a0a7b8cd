"""Random judgments, written in every format, are read back as the same judgments."""

from __future__ import annotations

import hashlib
import hmac
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation.ingest.formats.registry import format_names
from tests.curation.ingest.reading import read_file, write_lines

pytestmark = pytest.mark.slow

Row = dict[str, Any]


@dataclass(frozen=True)
class Vote:
    """A judgment as people state it."""

    prompt: str
    a: str
    b: str
    vote: str
    annotator: str


def user(text: str) -> list[Row]:
    return [{"role": "user", "content": text}]


def assistant(text: str) -> Row:
    return {"role": "assistant", "content": text}


def score(vote: Vote) -> tuple[int, int]:
    return {"a": (2, 1), "b": (1, 2), "tie": (1, 1)}[vote.vote]


def long_form(v: Vote) -> list[Row]:
    return [{"prompt": v.prompt, "response_a": v.a, "response_b": v.b, "vote": v.vote, "annotator_id": v.annotator}]


def hh(v: Vote) -> list[Row]:
    start = f"\n\nHuman: {v.prompt}\n\nAssistant:"
    return [{"chosen": f"{start} {v.a}", "rejected": f"{start} {v.b}"}]


def ultrafeedback(v: Vote) -> list[Row]:
    ratings = zip((v.a, v.b), score(v), strict=True)
    return [{"instruction": v.prompt, "completions": [
        {"model": "m", "response": text, "overall_score": rating} for text, rating in ratings
    ]}]  # fmt: skip


def binarized(v: Vote) -> list[Row]:
    first, second = score(v)
    return [{"prompt": v.prompt, "chosen": [*user(v.prompt), assistant(v.a)], "score_chosen": first,
             "rejected": [*user(v.prompt), assistant(v.b)], "score_rejected": second}]  # fmt: skip


def distilabel(v: Vote) -> list[Row]:
    return [{"instruction": v.prompt, "generations": [v.a, v.b], "ratings": list(score(v))}]


def nemo(v: Vote) -> list[Row]:
    return [{"context": user(v.prompt), "completions": [
        {"rank": -rating, "completion": [assistant(text)]} for text, rating in zip((v.a, v.b), score(v), strict=True)
    ]}]  # fmt: skip


def nectar(v: Vote) -> list[Row]:
    return [{"prompt": f"\n\nHuman: {v.prompt}\n\nAssistant: ", "answers": [
        {"answer": text, "rank": 3 - rating} for text, rating in zip((v.a, v.b), score(v), strict=True)
    ]}]  # fmt: skip


def helpsteer(v: Vote) -> list[Row]:
    same = {"correctness": 1, "coherence": 1, "complexity": 1, "verbosity": 1}
    return [{"prompt": v.prompt, "response": text, "helpfulness": rating, **same}
            for text, rating in zip((v.a, v.b), score(v), strict=True)]  # fmt: skip


def kto(v: Vote) -> list[Row]:
    return [{"prompt": v.prompt, "completion": v.a, "label": v.vote == "a"},
            {"prompt": v.prompt, "completion": v.b, "label": v.vote == "b"}]  # fmt: skip


def argilla(v: Vote) -> list[Row]:
    said = {"a": "response-1", "b": "response-2", "tie": "tie"}[v.vote]
    return [{"prompt": v.prompt, "response-1": v.a, "response-2": v.b, "overall.responses": [said],
             "overall.responses.users": [v.annotator], "overall.responses.status": ["submitted"]}]  # fmt: skip


def label_studio(v: Vote) -> list[Row]:
    selected = {"a": "left", "b": "right", "tie": "tie"}[v.vote]
    result = [{"type": "pairwise", "value": {"selected": selected}}]
    return [{"id": 1, "data": {"prompt": v.prompt, "answer1": v.a, "answer2": v.b},
             "annotations": [{"completed_by": {"email": v.annotator}, "result": result}]}]  # fmt: skip


def multipref(v: Vote) -> list[Row]:
    said = {"a": "A-is-clearly-better", "b": "B-is-slightly-better", "tie": "Tie"}[v.vote]
    return [{"text": v.prompt, "completion_a": v.a, "completion_b": v.b, "expert_worker_annotations": [],
             "normal_worker_annotations": [{"evaluator": v.annotator, "overall_pref": said}]}]  # fmt: skip


def alpaca_eval(v: Vote) -> list[Row]:
    return [{"instruction": v.prompt, "output_1": v.a, "output_2": v.b, "annotator": v.annotator,
             "preference": {"a": 1.0, "b": 2.0, "tie": 1.5}[v.vote]}]  # fmt: skip


def arena(v: Vote) -> list[Row]:
    return [{"conversation_a": [*user(v.prompt), assistant(v.a)], "conversation_b": [*user(v.prompt), assistant(v.b)],
             "winner": {"a": "model_a", "b": "model_b", "tie": "tie"}[v.vote], "judge": v.annotator}]  # fmt: skip


def crowd_kit(v: Vote) -> list[Row]:
    label = {"a": v.a, "b": v.b, "tie": "tie"}[v.vote]
    return [{"worker": v.annotator, "left": v.a, "right": v.b, "label": label, "prompt": v.prompt}]


def sharegpt(v: Vote) -> list[Row]:
    return [{"conversations": [{"from": "human", "value": v.prompt}], "chosen": {"from": "gpt", "value": v.a},
             "rejected": {"from": "gpt", "value": v.b}}]  # fmt: skip


def winnow(v: Vote) -> list[Row]:
    return [{"pair_id": "p", "prompt_group_id": "g", "criterion": "overall", "prompt": json.dumps(user(v.prompt)),
             "chosen": v.a, "rejected": v.b}]  # fmt: skip


def fgrlhf(v: Vote) -> list[Row]:
    code = {"a": 1, "b": 2, "tie": 0}[v.vote]
    return [{"question": v.prompt, "predictions": [v.a, v.b], "preference": [code]}]


def pairs(**names: str) -> Callable[[Vote], list[Row]]:
    """Writer of one row with the fields of a vote under other names."""
    return lambda v: [{name: getattr(v, field) for name, field in names.items()}]


ANY, NOT_TIE, FIRST = "a b tie".split(), ["a", "b"], ["a"]  # noqa: SIM905
WRITERS: dict[str, tuple[Callable[[Vote], list[Row]], list[str], bool]] = {
    "long": (long_form, ANY, True),
    "trl": (pairs(prompt="prompt", chosen="a", rejected="b"), FIRST, False),
    "openrlhf": (pairs(input="prompt", chosen="a", rejected="b"), FIRST, False),
    "hh": (hh, FIRST, False),
    "winnow": (winnow, FIRST, False),
    "ultrafeedback-binarized": (binarized, ["a", "tie"], False),
    "ultrafeedback": (ultrafeedback, ANY, False),
    "distilabel": (distilabel, ANY, False),
    "nemo-rl": (nemo, ANY, False),
    "nectar": (nectar, ANY, False),
    "helpsteer": (helpsteer, ANY, False),
    "kto": (kto, NOT_TIE, False),
    "llama-factory-alpaca": (pairs(instruction="prompt", chosen="a", rejected="b"), FIRST, False),
    "llama-factory-sharegpt": (sharegpt, FIRST, False),
    "argilla": (argilla, ANY, True),
    "label-studio": (label_studio, ANY, True),
    "multipref": (multipref, ANY, True),
    "alpaca-eval": (alpaca_eval, ANY, True),
    "arena": (arena, ANY, True),
    "crowd-kit": (crowd_kit, ANY, True),
    "fgrlhf": (fgrlhf, ANY, False),
    "blimp": (pairs(good="a", bad="b", task="annotator", pair_id="prompt"), FIRST, False),
}
FOLDERS = {"cragc25", "llmfao", "ukpconvarg1"}  # several files; test_real_sets.py and test_ingest.py read the real ones

characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
# trimmed and without transcript markers, because HH and Nectar cannot hold those; brackets could be nested JSON
texts = (
    st.text(characters, min_size=1, max_size=40)
    .map(str.strip)
    .filter(lambda t: t and not t.startswith("["))
    .filter(lambda t: "Human:" not in t and "Assistant:" not in t and t == t.strip(" \n\t\r\f\v\x1c\x1d\x1e\x1f\x85"))
)
votes = st.builds(
    Vote, texts, texts, texts, st.sampled_from(ANY), st.text("abcxyz0189", min_size=1, max_size=5)
).filter(lambda v: len({v.a, v.b, "tie", "left", "right"}) == 5)


@pytest.mark.parametrize("name", WRITERS)
@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(given_votes=st.lists(votes, min_size=1, max_size=20, unique_by=lambda v: v.prompt))
def test_what_is_written_is_read(name: str, given_votes: list[Vote]) -> None:
    write, allowed, has_annotator = WRITERS[name]
    kept = [v for v in given_votes if v.vote in allowed]
    with tempfile.TemporaryDirectory() as folder:
        path = write_lines(Path(folder) / "rows.jsonl", [row for v in kept for row in write(v)] or [{}])
        judgments, quarantine = read_file(path, format=name)
    if name not in ("fgrlhf", "kto") and kept:
        assert quarantine == []
    found = [
        (row["messages"], row["response_a"], row["response_b"], row["vote"], row["annotator_id"])
        for row in judgments
        if row["criterion"] in ("overall", "helpfulness")
    ]
    prompt = (lambda v: []) if name == "blimp" else (lambda v: user(v.prompt))
    wanted = [
        (json.dumps(prompt(v), ensure_ascii=False, separators=(",", ":")), v.a, v.b, v.vote,
         v.annotator if has_annotator else None)
        for v in kept
    ]  # fmt: skip
    assert sorted(found, key=str) == sorted(wanted, key=str)


@pytest.mark.parametrize("name", [name for name, (_, _, has_annotator) in WRITERS.items() if has_annotator])
def test_hashed_annotators_are_named_nowhere(tmp_path: Path, name: str) -> None:
    """Neither in a judgment, whatever other columns it keeps, nor in quarantine."""
    write, (allowed, *_), _ = WRITERS[name]
    good, bad = (
        Vote("Name a colour.", "Red.", "Four.", allowed, "Ada"),
        Vote("Name a tree.", "Oak.", "", allowed, "Ada"),
    )
    path = write_lines(tmp_path / "rows.jsonl", [*write(good), *write(bad)])
    judgments, quarantine = read_file(path, format=name, annotator_key=b"secret")
    assert (len(judgments), len(quarantine)) == (1, 1)
    assert judgments[0]["annotator_id"] == hmac.new(b"secret", b"Ada", hashlib.sha256).hexdigest()[:32]
    assert "Ada" not in json.dumps([judgments, quarantine], default=str)
    assert "Ada" in json.dumps(read_file(path, format=name)[1])


def test_every_format_takes_part() -> None:
    assert set(format_names()) == WRITERS.keys() | FOLDERS
