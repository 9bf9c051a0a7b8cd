"""A ``transformers.Trainer`` whose checkpoints are whole or not there, and that goes on where the last one ends."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any

from torch import nn
from transformers import Trainer

from training import checkpoints
from training.writing import writing_to


class ResumableTrainer(Trainer):
    """Seals its checkpoints with what a subclass carries from step to step."""

    @abstractmethod
    def run_state(self) -> dict[str, Any]:
        """What a resumed run needs beside weights and optimizer, JSON-serialisable."""

    @abstractmethod
    def load_run_state(self, state: dict[str, Any]) -> None:
        """Take up what :meth:`run_state` gave."""

    @property
    @abstractmethod
    def has_ended(self) -> bool:
        """Whether something else than the number of steps has ended the run."""

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Write a checkpoint under another name, seal it, and give it its name in one step."""
        output = Path(str(self.args.output_dir))
        self.args.output_dir = str(output / "writing")
        try:
            with writing_to(output):
                super()._save_checkpoint(model, trial)
        finally:
            self.args.output_dir = str(output)
        self.accelerator.wait_for_everyone()  # every process writes its random state into the folder
        if self.args.should_save:
            name = f"checkpoint-{self.state.global_step}"
            with writing_to(output):
                checkpoints.seal(output / "writing" / name, self.run_state())
            checkpoints.publish(output / "writing" / name, output / name, keep=2)
        self.accelerator.wait_for_everyone()

    def _init_training_state(
        self,
        max_steps: int,
        num_update_steps_per_epoch: int,
        num_train_epochs: int,
        resume_from_checkpoint: str | None,
        trial: Any,
    ) -> tuple[int, int]:
        """Epochs and steps to skip: all, where the last step was saved (transformers would take another)."""
        found = super()._init_training_state(
            max_steps, num_update_steps_per_epoch, num_train_epochs, resume_from_checkpoint, trial
        )
        if resume_from_checkpoint is not None:
            self.load_run_state(checkpoints.state_of(Path(resume_from_checkpoint)))
        return (num_train_epochs, 0) if self.state.global_step >= max_steps or self.has_ended else found
