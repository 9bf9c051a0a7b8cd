"""The views over preference graphs and near-duplicates, on rows written by hand."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pytest

from warehouse.sql_files import sql_files

VIEWS = (
    "preference_cycles",
    "split_leakage",
    "annotator_report",
    "pair_diagnostics",
    "prompt_graphs",
    "response_scores",
)


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as con:
        con.execute("create schema raw; create schema mart")
        for file in sql_files("raw"):
            con.execute(file.body)
        for file in sql_files("mart"):
            if file.name in VIEWS:
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
    assert con.sql("from mart.split_leakage order by split_1").fetchall() == [
        ("s", "test", "s", "train", 2, 2, 3, 3 / 4, "p1"),
        ("s", "train", "s", "test", 2, 3, 2, 2 / 4, "p1"),
    ]


def test_no_leak_no_row(con: duckdb.DuckDBPyConnection) -> None:
    judge(con, "p1", "s", "train")
    judge(con, "p2", "s", "test")
    judge(con, "p1", "t", None)
    assert con.sql("from mart.split_leakage").fetchall() == []


def test_preference_cycles_names_the_pairs_to_reverse(con: duckdb.DuckDBPyConnection) -> None:
    component = "('c', 'p', 'overall', ['x', 'y', 'z'], 3, 3, 1, 3, 1, true, 'r')"
    con.execute(f"insert into raw.preference_components values {component}")
    con.execute("insert into raw.prompt_graphs values ('p', 'overall', 3, 3, 3, 1, 1.0, 0.33, 1.0, 0.0, 'r')")
    con.execute("insert into raw.prompt_graphs values ('p', 'tone', 4, 4, 4, 0, 0.1, 0.5, null, null, 'r')")
    con.execute("insert into raw.pair_graph values ('q1', 'c', 3, false, 'r'), ('q2', 'c', 3, true, 'r')")
    row = con.sql("from mart.preference_cycles").pl().row(0, named=True)
    assert row["feedback_pair_ids"] == ["q2"]
    assert (row["curl_ratio"], row["curl_ratio_null"], row["curl_p_value"], row["zeta"]) == (1.0, 0.33, 1.0, 0.0)


def test_every_pair_of_a_graph_with_a_loop_has_its_curl_ratio(con: duckdb.DuckDBPyConnection) -> None:
    """Prompt p has a loop but no cycle on one criterion, and no loop on another."""
    con.execute("insert into raw.prompt_graphs values ('p', 'loop', 3, 3, 3, 0, 0.25, 0.33, null, 1.0, 'r')")
    con.execute("insert into raw.prompt_graphs values ('p', 'chain', 3, 2, 2, 0, null, null, null, null, 'r')")
    for criterion, pairs in (("loop", 3), ("chain", 2)):
        for number in range(pairs):
            insert(con, "pair_estimates", pair_id=f"{criterion}{number}", prompt_id="p", criterion=criterion)
    insert(con, "pair_estimates", pair_id="lone", prompt_id="q", criterion="loop")
    found = con.sql("select pair_id, curl_ratio from mart.pair_diagnostics where is_in_cycle = false").fetchall()
    loop = {f"loop{number}": 0.25 for number in range(3)}
    assert dict(found) == loop | {"chain0": None, "chain1": None, "lone": None}
    graphs = con.sql("select criterion, num_pairs_on_cycles, zeta from mart.prompt_graphs order by 1").fetchall()
    assert graphs == [("chain", 0, None), ("loop", 0, 1.0)]


def test_response_scores_name_the_prompt(con: duckdb.DuckDBPyConnection) -> None:
    con.execute("insert into raw.response_estimates values ('x', 'c', 0.7, -1.0, 2.4, 0.5, 'r')")
    insert(con, "responses", response_id="x", prompt_id="p")
    assert con.sql("from mart.response_scores").fetchall() == [("x", "p", "c", 0.7, -1.0, 2.4, 0.5)]


def insert(con: duckdb.DuckDBPyConnection, table: str, **values: object) -> None:
    """One row of raw; what is not given and must not be NULL is 'r', 1 or false."""
    filler: dict[str, object] = {"VARCHAR": "r", "BOOLEAN": False}
    for name, kind, null, *_ in con.execute(f"describe raw.{table}").fetchall():
        if name not in values and null == "NO":
            values[name] = filler.get(kind, 1)
    names = ", ".join(f"? as {name}" for name in values)
    con.execute(f"insert into raw.{table} by name select {names}", list(values.values()))


def vote(con: duckdb.DuckDBPyConnection, pair: str, who: str, vote: str, **more: object) -> None:
    ends = {"response_a_id": pair[0], "response_b_id": pair[1]}
    insert(con, "judgments", **(ends | {"pair_id": pair, "annotator_id": who, "criterion": "c", "vote": vote} | more))


def report(con: duckdb.DuckDBPyConnection, column: str) -> list[tuple[object, ...]]:
    return con.sql(f"select annotator_id, criterion, {column} from mart.annotator_report order by all").fetchall()


def test_the_chosen_response_of_a_minority_is_not_against_the_ranking(con: duckdb.DuckDBPyConnection) -> None:
    """x goes before z and z before y; y before x has two votes of three, and the consensus is x all the same."""
    for pair, chosen, rejected, against in (("xy", "x", "y", True), ("xz", "x", "z", False), ("zy", "z", "y", False)):
        votes = {"num_votes_chosen": 1, "num_votes_rejected": 2} if against else {"num_votes_chosen": 3}
        ends = {"chosen_id": chosen, "rejected_id": rejected}
        insert(con, "pair_estimates", pair_id=pair, **ends, **({"num_votes_rejected": 0} | votes))
        insert(con, "pair_graph", pair_id=pair, is_in_feedback_arc_set=against)
    flagged = "select pair_id, is_in_feedback_arc_set from mart.pair_diagnostics order by 1"
    assert con.sql(flagged).fetchall() == [("xy", False), ("xz", False), ("zy", False)]
    for who, said in (("u", "a"), ("v", "b"), ("w", "b"), ("t", "tie")):
        vote(con, "xy", who, said)
        vote(con, "xz", who, "a")
        insert(con, "annotator_estimates", annotator_id=who, criterion="c")
    # v and w voted for y, the majority that a ranking reverses; u did not, and t tied
    assert report(con, "cycle_share") == [("t", "c", 0), ("u", "c", 0), ("v", "c", 0.5), ("w", "c", 0.5)]
    con.execute("update raw.pair_estimates set num_votes_chosen = 3 where pair_id = 'xy'")
    assert con.sql(flagged).fetchall() == [("xy", True), ("xz", False), ("zy", False)]
    assert report(con, "cycle_share") == [("t", "c", 0), ("u", "c", 0.5), ("v", "c", 0), ("w", "c", 0)]


def test_speed_is_of_forms_and_not_of_their_criteria(con: duckdb.DuckDBPyConnection) -> None:
    for minute, pair in ((0, "ab"), (1, "cd"), (3, "ef"), (60, "gh")):
        for criterion in ("help", "harm") if pair != "ef" else ("help",):
            at = f"2026-01-01 {minute // 60:02d}:{minute % 60:02d}:00"
            vote(con, pair, "u", "a", criterion=criterion, annotated_at=at)
    for criterion in ("help", "harm"):
        insert(con, "annotator_estimates", annotator_id="u", criterion=criterion)
    # gaps of 60 and 120 seconds; that of 57 minutes is a pause
    assert report(con, "median_seconds") == [("u", "harm", 60), ("u", "help", 90)]
