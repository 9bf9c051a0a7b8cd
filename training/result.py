"""What a training run made, and its place in the model's folder, from where it can be read again."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from training.monitor import PairScores

METRICS, SCORES = "winnow_metrics.json", "winnow_scores.parquet"
"""Files of a trained model's folder: figures of the run, and the held-out pairs' final log-probs."""


@dataclass(frozen=True)
class TrainingResult:
    """What a run made.

    Attributes:
        checkpoint: the model folder.
        before, after: metrics of the held-out pairs.
        log_history: what was logged at which step.
        eval_pair_ids: held-out pairs. Shape (N,).
        eval_scores: their log-probs after training.
        counts: ``train``, pairs to train on; ``seen``, of those at most so many in the steps that were taken; ``eval``,
            held out; ``too_long``, ``cut_otherwise``, ``weightless``, left out; ``steps``. A folder that an older
            Winnow made has no ``seen``.
        check: how well the exported log-probs fit; None where that was not compared.
        alarms: (step, message) of each alignment alarm.
    """

    checkpoint: Path
    before: dict[str, float]
    after: dict[str, float]
    log_history: list[dict[str, float]]
    eval_pair_ids: NDArray[np.object_]
    eval_scores: PairScores
    counts: dict[str, int]
    check: dict[str, float] | None
    alarms: list[tuple[int, str]]

    def save(self, folder: Path, *, training_run_id: str) -> None:
        """Write :data:`METRICS` and :data:`SCORES`."""
        names = ("before", "after", "counts", "check", "alarms", "log_history")
        figures = {"training_run_id": training_run_id} | {name: getattr(self, name) for name in names}
        (folder / METRICS).write_text(json.dumps(finite(figures), indent=1, allow_nan=False), encoding="utf-8")
        columns = {name: getattr(self.eval_scores, name) for name in PairScores.__dataclass_fields__}
        table = pa.table({"pair_id": pa.array(self.eval_pair_ids.tolist(), pa.string()), **columns})
        pq.write_table(table, folder / SCORES)

    @classmethod
    def load(cls, folder: Path) -> TrainingResult:
        """What :meth:`save` wrote, with NaN for every figure that was not finite."""
        figures = json.loads((folder / METRICS).read_text(encoding="utf-8"))
        table = pq.read_table(folder / SCORES)
        scores = {name: table.column(name).to_numpy() for name in PairScores.__dataclass_fields__}
        return cls(
            checkpoint=folder,
            before=_numbers(figures["before"]),
            after=_numbers(figures["after"]),
            log_history=[_numbers(logs) for logs in figures["log_history"]],
            eval_pair_ids=np.array(table.column("pair_id").to_pylist(), dtype=object),
            eval_scores=PairScores(**scores),
            counts=figures["counts"],
            check=figures["check"],
            alarms=[(int(step), str(message)) for step, message in figures["alarms"]],
        )


def is_made_by(folder: Path, training_run_id: str) -> bool:
    """Whether a folder holds the whole result of a run; a model gets its name only when it is whole."""
    file = folder / METRICS
    if not file.is_file() or not (folder / SCORES).is_file():
        return False
    return bool(json.loads(file.read_text(encoding="utf-8")).get("training_run_id") == training_run_id)


def finite(value: Any) -> Any:
    """The same with None for numbers that JSON does not have."""
    if isinstance(value, Mapping):
        return {name: finite(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _numbers(figures: Mapping[str, float | None]) -> dict[str, float]:
    return {name: math.nan if value is None else value for name, value in figures.items()}
