"""The worked queries of the docs, on a small set with planted faults, each checked against what was planted."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import krippendorff
import polars as pl
import pytest

from flows.stages.curate import curate
from flows.stages.diagnose import diagnose
from flows.stages.ingest import ingest
from flows.workspace import Workspace
from warehouse.query import QuerySession

pytestmark = pytest.mark.slow

DOCS = Path(__file__).resolve().parents[2] / "docs"
CAREFUL = [f"careful-{number}" for number in range(5)]
NUM_PROMPTS = 24
TEXTS = ("Copper melts at a high heat.", "Rivers bend round what is hard.", "Owls hunt by what they hear.")


def queries() -> dict[int, str]:
    """Number and SQL of every query in the docs."""
    found = re.findall(
        r"^## (\d+)\. .*?```sql\n(.*?)```", (DOCS / "queries.md").read_text(encoding="utf-8"), flags=re.M | re.S
    )
    return {int(number): sql for number, sql in found}


def votes() -> Iterator[dict[str, Any]]:
    """Five careful annotators, one who votes against them, one who says two things; prompt 0 goes round in a circle."""
    for prompt in range(NUM_PROMPTS):
        for first, second in combinations(range(3), 2):
            is_circle = prompt == 0 and (first, second) == (0, 2)
            right = "b" if is_circle else "a"
            shown = {"prompt": f"Question {prompt}?", "response_a": TEXTS[first], "response_b": TEXTS[second]}
            for annotator in CAREFUL:
                yield {**shown, "vote": right, "annotator_id": annotator}
            yield {**shown, "vote": "b" if right == "a" else "a", "annotator_id": "contrary"}
            if prompt < 4:
                for vote in ("a", "b"):
                    yield {**shown, "vote": vote, "annotator_id": "wavering"}


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QuerySession]:
    folder = tmp_path_factory.mktemp("queries")
    source = folder / "votes.jsonl"
    source.write_text("".join(json.dumps(vote) + "\n" for vote in votes()))
    workspace = Workspace.create(folder / "workspace")
    ingest(workspace, [str(source)], format="long")
    diagnose(workspace)
    with workspace.lake() as lake:

        def score(con: Any) -> None:
            for number, bits in ((1, "0"), (2, "1")):
                con.execute(
                    f"""
                    insert into raw.reference_policies by name
                    select 'policy-{number}' as reference_id, 'made' as model, 'w' as weights_hash,
                        't' as tokenizer_hash, 'plain' as template, 1024 as max_length, 'never' as truncate,
                        timestamp '2026-11-0{number}' as created_at, 'made' as run_id
                    """
                )
                con.execute(
                    f"""
                    insert into raw.reference_scores by name
                    select 'policy-{number}' as reference_id, response_id,
                        -10 - (hash(response_id, {bits}) % 1000) / 100 as logps, 8 as num_tokens,
                        4 as num_prompt_tokens, false as is_truncated, 'made' as engine, 'made' as engine_path,
                        '0' as engine_version, 'float32' as dtype, now()::timestamp as scored_at, 'made' as run_id
                    from raw.responses
                    """
                )

        lake.transact("score", score)
    curate(workspace, rules="dpo-safe")
    curate(workspace, rules="annotator-consensus")
    with QuerySession.open(workspace.root, workspace.settings.lake, workspace.settings.query) as opened:
        yield opened


def run(session: QuerySession, number: int) -> pl.DataFrame:
    return session.frame(queries()[number])


def test_there_are_ten() -> None:
    assert sorted(queries()) == list(range(1, 11))


@pytest.mark.parametrize("number", range(1, 11))
def test_every_query_runs(session: QuerySession, number: int) -> None:
    assert run(session, number).width >= 3


def alpha(session: QuerySession, without: str | None) -> float:
    """Krippendorff's nominal alpha of the votes, by the package of that name."""
    rows = session.frame(
        "select pair_id, ((vote = 'a') = (response_a_id < response_b_id))::int as side, annotator_id from raw.judgments"
    )
    rows = rows.filter(pl.lit(without is None) | (pl.col("annotator_id") != (without or "")))
    table = rows.group_by("pair_id").agg(
        (pl.col("side") == 0).sum().alias("low"), (pl.col("side") == 1).sum().alias("high")
    )
    return float(
        krippendorff.alpha(value_counts=table.select("low", "high").to_numpy(), level_of_measurement="nominal")
    )


def test_the_annotator_whose_removal_raises_alpha_most_is_the_contrary_one(session: QuerySession) -> None:
    rows = run(session, 1)
    assert rows["annotator_id"][0] == "contrary"
    assert rows["alpha"][0] == pytest.approx(alpha(session, None))
    for name, without in rows.select("annotator_id", "alpha_without").iter_rows():
        assert without == pytest.approx(alpha(session, name))


def test_the_planted_circle_is_found_first(session: QuerySession) -> None:
    assert "Question 0?" in run(session, 2)["prompt"][0]


def test_the_new_policy_disagrees_exactly_where_the_signs_differ(session: QuerySession) -> None:
    rows = run(session, 3)
    assert rows.height > 0
    assert ((rows["new_margin"] < 0) != (rows["old_margin"] < 0)).all()


def test_the_safe_beta_is_one_at_which_little_fails(session: QuerySession) -> None:
    for row in run(session, 5).to_dicts():
        failing = session.frame(
            f"select share_failing from mart.beta_sensitivity where beta = {row['safe_beta'] or 0.001}"
            f" and reference_id = '{row['reference_id']}'"
        ).item()
        assert row["safe_beta"] is None or failing <= 0.05


def test_rules_add_up_to_the_run(session: QuerySession) -> None:
    rows = run(session, 8)
    latest = "(select max_by(run_id, run_number) from raw.curation_runs)"
    effects = session.frame(f"select sum(len(effects)) from mart.decisions where run_id = {latest}").item()
    assert rows["num_pairs"].sum() == effects > 0


def test_the_wavering_annotator_contradicts_themselves(session: QuerySession) -> None:
    rows = run(session, 10)
    assert rows["annotator_id"].to_list() == ["wavering"]
    assert rows["num_pairs"].item() == 12


def test_the_queries_of_the_page_on_training(session: QuerySession) -> None:
    """Nothing is trained here, so no row is found. A query that began with a comment would be taken for an option."""
    found = re.findall(r"```sql\n(.*?)```", (DOCS / "training.md").read_text(encoding="utf-8"), flags=re.S)
    assert len(found) == 2
    for sql in found:
        assert not sql.startswith("-")
        assert session.frame(sql).is_empty()
