"""Running a training without a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from training.export_folder import ExportFolder
from training.plan import TrainingPlan
from training.run import TrainingResult, run_training
from training.settings import TrainSettings


def make_plan(export: Path, *, model: str | None = None, **settings: Any) -> TrainingPlan:
    defaults = {"learning_rate": 5e-4, "batch_size": 4, "lr_schedule": "constant", "report_to": ()}
    return TrainingPlan.make(ExportFolder.open(export), TrainSettings(**{**defaults, **settings}), model=model)


def train_quietly(
    export: Path,
    output: Path,
    *,
    on_step: Callable[[], None] = lambda: None,
    on_trained: Callable[[], None] = lambda: None,
    warnings: list[str] | None = None,
    model: str | None = None,
    **settings: Any,
) -> TrainingResult:
    """Train without a progress bar; ``on_step`` is called behind every optimizer step, ``on_trained`` behind all."""

    @contextmanager
    def progress(description: str, total: int | None, unit: str) -> Iterator[Callable[[int, str], None]]:
        def advance(steps: int, note: str) -> None:
            if description == "train" and note != "resumed":
                on_step()

        yield advance
        if description == "train":
            on_trained()

    seen = [] if warnings is None else warnings
    return run_training(make_plan(export, model=model, **settings), output, progress=progress, warn=seen.append)
