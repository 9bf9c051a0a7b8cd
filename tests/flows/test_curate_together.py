"""Two curations at the same time: each is whole, and none takes the other's number; also on a PostgreSQL catalog."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flows.workspace import Workspace
from tests.generated_lake import fill
from tests.postgres import postgres_catalog

NUM_PAIRS = 300
PROFILES = ("minimal", "dpo-safe", "uncertainty-aware")

CURATE = """
import sys
from pathlib import Path
from flows.stages.curate import curate
from flows.workspace import Workspace

workspace = Workspace.open(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
curate(workspace, rules=sys.argv[2])
"""


def curate_together(root: Path) -> None:
    """One process a profile, all let go at once on a lake that nobody curated yet."""
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", CURATE, str(root), profile],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for profile in PROFILES
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()
    for worker in workers:
        errors = worker.communicate()[1]
        assert worker.returncode == 0, errors
    with Workspace.open(root).lake(read_only=True) as lake:
        runs = lake.con.execute("select name, run_number from raw.curation_runs order by run_number").fetchall()
        assert sorted(name for name, _ in runs) == sorted(PROFILES)
        assert [number for _, number in runs] == [1, 2, 3]
        counts = lake.con.execute(
            "select count(*), count(distinct pair_id) from mart.decisions group by run_id"
        ).fetchall()
        assert counts == [(NUM_PAIRS, NUM_PAIRS)] * 3


@pytest.mark.slow
def test_on_sqlite(tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path / "workspace")
    with workspace.lake() as lake:
        fill(lake, num_pairs=NUM_PAIRS)
    curate_together(workspace.root)


@pytest.mark.postgres
def test_on_postgres(tmp_path: Path) -> None:
    root = tmp_path / "workspace"
    root.mkdir()
    with postgres_catalog() as catalog:
        (root / "winnow.toml").write_text(f'[lake]\ncatalog = "{catalog}"\n', encoding="utf-8")
        with Workspace.create(root).lake() as lake:
            fill(lake, num_pairs=NUM_PAIRS)
        curate_together(root)
