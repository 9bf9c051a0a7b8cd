"""Curate: rules over all pairs decide, in one transaction, what trains and how."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from itertools import chain, count
from typing import Any

import duckdb

from curation.rules.compile import CompiledRules, compile_rules
from curation.rules.decide import DECIDED, RuleCount, content_hash, count_rules, decide
from curation.rules.expressions import quoted
from curation.rules.failures import RuleRunError, named
from curation.rules.ruleset import RuleSet, load_rules
from flows.console import progress
from flows.lineage import Run, finished_run, input_hash
from flows.policies import chosen_line
from flows.report import StageReport
from flows.workspace import Workspace
from schemas.errors import RuleError
from schemas.identity import digest
from schemas.wording import counted
from warehouse.decisions import next_run_number, write_run
from warehouse.lake import Lake
from warehouse.narrow_diagnostics import SIDES, diagnostics_under

UPSTREAM = ("ingest", "score", "diagnose", "adjudicate")

ADJUDICATED = """
    with latest as (
        select pair_id, arg_max(action, (adjudicated_at, run_id)) as action,
            arg_max(chosen_id, (adjudicated_at, run_id)) as chosen_id
        from raw.adjudications
        group by pair_id
    )
    select
        latest.pair_id,
        latest.action = 'drop' as is_dropped,
        latest.action <> 'drop' and latest.chosen_id <> estimates.chosen_id as is_flipped,
        coalesce(latest.chosen_id, estimates.chosen_id)
            = least(estimates.chosen_id, estimates.rejected_id) as is_chosen_lower
    from latest
    inner join raw.pair_estimates as estimates on latest.pair_id = estimates.pair_id
"""


def curate(
    workspace: Workspace, *, rules: str | None = None, reference_id: str | None = None, flow_run_id: str | None = None
) -> StageReport:
    """Decide on every pair and keep the decisions as a new run.

    Args:
        workspace: where the lake is.
        rules: profile name or TOML file; the workspace's own setting when absent.
        reference_id: reference policy whose margins the rules read; the newest when absent.
        flow_run_id: identifier that the stages of one flow run share.

    Returns:
        Facts: curation_run_id, num_pairs, num_dropped, num_flipped, num_changed, total_weight, rules (what each did).

    Raises:
        RuleError: the rules are not valid, or there is nothing to decide on.
    """
    ruleset = load_rules(rules or workspace.settings.curate.rules)
    with workspace.lake() as lake:
        reference = choose_reference(lake, reference_id)
        compiled = compile_rules(ruleset, pair_columns(lake))
        settings = {"rules_hash": ruleset.sha256, "rules": ruleset.model_dump(mode="json"), "reference_id": reference}
        identity = {"rules_hash": ruleset.sha256, "reference_id": reference}
        hash_of_input = input_hash(lake, "curate", identity, UPSTREAM)
        previous = finished_run(lake, "curate", hash_of_input)
        scored = chosen_line(lake, reference)
        if previous is not None:
            return _nothing_new(lake, previous, scored)
        if not lake.value("select count(*) from raw.pair_estimates"):
            raise no_pairs(lake, "curate")
        told = _told(lake)
        run = Run.start("curate", input_hash=hash_of_input, settings=settings, flow_run_id=flow_run_id)
        with progress("curate") as advance, failures_named(lake, compiled, reference):
            facts = lake.transact(run.run_id, lambda con: _work(con, run, compiled, reference))
            advance(1, "")
    return StageReport(
        "curate", facts["curation_run_id"], facts["num_changed"], facts, tuple(_sentences(facts, ruleset, told, scored))
    )


def pair_columns(lake: Lake) -> dict[str, str]:
    """Name and type of every column of ``mart.pair_diagnostics``."""
    rows = lake.con.execute("describe mart.pair_diagnostics").fetchall()
    return {str(row[0]): str(row[1]) for row in rows}


def choose_reference(lake: Lake, reference_id: str | None) -> str | None:
    """The reference policy that was asked for, by id or its beginning, or the newest; None where nothing is scored.

    Raises:
        RuleError: there is none, or more than one, with this id.
    """
    known = [
        str(row[0])
        for row in lake.con.execute(
            "select reference_id from raw.reference_policies order by created_at desc, reference_id"
        ).fetchall()
    ]
    if reference_id is None:
        return known[0] if known else None
    found = [name for name in known if name.startswith(reference_id)]
    if len(found) != 1:
        what = "no" if not found else "more than one"
        raise RuleError(
            f"there is {what} reference policy {reference_id!r}", mend=f"known are: {', '.join(known) or 'none'}"
        )
    return found[0]


def pairs_relation(compiled: CompiledRules, diagnostics: str) -> str:
    """The columns that rules read, of a relation with those of ``mart.pair_diagnostics``; a query in parentheses."""
    return f"(select {', '.join(quoted(column) for column in compiled.columns)} from {diagnostics})"


@contextmanager
def failures_named(lake: Lake, compiled: CompiledRules, reference_id: str | None) -> Iterator[None]:
    """Name the rule where one fails inside the block; transactions are rolled back by then."""
    try:
        yield
    except RuleRunError as failure:
        pairs = pairs_relation(compiled, diagnostics_under(lake.con, reference_id))
        raise named(lake.con, compiled, pairs=pairs, failure=failure) from failure


def _work(
    con: duckdb.DuckDBPyConnection, run: Run, compiled: CompiledRules, reference_id: str | None
) -> dict[str, Any]:
    snapshot = _one(con, "select id from lake.current_snapshot()")[0]
    pairs = pairs_relation(compiled, diagnostics_under(con, reference_id))
    decide(con, compiled, pairs=pairs, adjudicated=ADJUDICATED)
    con.execute(f"drop table {SIDES}")
    content_id = curation_id(compiled.rules.sha256, reference_id or "", content_hash(con))
    run = replace(run, run_id=unused_run_id(con, content_id))
    con.execute("call lake.set_commit_message('winnow', ?)", [run.run_id])
    number = next_run_number(con)
    num_changed = write_run(con, number, DECIDED)
    counts = count_rules(con, compiled.rules.rule)
    con.execute("drop table decided")
    totals = run_totals(con)
    record_curation_run(
        con,
        run_id=run.run_id,
        content_id=content_id,
        number=number,
        rules=compiled.rules,
        reference_id=reference_id,
        snapshot=snapshot,
        num_changed=num_changed,
        totals=totals,
    )
    facts = {
        "curation_run_id": run.run_id,
        "reference_id": reference_id,
        "num_changed": num_changed,
        **totals,
        "rules": [asdict(each) for each in counts],
    }
    run.record(con, num_changed=max(num_changed, 1), facts=facts)
    return facts


def no_pairs(lake: Lake, purpose: str) -> RuleError:
    """What is said where no pair is diagnosed yet; ``purpose`` is what there are none to do."""
    has_judgments = lake.value("select count(*) from raw.judgments") > 0
    mend = "winnow diagnose" if has_judgments else "winnow ingest, then winnow diagnose"
    return RuleError(f"there are no pairs to {purpose}", mend=mend)


def run_totals(con: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """Figures of the standing decisions."""
    row = _one(
        con,
        """
        select
            count(*), count(*) filter (where is_dropped), count(*) filter (where is_flipped),
            count(*) filter (where not is_dropped and weight <> 1),
            count(*) filter (where not is_dropped and soft_label is not null),
            count(*) filter (where not is_dropped and objective is not null),
            count(*) filter (where is_adjudicated), coalesce(sum(weight), 0)
        from model.standing_decisions
        """,
    )
    names = ("pairs", "dropped", "flipped", "reweighted", "soft_labelled", "routed", "adjudicated")
    return {
        **{f"num_{name}": int(value) for name, value in zip(names, row, strict=False)},
        "total_weight": float(row[-1]),
    }


def record_curation_run(
    con: duckdb.DuckDBPyConnection,
    *,
    run_id: str,
    content_id: str,
    number: int,
    rules: RuleSet,
    reference_id: str | None,
    snapshot: int,
    num_changed: int,
    totals: dict[str, Any],
) -> None:
    """Write the run's row of ``raw.curation_runs``."""
    con.execute(
        "insert into raw.curation_runs values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, null, ?, ?, ?, ?, ?, ?)",
        [
            run_id,
            content_id,
            number,
            rules.name,
            rules.sha256,
            rules.canonical,
            rules.objective,
            rules.beta,
            reference_id,
            snapshot,
            totals["num_pairs"],
            totals["num_dropped"],
            totals["num_flipped"],
            totals["num_adjudicated"],
            num_changed,
            totals["total_weight"],
        ],
    )


