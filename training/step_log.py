"""What the optimizer steps since the last logging saw, and how fast they were."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.clock import Clock
from training.gather import of_all_processes
from training.monitor import PairScores, join_scores


class StepLog:
    """Collects one process's steps until they are logged.

    Attributes:
        clock: runs while steps are taken.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self._rows: list[NDArray[np.int64]] = []
        self._scores: list[PairScores] = []
        self._num_tokens = 0

    def __bool__(self) -> bool:
        return bool(self._scores)

    def take(self, rows: NDArray[np.int64], scores: PairScores, *, num_tokens: int) -> None:
        """Take in a step: the numbers of its pairs, what is known of them, and the tokens of its forward passes."""
        self._rows.append(rows)
        self._scores.append(scores)
        self._num_tokens += num_tokens

    def lap(self, *, world_size: int) -> tuple[NDArray[np.int64], PairScores, dict[str, float]]:
        """The pairs of all processes with their numbers, and pairs and tokens a second; begins anew.

        Every process has to ask, and each gets the same.
        """
        own = np.concatenate(self._rows), join_scores(self._scores), self._num_tokens
        self._rows, self._scores, self._num_tokens = [], [], 0
        rows, scores, num_tokens = zip(*of_all_processes(own, world_size=world_size), strict=True)
        seconds, whole = self.clock.lap(), join_scores(list(scores))
        speed = {"pairs_per_s": len(whole) / seconds, "tokens_per_s": sum(num_tokens) / seconds}
        return np.concatenate(rows), whole, speed
