"""Counts with their nouns, as people write them."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """``1 pair``, ``2,048 pairs``: the plural of the noun is it with an s."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
