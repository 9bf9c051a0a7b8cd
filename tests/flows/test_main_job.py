"""The main job on real data, through the real command, with vLLM."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from flows.workspace import Workspace
from tests.flows.winnow_process import winnow
from tests.real_data import shared

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

NUM_UKP_PAIRS = 16_466
"""Fewer than the 16,927 published ones: 14 arguments stand in the set twice, under two ids with the same text."""

RAW_TABLES = "select table_name from duckdb_tables() where database_name = 'lake' and schema_name = 'raw' order by 1"


def contents(root: Path) -> dict[str, Any]:
    """Row count and order-free hash of every raw table, and the latest snapshot."""
    with Workspace.open(root).lake(read_only=True) as lake:
        tables = [row[0] for row in lake.con.execute(RAW_TABLES).fetchall()]
        found: dict[str, Any] = {
            table: lake.con.execute(f"select count(*), sum(hash(t::varchar)::hugeint) from raw.{table} as t").fetchone()
            for table in tables
        }
        return found | {"snapshot": lake.snapshot_id()}


def run_hh(root: Path) -> str:
    """What the main job on the 2,312 published HH pairs prints."""
    source, model = shared("data/hh_rlhf/harmless-base-test.jsonl.gz"), shared("models/tiny-en")
    arguments = ["--source", source, "--format", "hh", "--model", model, "--engine", "vllm", "--max-steps", "20"]
    done = winnow("run", "--workspace", root, *arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def hh(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A workspace after the main job, and what was printed."""
    root = tmp_path_factory.mktemp("hh") / "workspace"
    return root, run_hh(root)


def test_every_published_pair_is_a_pair_or_in_quarantine(hh: tuple[Path, str]) -> None:
    with Workspace.open(hh[0]).lake(read_only=True) as lake:
        judged = {row[0] for row in lake.con.execute("select source_row from raw.judgments").fetchall()}
        refused = {row[0] for row in lake.con.execute("select source_row from raw.quarantine").fetchall()}
        reasons = dict(lake.con.execute("select reason, count(*) from raw.quarantine group by 1").fetchall())
    assert judged | refused == set(range(2312))
    assert judged & refused == set()
    assert sorted(reasons.values()) == [4, 5]


def test_every_response_is_scored_through_vllm(hh: tuple[Path, str]) -> None:
    with Workspace.open(hh[0]).lake(read_only=True) as lake:
        unscored = lake.value("select count(*) from raw.responses anti join raw.reference_scores using (response_id)")
        engines = lake.con.execute("select distinct engine from raw.reference_scores").fetchall()
        without = lake.value("select count(*) from raw.reference_scores where logps is null and not is_truncated")
    assert unscored == 0
    assert engines == [("vllm",)]
    assert without == 0


def test_the_marts_the_export_and_the_checkpoint_are_there(hh: tuple[Path, str]) -> None:
    with Workspace.open(hh[0]).lake(read_only=True) as lake:
        pairs = lake.value("select count(*) from mart.pair_diagnostics")
        assert pairs == lake.value("select count(distinct pair_id) from raw.judgments")
        assert lake.value("select count(*) from mart.decisions") == pairs
        training = lake.value("select count(*) from mart.training_set")
        path, num_pairs = lake.con.execute("select path, num_pairs from raw.exports").fetchone()
        checkpoint = lake.value("select checkpoint from raw.training_runs")
    manifest = json.loads((Path(path) / "manifest.json").read_text())
    shards = [file["path"] for file in manifest["files"] if file["split"] is not None]
    rows = sum(pq.read_metadata(Path(path) / shard).num_rows for shard in shards)
    assert rows == num_pairs == training
    assert rows > 1500
    assert (Path(checkpoint) / "model.safetensors").is_file()


def test_it_prints_how_often_the_reference_favors_the_rejected_answer(hh: tuple[Path, str]) -> None:
    with Workspace.open(hh[0]).lake(read_only=True) as lake:
        summed, per_token, total = lake.con.execute("""
            select
                count(*) filter (where reference_chosen_logps < reference_rejected_logps),
                count(*) filter (
                    where reference_chosen_logps / chosen_num_tokens < reference_rejected_logps / rejected_num_tokens
                ),
                count(*)
            from mart.pair_diagnostics where reference_margin is not null and not is_tied
        """).fetchone()
    assert 0.3 < summed / total < 0.7
    assert f"favors the rejected answer on {100 * summed / total:.1f} %" in hh[1]
    assert f"and on {100 * per_token / total:.1f} %" in hh[1]


def test_a_second_run_scores_nothing_and_changes_no_row(hh: tuple[Path, str]) -> None:
    before = contents(hh[0])
    printed = run_hh(hh[0])
    assert "nothing new" in printed
    assert contents(hh[0]) == before


@pytest.fixture(scope="module")
def ukp(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, list[str]]:
    """A workspace after the main job on UKPConvArg1, what was printed, and what a second process read meanwhile."""
    root = tmp_path_factory.mktemp("ukp") / "workspace"
    winnow("init", root)
    arguments = [
        "run",
        "--workspace",
        root,
        "--source",
        shared("data/ukpconvarg1"),
        "--model",
        shared("models/tiny-en"),
        "--engine",
        "vllm",
        "--max-steps",
        "20",
    ]
    command = [sys.executable, "-m", "flows.cli", *map(str, arguments)]
    answers = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as flow:
        while flow.poll() is None:
            query = "select count(*) as pairs from mart.pair_diagnostics"
            read = winnow("sql", "--workspace", root, "--format", "csv", query)
            assert read.returncode == 0, read.stderr
            answers.append(read.stdout)
            time.sleep(0.5)
        out, err = flow.communicate()
    assert flow.returncode == 0, err[-3000:]
    return root, out, answers


def test_real_votes_give_consensus_and_contradictions(ukp: tuple[Path, str, list[str]]) -> None:
    with Workspace.open(ukp[0]).lake(read_only=True) as lake:
        judged = lake.value("select count(*) from raw.judgments")
        identical = lake.value("select count(*) from raw.quarantine where reason = 'identical_responses'")
        assert judged + identical == 84_445
        pairs = lake.value("select count(*) from mart.pair_diagnostics")
        assert pairs == lake.value("select count(distinct pair_id) from raw.judgments") == NUM_UKP_PAIRS
        split = lake.value(
            "select count(*) from mart.pair_diagnostics where num_votes_chosen > 0 and num_votes_rejected > 0"
        )
        between = lake.value(
            "select count(distinct pair_id) from mart.contradictions where kind = 'between_annotators'"
        )
        agreeing = lake.value("""
            select avg((num_votes_chosen >= num_votes_rejected)::int) from mart.pair_diagnostics where not is_tied
        """)
    assert between == split > 1000
    assert agreeing > 0.95


def test_a_second_process_reads_while_the_flow_writes(ukp: tuple[Path, str, list[str]]) -> None:
    counts = [int(answer.split()[1]) for answer in ukp[2]]
    assert len(counts) > 3
    assert counts == sorted(counts)
    assert set(counts) <= {0, NUM_UKP_PAIRS}
