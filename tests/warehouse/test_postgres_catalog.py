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
