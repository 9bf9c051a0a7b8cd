"""A Prefect deployment that runs the main job on a schedule, one run at a time."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flows.curation_flow import curation
from flows.workspace import Workspace
from schemas.errors import ConfigError


def serve(workspace: Path, sources: Sequence[str], *, cron: str, options: Mapping[str, Any]) -> None:
    """Register the deployment ``winnow-curation/NAME`` (NAME is the workspace's folder) and run what it schedules.

    Returns when it is interrupted; the schedule is paused then.

    Raises:
        ConfigError: no Prefect server is set, or the schedule is not a cron expression.
        WorkspaceError: the workspace is not one.
    """
    if not os.environ.get("PREFECT_API_URL"):
        raise ConfigError(
            "a schedule needs a Prefect server, and PREFECT_API_URL is not set",
            mend="run 'prefect server start' and set PREFECT_API_URL=http://127.0.0.1:4200/api",
        )
    root = Workspace.open(workspace).root.resolve()
    parameters = {"workspace": str(root), "sources": [_absolute(source) for source in sources], **options}
    from prefect.client.schemas.schedules import CronSchedule
    from pydantic import ValidationError

    try:
        CronSchedule(cron=cron)
    except ValidationError as error:
        raise ConfigError(f"--cron {cron!r} is not a cron expression", mend="for example --cron '0 2 * * *'") from error
    curation.serve(name=root.name, cron=cron, parameters=parameters, limit=1, print_starting_message=False)


def _absolute(source: str) -> str:
    """A local path as an absolute one, because the run may start in another folder; a Hub id or URL as it is."""
    return str(Path(source).resolve()) if Path(source).exists() else source
