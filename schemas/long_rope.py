"""LongRoPE: a model's two sets of rotary factors, one for sequences within the length of its first training.

transformers picks the set by the longest sequence of a pass, so a score would depend on what is scored beside it; vLLM
picks it once, by the longest sequence that it may get. Winnow does as vLLM does, by a policy's ``max_length``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def original_length(config: Mapping[str, Any]) -> int | None:
    """Tokens that a LongRoPE model was first trained on; None for models with one set of factors.

    Args:
        config: of the model, as in ``config.json``.
    """
    text = config.get("text_config") or config
    rope = text.get("rope_parameters") or text.get("rope_scaling") or {}
    if rope.get("rope_type", rope.get("type")) not in ("longrope", "su"):
        return None
    found = rope.get("original_max_position_embeddings") or text.get("original_max_position_embeddings")
    return None if found is None else int(found)


def takes_long_factors(max_length: int, original: int | None) -> bool:
    """Whether sequences of up to ``max_length`` tokens, and one that an engine may add, are beyond the original."""
    return original is not None and max_length >= original
