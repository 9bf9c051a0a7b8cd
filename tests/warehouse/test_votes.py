"""The judgments that a diagnosis reads: by pair, and of one version whatever is written meanwhile."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from warehouse import votes
from warehouse.lake import Lake
from warehouse.settings import LakeSettings

INSERT = """
    insert into raw.judgments by name
    select
        'j' || i as judgment_id, 'pair' || (i * 7 % {pairs}) as pair_id, 'prompt' as prompt_id,
        case when i % 2 = 0 then 'x' else 'y' end as response_a_id,
        case when i % 2 = 0 then 'y' else 'x' end as response_b_id,
        '{criterion}' as criterion, 'a' as vote, true as is_display_order_known, false as is_both_bad, 's' as source,
        i as source_row, 'r' as run_id
    from range({start}, {stop}) as t(i)
"""


def insert(lake: Lake, start: int, stop: int, *, pairs: int = 40, criterion: str = "overall") -> None:
    sql = INSERT.format(pairs=pairs, criterion=criterion, start=start, stop=stop)
    lake.transact("insert", lambda con: con.execute(sql))


def test_both_readings_are_of_one_version_and_in_the_same_order(tmp_path: Path) -> None:
    with Lake.create(tmp_path, LakeSettings()) as lake, Lake.open(tmp_path, LakeSettings()) as other:
        insert(lake, 0, 200)
        insert(lake, 200, 300, criterion="harm")
        judgments = f"raw.judgments at (version => {lake.snapshot_id()})"
        read = pa.Table.from_batches(votes.votes_by_pair(lake.con, judgments, "overall"))
        insert(other, 300, 400, pairs=90)
        pairs = pa.Table.from_batches(votes.pairs_in_order(lake.con, judgments, "overall"))
    ids = read["pair_id"].to_pylist()
    assert len(ids) == 200
    assert ids == sorted(ids)
    assert pairs["pair_id"].to_pylist() == sorted(set(ids))
    assert set(pairs.select(["prompt_id", "low_id", "high_id"]).to_pylist()[0].items()) == {
        ("prompt_id", "prompt"),
        ("low_id", "x"),
        ("high_id", "y"),
    }
    by_id = {row["judgment_id"]: row["is_forward"] for row in read.to_pylist()}
    assert (by_id["j0"], by_id["j1"]) == (True, False)
