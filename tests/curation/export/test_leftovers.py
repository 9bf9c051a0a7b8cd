"""What a killed export left beside its target goes with the next one; what a running one writes stays."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from curation.export.folder import appearing


def test_leftovers_of_dead_processes_go(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    dead, alive = tmp_path / f".set.{gone.pid}.tmp", tmp_path / f".set.{os.getppid()}.tmp"
    for folder in (dead, tmp_path / f".set.{gone.pid}.old", alive):
        folder.mkdir()
    with appearing(tmp_path / "set") as folder:
        (folder / "manifest.json").write_text("{}")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([alive.name, "set"])
