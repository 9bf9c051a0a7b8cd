"""The query that curation reads gives the rows of ``mart.pair_diagnostics``, for every policy and without one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.generated_lake import REFERENCE_ID, fill
from warehouse.lake import Lake
from warehouse.narrow_diagnostics import diagnostics_under
from warehouse.settings import LakeSettings


def same_rows(lake: Lake, reference_id: str | None) -> int:
    mart = f"(from mart.pair_diagnostics where reference_id is not distinct from {reference_id!r})".replace(
        "None", "null"
    )
    narrow = diagnostics_under(lake.con, reference_id)
    names = [[row[0] for row in lake.con.execute(f"describe from {each}").fetchall()] for each in (mart, narrow)]
    assert names[0] == names[1]
    for one, other in ((mart, narrow), (narrow, mart)):
        assert lake.value(f"select count(*) from (from {one} except all from {other})") == 0
    return int(lake.value(f"select count(*) from {narrow}"))


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    made = Lake.create(tmp_path, LakeSettings())
    fill(made, num_pairs=90, with_text=False)
    # one response without features, one without a score, and another policy that scored half of them otherwise
    made.con.execute(
        "delete from raw.response_features where response_id = (select max(chosen_id) from raw.pair_estimates)"
    )
    made.con.execute(
        "delete from raw.reference_scores where response_id = (select min(chosen_id) from raw.pair_estimates)"
    )
    made.con.execute(
        "insert into raw.reference_policies select * replace ('other' as reference_id) from raw.reference_policies"
    )
    made.con.execute(
        "insert into raw.reference_scores select * replace ('other' as reference_id, logps - 1 as logps)"
        " from raw.reference_scores where response_id < '8'"
    )
    return made


@pytest.mark.slow
def test_each_policy_has_its_own_rows(lake: Lake) -> None:
    assert same_rows(lake, REFERENCE_ID) == 90
    assert same_rows(lake, "other") == 90
    assert same_rows(lake, None) == 0


def test_without_scores_there_are_rows_without_margins(lake: Lake) -> None:
    lake.con.execute("delete from raw.reference_policies")
    lake.con.execute("delete from raw.reference_scores")
    assert same_rows(lake, None) == 90
