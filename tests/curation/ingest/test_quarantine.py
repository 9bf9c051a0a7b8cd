"""Every way in which a row can be bad has its reason, and the row is kept as it was read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from schemas.quarantine import MEANING, Reason
from tests.curation.ingest.reading import read_file, write_lines

GOOD = {"prompt": "Name a colour.", "response_a": "Red.", "response_b": "Four.", "vote": "a", "annotator_id": "w1"}
USER = {"role": "user", "content": "Name a colour."}


def chat(*contents: tuple[str, Any]) -> list[dict[str, Any]]:
    return [{"role": role, "content": content} for role, content in contents]


def quarantined(tmp_path: Path, row: dict[str, Any] | str | bytes, format: str = "long", **settings: Any) -> Any:
    """The quarantine's only row, when the bad row stands between two good ones that are read."""
    good = GOOD if format == "long" else {"prompt": "Name a colour.", "chosen": "Red.", "rejected": "Four."}
    other = {**good, "prompt": "Name a shape."}
    path = write_lines(tmp_path / "rows.jsonl", [good, row, other])
    judgments, quarantine = read_file(path, format=format, **settings)
    assert [each["source_row"] for each in judgments] == [0, 2]
    (bad,) = quarantine
    assert bad["source_row"] == 1
    assert bad["source"] == "rows"
    assert bad["detail"] == MEANING[Reason(bad["reason"])]
    return bad


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"response_b": "Red."}, Reason.IDENTICAL_RESPONSES),
        ({"response_a": ""}, Reason.EMPTY_RESPONSE),
        ({"response_a": " \n\t"}, Reason.EMPTY_RESPONSE),
        ({"response_b": None}, Reason.MISSING_RESPONSE),
        ({"response_b": []}, Reason.MISSING_RESPONSE),
        ({"response_a": 4}, Reason.RESPONSE_NOT_TEXT),
        ({"response_a": {"text": "Red."}}, Reason.RESPONSE_NOT_TEXT),
        ({"response_a": "Red\0."}, Reason.NUL_CHARACTER),
        ({"prompt": "Name a\0colour."}, Reason.NUL_CHARACTER),
        ({"prompt": [{"role": "user", "content": "a\0b"}]}, Reason.NUL_CHARACTER),
        ({"prompt": None}, Reason.MISSING_PROMPT),
        ({"prompt": " "}, Reason.MISSING_PROMPT),
        ({"prompt": []}, Reason.MISSING_PROMPT),
        ({"prompt": 3}, Reason.PROMPT_NOT_TEXT),
        ({"prompt": chat(("system", "Be brief."))}, Reason.PROMPT_WITHOUT_USER),
        ({"prompt": chat(("wizard", "Hm"), ("user", "Go on."))}, Reason.UNKNOWN_ROLE),
        ({"prompt": chat(("user", 5))}, Reason.MESSAGE_NOT_TEXT),
        ({"prompt": chat(("user", None))}, Reason.MESSAGE_NOT_TEXT),
        ({"prompt": ["Name a colour."]}, Reason.MESSAGE_NOT_TEXT),
        ({"prompt": json.dumps([USER])}, Reason.NESTED_JSON),
        ({"response_a": json.dumps(chat(("assistant", "Red.")))}, Reason.NESTED_JSON),
        ({"response_a": chat(("user", "Name a colour."), ("user", "Well?"))}, Reason.ENDS_WITH_USER),
        ({"response_a": chat(("assistant", "Hm."), ("user", "Well?"), ("assistant", "Red."))},
         Reason.MULTI_TURN_RESPONSE),
        ({"response_a": chat(("user", "Name a tree."), ("assistant", "Red."))}, Reason.PROMPT_MISMATCH),
        ({"response_b": chat(("user", "Name a tree."), ("assistant", "Red."))}, Reason.PROMPT_MISMATCH),
        ({"vote": None}, Reason.MISSING_VOTE),
        ({"vote": "c"}, Reason.BAD_VOTE),
        ({"vote": 1}, Reason.BAD_VOTE),
        ({"strength": "very"}, Reason.BAD_STRENGTH),
        ({"strength": "nan"}, Reason.BAD_STRENGTH),
        ({"annotated_at": "yesterday"}, Reason.BAD_TIME),
        ({"annotated_at": 1e300}, Reason.BAD_TIME),
        ({"annotator_kind": "cat"}, Reason.BAD_ANNOTATOR_KIND),
    ],
    ids=lambda value: value.value if isinstance(value, Reason) else next(iter(value)),
)  # fmt: skip
def test_a_bad_field_has_its_reason(tmp_path: Path, changed: dict[str, Any], reason: Reason) -> None:
    row = {**GOOD, **changed}
    bad = quarantined(tmp_path, row)
    assert bad["reason"] == reason
    assert json.loads(bad["payload"]) == row


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("[1, 2]", Reason.NOT_AN_OBJECT),
        ('"text"', Reason.NOT_AN_OBJECT),
        ("null", Reason.NOT_AN_OBJECT),
        ('{"prompt": "Na', Reason.NOT_JSON),
        ('{"prompt": "a \\ud800 b", "response_a": "x", "response_b": "y", "vote": "a"}', Reason.LONE_SURROGATE),
        ('{"prompt": "a", "prompt": "b", "response_a": "x", "response_b": "y", "vote": "a"}', Reason.DUPLICATE_KEYS),
        (
            '{"prompt": [{"role": "user", "content": "a", "content": "b"}], "response_a": "x", "response_b": "y",'
            ' "vote": "a"}',
            Reason.DUPLICATE_KEYS,
        ),
        (
            '{"prompt": "a", "response_a": [{"role": "assistant", "content": "x", "role": "user"}], "response_b": "y",'
            ' "vote": "a"}',
            Reason.DUPLICATE_KEYS,
        ),
        (b'{"prompt": "caf\xe9", "response_a": "x", "response_b": "y", "vote": "a"}', Reason.INVALID_UTF8),
    ],
    ids=lambda value: value.value if isinstance(value, Reason) else "",
)
def test_a_line_that_is_no_record_has_its_reason(tmp_path: Path, line: str | bytes, reason: Reason) -> None:
    bad = quarantined(tmp_path, line)
    assert bad["reason"] == reason
    assert bad["payload"] == (
        line if isinstance(line, str) else line.decode(errors="backslashreplace").replace("\\xe9", "\\xE9")
    )


