"""Mapping files: what they can say, that the documentation's example works, and what a mistake in one says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from curation.ingest.formats.registry import format_names
from curation.ingest.paths import json_path, parse_path
from curation.ingest.sources import find_sources
from schemas.errors import ConfigError, SourceError
from schemas.quarantine import Reason
from tests.curation.ingest.reading import read_file, write_lines

DOCS = (Path(__file__).resolve().parents[3] / "docs" / "ingest.md").read_text(encoding="utf-8")


def mapping(tmp_path: Path, text: str) -> str:
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\n' + text)
    return str(path)


def read(tmp_path: Path, text: str, rows: list[dict[str, Any]]) -> tuple[list[Any], list[Any]]:
    return read_file(write_lines(tmp_path / "rows.jsonl", rows), format=mapping(tmp_path, text))


def test_the_example_of_the_documentation_works(tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", DOCS, flags=re.DOTALL)
    (header, row) = re.findall(r"^    (question,.*|Name a colour\.,.*)$", DOCS, flags=re.MULTILINE)
    (tmp_path / "colours.toml").write_text(example)
    (tmp_path / "votes.csv").write_text(f"{header}\n{row}\n{row.replace(',L,', ',=,')}\n")
    judgments, quarantine = read_file(tmp_path / "votes.csv", format=str(tmp_path / "colours.toml"))
    assert quarantine == []
    assert [each["vote"] for each in judgments] == ["a", "tie"]
    first = judgments[0]
    assert (first["response_a"], first["response_b"], first["strength"], first["annotator_id"]) == (
        "Red.", "Four.", 3.0, "w17",
    )  # fmt: skip
    assert (first["annotator_kind"], first["is_display_order_known"]) == ("human", True)


def test_the_documentation_names_every_format_and_every_reason() -> None:
    assert [name for name in format_names() if f"`{name}`" not in DOCS] == []
    assert [reason for reason in Reason if f"| `{reason.value}` |" not in DOCS] == []


def test_templates_defaults_and_paths(tmp_path: Path) -> None:
    text = """
        [columns]
        prompt = { template = "{topic}: {meta.ask}" }
        response_a = "answers[0].text"
        response_b = "answers[-1].text"
        vote = { path = "verdict", values = { 1 = "a" }, default = "tie" }
        batch = '"odd.key"'
    """
    rows = [
        {
            "topic": "T",
            "meta": {"ask": "why?"},
            "answers": [{"text": "x"}, {"text": "y"}],
            "verdict": 1,
            "odd.key": "k",
        },
        {"topic": "T", "meta": {"ask": "how?"}, "answers": [{"text": "x"}, {"text": "z"}, {"text": "y"}], "more": 5},
    ]
    judgments, quarantine = read(tmp_path, text, rows)
    assert quarantine == []
    assert judgments[0]["messages"] == '[{"role":"user","content":"T: why?"}]'
    assert [(row["response_a"], row["response_b"], row["vote"], row["batch"]) for row in judgments] == [
        ("x", "y", "a", "k"), ("x", "y", "tie", None),
    ]  # fmt: skip
    assert [row["extra"] for row in judgments] == [None, '{"more":5}']


def test_several_judgments_of_a_row_some_of_them_optional(tmp_path: Path) -> None:
    text = """
        columns = { prompt = "q", response_a = "a", response_b = "b" }
        [[judgment]]
        criterion = { constant = "tone" }
        vote = "tone"
        [[judgment]]
        criterion = { constant = "truth" }
        vote = "truth"
        optional = true
    """
    rows = [{"q": "Q", "a": "x", "b": "y", "tone": "a", "truth": "b"}, {"q": "R", "a": "x", "b": "y", "tone": "tie"}]
    judgments, quarantine = read(tmp_path, text, rows)
    assert quarantine == []
    assert [(row["source_row"], row["criterion"], row["vote"]) for row in judgments] == [
        (0, "tone", "a"), (0, "truth", "b"), (1, "tone", "tie"),
    ]  # fmt: skip


FOLDER = """
    rows = [{ files = "votes.jsonl" }]
    columns = { prompt = "x.q", response_a = "x.text", response_b = "b", vote = "v" }
    [tables.x]
    file = "texts.jsonl"
    key = "id"
    on = "text_id"
