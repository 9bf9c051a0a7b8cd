"""The folder in which a run of ingest stages what it reads; the next run removes what a killed one left behind."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from schemas.processes import is_running

_PREFIX = ".ingest-"


@contextmanager
def staging_folder(root: Path) -> Iterator[Path]:
    """A new folder in the workspace, on the disk of the lake, for the time of the block.

    Its name holds the machine and the process, so that folders of processes of this machine that are no more are told
    from those of runs that go on.
    """
    machine = f"{_PREFIX}{socket.gethostname()}-"
    for left in root.glob(f"{machine}*-*"):
        process = left.name.removeprefix(machine).partition("-")[0]
        if process.isdecimal() and not is_running(int(process)):
            shutil.rmtree(left, ignore_errors=True)  # another run may be removing it too
    with tempfile.TemporaryDirectory(prefix=f"{machine}{os.getpid()}-", dir=root) as folder:
        yield Path(folder)
