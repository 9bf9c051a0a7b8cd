"""How far a log-prob lies from the one that exact arithmetic would give: the noise between engines, dtypes and kernels.

Errors of a response's tokens add up like a random walk, so the standard deviation grows with the square root of their
number; the factor was measured, see ``curation/NOTES.md``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from curation.scoring.engine import EngineInfo

NOISE_FLOOR: Mapping[tuple[str, str], float] = {
    ("transformers", "float32"): 2.7e-6,
    ("transformers", "float16"): 1.8e-3,
    ("transformers", "bfloat16"): 1.6e-2,
    ("vllm", "float32"): 2.8e-6,
    ("vllm", "float16"): 1.3e-3,
    ("vllm", "bfloat16"): 1.6e-2,
}
"""Root mean square of (log-prob - log-prob in float32) / sqrt(tokens), in nats, for each engine and dtype."""


def score_noise(info: EngineInfo, num_tokens: int) -> float | None:
    """Standard deviation of a response's log-prob, in nats.

    Args:
        info: what computed it. A quantised policy is a policy of its own, so only the dtype of the computation counts.
        num_tokens: tokens of the response.

    Returns:
        None where this engine and dtype were not measured (a server tells neither).
    """
    floor = NOISE_FLOOR.get((info.engine, info.dtype))
    return None if floor is None else floor * math.sqrt(num_tokens)
