"""Train: a policy on the newest export, with its run, metrics and final margins in the lake."""

from __future__ import annotations

import hashlib
import json
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl

from flows.console import err, progress
from flows.lineage import Run
from flows.report import StageReport
from flows.stages.train_sentences import figures, sentences
from flows.workspace import Workspace
from schemas.errors import ExportError
from warehouse.lake import Lake

if TYPE_CHECKING:
    from training.plan import TrainingPlan
    from training.result import TrainingResult


def train(
    workspace: Workspace,
    *,
    export: Path | None = None,
    model: str | None = None,
    objective: str | None = None,
    flow_run_id: str | None = None,
    **overrides: Any,
) -> StageReport:
    """Train on an export, or say that exactly this was trained before.

    Args:
        workspace: where the lake is, and where the checkpoint goes.
        export: folder; the newest of the workspace when None.
        model: folder or Hub id to start from; the export's reference policy when None.
        objective: loss; that of the settings, then of the export's rules, when None.
        flow_run_id: identifier that the stages of one flow run share.
        overrides: values for keys of ``[train]``; None leaves a key as it is.

    Returns:
        Facts: training_run_id, checkpoint, objective, export_id, metrics (before and after, of the held-out pairs),
        check, alarms, and counts: num_train, pairs to train on; num_seen, of those at most so many in num_steps;
        num_eval, held out; num_too_long, num_cut_otherwise and num_weightless, left out. Where nothing is new, the
        first five; where an older Winnow left the model that is there, without num_seen.

    Raises:
        ExportError: there is no export, or it does not match its manifest.
        TrainingError: the export does not fit the model or the objective, or the loss is not finite.
        EngineError: a library that the settings need is not installed.
    """
    from training.export_folder import ExportFolder
    from training.plan import TrainingPlan
    from training.processes import rank

    settings = settings_with(workspace, overrides)
    with workspace.lake() as lake:
        folder = newest_export(lake) if export is None else Path(export)
    plan = TrainingPlan.make(ExportFolder.open(folder), settings, model=model, objective=objective)
    checkpoint = (workspace.checkpoints / plan.training_run_id).resolve()
    with workspace.lake() as lake:
        done = _finished(lake, plan.training_run_id, checkpoint)
    if done is not None:
        return _nothing_new(plan, checkpoint, done)
    run = Run.start("train", input_hash=_hash(plan), settings=_settings(plan), flow_run_id=flow_run_id)
    result, was_whole = _result(plan, checkpoint)
    facts = _facts(plan, result)
    if rank() != 0:  # one of several processes under torchrun: the first one writes
        return StageReport("train", None, 0, facts)
    with workspace.lake() as lake:
        num_changed = _write(lake, run, plan, result, facts)
    lines = sentences(plan, facts)
    if was_whole:
        lines.append("the model was whole already; its figures were not yet in the lake")
    return StageReport("train", run.run_id, num_changed, facts, tuple(lines))


def _result(plan: TrainingPlan, checkpoint: Path) -> tuple[TrainingResult, bool]:
    """What was trained, and whether it was there already: killed between the model and the lake."""
    from training.result import TrainingResult, is_made_by

    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    if is_made_by(checkpoint, plan.training_run_id):
        return TrainingResult.load(checkpoint), True
    from training.run import run_training  # torch and transformers, only where there is something to do

    return run_training(plan, checkpoint, progress=_bar, warn=_warn), False


def _facts(plan: TrainingPlan, result: TrainingResult) -> dict[str, Any]:
    from training.result import finite

    return {
        **_names(plan, result.checkpoint),
        "metrics": finite({"before": result.before, "after": result.after}),
        "check": result.check,
        "alarms": result.alarms,
        **{f"num_{name}": count for name, count in result.counts.items()},
    }


def _names(plan: TrainingPlan, checkpoint: Path) -> dict[str, Any]:
    return {
        "training_run_id": plan.training_run_id,
        "checkpoint": str(checkpoint),
        "objective": plan.loss.objective.value,
        "export_id": plan.export.export_id,
    }


def newest_export(lake: Lake) -> Path:
    """Folder of the workspace's newest export.

    Raises:
        ExportError: there is none.
    """
    path = lake.value(
        "select path from raw.exports inner join raw.runs using (run_id) where format = 'winnow'"
        " order by started_at desc, run_id desc limit 1"
    )
    if path is None:
        raise ExportError("the workspace has no export to train on", mend="winnow export, or give --export")
    return Path(path)