"""


def test_a_row_that_refers_to_nothing_has_its_reason(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    write_lines(folder / "texts.jsonl", [{"id": 1, "q": "Q", "text": "x"}])
    write_lines(folder / "votes.jsonl", [{"text_id": 1, "b": "y", "v": "a"}, {"text_id": 2, "b": "y", "v": "a"}])
    judgments, quarantine = read_file(folder, format=mapping(tmp_path, FOLDER))
    assert [(row["source"], row["source_row"], row["response_a"]) for row in judgments] == [("set", 0, "x")]
    assert [(row["source_row"], row["reason"]) for row in quarantine] == [(1, "unknown_reference")]


def test_a_table_whose_key_is_not_unique_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    write_lines(folder / "texts.jsonl", [{"id": 1, "q": "Q", "text": "x"}, {"id": 1, "q": "Q", "text": "z"}])
    write_lines(folder / "votes.jsonl", [{"text_id": 1, "b": "y", "v": "a"}])
    with pytest.raises(SourceError, match="stands in 2 rows, so it is no key"):
        read_file(folder, format=mapping(tmp_path, FOLDER))


def test_a_folder_without_a_needed_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    write_lines(tmp_path / "set" / "votes.jsonl", [{"text_id": 1, "b": "y", "v": "a"}])
    with pytest.raises(SourceError, match=r"has no texts\.jsonl, which the format mine needs"):
        read_file(tmp_path / "set", format=mapping(tmp_path, FOLDER))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("columns = { promt = 'q' }", "columns.promt"),
        ("columns = { prompt = { path = 'q', constant = 'x' } }", "exactly one of path, constant and template"),
        ("columns = {", "is not valid TOML"),
        ("columns = { prompt = 'a..b' }", "is not a path into a row"),
        ("columns = { prompt = 'a[x]' }", "is not a path into a row"),
        ("max_quarantined_share = 2", "max_quarantined_share"),
    ],
)
def test_a_mistake_in_a_mapping_file_names_the_key(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        read(tmp_path, text, [{"q": "Q"}])


PLAIN = "columns = { prompt = 'q', response_a = 'a', response_b = 'b', vote = 'v', %s }"
ROW = {"q": "Q", "a": "x", "b": "y", "v": "a", "who": "w1"}


@pytest.mark.parametrize(
    ("column", "mend"),
    [
        ("annotator_id = 'whoo'", "did you mean 'who'"),
        ("annotator_id = 'whoo.name[0]'", "did you mean 'who'"),
        ("annotator_id = { template = 'w-{whoo}' }", "did you mean 'who'"),
        ("annotator_id = 'zzz'", "use one of q, a, b, v, who"),
    ],
)
def test_a_path_that_leads_to_nothing_is_refused(tmp_path: Path, column: str, mend: str) -> None:
    with pytest.raises(ConfigError, match=r"mapping mine: annotator_id reads '(whoo|zzz)', which none of") as caught:
        read(tmp_path, PLAIN % column, [ROW, ROW])
    assert mend in str(caught.value.mend)


def test_a_misspelled_path_of_an_option_is_refused(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "rows.jsonl", [{"prompt": "Q", "response_a": "x", "response_b": "y", "vote": "a"}])
    with pytest.raises(ConfigError, match=r"--column annotator_id reads 'votte', which .*did you mean 'vote'"):
        find_sources([str(path)], fetch_folder=tmp_path, columns={"annotator_id": "votte"})
    (source,) = find_sources([str(path)], fetch_folder=tmp_path, columns={"annotator_id": "vote"})
    assert source.format.name == "long"  # whose other optional columns the file need not have


@pytest.mark.parametrize("column", ["strength", "annotated_at", "annotator_id"])
def test_a_column_that_may_be_missing_is_empty_by_its_default(tmp_path: Path, column: str) -> None:
    judgments, quarantine = read(tmp_path, PLAIN % f"{column} = {{ path = 'sure', default = '' }}", [ROW])
    assert quarantine == []
    assert judgments[0][column] is None


def test_a_column_that_is_there_but_empty_or_in_few_files_is_no_mistake(tmp_path: Path) -> None:
    text = mapping(tmp_path, PLAIN % "annotator_id = 'who'")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "one.csv").write_text("q,a,b,v,who\nQ,x,y,a,\n")
    write_lines(tmp_path / "set" / "two.jsonl", [{name: ROW[name] for name in "qabv"}])
    judgments, quarantine = read_file(tmp_path / "set", format=text)
    assert quarantine == []
    assert [each["annotator_id"] for each in judgments] == [None, None]


@pytest.mark.parametrize(
    ("path", "parts", "json"),
    [
        ("name", ["name"], '$."name"'),
        ("prediction 1", ["prediction 1"], '$."prediction 1"'),
        ("a.b[0][-1].c", ["a", "b", 0, -1, "c"], '$."a"."b"[0][#-1]."c"'),
        ('"a.b".c', ["a.b", "c"], '$."a.b"."c"'),
    ],
)
def test_paths(path: str, parts: list[Any], json: str) -> None:
    assert parse_path(path) == parts
    assert json_path(parts) == json
