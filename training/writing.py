"""Writing model files, with one clear line when the disk does not take them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from schemas.errors import TrainingError


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Turn a failed write inside the block into an error that names the folder and the room that is left.

    Raises:
        TrainingError: the system, safetensors or torch could not write.
    """
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        # torch says "PytorchStreamWriter failed writing", and no more, when the disk is full
        if isinstance(error, RuntimeError) and "writ" not in str(error):
            raise
        free = shutil.disk_usage(folder if folder.exists() else folder.parent).free / 2**30
        raise TrainingError(
            f"a checkpoint cannot be written to {folder} ({free:.1f} GiB are free):"
            f" {str(error).strip().splitlines()[0]}",
            mend="make room, then run the same command again: it goes on from the last whole checkpoint",
        ) from error
