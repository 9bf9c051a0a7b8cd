"""Which prompt groups are held out: by a hash, so that a group stays where it is when others come and go."""

from __future__ import annotations


def sql_split(group: str, *, test_share: float, seed: int) -> str:
    """DuckDB expression of ``train`` or ``test`` for a prompt group.

    All pairs of one group of near-duplicate prompts get the same answer, so none leaks from one split to the other.

    Args:
        group: expression of the group's id.
        test_share: share of groups that is held out, 0 to 1.
        seed: salt of the hash.
    """
    threshold = round(test_share * 2**32)
    return f"if(('0x' || sha256('{seed}:' || {group})[1:8])::ubigint < {threshold}, 'test', 'train')"
