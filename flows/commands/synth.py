"""``winnow synth``: judgments whose truth is known."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from schemas.wording import counted


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(synth)


def synth(
    folder: Annotated[Path, typer.Argument(help="Where the world goes; made if need be.")],
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same world, byte for byte.")] = 0,
    prompts: Annotated[int, typer.Option(help="Prompts; about ten judgments each.")] = 1000,
    annotators: Annotated[int, typer.Option(help="Annotators: careful, careless, position-biased, adversarial.")] = 40,
    corpus: Annotated[
        int, typer.Option(min=1, help="Conversations for training a tiny reference policy with known habits.")
    ] = 4000,
) -> None:
    """Generate judgments with planted faults, the truth about them, and a corpus for a biased reference policy."""
    from curation.synthetic import world, write_world
    from flows.console import err, out, progress

    with err.status("Drawing the world"):
        made = world(seed, prompts, annotators)
    with progress("synth", total=made.judgments.height, unit="judgments") as advance:
        manifest = write_world(made, folder, num_documents=corpus, advance=lambda steps: advance(steps, ""))
    counts = manifest["counts"]
    out.print(
        f"[bold green]synth[/]     {counted(counts['judgments'], 'judgment')} of {counts['annotators']} annotators on"
        f" {counted(counts['pairs'], 'pair')} in {folder / 'judgments.jsonl'}, the truth in {folder / 'truth'}",
        soft_wrap=True,
    )
    file = shlex.quote(str(folder / "judgments.jsonl"))
    out.print(f"          next: winnow ingest {file} --workspace WORKSPACE", soft_wrap=True)
