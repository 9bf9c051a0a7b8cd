"""A PostgreSQL catalog: many writers at once, each commit whole, none refused."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgres import postgres_catalog
from warehouse.lake import Lake
from warehouse.settings import LakeSettings

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def settings() -> Iterator[LakeSettings]:
    with postgres_catalog() as catalog:
        yield LakeSettings(catalog=catalog)


def test_four_processes_write_at_once(settings: LakeSettings, tmp_path: Path) -> None:
    Lake.create(tmp_path, settings).close()
    script = textwrap.dedent("""
        import sys
        from pathlib import Path
        from warehouse.lake import Lake
        from warehouse.settings import LakeSettings
        with Lake.open(Path(sys.argv[1]), LakeSettings(catalog=sys.argv[2])) as lake:
            for i in range(10):
                row = (f"{sys.argv[3]}-{i}", i)
                lake.transact("write", lambda con: con.execute("insert into raw.parameters values (?, ?)", row))
    """)
    writers = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path), settings.catalog, str(n)]) for n in range(4)
    ]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0, 0, 0]
    with Lake.open(tmp_path, settings, read_only=True) as lake:
        assert lake.value("select count(distinct name) from raw.parameters") == 40
        assert lake.value("select count(*) from mart.pair_diagnostics") == 0


def test_two_transactions_that_claim_do_not_both_insert_what_neither_found(
    settings: LakeSettings, tmp_path: Path
) -> None:
    """Appends alone do not conflict, so each would insert the row that the other has not committed yet."""
    script = textwrap.dedent("""
        import sys, time
        from pathlib import Path
        from warehouse.lake import Lake, claim_write
        from warehouse.settings import LakeSettings
        def work(con):
            claim_write(con)
            found = con.execute("select count(*) from raw.parameters where name = 'claimed'").fetchone()[0]
            time.sleep(1)
            if not found:
                con.execute("insert into raw.parameters values ('claimed', 0.1)")
        with Lake.open(Path(sys.argv[1]), LakeSettings(catalog=sys.argv[2])) as lake:
            print("ready", flush=True)
            sys.stdin.readline()
            lake.transact("insert", work)
    """)
    Lake.create(tmp_path, settings).close()
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    writers = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path), settings.catalog], **pipes) for _ in range(2)
    ]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("\n")
        writer.stdin.flush()
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
    with Lake.open(tmp_path, settings, read_only=True) as lake:
        assert lake.value("select count(*) from raw.parameters where name = 'claimed'") == 1
