"""Diagnose: annotators, consensus, agreement, contradictions, graphs and near-duplicates of everything ingested."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import duckdb
import polars as pl

from curation.annotators.judgments import Judgments
from curation.code_version import diagnosis_code
from curation.diagnosis import STEPS, Diagnosis, diagnose_judgments
from curation.settings import DiagnoseSettings
from flows import lineage
from flows.console import progress
from flows.reading import reading
from flows.report import StageReport
from flows.stages.token_identity import TokenReader
from flows.workspace import Workspace
from schemas.errors import WorkspaceError
from warehouse.lake import Lake, claim_write
from warehouse.replace import replace_rows, stage_rows
from warehouse.votes import pairs_in_order, votes_by_pair

UPSTREAM = ("ingest", "adjudicate")

_KEYS: Mapping[str, tuple[str, ...]] = {
    "pair_estimates": ("pair_id",),
    "annotator_estimates": ("annotator_id", "criterion"),
    "annotator_pairs": ("annotator_1", "annotator_2", "criterion"),
    "agreement": ("slice", "slice_value", "level"),
    "contradictions": ("contradiction_id", "pair_id", "annotator_id"),
    "pair_graph": ("pair_id",),
    "preference_components": ("component_id",),
    "prompt_graphs": ("prompt_id", "criterion"),
    "response_estimates": ("response_id", "criterion"),
    "near_duplicates": ("kind", "item_id"),
    "response_features": ("response_id",),
    "pair_features": ("pair_id",),
}


def diagnose(workspace: Workspace, *, flow_run_id: str | None = None, beta: float | None = None) -> StageReport:
    """Audit every judgment of the workspace and keep what is found in the lake.

    Args:
        workspace: where.
        flow_run_id: identifier that the stages of one flow run share.
        beta: of the trainer, to take ``rlhf_margin`` at; ``[diagnose] beta`` where not given.

    Raises:
        WorkspaceError: nothing was ingested yet.
    """
    settings = workspace.settings.diagnose
    if beta is not None:
        settings = settings.model_copy(update={"beta": beta})
    with workspace.lake() as lake:
        reader = TokenReader.of(lake, workspace)
        inputs = settings.model_dump() | {"code": diagnosis_code()}
        inputs |= {} if reader is None else {"token_reader": reader.key}
        input_hash = lineage.input_hash(lake, "diagnose", inputs, UPSTREAM)
        previous = lineage.finished_run(lake, "diagnose", input_hash)
        if previous is not None:
            facts = {"previous_run_id": previous}
            return StageReport("diagnose", None, 0, facts, ("nothing new to diagnose", *reading(lake)))
        diagnosis = _compute(lake, workspace, settings)
        if reader is not None:
            tables = diagnosis.tables
            tables["pair_features"] = reader.with_identity(lake, tables["pair_features"], tables["pair_estimates"])
        run = lineage.Run.start(
            "diagnose", input_hash=input_hash, settings=settings.model_dump(), flow_run_id=flow_run_id
        )
        num_changed = _write(lake, diagnosis, settings, run)
        return StageReport("diagnose", run.run_id, num_changed, diagnosis.facts, reading(lake))


def _compute(lake: Lake, workspace: Workspace, settings: DiagnoseSettings) -> Diagnosis:
    """Everything is read from one snapshot, however long it takes and whatever is ingested meanwhile."""
    version = f"at (version => {lake.snapshot_id()})"
    criteria = [
        row[0] for row in lake.con.execute(f"select distinct criterion from raw.judgments {version}").fetchall()
    ]
    if not criteria:
        raise WorkspaceError("there are no judgments to diagnose", mend=f"winnow ingest -w {workspace.root} FILE")
    responses = lake.frame(f"select response_id, prompt_id, text from raw.responses {version} order by response_id")
    prompts = lake.frame(f"select prompt_id, messages from raw.prompts {version} order by prompt_id")
    with progress("diagnose", total=STEPS * len(criteria) + 3) as advance:
        return diagnose_judgments(
            sorted(criteria),
            lambda criterion: judgments_on(lake.con, f"raw.judgments {version}", criterion),
            responses=responses,
            prompts=prompts,
            settings=settings,
            advance=advance,
        )


def judgments_on(con: duckdb.DuckDBPyConnection, judgments: str, criterion: str) -> Judgments:
    """Judgments as a diagnosis takes them.

    Args:
        con, judgments, criterion: as for :func:`warehouse.votes.votes_by_pair`.
    """
    votes, pairs = votes_by_pair(con, judgments, criterion), pairs_in_order(con, judgments, criterion)
    return Judgments(map(pl.DataFrame, votes), map(pl.DataFrame, pairs))


def _write(lake: Lake, diagnosis: Diagnosis, settings: DiagnoseSettings, run: lineage.Run) -> int:
    """Write the tables; their frames are taken out of the diagnosis one after the other as they are copied."""
    parameters = pl.DataFrame({"name": ["beta"], "value": [settings.beta]})
    names = list(diagnosis.tables)
    staged = {name: stage_rows(lake.con, f"raw.{name}", diagnosis.tables.pop(name)) for name in names}

    def work(con: duckdb.DuckDBPyConnection) -> int:
        claim_write(con)
        num_changed = 0
        for name, rows in staged.items():
            num_changed += replace_rows(con, f"raw.{name}", rows, keys=_KEYS[name], run_id=run.run_id)
        num_changed += _set_parameters(con, parameters)
        run.record(con, num_changed=num_changed, facts=diagnosis.facts)
        return num_changed

    try:
        return lake.transact(f"winnow diagnose {run.run_id}", work)
    finally:
        for rows in staged.values():
            lake.con.execute(f"drop table {rows}")


def _set_parameters(con: duckdb.DuckDBPyConnection, parameters: pl.DataFrame) -> int:
    num_changed = 0
    for name, value in parameters.iter_rows():
        row: Any = con.execute("select value from raw.parameters where name = ?", [name]).fetchone()
        if row is not None and row[0] == value:
            continue
        con.execute("delete from raw.parameters where name = ?", [name])
        con.execute("insert into raw.parameters values (?, ?)", [name, value])
        num_changed += 1
    return num_changed
