"""``winnow ingest``: files into the lake."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.commands.workspace import WorkspaceOption


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(ingest)


def ingest(
    sources: Annotated[list[str], typer.Argument(help="Files, folders or globs.")],
    workspace: WorkspaceOption,
    format: Annotated[
        str | None, typer.Option("--format", "-f", help="Name of a format, or a mapping file; detected where absent.")
    ] = None,
    source_name: Annotated[
        str | None, typer.Option("--source-name", help="Name in the lake; the file's or folder's name where absent.")
    ] = None,
    hash_annotators: Annotated[
        bool, typer.Option("--hash-annotators", help="Keep keyed hashes of annotator ids instead of the ids.")
    ] = False,
) -> None:
    """Read judgments into the lake; bad rows go to raw.quarantine with a reason."""
    from flows.console import say
    from flows.stages.ingest import ingest as run_ingest
    from flows.workspace import Workspace

    say(
        run_ingest(
            Workspace.open(workspace), sources, format=format, source_name=source_name, hash_annotators=hash_annotators
        )
    )
