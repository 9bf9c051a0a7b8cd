"""What the optimizer steps since the last logging saw, and how fast they were."""

from __future__ import annotations

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
        self._scores: list[PairScores] = []
        self._num_tokens = 0

    def __bool__(self) -> bool:
        return bool(self._scores)

    def take(self, scores: PairScores, *, num_tokens: int) -> None:
        """Take in a step: its pairs, and the tokens of its forward passes."""
        self._scores.append(scores)
        self._num_tokens += num_tokens

    def lap(self, *, world_size: int) -> tuple[PairScores, dict[str, float]]:
        """The pairs of all processes, and pairs and tokens a second; the same on each of them. Begins anew."""
        own = join_scores(self._scores), self._num_tokens
        self._scores, self._num_tokens = [], 0
        parts = of_all_processes(own, world_size=world_size)
        scores, num_tokens = join_scores([part for part, _ in parts]), sum(tokens for _, tokens in parts)
        seconds = self.clock.lap()
        return scores, {"pairs_per_s": len(scores) / seconds, "tokens_per_s": num_tokens / seconds}
