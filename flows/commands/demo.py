"""``winnow demo``: the main job on a generated world."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(demo)


def demo(
    workspace: Annotated[Path, typer.Option("--workspace", "-w", help="Folder of the demo; made if need be.")] = Path(
        "demo"
    ),
    seed: Annotated[int, typer.Option(min=0, help="Of the world and the tiny reference policy.")] = 0,
    prompts: Annotated[int, typer.Option(min=50, help="Prompts of the world; about ten judgments each.")] = 300,
    annotators: Annotated[int, typer.Option(min=10, help="Annotators of the world.")] = 30,
    engine: Annotated[str, typer.Option(help="Scoring engine; see winnow doctor.")] = "vllm",
    ablations: Annotated[
        bool, typer.Option("--ablations/--no-ablations", help="Train DPO without curation and on a random drop, too.")
    ] = True,
) -> None:
    """Run everything on generated judgments and print planted against found."""
    import os
    import time

    # a model this small spends little time in each parallel region: on a busy machine threads that spin at the end of
    # one take the cores from those that work. It must be set before torch is loaded
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

    from flows.console import out
    from flows.demo import run_demo
    from flows.demo_report import show

    started = time.monotonic()
    result = run_demo(
        workspace, seed=seed, num_prompts=prompts, num_annotators=annotators, engine=engine, ablations=ablations
    )
    show(result, out)
    minutes, seconds = divmod(round(time.monotonic() - started), 60)
    out.print(f"The whole demo took {minutes} min {seconds} s.")
