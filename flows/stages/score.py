"""Score: log-probs of every response that the reference policy has not scored yet, shard by shard."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import duckdb
import polars as pl
from pydantic import ValidationError

from curation.scoring.engine import ResponseScore
from curation.scoring.engines import choose_engine, explain_choice, open_engine
from curation.scoring.isolation import Failure, PatientScorer
from curation.scoring.noise import score_noise
from curation.scoring.policy import ReferencePolicy, open_policy
from curation.scoring.settings import ScoringSettings
from curation.scoring.shards import SHARD_TOKENS, PromptRow, Shard, shards_of
from flows import lineage
from flows.console import err, progress
from flows.report import StageReport
from flows.workspace import Workspace
from schemas.errors import ConfigError, ModelError, WorkspaceError
from schemas.identity import digest
from warehouse.lake import Lake, claim_write
from warehouse.scores import (
    FAILURE_COLUMNS,
    SCORE_COLUMNS,
    count_responses,
    insert_policy,
    insert_shard,
    unscored_prompts,
)

UPSTREAM = ("ingest",)


def score(
    workspace: Workspace,
    *,
    model: str | None = None,
    engine: str | None = None,
    flow_run_id: str | None = None,
    **options: Any,
) -> StageReport:
    """Score every (reference policy, response) that is not in ``raw.reference_scores`` yet.

    Args:
        workspace: where.
        model: folder or Hub id of the reference policy; ``[scoring] model``, or the one used last, where absent.
        engine: ``auto``, ``vllm``, ``transformers`` or ``vllm-server``; ``[scoring] engine`` where absent.
        flow_run_id: identifier that the stages of one flow run share.
        options: further keys of ``[scoring]``, which win where they are not None.

    Raises:
        ModelError: there is no model, or it lacks its tokenizer or weights.
        EngineError: the engine is not installed or cannot serve the model.
        WorkspaceError: nothing was ingested yet.
    """
    settings = _settings(workspace, {"model": model, "engine": engine, **options})
    with workspace.lake() as lake:
        if not lake.value("select count(*) from raw.responses"):
            raise WorkspaceError("there are no responses to score", mend=f"winnow ingest -w {workspace.root} FILE")
        name, reason = explain_choice() if settings.engine == "auto" else (choose_engine(settings.engine), "")
        policy = open_policy(settings, settings.model or _last_model(lake))
        num_all, num_todo = count_responses(lake, policy.reference_id)
        if num_todo == 0:
            return _nothing_new(lake, policy, num_all)
        run = _start(lake, settings, policy, name, flow_run_id)
        with closing(PatientScorer(lambda changed: open_engine(name, policy, changed), settings)) as scorer:
            _say_engine(scorer, reason)
            return _Scoring(lake, policy, scorer, settings, run, num_all - num_todo).go(num_todo)


def _say_engine(scorer: PatientScorer, reason: str) -> None:
    info = scorer.engine.info
    line = f"scoring with {info.engine} {info.version}, path {info.path}, {info.dtype} on {info.device}"
    err.print(line + (f" ({reason})" if reason else ""), soft_wrap=True)


def _settings(workspace: Workspace, given: dict[str, Any]) -> ScoringSettings:
    """``[scoring]`` with what was given, where it is not None."""
    if given["engine"] is not None:
        choose_engine(given["engine"])
    values = workspace.settings.scoring.model_dump() | {key: value for key, value in given.items() if value is not None}
    try:
        return ScoringSettings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"scoring: {key}: {first['msg']}", mend="see docs/settings.md for every key") from error


def _start(
    lake: Lake, settings: ScoringSettings, policy: ReferencePolicy, engine: str, flow_run_id: str | None
) -> lineage.Run:
    ran = settings.model_dump() | {"model": policy.model, "engine": engine, "reference_id": policy.reference_id}
    input_hash = lineage.input_hash(lake, "score", ran, UPSTREAM)
    return lineage.Run.start("score", input_hash=input_hash, settings=ran, flow_run_id=flow_run_id)


def _last_model(lake: Lake) -> str:
    model = lake.value("select model from raw.reference_policies order by created_at desc, reference_id limit 1")
    if model is None:
        raise ModelError("no reference policy was given", mend="winnow score --model FOLDER_OR_HUB_ID")
    return str(model)


def _nothing_new(lake: Lake, policy: ReferencePolicy, num_reused: int) -> StageReport:
    row = lake.con.execute(
        "select engine, engine_path from raw.reference_scores where reference_id = ? order by scored_at desc limit 1",
        [policy.reference_id],
    ).fetchone()
    engine, path = row or (None, None)
    facts = {
        "reference_id": policy.reference_id,
        "num_scored": 0,
        "num_reused": num_reused,
        "engine": engine,
        "engine_path": path,
    }
    line = f"nothing new: {num_reused:,} responses are scored under {policy.model}"
    return StageReport("score", None, 0, facts, (line,))


@dataclass
class _Tally:
    num_scored: int = 0
    num_truncated: int = 0
    num_failed: int = 0
    seconds: float = 0.0

    @property
    def num_rows(self) -> int:
        return self.num_scored + self.num_truncated + self.num_failed


class _Scoring:
    """One run over everything that is not scored yet."""

    def __init__(
        self,
        lake: Lake,
        policy: ReferencePolicy,
        scorer: PatientScorer,
        settings: ScoringSettings,
        run: lineage.Run,
        num_reused: int,
    ) -> None:
        self.lake = lake
        self.policy = policy
        self.scorer = scorer
        self.run = run
        self.num_reused = num_reused
        self.tally = _Tally()
        self.shard_tokens = settings.shard_tokens or SHARD_TOKENS.get(scorer.engine.info.device, 1 << 17)

    def go(self, num_todo: int) -> StageReport:
        with progress("score", total=num_todo, unit="responses") as advance:
            pending: Shard | None = None
            rows = (PromptRow(**row) for row in unscored_prompts(self.lake, self.policy.reference_id))
            for shard in shards_of(rows, self.policy, shard_tokens=self.shard_tokens):
                if pending is not None:
                    self._do(pending, advance, is_last=False)
                pending = shard
            if pending is not None:
                self._do(pending, advance, is_last=True)
        return self._report()

    def _do(self, shard: Shard, advance: Callable[[int, str], None], *, is_last: bool) -> None:
        started = time.monotonic()
        outcomes = self.scorer.score(shard.groups)
        self.tally.seconds += time.monotonic() - started
        scores, failures = self._frames(shard, outcomes)
        is_first = self.tally.num_rows == 0
        num_rows = self.tally.num_rows + len(scores)

        def write(con: duckdb.DuckDBPyConnection) -> None:
            claim_write(con)
            if is_first:
                insert_policy(con, self._policy_row())
            insert_shard(self.lake, con, scores, failures)
            if is_first or is_last:
                facts = self._facts() if is_last else None
                self.run.record(con, num_changed=num_rows, facts=facts, is_finished=is_last)

        self._count(scores, failures)
        self.lake.transact(self.run.run_id, write)
        advance(len(scores), self._note())

    def _count(self, scores: pl.DataFrame, failures: pl.DataFrame) -> None:
        self.tally.num_failed += len(failures)
        self.tally.num_truncated += int((scores["is_truncated"] & scores["logps"].is_null()).sum())
        self.tally.num_scored += int(scores["logps"].is_not_null().sum())

    def _frames(self, shard: Shard, outcomes: list[list[Any]]) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Rows of ``raw.reference_scores`` and of ``raw.quarantine``."""
        info = self.scorer.engine.info
        rows, failures = [], []
        for item in shard.items:
            outcome = None if item.group is None else outcomes[item.group][item.index]
            error = outcome.error if isinstance(outcome, Failure) else item.error
            scored = outcome if isinstance(outcome, ResponseScore) else None
            embedding = None if scored is None else scored.embedding
            rows.append(
                {
                    "response_id": item.response_id,
                    "logps": None if scored is None else scored.logps,
                    "noise": None if scored is None else score_noise(info, item.num_tokens),
                    "num_tokens": item.num_tokens,
                    "num_prompt_tokens": item.num_prompt_tokens,
                    "is_truncated": item.is_truncated,
                    "embedding": None if embedding is None else embedding.astype("float32").tolist(),
                }
            )
            if error is not None:
                failures.append(self._failure(item.response_id, error))
        scores = pl.DataFrame(rows, schema=SCORE_COLUMNS).with_columns(
            reference_id=pl.lit(self.policy.reference_id),
            engine=pl.lit(info.engine),
            engine_path=pl.lit(info.path),
            engine_version=pl.lit(info.version),
            dtype=pl.lit(info.dtype if info.quantization is None else f"{info.dtype}/{info.quantization}"),
            scored_at=pl.lit(lineage.utc_now()),
            run_id=pl.lit(self.run.run_id),
        )
        return scores, pl.DataFrame(failures, schema=dict.fromkeys(FAILURE_COLUMNS, pl.String))

    def _failure(self, response_id: str, error: str) -> dict[str, str]:
        reason = "not_scored"
        return {
            "quarantine_id": digest(self.policy.reference_id, response_id, reason),
            "source": f"score:{self.policy.model}",
            "reason": reason,
            "detail": error,
            "payload": response_id,
            "run_id": self.run.run_id,
        }

    def _policy_row(self) -> dict[str, Any]:
        names = "reference_id model revision weights_hash tokenizer_hash chat_template_hash template quantization"
        adapter = self.policy.adapter
        return {name: getattr(self.policy, name) for name in names.split()} | {
            "max_length": self.policy.max_length,
            "truncate": self.policy.truncate,
            "adapter": None if adapter is None else str(adapter),
            "created_at": self.run.started_at,
            "run_id": self.run.run_id,
        }

    def _note(self) -> str:
        counts = self.scorer.engine.counts
        shared = 1 - counts.num_computed / max(1, counts.num_total)
        return f"{counts.num_unique / max(self.tally.seconds, 1e-9):,.0f} tokens/s, {shared:.0%} from the prefix"

    def _facts(self) -> dict[str, Any]:
        info, counts = self.scorer.engine.info, self.scorer.engine.counts
        return {
            "reference_id": self.policy.reference_id,
            "num_scored": self.tally.num_scored,
            "num_reused": self.num_reused,
            "num_truncated": self.tally.num_truncated,
            "num_failed": self.tally.num_failed,
            "engine": info.engine,
            "engine_path": info.path,
            "engine_version": info.version,
            "dtype": info.dtype,
            "num_tokens": counts.num_unique,
            "saving_realised": round(counts.saving_realised, 4),
            "seconds": round(self.tally.seconds, 3),
        }

    def _report(self) -> StageReport:
        facts, tally = self._facts(), self.tally
        lines = [
            f"{tally.num_scored:,} responses under {self.policy.model} with {facts['engine']} ({facts['engine_path']},"
            f" {facts['dtype']}), {self._note()}; {self.num_reused:,} were scored before"
        ]
        if tally.num_truncated:
            lines.append(
                f"{tally.num_truncated:,} do not fit in {self.policy.max_length:,} tokens and are marked is_truncated;"
                " --truncate left would cut their prompts"
            )
        if tally.num_failed:
            lines.append(f"{tally.num_failed:,} could not be scored; see raw.quarantine, reason not_scored")
        logging.getLogger(__name__).info("%s", lines[0])
        return StageReport("score", self.run.run_id, tally.num_rows, facts, tuple(lines))
