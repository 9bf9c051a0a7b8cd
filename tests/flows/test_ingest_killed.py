"""Ingest that dies or meets another: real processes, and what the lake holds afterwards."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.stages.ingest import ingest
from flows.workspace import Workspace
from tests.curation.ingest.reading import write_lines

pytestmark = pytest.mark.slow

NUM_VOTES = 40_000
HOLDS = """
    select count(*), count(distinct judgment_id), bit_xor(hash(judgment_id, pair_id, vote, source_row)),
        (select bit_xor(hash(prompt_id, messages)) from raw.prompts), (select count(*) from raw.prompts),
        (select bit_xor(hash(response_id, text)) from raw.responses), (select count(*) from raw.responses),
        (select count(*) from raw.source_files), (select count(*) from raw.runs)
    from raw.judgments
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Votes of which some are equal, so that their number matters too."""
    rows = ({"prompt": f"Question {i // 8}?", "response_a": f"Yes, {i // 4}.", "response_b": f"No, {i // 4}.",
             "vote": "ab"[i % 2]} for i in range(NUM_VOTES))  # fmt: skip
    return write_lines(tmp_path_factory.mktemp("votes") / "votes.jsonl", rows)


@pytest.fixture(scope="module")
def wanted(path: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, ...]:
    workspace = Workspace.create(tmp_path_factory.mktemp("undisturbed") / "workspace")
    ingest(workspace, [str(path)])
    found = holds(workspace)
    assert found[:2] == (NUM_VOTES, NUM_VOTES)
    return found


def holds(workspace: Workspace) -> tuple[Any, ...]:
    with workspace.lake(read_only=True) as lake:
        row = lake.con.execute(HOLDS).fetchone()
    assert row is not None
    return row


def start(workspace: Workspace, path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "flows.cli", "ingest", "-w", str(workspace.root), str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def is_staging(root: Path) -> bool:
    return any(root.glob(".ingest-*/staged/judgments-*.parquet"))


def is_writing(root: Path) -> bool:
    return any((root / "data").rglob("*.parquet"))


@pytest.mark.parametrize("moment", [is_staging, is_writing])
def test_a_killed_run_leaves_nothing_and_the_next_one_everything(
    tmp_path: Path, path: Path, wanted: tuple[Any, ...], moment: Callable[[Path], bool]
) -> None:
    workspace = Workspace.create(tmp_path / "workspace")
    (workspace.root / "winnow.toml").write_text("[ingest]\nbatch_bytes = 65536\n")
    process = start(workspace, path)
    while process.poll() is None and not moment(workspace.root):
        time.sleep(0.002)
    process.kill()
    process.communicate()
    assert process.returncode == -9
    assert holds(workspace)[0] == 0
    ingest(workspace, [str(path)])
    assert holds(workspace) == wanted
    assert not any(workspace.root.glob(".ingest-*"))


def test_of_two_at_once_one_finds_nothing_new(tmp_path: Path, path: Path, wanted: tuple[Any, ...]) -> None:
    workspace = Workspace.create(tmp_path / "workspace")
    processes = [start(workspace, path) for _ in range(2)]
    said = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sum("nothing new" in each for each in said) == 1
    assert holds(workspace) == wanted
