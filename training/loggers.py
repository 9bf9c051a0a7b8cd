"""Loggers beside the lake: W&B, whose run is opened here so that its name, project and place are ours."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from training.processes import rank
from training.settings import TrainSettings

PROJECT = "winnow"
"""Project in W&B, where ``WANDB_PROJECT`` names no other."""


@contextmanager
def wandb_run(settings: TrainSettings, folder: Path, *, name: str) -> Iterator[None]:
    """Where asked for, log to W&B in the block; the first process alone does, and the run fails where the block does.

    Args:
        settings: whose ``report_to`` asks.
        folder: gets W&B's files, in ``wandb/``.
        name: of the run.
    """
    if "wandb" not in settings.report_to or rank() != 0:
        yield
        return
    import wandb

    quiet = wandb.Settings(silent=True, console="off")
    with wandb.init(project=os.environ.get("WANDB_PROJECT", PROJECT), name=name, dir=folder, settings=quiet):
        yield