def test_a_row_of_50_mb_is_set_aside_with_its_beginning(tmp_path: Path) -> None:
    row = json.dumps({**GOOD, "response_a": "x" * 50_000_000})
    bad = quarantined(tmp_path, row)
    assert bad["reason"] == Reason.ROW_TOO_LARGE
    assert bad["payload"] == row[: 64 << 10]


@pytest.mark.parametrize("batch_bytes", [1 << 16, 1 << 20])
def test_a_row_above_the_limit_within_one_batch_is_set_aside_too(tmp_path: Path, batch_bytes: int) -> None:
    row = json.dumps({**GOOD, "response_a": "x" * 20_000})
    bad = quarantined(tmp_path, row, max_row_bytes=10_000, max_payload_bytes=500, batch_bytes=batch_bytes)
    assert bad["reason"] == Reason.ROW_TOO_LARGE
    assert bad["payload"] == row[:500]


RED, FOUR = chat(("assistant", "Red.")), chat(("assistant", "Four."))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": [USER], "chosen": RED, "rejected": RED}, Reason.IDENTICAL_RESPONSES),
        ({"prompt": [USER], "chosen": chat(("assistant", " ")), "rejected": FOUR}, Reason.EMPTY_RESPONSE),
        ({"chosen": [USER, *RED], "rejected": [*chat(("user", "Name a tree.")), *FOUR]}, Reason.PROMPT_MISMATCH),
        ({"chosen": [USER, *RED], "rejected": FOUR}, Reason.PROMPT_MISMATCH),
        ({"prompt": chat(("user", "Name a\0colour.")), "chosen": RED, "rejected": FOUR}, Reason.NUL_CHARACTER),
        ({"prompt": [USER], "chosen": None, "rejected": FOUR}, Reason.MISSING_RESPONSE),
        ({"prompt": None, "chosen": RED, "rejected": FOUR}, Reason.MISSING_PROMPT),
        ({"prompt": [USER], "chosen": chat(("assistant", 4)), "rejected": FOUR}, Reason.MESSAGE_NOT_TEXT),
        ({"prompt": [USER], "chosen": 4, "rejected": FOUR}, Reason.RESPONSE_NOT_TEXT),
        ({"prompt": [USER], "chosen": chat(("oracle", "Red.")), "rejected": FOUR}, Reason.UNKNOWN_ROLE),
        ({"chosen": [USER, *RED, USER], "rejected": [USER, *FOUR]}, Reason.ENDS_WITH_USER),
        ({"prompt": json.dumps([USER]), "chosen": RED, "rejected": FOUR}, Reason.NESTED_JSON),
        ({"prompt": [USER], "chosen": json.dumps(RED), "rejected": FOUR}, Reason.NESTED_JSON),
    ],
    ids=lambda value: value.value if isinstance(value, Reason) else "",
)
def test_a_pair_of_messages_has_the_reasons_too(tmp_path: Path, row: dict[str, Any], reason: Reason) -> None:
    assert quarantined(tmp_path, row, format="trl")["reason"] == reason


def test_identical_responses_can_be_kept(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "rows.jsonl", [{**GOOD, "response_b": "Red."}])
    judgments, quarantine = read_file(path, identical_responses="keep")
    assert len(judgments) == 1
    assert judgments[0]["response_a_id"] == judgments[0]["response_b_id"]
    assert quarantine == []


def test_a_blank_line_is_no_row_but_is_counted(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "rows.jsonl", [GOOD, "", "  ", {**GOOD, "vote": "b"}])
    judgments, quarantine = read_file(path)
    assert [row["source_row"] for row in judgments] == [0, 3]
    assert quarantine == []


def test_every_reason_is_explained() -> None:
    assert set(MEANING) == set(Reason)