def curation_id(*decided: str) -> str:
    """Identifier of a curation run from hashes of what decides and what was decided."""
    return f"curate-{digest(*decided)[:12]}"


def unused_run_id(con: duckdb.DuckDBPyConnection, content_id: str) -> str:
    """The content id itself for the first run that decides so, else with the next free number behind it."""
    taken = {str(row[0]) for row in con.execute("select run_id from raw.runs where stage = 'curate'").fetchall()}
    names = chain([content_id], (f"{content_id}-{number}" for number in count(2)))
    return next(name for name in names if name not in taken)


def _nothing_new(lake: Lake, run_id: str, scored: str) -> StageReport:
    stored = lake.value("select facts from raw.runs where run_id = ?", [run_id])
    facts = {**json.loads(stored), "num_changed": 0}
    line = "Nothing new: same rules and same input as the last run."
    return StageReport("curate", None, 0, facts, (line, scored))


def _told(lake: Lake) -> set[str]:
    """Rules of which an earlier run has said that their condition was NULL."""
    stored = lake.con.execute("select facts from raw.runs where stage = 'curate' and facts is not null").fetchall()
    rules = chain.from_iterable(json.loads(facts)["rules"] for (facts,) in stored)
    return {rule["rule"] for rule in rules if rule["num_unknown"]}


def _sentences(facts: dict[str, Any], rules: RuleSet, told: set[str], scored: str) -> list[str]:
    total = facts["num_pairs"]
    parts = [
        f"{facts[f'num_{name}']:,} {name.replace('_', '-')}"
        for name in ("dropped", "flipped", "reweighted", "soft_labelled", "routed", "adjudicated")
        if facts[f"num_{name}"]
    ]
    what = ", ".join(parts) or "all kept as they are"
    lines = [f"{rules.name}: {counted(total, 'pair')}, {what}; weight {facts['total_weight']:,.1f}.", scored]
    unknown = [RuleCount(**each) for each in facts["rules"] if each["num_unknown"] and each["rule"] not in told]
    conditions = {rule.name: rule.when for rule in rules.rule}
    lines += [unknown_sentence(each, total, conditions[each.rule]) for each in unknown]
    return lines


def unknown_sentence(count: RuleCount, num_pairs: int, condition: str) -> str:
    """Say that a rule's condition was NULL, and so did not match."""
    is_everywhere = count.num_unknown == num_pairs
    where = "every pair" if is_everywhere else f"{count.num_unknown:,} of {counted(num_pairs, 'pair')}"
    why = ": p_flip is not computed yet" if is_everywhere and "p_flip" in condition else ""
    return f"The condition of {count.rule} is NULL on {where}, and does not match there{why}."


def _one(con: duckdb.DuckDBPyConnection, sql: str) -> tuple[Any, ...]:
    row = con.execute(sql).fetchone()
    assert row is not None
    return tuple(row)
