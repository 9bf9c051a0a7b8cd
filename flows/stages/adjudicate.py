"""Adjudicate: human decisions from a file, which override every rule and are kept for good."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from flows.lineage import Run, utc_now
from flows.report import StageReport
from flows.workspace import Workspace
from schemas.errors import SourceError
from schemas.identity import digest
from schemas.wording import counted
from warehouse.lake import Lake

COLUMNS = ("pair_id", "action", "chosen_id", "reason", "adjudicated_by")
ACTIONS = ("drop", "keep", "flip")

_LATEST = """
    select pair_id, action, chosen_id, reason, adjudicated_by from raw.adjudications
    qualify row_number() over (partition by pair_id order by adjudicated_at desc, run_id desc) = 1
"""

_CHECKED = """
    select
        given.*,
        estimates.pair_id is not null as is_known,
        given.chosen_id is null or given.chosen_id in (estimates.chosen_id, estimates.rejected_id) as is_own_response,
        case
            when given.action = 'drop' then null
            when given.chosen_id is not null then given.chosen_id
            when given.action = 'keep' then estimates.chosen_id
            else estimates.rejected_id
        end as resolved_id
    from given_adjudications as given
    left join raw.pair_estimates as estimates on given.pair_id = estimates.pair_id
"""


def adjudicate(
    workspace: Workspace, file: Path, *, by: str | None = None, flow_run_id: str | None = None
) -> StageReport:
    """Keep the decisions of a CSV, JSON-lines or Parquet file.

    ``keep`` and ``flip`` fix which response is right, at the time of the decision: later votes do not change that.

    Args:
        workspace: where the lake is.
        file: columns pair_id, action (drop, keep or flip) and optionally chosen_id, reason, adjudicated_by.
        by: who decided, where the file does not say.
        flow_run_id: identifier that the stages of one flow run share.

    Raises:
        SourceError: the file cannot be read, or a row has a bad value; nothing is kept then.
    """
    given = _read(file, by)
    with workspace.lake() as lake, lake.registered(given_adjudications=given):
        _refuse_bad_rows(lake, file)
        new = lake.frame(
            f"""
            select pair_id, action, resolved_id as chosen_id, reason, adjudicated_by from ({_CHECKED})
            except select pair_id, action, chosen_id, reason, adjudicated_by from ({_LATEST})
            """
        ).sort("pair_id")
        if new.is_empty():
            return StageReport("adjudicate", None, 0, {"num_adjudicated": 0}, ("Nothing new in this file.",))
        content = digest(*(repr(row) for row in new.iter_rows()))
        run = Run.start("adjudicate", input_hash=content, settings={"file": str(file)}, flow_run_id=flow_run_id)

        def work(con: duckdb.DuckDBPyConnection) -> None:
            con.execute(
                "insert into raw.adjudications by name"
                " select *, ? as adjudicated_at, ? as run_id from new_adjudications",
                [utc_now(), run.run_id],
            )
            run.record(con, num_changed=new.height, facts={"num_adjudicated": new.height})

        with lake.registered(new_adjudications=new):
            lake.transact(run.run_id, work)
    line = f"{counted(new.height, 'decision')} kept; winnow curate puts them above its rules."
    return StageReport("adjudicate", run.run_id, new.height, {"num_adjudicated": new.height}, (line,))


def _read(file: Path, by: str | None) -> pl.DataFrame:
    if not file.is_file():
        raise SourceError(f"{file} does not exist", mend="give a CSV, JSON-lines or Parquet file of decisions")
    readers: dict[str, Any] = {
        ".csv": lambda: pl.read_csv(file, infer_schema=False),
        ".jsonl": lambda: pl.read_ndjson(file, infer_schema_length=None),
        ".parquet": lambda: pl.read_parquet(file),
    }
    if file.suffix not in readers:
        raise SourceError(f"{file} is not a file of decisions", mend=f"end it in {', '.join(readers)}")
    try:
        frame = readers[file.suffix]()
    except (pl.exceptions.PolarsError, OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{file} cannot be read: {str(error).splitlines()[0]}") from error
    unknown = [name for name in frame.columns if name not in COLUMNS]
    missing = [name for name in ("pair_id", "action") if name not in frame.columns]
    if unknown or missing:
        what = f"has no column {missing[0]!r}" if missing else f"has a column {unknown[0]!r}"
        raise SourceError(f"{file} {what}", mend=f"columns are {', '.join(COLUMNS)}; only the first two must be there")
    wanted = [
        pl.col(name).cast(pl.String) if name in frame.columns else pl.lit(None, pl.String).alias(name)
        for name in COLUMNS
    ]
    frame = frame.select(wanted).with_columns(pl.coalesce(pl.col("adjudicated_by"), pl.lit(by, pl.String)))
    return frame.with_row_index("row", offset=1)


def _refuse_bad_rows(lake: Lake, file: Path) -> None:
    """Name the first bad row; a file is kept whole or not at all."""
    actions = ", ".join(f"'{action}'" for action in ACTIONS)
    bad = lake.frame(
        f"""
        select row, pair_id, action, chosen_id,
            case
                when pair_id is null or not is_known then 'pair'
                when (action in ({actions})) is not true then 'action'
                when not is_own_response then 'chosen_id'
                when count(*) over (partition by pair_id) > 1 then 'twice'
            end as problem
        from ({_CHECKED})
        qualify problem is not null order by row limit 1
        """
    ).to_dicts()
    if not bad:
        return
    row = bad[0]
    messages = {
        "pair": (f"there is no pair {row['pair_id']!r}", 'winnow sql "select pair_id from mart.pair_diagnostics"'),
        "action": (f"action is {row['action']!r}", f"one of {', '.join(ACTIONS)}"),
        "chosen_id": (f"{row['chosen_id']!r} is not a response of pair {row['pair_id']}", "leave chosen_id empty"),
        "twice": (f"pair {row['pair_id']} is decided twice", "leave one of them"),
    }
    message, mend = messages[row["problem"]]
    raise SourceError(f"{file}, row {row['row']}: {message}", mend=mend)
