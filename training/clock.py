"""How long training took, without what is done between its steps."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Seconds since the last lap, evaluations and checkpoints left out."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._paused = 0.0

    def start(self) -> None:
        """Begin the first lap, where none has begun."""
        if self._began is None:
            self._began, self._paused = time.perf_counter(), 0.0

    def lap(self) -> float:
        """Seconds of the lap that ends here, > 0; the next one begins."""
        now = time.perf_counter()
        seconds = now - (now if self._began is None else self._began) - self._paused
        self._began, self._paused = now, 0.0
        return max(seconds, 1e-9)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the time of the block out."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self._paused += time.perf_counter() - begin
