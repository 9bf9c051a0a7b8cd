"""The main job as a Prefect flow: ingest, score, diagnose, curate, export, train, summary. One task a stage.

Without a server the flow runs on Prefect's ephemeral one; where ``PREFECT_API_URL`` is set, runs, logs and the summary
artifact appear there. Each stage commits on its own, so a flow that was killed goes on from where it stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.runtime import flow_run
from prefect.tasks import Task

from flows.console import say
from flows.report import StageReport
from flows.workspace import Workspace
from schemas.errors import WinnowError


def _is_worth_a_retry(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Retry what may pass by itself; a mistake that the user must mend stays one."""
    return not isinstance(state.result(raise_on_failure=False), WinnowError)


def _stage(name: str, *, retries: int = 0) -> Any:
    return task(
        name=name,
        retries=retries,
        retry_delay_seconds=5,
        retry_condition_fn=_is_worth_a_retry,
        persist_result=False,
        cache_policy=NO_CACHE,
    )


@_stage("ingest")
def _ingest(root: Path, sources: Sequence[str], format: str | None, run: str) -> StageReport:
    from flows.stages.ingest import ingest

    return ingest(Workspace.open(root), sources, format=format, flow_run_id=run)


@_stage("score", retries=1)
def _score(root: Path, model: str | None, engine: str | None, run: str) -> StageReport:
    from flows.stages.score import score

    return score(Workspace.open(root), model=model, engine=engine, flow_run_id=run)


@_stage("diagnose")
def _diagnose(root: Path, run: str) -> StageReport:
    from flows.stages.diagnose import diagnose

    return diagnose(Workspace.open(root), flow_run_id=run)


@_stage("curate")
def _curate(root: Path, rules: str | None, reference_id: str, run: str) -> StageReport:
    from flows.stages.curate import curate

    return curate(Workspace.open(root), rules=rules, reference_id=reference_id, flow_run_id=run)


@_stage("export")
def _export(root: Path, run: str) -> StageReport:
    from flows.stages.export import export

    return export(Workspace.open(root), flow_run_id=run)


@_stage("train")
def _train(
    root: Path, export: str, model: str | None, objective: str | None, max_steps: int | None, run: str
) -> StageReport:
    from flows.stages.train import train

    return train(
        Workspace.open(root),
        export=Path(export),
        model=model,
        objective=objective,
        max_steps=max_steps,
        flow_run_id=run,
    )


@_stage("summary")
def _summarise(root: Path, reports: list[StageReport]) -> StageReport:
    from flows.stages.summary import summarise

    report = summarise(Workspace.open(root), reports)
    text = Path(report.facts["path"]).read_text(encoding="utf-8")
    create_markdown_artifact(markdown=text, key="winnow-summary", description=f"Summary of {root.name}")
    return report


@flow(name="winnow-curation", persist_result=False, validate_parameters=False)
def curation(
    workspace: Path,
    sources: Sequence[str],
    *,
    format: str | None = None,
    model: str | None = None,
    engine: str | None = None,
    rules: str | None = None,
    objectives: Sequence[str | None] = (None,),
    max_steps: int | None = None,
) -> list[StageReport]:
    """Run the main job on one workspace and return what each stage said.

    Args:
        workspace: folder; made if it is not there and there are sources.
        sources: files, folders or Hub ids of judgments; may be empty where they were ingested before.
        format: format of the sources; detected when None.
        model: reference policy and starting point of the training; the workspace's own when None.
        engine: scoring engine; the best that is installed when None.
        rules: profile name or TOML file; the workspace's own when None.
        objectives: losses to train with, one checkpoint each; None is the objective that the rules name; empty
            trains nothing.
        max_steps: optimizer steps of each training; a whole epoch when None.

    Raises:
        WinnowError: a stage met a mistake that the user can mend.
    """
    root = (Workspace.create if sources else Workspace.open)(Path(workspace)).root
    run = str(flow_run.get_id())
    reports: list[StageReport] = []

    def done(report: StageReport) -> StageReport:
        say(report, Path(workspace))
        reports.append(report)
        return report

    if sources:
        done(_ingest(root, list(sources), format, run))
    scored = done(_score(root, model, engine, run))
    done(_diagnose(root, run))
    done(_curate(root, rules, scored.facts["reference_id"], run))
    exported = done(_export(root, run))
    for objective in objectives:
        done(_train(root, exported.facts["path"], model, objective, max_steps, run))
    done(_summarise(root, reports))
    return reports
