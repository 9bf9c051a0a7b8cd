"""The shards of one scoring run: what is new first, then what could not be scored before, each in one transaction."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import duckdb
import polars as pl

from curation.scoring.engine import EngineInfo, ResponseScore
from curation.scoring.isolation import BrokenEngineError, Failure, Outcome, PatientScorer
from curation.scoring.noise import score_noise
from curation.scoring.policy import ReferencePolicy
from curation.scoring.settings import ScoringSettings
from curation.scoring.shards import SHARD_TOKENS, Item, PromptRow, Shard, shards_of
from flows import lineage
from warehouse.lake import Lake, claim_write
from warehouse.scores import (
    FAILURE_COLUMNS,
    NOT_SCORED,
    SCORE_COLUMNS,
    insert_policy,
    insert_shard,
    prompts_to_score,
    quarantine_id,
)

_DEFAULT_SHARD_TOKENS = SHARD_TOKENS["cpu"]


@dataclass
class Tally:
    """Responses of one run, by what became of them, and the seconds that the engine took."""

    num_scored: int = 0
    num_truncated: int = 0
    num_failed: int = 0
    num_written: int = 0
    seconds: float = 0.0


class ShardRun:
    """One run over everything that is not scored yet.

    Attributes:
        tally: what became of the responses so far.
        is_begun: something of it is in the lake.
        gave_up: why responses that failed in an earlier run were not all tried again; None where they were.
    """

    def __init__(
        self,
        lake: Lake,
        policy: ReferencePolicy,
        scorer: PatientScorer,
        settings: ScoringSettings,
        run: lineage.Run,
    ) -> None:
        self._lake = lake
        self._policy = policy
        self._scorer = scorer
        self._run = run
        self._shard_tokens = settings.shard_tokens or SHARD_TOKENS.get(scorer.engine.info.device, _DEFAULT_SHARD_TOKENS)
        self.tally = Tally()
        self.is_begun = False
        self.gave_up: BrokenEngineError | None = None

    def go(self, advance: Callable[[int, str], None], facts: Callable[[], dict[str, Any]]) -> None:
        """Score shard after shard.

        Args:
            advance: called with the responses that are done and a note.
            facts: figures of the run, to be stored with its end.

        Raises:
            EngineError: the engine fails on everything, or breaks on the way; what is committed stays.
        """
        shards = self._shards()
        pending = next(shards, None)
        while pending is not None:
            following = next(shards, None)
            self._do(*pending, facts if following is None else None)
            advance(len(pending[0].items), self.note())
            pending = following

    def note(self) -> str:
        """Speed and share of the prefix, for the progress line."""
        counts = self._scorer.engine.counts
        shared = 1 - counts.num_computed / max(1, counts.num_total)
        return f"{counts.num_unique / max(self.tally.seconds, 1e-9):,.0f} tokens/s, {shared:.0%} from the prefix"

    def _shards(self) -> Iterator[tuple[Shard, bool]]:
        """Each shard, and whether its responses failed in an earlier run.

        Those come last, in shards of their own: they would move the bounds of the others, and they may fail again.
        """
        for is_retry in (False, True):
            rows = rows_to_score(self._lake, self._policy, failed_before=self._run.run_id if is_retry else None)
            for shard in shards_of(rows, self._policy, shard_tokens=self._shard_tokens):
                yield shard, is_retry

    def _do(self, shard: Shard, is_retry: bool, facts: Callable[[], dict[str, Any]] | None) -> None:
        """Score a shard and commit it; with ``facts``, it is the last one and the run ends with it."""
        started = time.monotonic()
        outcomes = self._tried_again(shard) if is_retry else self._scorer.score(shard.groups)
        self.tally.seconds += time.monotonic() - started
        found = [(item, _outcome(item, outcomes)) for item in shard.items]
        self._count(found)
        if is_retry:  # what failed again is in the lake already
            found = [(item, outcome) for item, outcome in found if not isinstance(outcome, Failure)]
        if not found and not (facts and self.is_begun):
            return
        scores, failures = self._scores(found), self._failures(found)

        def write(con: duckdb.DuckDBPyConnection) -> None:
            claim_write(con)
            if not self.is_begun:
                insert_policy(con, self._policy_row())
            insert_shard(self._lake, con, scores, failures)
            self._run.record(  # at each shard: a later stage sees in it whether its input has changed
                con, num_changed=self.tally.num_written, facts=facts and facts(), is_finished=facts is not None
            )

        self.tally.num_written += len(found)
        self._lake.transact(self._run.run_id, write)
        self.is_begun = True

    def _tried_again(self, shard: Shard) -> list[list[Outcome]]:
        """Like scoring; but that many responses fail in a row says less here, so it only ends the trying."""
        if self.gave_up is None:
            try:
                return self._scorer.score(shard.groups)
            except BrokenEngineError as error:
                self.gave_up = error
        return [[Failure(str(self.gave_up))] * len(group.response_ids) for group in shard.groups]

    def _count(self, found: list[tuple[Item, Outcome | None]]) -> None:
        for _, outcome in found:
            self.tally.num_scored += isinstance(outcome, ResponseScore)
            self.tally.num_failed += isinstance(outcome, Failure)
            self.tally.num_truncated += outcome is None

    def _scores(self, found: list[tuple[Item, Outcome | None]]) -> pl.DataFrame:
        """Rows of ``raw.reference_scores``."""
        info = self._scorer.engine.info
        rows = [_score_row(info, *each) for each in found]
        return pl.DataFrame(rows, schema=SCORE_COLUMNS).with_columns(
            reference_id=pl.lit(self._policy.reference_id),
            engine=pl.lit(info.engine),
            engine_path=pl.lit(info.path),
            engine_version=pl.lit(info.version),
            dtype=pl.lit(info.dtype if info.quantization is None else f"{info.dtype}/{info.quantization}"),
            scored_at=pl.lit(lineage.utc_now()),
            run_id=pl.lit(self._run.run_id),
        )

    def _failures(self, found: list[tuple[Item, Outcome | None]]) -> pl.DataFrame:
        """Rows of ``raw.quarantine``."""
        rows = [
            {
                "quarantine_id": quarantine_id(self._policy.reference_id, item.response_id),
                "source": f"score:{self._policy.model}",
                "reason": NOT_SCORED,
                "detail": outcome.error,
                "payload": item.response_id,
                "run_id": self._run.run_id,
            }
            for item, outcome in found
            if isinstance(outcome, Failure)
        ]
        return pl.DataFrame(rows, schema=dict.fromkeys(FAILURE_COLUMNS, pl.String))

    def _policy_row(self) -> dict[str, Any]:
        names = "reference_id model revision weights_hash tokenizer_hash chat_template_hash template quantization"
        adapter = self._policy.adapter
        return {name: getattr(self._policy, name) for name in names.split()} | {
            "max_length": self._policy.max_length,
            "truncate": self._policy.truncate,
            "adapter": None if adapter is None else str(adapter),
            "created_at": self._run.started_at,
            "run_id": self._run.run_id,
        }


def rows_to_score(lake: Lake, policy: ReferencePolicy, *, failed_before: str | None) -> Iterator[PromptRow]:
    """Prompts with responses to score; see :func:`warehouse.scores.prompts_to_score`."""
    return (PromptRow(**row) for row in prompts_to_score(lake, policy.reference_id, failed_before=failed_before))


def _outcome(item: Item, outcomes: list[list[Outcome]]) -> Outcome | None:
    """Score or failure of an item; None where it does not fit."""
    if item.error is not None:
        return Failure(item.error)
    return None if item.group is None else outcomes[item.group][item.index]


def _score_row(info: EngineInfo, item: Item, outcome: Outcome | None) -> dict[str, Any]:
    scored = outcome if isinstance(outcome, ResponseScore) else None
    embedding = None if scored is None else scored.embedding
    return {
        "response_id": item.response_id,
        "logps": None if scored is None else scored.logps,
        "noise": None if scored is None else score_noise(info, item.num_tokens),
        "num_tokens": item.num_tokens,
        "num_prompt_tokens": item.num_prompt_tokens,
        # a cut prompt whose response then fails is a failure, to be tried again, and no response that does not fit
        "is_truncated": item.is_truncated and not isinstance(outcome, Failure),
        "embedding": None if embedding is None else embedding.astype("float32").tolist(),
    }
