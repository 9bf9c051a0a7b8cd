"""Diagnose: annotators, consensus, agreement, contradictions, graphs and near-duplicates of everything ingested."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import duckdb
import polars as pl

from curation.diagnosis import Diagnosis, diagnose_judgments
from curation.settings import DiagnoseSettings
from flows import lineage
from flows.console import progress
from flows.reading import reading
from flows.report import StageReport
from flows.stages.token_identity import TokenReader
from flows.workspace import Workspace
from schemas.errors import WorkspaceError
from warehouse.lake import Lake, claim_write
from warehouse.replace import replace_rows

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

_JUDGMENTS = """
    select
        judgment_id, pair_id, prompt_id, response_a_id, response_b_id, vote, is_display_order_known, strength_ordinal,
        annotator_id, annotated_at, batch, source
    from raw.judgments
    where criterion = ?
"""


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
        inputs = settings.model_dump() | ({} if reader is None else {"token_reader": reader.key})
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
    criteria = [
        row[0] for row in lake.con.execute("select distinct criterion from raw.judgments order by 1").fetchall()
    ]
    if not criteria:
        raise WorkspaceError("there are no judgments to diagnose", mend=f"winnow ingest -w {workspace.root} FILE")
    responses = lake.frame("select response_id, prompt_id, text from raw.responses order by response_id")
    prompts = lake.frame("select prompt_id, messages from raw.prompts order by prompt_id")
    with progress("diagnose", total=len(criteria) + 4) as advance:
        return diagnose_judgments(
            criteria,
            lambda criterion: lake.frame(_JUDGMENTS, [criterion]),
            responses=responses,
            prompts=prompts,
            settings=settings,
            advance=advance,
        )


def _write(lake: Lake, diagnosis: Diagnosis, settings: DiagnoseSettings, run: lineage.Run) -> int:
    parameters = pl.DataFrame({"name": ["beta"], "value": [settings.beta]})

    def work(con: duckdb.DuckDBPyConnection) -> int:
        claim_write(con)
        num_changed = 0
        for table, frame in diagnosis.tables.items():
            num_changed += replace_rows(con, f"raw.{table}", frame, keys=_KEYS[table], run_id=run.run_id)
        num_changed += _set_parameters(con, parameters)
        run.record(con, num_changed=num_changed, facts=diagnosis.facts)
        return num_changed

    return lake.transact(f"winnow diagnose {run.run_id}", work)


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
