"""Preference training as a ``transformers.Trainer``: packs instead of batches, log-probs of the reference from file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import TrainerCallback, TrainingArguments

from schemas.errors import TrainingError
from training.alarm import AlignmentAlarm
from training.batches import EpochLoader, Indices, PairBatches
from training.data import EncodedPairs
from training.gather import of_all_processes
from training.hardware import hardware_use
from training.monitor import PairScores, join_scores
from training.objective_loss import route_of
from training.objective_state import ObjectiveState, step_sums
from training.objectives import Objective
from training.optimizer_in_backward import OptimizerInBackward
from training.packing import Batching, Pack, pack_pairs
from training.reference_check import ReferenceCheck
from training.scoring_trainer import ScoringTrainer, column
from training.settings import LossSettings
from training.step_log import StepLog
from training.writing import writing_to


class PairTrainer(ScoringTrainer):
    """Trains a policy on encoded pairs.

    The loss of an optimizer step is the weighted sum of its pairs' losses over their total weight, whatever the number
    of forward passes and processes it is computed in.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        args: TrainingArguments,
        loss: LossSettings,
        routed: Sequence[LossSettings] = (),
        slice_by: str = "none",
        pairs: EncodedPairs,
        eval_pairs: EncodedPairs,
        batch_size: int,
        token_budget: int,
        batching: Batching,
        tokenizer: Any = None,
        alarm: AlignmentAlarm | None = None,
        optimizer: tuple[type[torch.optim.Optimizer], dict[str, Any]] | None = None,
        in_backward: OptimizerInBackward | None = None,
        callbacks: list[TrainerCallback] | None = None,
    ) -> None:
        self._since_log = StepLog()
        super().__init__(
            model,
            args,
            objectives=(loss, *routed),
            slice_by=slice_by,
            eval_pairs=eval_pairs,
            token_budget=token_budget,
            batching=batching,
            clock=self._since_log.clock,
            train_dataset=Indices(len(pairs)),
            eval_dataset=Indices(len(eval_pairs)),
            processing_class=tokenizer,
            callbacks=callbacks,
            optimizer_cls_and_kwargs=optimizer,
        )
        self.pairs, self.batch_size = pairs, batch_size
        self.alarm, self.in_backward = alarm, in_backward
        self.check: ReferenceCheck | None = None
        self.loss_is_scaled_for_ga = True
        self._num_parameters = sum(parameter.numel() for parameter in model.parameters())
        self._of_step: list[tuple[NDArray[np.int64], PairScores]] = []

    # Data

    def get_train_dataloader(self) -> DataLoader:
        """Packs of the training pairs; not prepared by accelerate, as every process already takes its own part."""
        batches = PairBatches(
            len(self.pairs),
            self.batch_size,
            seed=self.args.seed,
            rank=self.args.process_index,
            world=self.args.world_size,
        )
        return EpochLoader(Indices(len(self.pairs)), batch_sampler=batches, collate_fn=self._collate)

    def _collate(self, indices: list[int]) -> dict[str, Any]:
        packs = pack_pairs(self.pairs, indices, token_budget=self.token_budget, batching=self.batching)
        return {"packs": packs, "weight": float(self.pairs.weight[indices].sum())}

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> Tensor:
        """Total weight of the step's pairs, over all processes. Shape ()."""
        total = torch.tensor(sum(batch["weight"] for batch in batch_samples), dtype=torch.float64, device=device)
        return self.accelerator.reduce(total, "sum")

    # One step

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """That of the arguments; where asked, it takes its steps within the backward pass."""
        is_new = self.optimizer is None
        optimizer = super().create_optimizer(model)
        if is_new and self.in_backward is not None:
            self.in_backward.attach(optimizer)
        return optimizer

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Forward and backward pass of every pack of a batch; gradients are exchanged with the last one."""
        model.train()
        self.clock.start()
        self._of_step = []
        total, num_tokens = torch.zeros((), dtype=torch.float64, device=self.args.device), 0
        passes = self.passes(self.pairs, inputs["packs"])
        if self.in_backward is not None:
            self.in_backward.begin_step(num_passes=len(passes))
        for number, (pack, counts) in enumerate(passes):
            last = number == len(passes) - 1
            with torch.enable_grad(), _exchange(self.accelerator, model, last):
                loss = self._weighted_loss(model, pack.to(self.args.device), num_items_in_batch, counts=counts)
                self.accelerator.backward(loss)
            if counts:
                num_tokens += pack.input_ids.numel()
                total += loss.detach()
        self._end_step(num_tokens)
        return total.float()

    def _end_step(self, num_tokens: int) -> None:
        """Let objectives and alarm take in the step, summed over all processes, so that all go on alike."""
        rows, scores = self._rows_of_step(), join_scores([scores for _, scores in self._of_step])
        route = route_of(self.pairs.objective[rows], self.objectives)
        sums = [step_sums(loss, scores.take(route == number)) for number, loss in enumerate(self.objectives)]
        has_reference = ~np.isnan(scores.reference_margin)
        figures = [
            (float((scores.loss * scores.weight).sum()), float(scores.weight.sum())),
            (float((scores.policy_margin > 0).sum()), float(len(scores))),
            (float(scores.is_undesirable.sum()), float(has_reference.sum())),
        ]
        totals = self._over_processes([*sums, *figures])
        for loss, (total, count) in zip(self.objectives, totals, strict=False):
            self.objective_state.update(loss, total, count)
        if self.alarm is not None:
            names = ("loss", "absolute_accuracy", "share_undesirable")
            shares = [total / count if count else math.nan for total, count in totals[len(self.objectives) :]]
            self.alarm.take(self.state.global_step + 1, **dict(zip(names, shares, strict=True)))
            self.control.should_training_stop |= self.alarm.stops
        self._since_log.take(rows, scores, num_tokens=num_tokens)

    def _over_processes(self, own: list[tuple[float, float]]) -> list[list[float]]:
        """Sums over all processes; of one alone nothing goes to a GPU, which would be waited for."""
        table = torch.tensor(own, dtype=torch.float64)
        if self.args.world_size > 1:
            table = self.accelerator.reduce(table.to(self.args.device), "sum")
        return table.tolist()

    def _rows_of_step(self) -> NDArray[np.int64]:
        """Numbers of this process's pairs of the step."""
        return np.concatenate([rows for rows, _ in self._of_step])

    def _weighted_loss(self, model: nn.Module, pack: Pack, total_weight: Any, *, counts: bool) -> Tensor:
        policy = self.logps_of(model, pack)
        if not counts:
            return policy.policy_margin.sum() * 0.0
        losses, scores = self.losses_of(self.pairs, pack, policy)
        is_finite = np.isfinite(scores.loss)
        if not is_finite.all():
            self._stop("loss", self.pairs.pair_id[pack.pairs[~is_finite]])
        self._of_step.append((pack.pairs, scores))
        return (losses * column(self.pairs.weight, pack)).sum() / total_weight * self.args.world_size

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the whole run."""
        if self.args.max_steps > 0:
            return self.args.max_steps
        return int(np.ceil(self.args.num_train_epochs * len(self.get_train_dataloader())))

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Twice the parameters for each token forward, twice that backward; attention not counted."""
        tokens = sum(pack.input_ids.numel() for pack in inputs["packs"])
        return 6 * tokens * self._num_parameters

    # Checkpoints and logs

    def run_state(self) -> dict[str, Any]:
        """State of objective and alarm, and the check at the start."""
        return {
            "objective": self.objective_state.as_dict(),
            "alarm": None if self.alarm is None else self.alarm.as_dict(),
            "check": None if self.check is None else self.check.as_dict(),
        }

    def load_run_state(self, state: dict[str, Any]) -> None:
        """Take up all three."""
        self.objective_state = ObjectiveState(**state["objective"])
        if self.alarm is not None and state["alarm"] is not None:
            self.alarm.load(state["alarm"])
        self.check = None if state["check"] is None else ReferenceCheck(**state["check"])

    @property
    def has_ended(self) -> bool:
        """The alarm went off and was to end the run."""
        return self.alarm is not None and self.alarm.stops

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        """Norm of the gradient of all pairs of the step.

        Raises:
            TrainingError: it is not finite. The weights are those of the step before, or where the optimizer stepped
                in the backward pass, spoilt; no checkpoint of this step is written.
        """
        if self.in_backward is not None:
            grad_norm = self.in_backward.grad_norm(model)
        norm = super()._get_grad_norm(model, grad_norm)
        if not math.isfinite(float(norm)):
            rows = of_all_processes(self._rows_of_step(), world_size=self.args.world_size)
            self._stop("gradient", self.pairs.pair_id[np.concatenate(rows)])
        return norm

    def _stop(self, what: str, pair_ids: NDArray[np.object_]) -> NoReturn:
        more = "" if len(pair_ids) <= 8 else f" and {len(pair_ids) - 8} more"
        raise TrainingError(
            f"the {what} is not finite at step {self.state.global_step + 1} for pairs {', '.join(pair_ids[:8])}{more}",
            mend="look at these pairs' log-probs, or lower learning_rate",
        )

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the metrics of the steps since the last logging, over the pairs of all processes."""
        if "loss" in logs and self._since_log:
            rows, scores, speed = self._since_log.lap(world_size=self.args.world_size)
            logs = {**self.sliced(self.pairs.take(rows), scores), **logs, **speed, **hardware_use()}
            if any(loss.objective is Objective.CPO_LAGRANGIAN for loss in self.objectives):
                logs["multiplier"] = self.objective_state.multiplier
        with writing_to(Path(str(self.args.output_dir))):
            super().log(logs, start_time)


def _exchange(accelerator: Any, model: nn.Module, last: bool) -> Any:
    return nullcontext() if last else accelerator.no_sync(model)
