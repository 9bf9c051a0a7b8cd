"""Reference policies in words: what a person tells them apart by, beside the beginning of the id."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

SHORT_ID_CHARS = 8


def model_name(model: str) -> str:
    """A Hub id, or the name of a folder: where it lies on the writer's machine says nothing to a reader."""
    return Path(model).name if Path(model).is_absolute() else model


def policy_name(policy: Mapping[str, Any]) -> str:
    """As in ``tiny-en, adapter polite, max_length 256 (404504cc)``.

    Args:
        policy: ``reference_id`` and ``model``; where they are known ``adapter``, ``quantization``, ``max_length`` and
            ``truncate``, as in ``raw.reference_policies``.
    """
    parts = [model_name(policy["model"])]
    if policy.get("adapter") is not None:
        parts.append(f"adapter {Path(policy['adapter']).name}")
    if policy.get("quantization") is not None:
        parts.append(policy["quantization"])
    if policy.get("max_length") is not None:
        parts.append(f"max_length {policy['max_length']}")
    if policy.get("truncate") == "left":
        parts.append("prompts cut")
    return f"{', '.join(parts)} ({policy['reference_id'][:SHORT_ID_CHARS]})"
