"""Score: log-probs of every response that the reference policy has not scored yet, shard by shard."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import closing
from typing import Any

from curation.scoring.engines import choose_engine, explain_choice, open_engine
from curation.scoring.isolation import PatientScorer
from curation.scoring.policy import ReferencePolicy, open_policy
from curation.scoring.settings import ScoringSettings
from curation.scoring.shards import SHARD_TOKENS, shards_of
from flows import lineage
from flows.console import err, progress
from flows.report import StageReport
from flows.stages.score_settings import as_before, dtype_alone, scoring_settings
from flows.stages.score_shards import ShardRun, Tally, rows_to_score
from flows.workspace import Workspace
from schemas.errors import WorkspaceError
from schemas.wording import counted
from warehouse.lake import Lake
from warehouse.scores import ResponseCounts, count_responses, scored_by

UPSTREAM = ("ingest",)


def score(
    workspace: Workspace,
    *,
    model: str | None = None,
    engine: str | None = None,
    flow_run_id: str | None = None,
    **options: Any,
) -> StageReport:
    """Score every response that the reference policy has not scored; one that failed before is tried again.

    Args:
        workspace: where.
        model: folder or Hub id of the reference policy; where absent ``[scoring] model``, or else the whole policy that
            was used last, with its adapter, revision, template, length and truncation.
        engine: ``auto``, ``vllm``, ``transformers`` or ``vllm-server``; ``[scoring] engine`` where absent.
        flow_run_id: identifier that the stages of one flow run share.
        options: further keys of ``[scoring]``, which win where they are not None.

    Raises:
        ConfigError: an option has a value that is not allowed.
        ModelError: there is no model, or it lacks its tokenizer or weights.
        EngineError: the engine is not installed, cannot serve the model, or breaks.
        WorkspaceError: nothing was ingested yet.
    """
    with workspace.lake() as lake:
        if not lake.value("select count(*) from raw.responses"):
            raise WorkspaceError("there are no responses to score", mend=f"winnow ingest -w {workspace.root} FILE")
        given = {"model": model, "engine": engine, **options}
        settings, is_last = scoring_settings(workspace, lake, given)
        policy = open_policy(settings, str(settings.model))
        if is_last:
            err.print(f"reference policy: the one used last, {_described(policy)}", soft_wrap=True)
        before = count_responses(lake, policy.reference_id)
        earlier = scored_by(lake, policy.reference_id)
        if not _has_work(lake, policy, before):
            return _nothing_new(lake, policy, before, _without_effect(settings, earlier))
        settings, why = as_before(settings, earlier)
        if why:
            err.print(why, soft_wrap=True)
        name, reason = explain_choice() if settings.engine == "auto" else (choose_engine(settings.engine), "")
        run = _start(lake, settings, policy, name, flow_run_id)
        with closing(PatientScorer(lambda changed: open_engine(name, policy, changed), settings)) as scorer:
            _say_engine(scorer, reason, earlier)
            return _scored(ShardRun(lake, policy, scorer, settings, run), scorer, policy, run, before)


def _has_work(lake: Lake, policy: ReferencePolicy, counts: ResponseCounts) -> bool:
    """Whether something is new, or failed before and can be turned into tokens at least."""
    if counts.num_new or not counts.num_failed:
        return counts.num_new > 0
    rows = rows_to_score(lake, policy, failed_before="")
    return any(shard.groups for shard in shards_of(rows, policy, shard_tokens=SHARD_TOKENS["cpu"]))


def _scored(
    shards: ShardRun, scorer: PatientScorer, policy: ReferencePolicy, run: lineage.Run, before: ResponseCounts
) -> StageReport:
    """Do the work and say what came of it."""

    def facts() -> dict[str, Any]:
        return _facts(scorer, shards.tally, policy, before)

    with progress("score", total=before.num_new + before.num_failed, unit="responses") as advance:
        shards.go(advance, facts)
    tally, found = shards.tally, facts()
    lines = [
        f"{counted(tally.num_scored, 'response')} under {_named(policy)} with {found['engine']}"
        f" ({found['engine_path']}, {found['dtype']}), {shards.note()}; {before.num_scored:,} were scored before",
        *_set_aside(policy, tally.num_truncated, tally.num_failed),
    ]
    if shards.gave_up is not None:
        lines.append(f"not all that failed before were tried again: {shards.gave_up.message}")
    logging.getLogger(__name__).info("%s", lines[0])
    return StageReport("score", run.run_id if shards.is_begun else None, tally.num_written, found, tuple(lines))


def _facts(scorer: PatientScorer, tally: Tally, policy: ReferencePolicy, before: ResponseCounts) -> dict[str, Any]:
    info, counts = scorer.engine.info, scorer.engine.counts
    return {
        "reference_id": policy.reference_id,
        "num_scored": tally.num_scored,
        "num_reused": before.num_scored,
        "num_truncated": tally.num_truncated,
        "num_failed": tally.num_failed,
        "engine": info.engine,
        "engine_path": info.path,
        "engine_version": info.version,
        "dtype": info.dtype,
        "num_tokens": counts.num_unique,
        "saving_realised": round(counts.saving_realised, 4),
        "seconds": round(tally.seconds, 3),
    }


def _set_aside(policy: ReferencePolicy, num_truncated: int, num_failed: int) -> list[str]:
    """Lines about the responses without a log-prob."""
    lines = []
    if num_truncated:
        mend = (
            "; --truncate left, which is another policy, cuts the prompt where the response fits"
            if policy.truncate == "never"
            else "; the response alone is too long"
        )
        do = "does" if num_truncated == 1 else "do"
        what = f"{counted(num_truncated, 'response')} {do} not fit in {policy.max_length:,} tokens"
        lines.append(f"{what}, marked is_truncated{mend}")
    if num_failed:
        lines.append(f"{num_failed:,} could not be scored; see raw.quarantine, reason not_scored")
    return lines


def _named(policy: ReferencePolicy) -> str:
    """Model, adapter and quantisation."""
    parts = [policy.model if policy.revision is None else f"{policy.model} at {policy.revision[:12]}"]
    parts += [] if policy.adapter is None else [f"adapter {policy.adapter}"]
    parts += [] if policy.quantization is None else [policy.quantization]
    return ", ".join(parts)


def _described(policy: ReferencePolicy) -> str:
    return ", ".join(
        [_named(policy), f"template {policy.template}", f"{policy.max_length} tokens", f"cut {policy.truncate}"]
    )


def _say_engine(scorer: PatientScorer, reason: str, earlier: Sequence[tuple[str, str, int]]) -> None:
    info = scorer.engine.info
    line = f"scoring with {info.engine} {info.version}, path {info.path}"
    line += "" if info.device == "server" else f", {info.dtype} on {info.device}"
    err.print(line + (f" ({reason})" if reason else ""), soft_wrap=True)
    for engine, dtype, count in earlier:
        if (engine, dtype_alone(dtype)) != (info.engine, info.dtype):
            err.print(
                f"kept as they are: {counted(count, 'response')} scored by {engine}, {dtype}; the two differ by noise",
                soft_wrap=True,
            )


def _start(
    lake: Lake, settings: ScoringSettings, policy: ReferencePolicy, engine: str, flow_run_id: str | None
) -> lineage.Run:
    ran = settings.model_dump() | {"model": policy.model, "engine": engine, "reference_id": policy.reference_id}
    input_hash = lineage.input_hash(lake, "score", ran, UPSTREAM)
    return lineage.Run.start("score", input_hash=input_hash, settings=ran, flow_run_id=flow_run_id)


def _without_effect(settings: ScoringSettings, earlier: Sequence[tuple[str, str, int]]) -> list[str]:
    """A line where another engine or dtype was asked for than all is scored by already."""
    engines, dtypes = {engine for engine, _, _ in earlier}, {dtype_alone(dtype) for _, dtype, _ in earlier}
    asked = [
        f"{key} {value}"
        for key, value, known in (("engine", settings.engine, engines), ("dtype", settings.dtype, dtypes))
        if value != "auto" and known and known != {value}
    ]
    if not asked:
        return []
    by = "; ".join(f"{count:,} by {engine}, {dtype}" for engine, dtype, count in earlier)
    return [f"{' and '.join(asked)} had no effect: what is scored is not scored again ({by})"]


def _nothing_new(lake: Lake, policy: ReferencePolicy, counts: ResponseCounts, without_effect: list[str]) -> StageReport:
    row = lake.con.execute(
        "select engine, engine_path from raw.reference_scores where reference_id = ? order by scored_at desc limit 1",
        [policy.reference_id],
    ).fetchone()
    engine, path = row or (None, None)
    facts = {
        "reference_id": policy.reference_id,
        "num_scored": 0,
        "num_reused": counts.num_scored,
        "num_truncated": counts.num_truncated,
        "num_failed": counts.num_failed,
        "engine": engine,
        "engine_path": path,
    }
    lines = [
        f"nothing new: {counted(counts.num_scored, 'response')} scored under {_named(policy)}",
        *without_effect,
        *_set_aside(policy, counts.num_truncated, counts.num_failed),
    ]
    return StageReport("score", None, 0, facts, tuple(lines))
