"""One process at a time works on a run: a lock that the system gives back however its holder ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from schemas.errors import TrainingError
from training.writing import writing_to

FILE = "lock"


@contextmanager
def locked(folder: Path, *, name: str) -> Iterator[None]:
    """Hold a folder, which is made where it is missing, for the block; it may be removed inside the block.

    Args:
        folder: what is worked on.
        name: of the run, for the message.

    Raises:
        TrainingError: another process holds it, or it cannot be made.
    """
    while True:
        with writing_to(folder):
            folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(folder / FILE, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(handle, 32).decode() or "?"
            os.close(handle)
            raise TrainingError(
                f"{name} is being trained already, by process {holder}",
                mend="wait for it: the same command then says where its model lies",
            ) from error
        if (folder / FILE).exists() and os.path.samestat(os.fstat(handle), (folder / FILE).stat()):
            break
        os.close(handle)  # its last holder removed the folder between the two calls
    os.truncate(handle, 0)
    os.write(handle, str(os.getpid()).encode())
    try:
        yield
    finally:
        os.close(handle)
