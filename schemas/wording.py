"""Counts with their nouns, as people write them."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """``1 pair``, ``2,048 pairs``: the plural of the noun is it with an s."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def seen_of(num_seen: int, num_pairs: int) -> str:
    """``308 pairs``, or ``32 of 308 pairs`` where fewer were seen than there are."""
    pairs = counted(num_pairs, "pair")
    return pairs if num_seen >= num_pairs else f"{num_seen:,} of {pairs}"
