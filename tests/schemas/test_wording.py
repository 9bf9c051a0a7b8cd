"""Counts agree with their nouns."""

from __future__ import annotations

from schemas.wording import counted, seen_of


def test_only_one_is_singular() -> None:
    assert [counted(count, "pair") for count in (0, 1, 2, 1_234)] == ["0 pairs", "1 pair", "2 pairs", "1,234 pairs"]


def test_pairs_seen_are_said_beside_those_there_are_only_where_they_are_fewer() -> None:
    assert [seen_of(*each) for each in ((308, 308), (32, 308), (2048, 4096), (1, 1))] == [
        "308 pairs",
        "32 of 308 pairs",
        "2,048 of 4,096 pairs",
        "1 pair",
    ]
