"""The ingest stage: everything arrives once, or the lake stays as it was."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from flows.settings import Settings
from flows.stages.ingest import ingest
from flows.stages.ingest_files import IngestOptions
from flows.stages.ingest_folder import staging_folder
from flows.stages.ingest_preview import Preview, preview
from flows.stages.ingest_table import preview_tables
from flows.workspace import Workspace
from schemas.errors import SourceError, WorkspaceError
from schemas.identity import canonical_messages, judgment_id, pair_id, prompt_id, response_id
from tests.curation.ingest.reading import write_lines
from tests.real_data import shared


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.create(tmp_path / "workspace")


def votes(number: int, **columns: Any) -> Iterator[dict[str, Any]]:
    for i in range(number):
        yield {
            "prompt": f"Question {i // 4}?",
            "response_a": f"Yes, {i // 2}.",
            "response_b": f"No, {i // 2}.",
            "vote": ("a", "b", "tie")[i % 3],
            "annotator_id": f"w{i % 5}",
            **columns,
        }


def snapshot(workspace: Workspace) -> int:
    with workspace.lake(read_only=True) as lake:
        return lake.snapshot_id()


def rows(workspace: Workspace, sql: str) -> list[tuple[Any, ...]]:
    with workspace.lake(read_only=True) as lake:
        return lake.con.execute(sql).fetchall()


def with_settings(workspace: Workspace, **values: Any) -> Workspace:
    return Workspace(workspace.root, Settings.model_validate({"ingest": values}))


@pytest.mark.slow
def test_every_row_of_the_published_hh_file_ends_as_a_pair_or_in_quarantine(workspace: Workspace) -> None:
    report = ingest(workspace, [str(shared("data/hh_rlhf/harmless-base-test.jsonl.gz"))])
    assert report.facts["formats"] == ["hh"]
    assert report.facts["num_rows"] == 2312
    assert rows(workspace, "select count(*), count(distinct judgment_id) from raw.judgments") == [(2303, 2303)]
    reasons = rows(workspace, "select reason, count(*) from raw.quarantine group by reason order by reason")
    assert reasons == [("empty_response", 4), ("prompt_mismatch", 5)]
    assert rows(workspace, "select distinct source, annotator_id, is_display_order_known from raw.judgments") == [
        ("harmless-base-test", None, False)
    ]


@pytest.mark.slow
def test_votes_pairs_and_arguments_of_a_folder_are_joined(workspace: Workspace) -> None:
    report = ingest(workspace, [str(shared("data/ukpconvarg1"))])
    assert report.facts["formats"] == ["ukpconvarg1"]
    assert report.facts["num_rows"] == 84_445
    assert report.facts["reasons"] == {"identical_responses": 75}
    found = rows(workspace, "select count(*), count(distinct annotator_id), count(distinct source) from raw.judgments")
    assert found == [(84_370, 3815, 1)]


@pytest.mark.slow
def test_identifiers_are_those_of_the_contract(workspace: Workspace, tmp_path: Path) -> None:
    text = 'Tab\t, quote ", backslash \\ and \x1b\x0f, é, 𝒳'
    row = {"prompt": text, "response_a": f"A{text}", "response_b": f"B{text}", "vote": "b", "criterion": "tone"}
    ingest(workspace, [str(write_lines(tmp_path / "one.jsonl", [row]))])
    messages = canonical_messages([{"role": "user", "content": text}])
    prompt = prompt_id(messages)
    a, b = response_id(prompt, f"A{text}"), response_id(prompt, f"B{text}")
    assert rows(workspace, "select prompt_id, messages from raw.prompts") == [(prompt, messages)]
    assert sorted(rows(workspace, "select response_id, text from raw.responses")) == sorted(
        [(a, f"A{text}"), (b, f"B{text}")]
    )
    assert rows(workspace, "select pair_id, response_a_id, response_b_id from raw.judgments") == [
        (pair_id(a, b, "tone"), a, b)
    ]


@pytest.mark.slow
def test_a_second_run_writes_nothing_wherever_the_file_lies(workspace: Workspace, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "votes.jsonl", votes(30))
    first = ingest(workspace, [str(path)])
    assert (first.facts["num_judgments"], first.facts["num_responses"]) == (30, 30)
    before = snapshot(workspace)
    assert ingest(workspace, [str(path)]).run_id is None
    moved = tmp_path / "elsewhere" / "votes.jsonl"
    moved.parent.mkdir()
    shutil.move(path, moved)
    assert ingest(workspace, [str(moved)]).num_changed == 0
    assert snapshot(workspace) == before


@pytest.mark.slow
def test_the_same_rows_in_another_compression_add_no_judgment(workspace: Workspace, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "votes.jsonl", votes(30))
    ingest(workspace, [str(path)])
    again = tmp_path / "votes.jsonl.gz"
    again.write_bytes(gzip.compress(path.read_bytes()))
    assert ingest(workspace, [str(again)]).num_changed == 0
    assert rows(workspace, "select count(*) from raw.judgments") == [(30,)]


@pytest.mark.slow
def test_a_file_that_grew_adds_its_new_rows_only(workspace: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    ingest(workspace, [str(write_lines(path, votes(30)))])
    report = ingest(workspace, [str(write_lines(path, votes(50)))])
    assert (report.facts["num_judgments"], report.facts["num_responses"]) == (20, 20)


@pytest.mark.slow
def test_rows_that_move_stay_the_votes_they_were(workspace: Workspace, tmp_path: Path) -> None:
    path, given = tmp_path / "votes.jsonl", list(votes(30))
    bad = {**given[0], "vote": "c"}
    ingest(workspace, [str(write_lines(path, [*given, bad]))])
    above = {**given[0], "annotator_id": "newcomer"}
    report = ingest(workspace, [str(write_lines(path, [above, bad, *reversed(given)]))])
    assert (report.facts["num_judgments"], report.facts["num_quarantine"]) == (1, 0)
    assert report.lines[-1] == "votes was ingested before: 30 of its judgments known, 1 new"
    assert rows(workspace, "select annotator_id from raw.judgments where annotator_id = 'newcomer'") == [("newcomer",)]


@pytest.mark.slow
def test_equal_votes_of_a_source_are_as_many_votes(workspace: Workspace, tmp_path: Path) -> None:
    """Two people without a name may well say the same; of each repeated vote as many are kept as the file ever had."""
    path, (vote,) = tmp_path / "votes.jsonl", votes(1, annotator_id=None)
    for number, new in ((3, 3), (2, 0), (5, 2)):
        report = ingest(workspace, [str(write_lines(path, [vote] * number))])
        assert report.facts["num_judgments"] == new
    assert rows(workspace, "select count(*), count(distinct judgment_id) from raw.judgments") == [(5, 5)]
    found = rows(workspace, "select source, pair_id, response_a_id from raw.judgments limit 1")
    wanted = {judgment_id(*found[0], "a", ordinal=number) for number in range(5)}
    assert {row[0] for row in rows(workspace, "select judgment_id from raw.judgments")} == wanted


def test_a_file_that_lost_votes_says_so(workspace: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    ingest(workspace, [str(write_lines(path, votes(30)))])
    report = ingest(workspace, [str(write_lines(path, [{**row, "strength": 2} for row in votes(20)][10:]))])
    assert report.facts["earlier"] == [{"source": "votes", "num_known": 0, "num_new": 10, "num_gone": 30}]
    assert "30 of before are not in this file any more and stay in the lake" in report.lines[-1]


@pytest.mark.slow
def test_the_size_of_a_batch_changes_nothing(workspace: Workspace, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "votes.jsonl", votes(3000))
    ingest(workspace, [str(path)])
    other = with_settings(Workspace.create(tmp_path / "other"), batch_bytes=1 << 16)
    ingest(other, [str(path)])
    for table in ("judgments", "prompts", "responses"):
        sql = f"select * exclude run_id from raw.{table} order by all"
        assert rows(workspace, sql) == rows(other, sql)


@pytest.mark.slow
def test_strengths_get_their_rank_within_the_source(workspace: Workspace, tmp_path: Path) -> None:
    strengths = [0.5, 3, 1, 0.5]
    given = [{**row, "strength": strength} for row, strength in zip(votes(4), strengths, strict=True)]
    ingest(workspace, [str(write_lines(tmp_path / "votes.jsonl", given))])
    found = rows(workspace, "select strength, strength_ordinal from raw.judgments order by source_row")
    assert found == [(0.5, 1), (3.0, 3), (1.0, 2), (0.5, 1)]


@pytest.mark.slow
def test_other_columns_of_a_row_are_kept(workspace: Workspace, tmp_path: Path) -> None:
    ingest(workspace, [str(write_lines(tmp_path / "votes.jsonl", votes(1, topic={"name": "x"}, seconds=3.5)))])
    ((extra,),) = rows(workspace, "select extra from raw.judgments")
    assert json.loads(extra) == {"topic": {"name": "x"}, "seconds": 3.5}


def test_too_many_bad_rows_stop_the_run_and_leave_the_lake(workspace: Workspace, tmp_path: Path) -> None:
    good = write_lines(tmp_path / "good.jsonl", votes(30))
    bad_rows = [{**row, "vote": "c"} if i < 3 else row for i, row in enumerate(votes(30))]
    bad = write_lines(tmp_path / "bad.jsonl", bad_rows)
    before = snapshot(workspace)
    with pytest.raises(SourceError, match=r"bad\.jsonl: 3 of 30 rows are bad as long.*bad_vote \(3; row 0"):
        ingest(workspace, [str(good), str(bad)])
    assert snapshot(workspace) == before
    assert [path.name for path in workspace.root.iterdir() if path.name.startswith(".ingest")] == []


@pytest.mark.slow
def test_a_few_bad_rows_are_set_aside_once(workspace: Workspace, tmp_path: Path) -> None:
    bad_rows = [{**row, "vote": "c"} if i == 7 else row for i, row in enumerate(votes(30))]
    path = tmp_path / "votes.jsonl"
    ingest(workspace, [str(write_lines(path, bad_rows))])
    ingest(workspace, [str(write_lines(path, [*bad_rows, *votes(5)]))])
    found = rows(workspace, "select source, source_row, reason, payload from raw.quarantine")
    assert found == [("votes", 7, "bad_vote", json.dumps(bad_rows[7]))]


@pytest.mark.slow
def test_one_file_that_is_named_twice_is_read_once(workspace: Workspace, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "votes.jsonl", votes(3))
    around = tmp_path / "workspace" / ".." / "votes.jsonl"
    report = ingest(workspace, [str(path), str(tmp_path / "*.jsonl"), str(around)])
    assert report.facts["num_judgments"] == 3


def test_two_files_of_one_name_are_refused(workspace: Workspace, tmp_path: Path) -> None:
    paths = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        paths.append(str(write_lines(tmp_path / folder / "train.jsonl", votes(3))))
    with pytest.raises(SourceError, match="would both be the source 'train'"):
        ingest(workspace, paths)


@pytest.mark.slow
def test_files_of_a_folder_are_sources_below_its_name(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "set" / "deep").mkdir(parents=True)
    write_lines(tmp_path / "set" / "one.jsonl", votes(2))
    write_lines(tmp_path / "set" / "deep" / "two.jsonl", votes(3))
    ingest(workspace, [str(tmp_path / "set")])
    assert sorted(rows(workspace, "select source, count(*) from raw.judgments group by source")) == [
        ("set/deep/two", 3),
        ("set/one", 2),
    ]


@pytest.mark.slow
def test_beyond_commit_bytes_whole_files_are_committed(workspace: Workspace, tmp_path: Path) -> None:
    for name in "abc":
        write_lines(tmp_path / f"{name}.jsonl", votes(20, criterion=name))
    before = snapshot(workspace)
    report = ingest(with_settings(workspace, commit_bytes=0), [str(tmp_path / "*.jsonl")])
    assert snapshot(workspace) == before + 3
    assert report.facts["num_judgments"] == 60
    assert report.facts["num_prompts"] == 5
    assert rows(workspace, "select num_changed, ended_at is not null from raw.runs where stage = 'ingest'") == [
        (report.num_changed, True)
    ]


def test_annotators_can_be_hashed_with_the_workspaces_key(workspace: Workspace, tmp_path: Path) -> None:
    import hashlib
    import hmac

    path = write_lines(tmp_path / "votes.jsonl", votes(10))
    ingest(workspace, [str(path)], hash_annotators=True)
    key = bytes.fromhex((workspace.root / "annotator.key").read_text().strip())
    wanted = {hmac.new(key, f"w{i}".encode(), hashlib.sha256).hexdigest()[:32] for i in range(5)}
    assert {row[0] for row in rows(workspace, "select distinct annotator_id from raw.judgments")} == wanted
    assert (workspace.root / "annotator.key").stat().st_mode & 0o077 == 0


def test_a_dry_run_shows_ten_rows_and_the_quarantine_and_writes_nothing(workspace: Workspace, tmp_path: Path) -> None:
    bad_rows = [{**row, "vote": "c"} if i in (3, 7) else row for i, row in enumerate(votes(30))]
    path = write_lines(tmp_path / "votes.jsonl", bad_rows)
    before, files = snapshot(workspace), sorted(workspace.root.iterdir())
    (shown,) = preview(workspace, [str(path)], IngestOptions())
    assert (shown.source.format.name, len(shown.rows), shown.is_refused) == ("long", 10, True)
    assert shown.tally.reasons == {"bad_vote": 2}
    lines = printed(shown)
    assert max(map(len, lines)) <= 80
    assert "  28 judgments of 30 rows; 2 rows for quarantine" in lines
    assert "  ingest would refuse it: 2 bad rows (6.7%), allowed are 5.0%" in lines
    (header,) = (number for number, line in enumerate(lines) if line.split()[:1] == ["row"])
    assert lines[header].split() == ["row", "prompt", "a", "b", "vote", "annotator"]
    parsed = [line.split() for line in lines[header + 2 : header + 12]]
    assert parsed[0] == ["0", "Question", "0?", "Yes,", "0.", "No,", "0.", "a", "w0"]
    assert [line[0] for line in parsed] == ["0", "1", "2", "4", "5", "6", "8", "9", "10", "11"]
    assert any(line.split()[:4] == ["bad_vote", "2", "row", "3:"] for line in lines)
    assert snapshot(workspace) == before
    assert sorted(workspace.root.iterdir()) == files


@pytest.mark.slow
def test_a_dry_run_hashes_annotators_as_ingest_does(workspace: Workspace, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "votes.jsonl", [{**row, "annotator_id": "Ada"} for row in votes(3)])
    (shown,) = preview(workspace, [str(path)], IngestOptions(hash_annotators=True))
    assert not (workspace.root / "annotator.key").exists()
    assert "Ada" not in "\n".join(printed(shown))
    assert any("annotators are hashed with a key for this view" in line for line in printed(shown))
    ingest(workspace, [str(path)], hash_annotators=True)
    (shown,) = preview(workspace, [str(path)], IngestOptions(hash_annotators=True))
    assert {(row["annotator_id"],) for row in shown.rows} == set(
        rows(workspace, "select distinct annotator_id from raw.judgments")
    )
    assert not any("for this view" in line for line in printed(shown))


@pytest.mark.slow
def test_a_dry_run_shows_on_one_line_what_a_terminal_would_obey(workspace: Workspace, tmp_path: Path) -> None:
    given = [{**row, "prompt": "Wide 漢字 \x1b[2J\n[bold]" * 9, "vote": "both_bad"} for row in votes(1)]
    (shown,) = preview(workspace, [str(write_lines(tmp_path / "votes.jsonl", given))], IngestOptions())
    (line,) = (line for line in printed(shown) if line.strip().startswith("0"))
    assert "\x1b" not in line
    assert "both bad" in line


def printed(shown: Preview) -> list[str]:
    """The lines of a dry run on a terminal of 80 columns."""
    console = Console(width=80, file=io.StringIO(), color_system=None)
    with console.capture() as capture:
        for part in preview_tables(shown):
            console.print(part)
    return [line.rstrip() for line in capture.get().splitlines()]


@pytest.mark.slow
def test_a_key_that_is_no_key_is_one_line(workspace: Workspace, tmp_path: Path) -> None:
    (workspace.root / "annotator.key").write_text("lost\n")
    path = write_lines(tmp_path / "votes.jsonl", votes(3))
    with pytest.raises(WorkspaceError, match=r"annotator\.key is no key"):
        ingest(workspace, [str(path)], hash_annotators=True)


@pytest.mark.slow
def test_columns_can_be_renamed(workspace: Workspace, tmp_path: Path) -> None:
    rows_ = [{"question": "Name a colour.", "meta": {"good": "Red."}, "worse": "Four."}]
    path = write_lines(tmp_path / "pairs.jsonl", rows_)
    columns = {"prompt": "question", "response_a": "meta.good", "response_b": "worse"}
    ingest(workspace, [str(path)], format="openrlhf", columns=columns)
    assert sorted(rows(workspace, "select text from raw.responses")) == [("Four.",), ("Red.",)]
    with pytest.raises(SourceError, match="'answer' is not a column"):
        ingest(workspace, [str(path)], format="openrlhf", columns={"answer": "x"})


@pytest.mark.slow
def test_the_allowed_share_can_be_raised_for_one_run(workspace: Workspace, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "votes.jsonl", [{**row, "vote": "c"} for row in votes(1)] + list(votes(3)))
    with pytest.raises(SourceError, match=r"25\.0%, allowed 5\.0%"):
        ingest(workspace, [str(path)])
    report = ingest(workspace, [str(path)], max_quarantined_share=0.25)
    assert report.facts["num_quarantine"] == 1


@pytest.mark.slow
def test_rows_that_are_merely_useless_do_not_stop_the_run(workspace: Workspace, tmp_path: Path) -> None:
    same = [{**row, "response_b": row["response_a"]} for row in votes(3)]
    report = ingest(workspace, [str(write_lines(tmp_path / "votes.jsonl", same + list(votes(1))))])
    assert report.facts["reasons"] == {"identical_responses": 3}


def test_what_a_killed_run_left_behind_is_removed_and_what_a_live_one_uses_is_not(
    workspace: Workspace, tmp_path: Path
) -> None:
    """A real process dies in the middle of ingest, as by ``kill -9``."""
    path = write_lines(tmp_path / "votes.jsonl", votes(30))
    code = (
        "import os, pathlib; from flows.stages.ingest_folder import staging_folder\n"
        f"with staging_folder(pathlib.Path({str(workspace.root)!r})): os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    (dead,) = workspace.root.glob(".ingest-*")
    with staging_folder(workspace.root) as live:
        ingest(workspace, [str(path)])
        assert not dead.exists()
        assert live.exists()
