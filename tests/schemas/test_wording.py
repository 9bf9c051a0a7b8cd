"""Counts agree with their nouns."""

from __future__ import annotations

from schemas.wording import counted


def test_only_one_is_singular() -> None:
    assert [counted(count, "pair") for count in (0, 1, 2, 1_234)] == ["0 pairs", "1 pair", "2 pairs", "1,234 pairs"]
