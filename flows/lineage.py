"""Run ids and input hashes: what each stage made, from what, and whether it must run again at all.

A stage's input hash covers its settings and the runs that made its input. A finished run with the same hash means that
there is nothing to do, so a second run on the same workspace writes nothing.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import duckdb

from warehouse.lake import Lake

WINNOW_VERSION = version("winnow-curation")


def utc_now() -> datetime:
    """Now in UTC, without time zone, as the lake stores it."""
    return datetime.now(UTC).replace(tzinfo=None)


def new_run_id(stage: str) -> str:
    """A run id that sorts by time: ``score-20261120T210900-1f3a``."""
    return f"{stage}-{utc_now():%Y%m%dT%H%M%S%f}"[:-3] + f"-{secrets.token_hex(2)}"


def input_hash(lake: Lake, stage: str, settings: Mapping[str, Any], upstream: Sequence[str]) -> str:
    """Hash of a stage's settings and of every run of the stages that make its input."""
    runs = lake.con.execute(
        "select run_id, num_changed from raw.runs where list_contains(?, stage) and num_changed > 0 order by run_id",
        [list(upstream)],
    ).fetchall()
    payload = json.dumps([stage, settings, runs], sort_keys=True, default=str)
    return hashlib.sha256(payload.encode()).hexdigest()[:32]


def finished_run(lake: Lake, stage: str, input_hash: str) -> str | None:
    """The latest finished run of a stage, if it had exactly this input; else None."""
    row = lake.con.execute(
        "select run_id, input_hash from raw.runs where stage = ? and ended_at is not null"
        " order by started_at desc, run_id desc limit 1",
        [stage],
    ).fetchone()
    return row[0] if row is not None and row[1] == input_hash else None


@dataclass(frozen=True)
class Run:
    """A run of one stage, to be written into ``raw.runs`` inside the stage's own transaction."""

    run_id: str
    stage: str
    input_hash: str
    settings: Mapping[str, Any]
    started_at: datetime
    flow_run_id: str | None = None

    @classmethod
    def start(cls, stage: str, *, input_hash: str, settings: Mapping[str, Any], flow_run_id: str | None = None) -> Run:
        """A new run that starts now; nothing is written yet."""
        return cls(new_run_id(stage), stage, input_hash, settings, utc_now(), flow_run_id)

    def record(
        self,
        con: duckdb.DuckDBPyConnection,
        *,
        num_changed: int,
        facts: Mapping[str, Any] | None = None,
        is_finished: bool = True,
    ) -> None:
        """Write or overwrite this run's row; call it inside the transaction that holds the run's results."""
        con.execute("delete from raw.runs where run_id = ?", [self.run_id])
        con.execute(
            "insert into raw.runs values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                self.run_id,
                self.stage,
                self.flow_run_id,
                self.started_at,
                utc_now() if is_finished else None,
                self.input_hash,
                json.dumps(self.settings, sort_keys=True, default=str),
                num_changed,
                None if facts is None else json.dumps(facts, sort_keys=True, default=str),
                WINNOW_VERSION,
            ],
        )
