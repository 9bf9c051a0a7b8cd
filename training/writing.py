"""Writing checkpoints, models and logs, with one clear line when the disk does not take them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from schemas.errors import TrainingError

_TORCH_WRITER = ("inline_container", "PytorchStreamWriter")


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Turn a failed write inside the block into an error that names the folder and the room that is left.

    Raises:
        TrainingError: the system, safetensors or torch could not write.
    """
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        # on a full disk torch's writer of checkpoints, in inline_container.cc, says no more than that it failed
        if isinstance(error, RuntimeError) and not any(name in str(error) for name in _TORCH_WRITER):
            raise
        there = next(path for path in (folder, *folder.parents) if path.is_dir())
        free = shutil.disk_usage(there).free / 2**30
        raise TrainingError(
            f"files cannot be written to {folder} ({free:.1f} GiB are free): {str(error).strip().splitlines()[0]}",
            mend="make room, then run the same command again: it goes on from the last whole checkpoint",
        ) from error
