"""What every scoring engine does: take groups, give the log-probability of each response."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from schemas.tokens import EncodedGroup

EMBEDDING_SIZE = 256
"""Numbers that are kept of a hidden state."""


@dataclass(frozen=True, slots=True)
class ResponseScore:
    """Score of one response.

    Attributes:
        logps: sum of log pi(y_t given x, y_<t) over the response's tokens, in nats.
        num_tokens: tokens of the response.
        embedding: random projection of the last token's hidden state, float16 of shape (EMBEDDING_SIZE,), or None.
    """

    logps: float
    num_tokens: int
    embedding: NDArray[np.float16] | None = None


@dataclass(slots=True)
class TokenCounts:
    """Tokens of a call, for the progress line and the benchmark.

    Attributes:
        num_total: prompt and response tokens of every response, as if nothing were shared.
        num_unique: tokens of each prompt once, and of each response.
        num_computed: tokens that went through the model.
    """

    num_total: int = 0
    num_unique: int = 0
    num_computed: int = 0

    def add_groups(self, groups: Sequence[EncodedGroup], *, num_computed: int) -> None:
        """Count groups that were scored, once they are: work that failed is done again and would count twice."""
        self.num_computed += num_computed
        for group in groups:
            num_response = sum(map(len, group.response_ids))
            self.num_total += len(group.prompt_ids) * len(group.response_ids) + num_response
            self.num_unique += len(group.prompt_ids) + num_response

    @property
    def saving_realised(self) -> float:
        """Share of the tokens that prefix sharing could save and that were saved; 1 where there was nothing to save."""
        possible = self.num_total - self.num_unique
        return 1.0 if possible == 0 else (self.num_total - self.num_computed) / possible


@dataclass(frozen=True)
class EngineInfo:
    """Which engine computed a score, and how; stored with every score."""

    engine: str
    path: str
    version: str
    dtype: str
    quantization: str | None
    device: str


class Engine(Protocol):
    """A loaded reference policy. Not for several threads at once."""

    info: EngineInfo
    max_length: int
    batch_tokens: int
    counts: TokenCounts

    def score(self, groups: Sequence[EncodedGroup]) -> list[list[ResponseScore]]:
        """Score every response of every group; the answer has the order and shape of the input.

        No response may be empty, and prompt and response together may not be longer than ``max_length``.
        """
        ...

    def close(self) -> None:
        """Free the model and every process; the engine is not used again."""
        ...


@dataclass(frozen=True)
class Projection:
    """A fixed random projection of hidden states (Johnson-Lindenstrauss), the same on every machine."""

    matrix: NDArray[np.float32] = field(repr=False)

    @classmethod
    def of(cls, hidden_size: int) -> Projection:
        """The projection of states of this size: Gaussian entries of variance 1 / EMBEDDING_SIZE."""
        values = np.random.default_rng(hidden_size).standard_normal((hidden_size, EMBEDDING_SIZE), dtype=np.float32)
        return cls(values / np.float32(np.sqrt(EMBEDDING_SIZE)))
