"""The views over preference graphs and near-duplicates, on rows written by hand."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pytest

from warehouse.sql_files import sql_files


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as con:
        con.execute("create schema raw; create schema mart")
        for file in sql_files("raw"):
            con.execute(file.body)
        for file in sql_files("mart"):
            if file.name in ("preference_cycles", "split_leakage"):
                con.execute(f"create view {file.full_name} as {file.body}")
        yield con


def judge(con: duckdb.DuckDBPyConnection, prompt: str, source: str, split: str | None) -> None:
    con.execute(
        "insert into raw.judgments by name select ? as prompt_id, ? as source, ? as source_split, 'j' as judgment_id,"
        " 'q' as pair_id, 'a' as response_a_id, 'b' as response_b_id, 'overall' as criterion, 'a' as vote,"
        " true as is_display_order_known, false as is_both_bad, 0 as source_row, 'r' as run_id",
        [prompt, source, split],
    )


def test_split_leakage_counts_groups_and_prompts(con: duckdb.DuckDBPyConnection) -> None:
    for prompt in ("p1", "p2", "p3", "p4"):
        judge(con, prompt, "s", "train")
    for prompt in ("p5", "p4", "p6", "p7"):
        judge(con, prompt, "s", "test")
    judge(con, "p1", "s", None)
    judge(con, "p1", "s", "train")
    groups = {"p1": "p1", "p2": "p1", "p5": "p1", "p6": "p6", "p7": "p6"}
    for prompt, group in groups.items():
        con.execute("insert into raw.near_duplicates values ('prompt', ?, ?, 'r')", [prompt, group])
    con.execute("insert into raw.near_duplicates values ('response', 'p3', 'p7', 'r')")
    # the group of p1 has one prompt in test and two in train; p4 is in both itself; p6 and p7 are in one split
    assert con.sql("from mart.split_leakage").fetchall() == [("s", "test", "s", "train", 2, 2, 3, 3 / 4, "p1")]


def test_no_leak_no_row(con: duckdb.DuckDBPyConnection) -> None:
    judge(con, "p1", "s", "train")
    judge(con, "p2", "s", "test")
    judge(con, "p1", "t", None)
    assert con.sql("from mart.split_leakage").fetchall() == []


def test_preference_cycles_names_the_pairs_to_reverse(con: duckdb.DuckDBPyConnection) -> None:
    component = "('c', 'p', 'overall', ['x', 'y', 'z'], 3, 3, 1, 3, 1, true, 1.0, 0.33, 1.0, 0.0, 'r')"
    con.execute(f"insert into raw.preference_components values {component}")
    con.execute("insert into raw.pair_graph values ('q1', 'c', 3, false, 'r'), ('q2', 'c', 3, true, 'r')")
    row = con.sql("from mart.preference_cycles").pl().row(0, named=True)
    assert row["feedback_pair_ids"] == ["q2"]
    assert (row["curl_ratio"], row["curl_ratio_null"], row["curl_p_value"], row["zeta"]) == (1.0, 0.33, 1.0, 0.0)
