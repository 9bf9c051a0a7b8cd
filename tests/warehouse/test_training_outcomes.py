"""Hand-worked values of ``mart.training_outcomes``: a pair's diagnostics beside what training did to it."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from tests.warehouse.test_pair_diagnostics import CHOSEN, GAP, REJECTED, estimate, score
from warehouse.lake import Lake
from warehouse.settings import LakeSettings

RUN, FOREIGN = "dpo-known", "dpo-foreign"
# (pair, policy margin, reference margin as exported): turned, into U, lost, and one that was flipped
MARGINS = [("turned", 0.5, -1.0), ("better", -0.4, -1.0), ("lost", -0.1, 1.0), ("flipped", 2.0, 1.0)]


def fill(con: Any) -> None:
    con.execute("insert into raw.pair_estimates by name select * from estimates")
    con.execute("""
        insert into raw.reference_scores by name
        select *, 'vllm' as engine, 'flat' as engine_path, '0' as engine_version, 'float32' as dtype,
            now()::timestamp as scored_at, 'run' as run_id
        from scores
    """)
    con.execute("""
        insert into raw.reference_policies by name
        select 'ref' as reference_id, 'm' as model, 'h' as weights_hash, 't' as tokenizer_hash, 'chat' as template,
            1024 as max_length, 'never' as truncate, now()::timestamp as created_at, 'run' as run_id
    """)
    con.execute("""
        insert into raw.curation_runs values
        ('curate', 'c', 3, 'plain', 'h', '{}', 'dpo', 0.1, 'ref', 1, null, 4, 0, 1, 0, 0, 4)
    """)
    con.execute("""
        insert into raw.decisions
        select pair_id, 2, 9, false, pair_id = 'flipped', true, 1, null, null, [], [], null, false from estimates
    """)
    con.execute("insert into raw.exports values ('export', 'curate', 1, '/e', 'winnow', 'h', 4, 'run')")
    con.execute("insert into raw.exports values ('export', 'curate', 1, '/e2', 'trl', 'h', 4, 'run')")
    for run, export in ((RUN, "export"), (FOREIGN, "elsewhere")):
        con.execute(
            "insert into raw.training_runs values (?, ?, 'dpo', 'm', '/c', '{}', now()::timestamp, null, 'r')",
            [run, export],
        )
        con.executemany(
            "insert into raw.training_margins values (?, ?, 0, 0, ?, ?, ?)",
            [[run, pair, policy, reference, reference < policy < 0] for pair, policy, reference in MARGINS],
        )


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], dict[str, Any]]:
    estimates = [estimate(pair) for pair, _, _ in MARGINS]
    wrong = {"turned": True, "better": True, "lost": False, "flipped": True}
    scores = [
        score(f"{pair}-{side}", CHOSEN if (side == "w") == is_wrong else REJECTED)
        for pair, is_wrong in wrong.items()
        for side in "wl"
    ]
    frames = {
        "estimates": pl.DataFrame(estimates, schema_overrides={"is_taste_split": pl.Boolean}),
        "scores": pl.DataFrame(scores),
    }
    with Lake.create(tmp_path_factory.mktemp("lake"), LakeSettings()) as lake:
        with lake.registered(**frames):
            lake.transact("fill", fill)
        rows = lake.frame("select * from mart.training_outcomes").rows(named=True)
    assert len(rows) == 2 * len(MARGINS)
    return {(row["training_run_id"], row["pair_id"]): row for row in rows}


def test_what_training_did(outcomes: dict[tuple[str, str], dict[str, Any]]) -> None:
    names = ("is_right", "is_reference_wrong", "is_turned", "is_lost", "is_in_undesirable_set")
    found = {pair: [outcomes[RUN, pair][name] for name in names] for pair, _, _ in MARGINS}
    assert found == {
        "turned": [True, True, True, False, False],
        "better": [False, True, False, False, True],
        "lost": [False, False, False, True, False],
        "flipped": [True, False, False, False, False],
    }
    assert outcomes[RUN, "turned"]["margin_change"] == 1.5


def test_beside_the_diagnostics(outcomes: dict[tuple[str, str], dict[str, Any]]) -> None:
    """A flipped pair's reference margin is the export's; its diagnostics stay those of the votes' label."""
    turned, flipped = outcomes[RUN, "turned"], outcomes[RUN, "flipped"]
    assert (turned["reference_id"], turned["criterion"], turned["num_votes"]) == ("ref", "overall", 4)
    assert turned["reward_gap"] == pytest.approx(GAP)
    assert turned["beta_max"] == pytest.approx(GAP / (REJECTED - CHOSEN))
    assert [row["is_flipped"] for row in (turned, flipped)] == [False, True]
    assert flipped["reference_margin"] == 1.0
    assert flipped["beta_max"] == turned["beta_max"]


def test_an_export_of_another_lake_has_margins_only(outcomes: dict[tuple[str, str], dict[str, Any]]) -> None:
    row = outcomes[FOREIGN, "turned"]
    assert row["is_turned"] is True
    assert [row[name] for name in ("reference_id", "is_flipped", "beta_max", "p_chosen")] == [None] * 4
