"""Checkpoints to resume from: written under another name and renamed, checked before they are read."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

SEAL = "winnow_checkpoint.json"
"""File that closes a checkpoint: every file with its size and hash, and the state of the objective."""

_EDGE = 1 << 20
_PREFIX = "checkpoint-"
_NAME = re.compile(rf"^{_PREFIX}\d+$")


def seal(folder: Path, state: dict[str, Any]) -> None:
    """Write the closing file of a checkpoint folder."""
    files = {str(file.relative_to(folder)): _fingerprint(file) for file in sorted(folder.rglob("*")) if file.is_file()}
    (folder / SEAL).write_text(json.dumps({"files": files, "state": state}, indent=1), encoding="utf-8")


def publish(written: Path, target: Path, *, keep: int) -> None:
    """Move a sealed checkpoint to its final name, and remove all but the newest ``keep``."""
    if target.exists():
        shutil.rmtree(target)
    written.replace(target)
    for old in _found(target.parent)[:-keep]:
        shutil.rmtree(old)


def newest(folder: Path, *, warn: Callable[[str], None]) -> Path | None:
    """The newest whole checkpoint of a folder; a broken one is skipped with a warning. None where there is none."""
    for candidate in reversed(_found(folder)):
        problem = _problem(candidate)
        if problem is None:
            return candidate
        warn(f"checkpoint {candidate} is skipped: {problem}")
    return None


def state_of(checkpoint: Path) -> dict[str, Any]:
    """The objective's state that was saved with a checkpoint."""
    return dict(json.loads((checkpoint / SEAL).read_text(encoding="utf-8"))["state"])


def step_of(checkpoint: Path) -> int:
    """Optimizer steps that were done when a checkpoint was written."""
    return int(checkpoint.name.removeprefix(_PREFIX))


def _found(folder: Path) -> list[Path]:
    """Checkpoints by step."""
    if not folder.is_dir():
        return []
    return sorted((entry for entry in folder.iterdir() if _NAME.match(entry.name)), key=step_of)


def _problem(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint; None if nothing is."""
    try:
        files = json.loads((checkpoint / SEAL).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError) as error:
        return f"its {SEAL} cannot be read ({type(error).__name__})"
    for name, fingerprint in files.items():
        file = checkpoint / name
        if not file.is_file():
            return f"{name} is missing"
        if _fingerprint(file) != fingerprint:
            return f"{name} has changed since it was written"
    return None


def _fingerprint(file: Path) -> list[Any]:
    """Size, and SHA-256 of the first and last MiB: cheap at any size, and a cut or zeroed file shows."""
    size = file.stat().st_size
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        digest.update(stream.read(_EDGE))
        if size > _EDGE:
            stream.seek(max(size - _EDGE, _EDGE))
            digest.update(stream.read())
    return [size, digest.hexdigest()]
