"""``winnow score``: log-probs of every response under the reference policy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.workspace import WorkspaceOption


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(score)


def score(
    workspace: WorkspaceOption = Path(),
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Reference policy: a folder or a Hub id; the whole last one where absent."),
    ] = None,
    engine: Annotated[str | None, typer.Option("--engine", help="auto, vllm, transformers or vllm-server.")] = None,
    server: Annotated[str | None, typer.Option("--server", help="URL of a running vLLM server.")] = None,
    dtype: Annotated[str | None, typer.Option("--dtype", help="auto, float32, bfloat16 or float16.")] = None,
    truncate: Annotated[
        str | None, typer.Option("--truncate", help="never (mark what does not fit) or left (cut its prompt).")
    ] = None,
    max_length: Annotated[
        int | None, typer.Option("--max-length", help="Longest prompt and response in tokens.")
    ] = None,
    adapter: Annotated[str | None, typer.Option("--adapter", help="Folder of a LoRA adapter on the model.")] = None,
    embeddings: Annotated[
        bool | None, typer.Option("--embeddings/--no-embeddings", help="Keep a projection of each last hidden state.")
    ] = None,
    shard_tokens: Annotated[
        int | None, typer.Option("--shard-tokens", help="Tokens that are scored and committed together.")
    ] = None,
) -> None:
    """Score responses that the reference policy has not scored yet; a killed run goes on where it was."""
    from flows.console import err, say
    from flows.stages.score import score as run_score
    from flows.workspace import Workspace
    from warehouse.connection import is_interrupt

    opened = Workspace.open(workspace)
    try:
        report = run_score(
            opened,
            model=model,
            engine=engine,
            server=server,
            dtype=dtype,
            truncate=truncate,
            max_length=max_length,
            adapter=adapter,
            embeddings=embeddings,
            shard_tokens=shard_tokens,
        )
    except (KeyboardInterrupt, RuntimeError) as error:
        if is_interrupt(error):
            err.print("interrupted; what is committed stays, and the same command goes on behind it")
        raise
    say(report)
