"""Before training: do the export's log-probs fit this model, this tokenizer and this code?"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from schemas.errors import TrainingError
from training.data import EncodedPairs
from training.monitor import PairScores


@dataclass(frozen=True)
class ReferenceCheck:
    """How far the trainer's own log-probs are from the exported ones, in nats a token, over a sample's responses."""

    num_pairs: int
    mean_difference: float
    max_difference: float

    @classmethod
    def of(cls, scores: PairScores) -> ReferenceCheck:
        """Compare the log-probs of a sample under the untrained policy with those of the file."""
        differences = np.concatenate(
            [
                np.abs(scores.chosen_logps - scores.reference_chosen_logps) / scores.chosen_num_tokens,
                np.abs(scores.rejected_logps - scores.reference_rejected_logps) / scores.rejected_num_tokens,
            ]
        )
        return cls(len(scores), float(differences.mean()), float(differences.max()))

    def as_dict(self) -> dict[str, float]:
        """For the lake and the model card."""
        return asdict(self)

    def require(self, tolerance: float, *, model: str, quantized: bool = False) -> None:
        """Stop where the difference is above what number formats and kernels explain.

        Raises:
            TrainingError: the mean difference is above ``tolerance`` nats a token.
        """
        if not self.mean_difference <= tolerance:
            raise TrainingError(
                f"the export's reference log-probs are off by {self.mean_difference:.3g} nats a token on average"
                f" (at most {self.max_difference:.3g}) against {model}; train.check_tolerance is {tolerance:g}",
                mend=(
                    "the base is quantized and the scorer's was not: raise train.check_tolerance if that is meant"
                    if quantized
                    else f"score again with winnow score --model {model}, then curate and export"
                ),
            )


def sample(pairs: EncodedPairs, count: int) -> EncodedPairs:
    """Evenly spaced pairs that have reference log-probs."""
    known = np.flatnonzero(~np.isnan(pairs.reference_chosen_logps + pairs.reference_rejected_logps))
    if len(known) > count:
        known = known[np.linspace(0, len(known) - 1, count).astype(np.int64)]
    return pairs.take(known)