def settings_with(workspace: Workspace, overrides: dict[str, Any]) -> Any:
    """The workspace's ``[train]`` with some keys replaced.

    Raises:
        ConfigError: a key is unknown or a value is not allowed.
    """
    from flows.settings import parse_settings

    given = {name: value for name, value in overrides.items() if value is not None}
    values = workspace.settings.train.model_dump(exclude_unset=True)
    return parse_settings({"train": {**values, **given}}).train


def _bar(description: str, total: int | None, unit: str) -> AbstractContextManager[Any]:
    """A progress bar, of the first process alone."""
    from training.processes import rank

    return progress(description, total, unit) if rank() == 0 else nullcontext(lambda steps, note: None)


def _warn(line: str) -> None:
    from training.processes import rank

    if rank() == 0:
        err.print(f"[yellow]train[/]     {line}", soft_wrap=True)


def _finished(lake: Lake, training_run_id: str, checkpoint: Path) -> str | None:
    """The run that made this checkpoint, if it ended and the checkpoint is still there."""
    run_id = lake.value(
        "select run_id from raw.training_runs where training_run_id = ? and ended_at is not null", [training_run_id]
    )
    return run_id if run_id is not None and (checkpoint / "winnow_metrics.json").is_file() else None


def _hash(plan: TrainingPlan) -> str:
    return hashlib.sha256(plan.training_run_id.encode()).hexdigest()[:32]


def _settings(plan: TrainingPlan) -> dict[str, Any]:
    return {"model": plan.model, "loss": plan.loss.as_json(), "train": plan.settings.model_dump(mode="json")}


def _nothing_new(plan: TrainingPlan, checkpoint: Path, run_id: str) -> StageReport:
    saved = json.loads((checkpoint / "winnow_metrics.json").read_text(encoding="utf-8"))
    metrics = {name: saved[name] for name in ("before", "after")}
    lines = [f"nothing new: {run_id} made {checkpoint}"]
    if metrics["after"]:
        lines.append(figures(metrics))
    return StageReport("train", None, 0, {**_names(plan, checkpoint), "metrics": metrics}, tuple(lines))


def _write(lake: Lake, run: Run, plan: TrainingPlan, result: TrainingResult, facts: dict[str, Any]) -> int:
    metrics = _metrics_frame(plan.training_run_id, result.log_history)
    margins = _margins_frame(plan.training_run_id, result)

    def work(con: duckdb.DuckDBPyConnection) -> int:
        for table in ("training_runs", "training_metrics", "training_margins"):
            con.execute(f"delete from raw.{table} where training_run_id = ?", [plan.training_run_id])
        con.execute(
            "insert into raw.training_runs values (?, ?, ?, ?, ?, ?, ?, now()::timestamp, ?)",
            [
                plan.training_run_id,
                plan.export.export_id,
                plan.loss.objective.value,
                plan.model,
                facts["checkpoint"],
                json.dumps(_settings(plan), sort_keys=True),
                run.started_at,
                run.run_id,
            ],
        )
        con.execute("insert into raw.training_metrics by name select * from new_metrics")
        con.execute("insert into raw.training_margins by name select * from new_margins")
        num_changed = 1 + len(metrics) + len(margins)
        run.record(con, num_changed=num_changed, facts=facts)
        return num_changed

    with lake.registered(new_metrics=metrics, new_margins=margins):
        return lake.transact(run.run_id, work)


_NOT_METRICS = ("step", "epoch", "total_flos")


def _metrics_frame(training_run_id: str, history: list[dict[str, float]]) -> pl.DataFrame:
    """One row per step, phase and metric; the closing summary of ``transformers`` is left out."""
    rows = []
    for logs in history:
        phase = "eval" if any(name.startswith("eval_") for name in logs) else "train"
        if "train_runtime" in logs:
            continue
        for name, value in logs.items():
            if name not in _NOT_METRICS:
                metric, _, part = name.removeprefix("eval_").partition("/")
                rows.append((training_run_id, int(logs["step"]), phase, part or "all", metric, float(value)))
    columns = ["training_run_id", "step", "phase", "slice", "metric", "value"]
    return pl.DataFrame(rows, schema=columns, orient="row").unique(columns[:5], keep="last", maintain_order=True)


def _margins_frame(training_run_id: str, result: TrainingResult) -> pl.DataFrame:
    scores = result.eval_scores
    return pl.DataFrame(
        {
            "training_run_id": pl.repeat(training_run_id, len(scores), eager=True, dtype=pl.String),
            "pair_id": pl.Series(result.eval_pair_ids.tolist(), dtype=pl.String),
            "chosen_logps": scores.chosen_logps,
            "rejected_logps": scores.rejected_logps,
            "policy_margin": scores.policy_margin,
            "reference_margin": pl.Series(scores.reference_margin).fill_nan(None),
            "is_undesirable": scores.is_undesirable,
        }
    )
