"""``winnow ingest``: files into the lake."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.workspace import WorkspaceOption


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(ingest)


def ingest(
    sources: Annotated[
        list[str], typer.Argument(help="Files, folders, globs, URLs, or Hub ids (owner/name[@revision][:config]).")
    ],
    workspace: WorkspaceOption = Path(),
    format: Annotated[
        str | None, typer.Option("--format", "-f", help="Name of a format, or a mapping file; detected where absent.")
    ] = None,
    source_name: Annotated[
        str | None, typer.Option("--source-name", help="Name in the lake; the file's or folder's name where absent.")
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option("--column", help="COLUMN=PATH: where a column of the long form stands in a row; may be repeated."),
    ] = None,
    hash_annotators: Annotated[
        bool, typer.Option("--hash-annotators", help="Keep keyed hashes of annotator ids instead of the ids.")
    ] = False,
    max_quarantined_share: Annotated[
        float | None, typer.Option("--max-quarantined-share", min=0, max=1, help="Share of a file that may be bad.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show format, ten rows and quarantine; write nothing.")
    ] = False,
) -> None:
    """Read judgments into the lake; bad rows go to raw.quarantine with a reason."""
    from flows.console import out, say
    from flows.stages.ingest import ingest as run_ingest
    from flows.stages.ingest_files import IngestOptions
    from flows.stages.ingest_preview import preview
    from flows.stages.ingest_table import preview_tables
    from flows.workspace import Workspace

    opened = Workspace.open(workspace)
    columns = dict(_pair(each) for each in column or [])
    if dry_run:
        options = IngestOptions(format, source_name, columns, hash_annotators, max_quarantined_share)
        for each in preview(opened, sources, options):
            for part in preview_tables(each):
                out.print(part)
        return
    say(
        run_ingest(
            opened,
            sources,
            format=format,
            source_name=source_name,
            columns=columns,
            hash_annotators=hash_annotators,
            max_quarantined_share=max_quarantined_share,
        )
    )


def _pair(given: str) -> tuple[str, str]:
    from schemas.errors import ConfigError

    name, equals, path = given.partition("=")
    if not equals or not path:
        raise ConfigError(f"--column {given!r} is not COLUMN=PATH", mend="for example --column prompt=question")
    return name, path
