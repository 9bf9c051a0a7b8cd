"""An export appears at once or not at all: everything is written beside its place and renamed into it."""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from curation.export import manifest
from schemas.errors import ExportError
from schemas.processes import is_running


@contextmanager
def appearing(target: Path) -> Iterator[Path]:
    """A temporary folder that becomes ``target`` when the block ends well, and vanishes when it does not.

    An earlier export at ``target`` is replaced; anything else there is left alone.

    Raises:
        ExportError: ``target`` is a file, or a folder with something other than an export in it.
    """
    check_target(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    _clear_what_killed_runs_left(target)
    temporary = target.parent / f".{target.name}.{os.getpid()}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)  # of an earlier process with the same id
    temporary.mkdir()
    try:
        yield temporary
        _replace(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _clear_what_killed_runs_left(target: Path) -> None:
    for left in target.parent.glob(f".{glob.escape(target.name)}.*"):
        process, _, kind = left.name.removeprefix(f".{target.name}.").partition(".")
        if kind in ("tmp", "old") and process.isdecimal() and not is_running(int(process)):
            shutil.rmtree(left, ignore_errors=True)  # another run may be removing it too


def check_target(target: Path) -> None:
    """Refuse a target that an export may not replace.

    Raises:
        ExportError: ``target`` is a file, or a folder with something other than an export in it.
    """
    if target.exists() and not target.is_dir():
        raise ExportError(f"{target} is a file", mend="give a folder for the export")
    if target.is_dir() and any(target.iterdir()) and not (target / manifest.FILE_NAME).is_file():
        raise ExportError(f"{target} is not empty and not an export", mend="give another folder, or empty this one")


def _replace(temporary: Path, target: Path) -> None:
    if not target.exists():
        temporary.rename(target)
        return
    old = target.parent / f".{target.name}.{os.getpid()}.old"
    target.rename(old)
    temporary.rename(target)
    shutil.rmtree(old)
