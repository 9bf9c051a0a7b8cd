"""What happens beside the steps: the check at the start, and the progress bar."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from transformers import TrainerCallback

from training.reference_check import ReferenceCheck, sample
from training.trainer import PairTrainer

Progress = Callable[[str, int | None, str], AbstractContextManager[Callable[[int, str], None]]]
"""``progress(description, total, unit)`` gives a context whose function takes (steps done, note)."""


class CheckAtStart(TrainerCallback):
    """Before the first step, compares the exported log-probs of a sample with the policy's own.

    The model is then where its steps will be computed: on its device, wrapped, sharded. A resumed run has the figures
    of its start in its checkpoint.
    """

    def __init__(self, trainer: PairTrainer, *, num_pairs: int, require: Callable[[ReferenceCheck], None]) -> None:
        self.trainer, self.require = trainer, require
        self.part = sample(trainer.pairs, num_pairs)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Score the sample and log how far off it is.

        Raises:
            TrainingError: the log-probs do not fit.
        """
        if state.global_step > 0 or len(self.part) == 0:
            return
        check = ReferenceCheck.of(self.trainer.score(self.part))
        self.require(check)
        self.trainer.check = check
        self.trainer.log({f"check_{name}": float(value) for name, value in check.as_dict().items()})


class StepProgress(TrainerCallback):
    """Moves our progress bar."""

    def __init__(self, advance: Callable[[int, str], None]) -> None:
        self.advance = advance
        self.note = ""

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Jump over the steps that a resumed run has done."""
        if state.global_step:
            self.advance(state.global_step, "resumed")

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """Take up the loss and accuracy."""
        if logs and "loss" in logs and "absolute_accuracy" in logs:
            self.note = f"loss {logs['loss']:.3f}, right {100 * logs['absolute_accuracy']:.0f} %"

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """One step on."""
        self.advance(1, self.note)
