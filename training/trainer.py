"""Preference training as a ``transformers.Trainer``: packs instead of batches, log-probs of the reference from file."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainingArguments

from schemas.errors import TrainingError
from training import checkpoints
from training.batches import EpochLoader, Indices, PairBatches
from training.data import EncodedPairs
from training.hardware import hardware_use
from training.monitor import PairScores, join_scores, metrics
from training.objective_loss import PairBatch, route_of, routed_loss, violation
from training.objective_state import ObjectiveState
from training.objectives import Objective
from training.packing import Batching, Pack, pack_pairs
from training.policy import PairLogps, pair_logps
from training.settings import LossSettings
from training.writing import writing_to


class PairTrainer(Trainer):
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
        callbacks: list[TrainerCallback] | None = None,
    ) -> None:
        super().__init__(
            model,
            args,
            train_dataset=Indices(len(pairs)),
            eval_dataset=Indices(len(eval_pairs)),
            processing_class=tokenizer,
            callbacks=callbacks,
        )
        self.loss = loss
        self.objectives = (loss, *routed)
        self.slice_by = slice_by
        self.pairs, self.eval_pairs = pairs, eval_pairs
        self.batch_size, self.token_budget, self.batching = batch_size, token_budget, batching
        self.objective_state = ObjectiveState()
        self.loss_is_scaled_for_ga = True
        self._num_parameters = sum(parameter.numel() for parameter in model.parameters())
        self._step_scores: list[PairScores] = []
        self._step_violation = 0.0
        self._packs_of_step = 0
        self._tokens_since_log = 0
        self._last_log: float | None = None

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

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Forward and backward pass of every pack of a batch; gradients are exchanged with the last one."""
        model.train()
        if self._last_log is None:
            self._last_log = time.perf_counter()
        total = torch.zeros((), dtype=torch.float64, device=self.args.device)
        packs: list[Pack] = inputs["packs"]
        self._packs_of_step = len(packs)
        passes = self._even(self.pairs, packs)
        for number, (pack, counts) in enumerate(passes):
            last = number == len(passes) - 1
            with torch.enable_grad(), _exchange(self.accelerator, model, last):
                loss = self._weighted_loss(model, pack.to(self.args.device), num_items_in_batch, counts=counts)
                self.accelerator.backward(loss)
            if counts:
                self._tokens_since_log += pack.input_ids.numel()
                total += loss.detach()
        if num_items_in_batch is not None:
            self._update_objective(float(num_items_in_batch))
        return total.float()

    def _update_objective(self, total_weight: float) -> None:
        """Let the objective's state take in the step, summed over all processes."""
        if self.loss.objective not in (Objective.CPO_LAGRANGIAN, Objective.KTO):
            return
        scores = join_scores(self._step_scores[-self._packs_of_step :])
        drift = np.concatenate(
            [
                scores.chosen_logps - scores.reference_chosen_logps,
                scores.rejected_logps - scores.reference_rejected_logps,
            ]
        )
        sums = torch.tensor(
            [self._step_violation, float(drift.sum()), float(len(drift))], dtype=torch.float64, device=self.args.device
        )
        violation_sum, drift_sum, count = self.accelerator.reduce(sums, "sum").tolist()
        self._step_violation = 0.0
        self.objective_state.update(
            self.loss, mean_violation=violation_sum / total_weight, mean_logratio=drift_sum / count
        )

    def _even(self, pairs: EncodedPairs, packs: list[Pack]) -> list[tuple[Pack, bool]]:
        """Passes, and whether each counts: with FSDP all processes make as many, because each pass is made together."""
        passes = [(pack, True) for pack in packs]
        if self.is_fsdp_enabled:
            most = int(self.accelerator.gather(torch.tensor([len(packs)], device=self.args.device)).max())
            if most > len(packs):
                spare = packs[-1] if packs else pack_pairs(pairs, [0], token_budget=1, batching=self.batching)[0]
                passes += [(spare, False)] * (most - len(packs))
        return passes

    def _weighted_loss(self, model: nn.Module, pack: Pack, total_weight: Any, *, counts: bool) -> Tensor:
        policy = pair_logps(model, pack, unwrapped=self.accelerator.unwrap_model(model))
        if not counts:
            return policy.policy_margin.sum() * 0.0
        batch = self._batch(self.pairs, pack, policy)
        losses = routed_loss(batch, self._route(self.pairs, pack), self.objectives, self.objective_state)
        weight = _column(self.pairs.weight, pack)
        self._keep(batch, pack, losses, weight)
        return (losses * weight).sum() / total_weight * self.args.world_size

    def _batch(self, pairs: EncodedPairs, pack: Pack, policy: PairLogps) -> PairBatch:
        names = ("reference_chosen_logps", "reference_rejected_logps", "soft_label", "best_share")
        return PairBatch(policy, *(_column(getattr(pairs, name), pack) for name in names))

    def _route(self, pairs: EncodedPairs, pack: Pack) -> Tensor:
        """Number of each pair's objective. Shape (pairs,)."""
        return torch.from_numpy(route_of(pairs.objective[pack.pairs], self.objectives)).to(pack.input_ids.device)

    def _keep(self, batch: PairBatch, pack: Pack, losses: Tensor, weight: Tensor) -> None:
        if not bool(torch.isfinite(losses).all()):
            bad = self.pairs.pair_id[pack.pairs[~torch.isfinite(losses).cpu().numpy()]]
            raise TrainingError(
                f"the loss is not finite at step {self.state.global_step + 1} for pairs {', '.join(bad[:8])}",
                mend="look at these pairs' log-probs, or lower learning_rate",
            )
        self._step_scores.append(batch.scores(losses, weight))
        self._step_violation += float((violation(batch, self.loss) * weight).sum())

    # Evaluation

    def score(
        self, pairs: EncodedPairs, *, model: nn.Module | None = None, advance: Callable[[int, str], None] | None = None
    ) -> PairScores:
        """Log-probs and losses of pairs under the policy as it is now, in the pairs' order, on every process."""
        chosen = self.model_wrapped if model is None else model
        was_training = chosen.training
        chosen.eval()
        order = np.argsort(pairs.shared_lengths, kind="stable")[self.args.process_index :: self.args.world_size]
        packs = pack_pairs(pairs, order, token_budget=self.token_budget, batching=self.batching)
        parts = []
        with torch.no_grad():
            for pack, counts in self._even(pairs, packs):
                pack = pack.to(self.args.device)
                policy = pair_logps(chosen, pack, unwrapped=self.accelerator.unwrap_model(chosen))
                if not counts:
                    continue
                batch = self._batch(pairs, pack, policy)
                losses = routed_loss(batch, self._route(pairs, pack), self.objectives, self.objective_state)
                parts.append((pack.pairs, batch.scores(losses, _column(pairs.weight, pack))))
                if advance is not None:
                    advance(len(pack.pairs), "")
        chosen.train(was_training)
        return self._gather(parts)

    def _gather(self, parts: list[tuple[NDArray[np.int64], PairScores]]) -> PairScores:
        if self.args.world_size > 1:
            gathered: list[Any] = [None] * self.args.world_size
            torch.distributed.all_gather_object(gathered, parts)
            parts = [part for process in gathered for part in process]
        rows = np.concatenate([rows for rows, _ in parts]) if parts else np.zeros(0, np.int64)
        return join_scores([scores for _, scores in parts]).take(np.argsort(rows, kind="stable"))

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Metrics of the held-out pairs, logged under ``eval_``."""
        scores = self.score(self.eval_pairs)
        found = {f"{metric_key_prefix}_{name}": value for name, value in self._sliced(scores).items()}
        self.log(found)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, found)
        return found

    def log_metrics_of(self, scores: PairScores) -> dict[str, float]:
        """Metrics of held-out pairs that were scored already, logged as an evaluation."""
        self.log({f"eval_{name}": value for name, value in self._sliced(scores).items()})
        return metrics(scores)

    def _sliced(self, scores: PairScores) -> dict[str, float]:
        """Metrics of the held-out pairs, and again as ``name/slice`` for every slice."""
        found = metrics(scores)
        if self.slice_by != "none":
            labels = getattr(self.eval_pairs, self.slice_by)
            for label in sorted(set(labels)):
                part = metrics(scores.take(labels == label))
                found.update({f"{name}/{label}": value for name, value in part.items()})
        return found

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

    # Checkpoints

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Write a checkpoint under another name, seal it, and give it its name in one step."""
        output = Path(str(self.args.output_dir))
        self.args.output_dir = str(output / "writing")
        try:
            with writing_to(output):
                super()._save_checkpoint(model, trial)
        finally:
            self.args.output_dir = str(output)
        if self.args.should_save:
            name = f"checkpoint-{self.state.global_step}"
            with writing_to(output):
                checkpoints.seal(output / "writing" / name, self.objective_state.as_dict())
            checkpoints.publish(output / "writing" / name, output / name, keep=2)
        self.accelerator.wait_for_everyone()

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            self.objective_state = ObjectiveState(**checkpoints.state_of(Path(checkpoint)))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the metrics of the steps since the last logging."""
        if "loss" in logs and self._step_scores:
            scores = join_scores(self._step_scores)
            now = time.perf_counter()
            seconds = max(now - (self._last_log or now), 1e-9)
            speed = {"pairs_per_s": len(scores) / seconds, "tokens_per_s": self._tokens_since_log / seconds}
            logs = {**metrics(scores), **logs, **speed, **hardware_use()}
            self._step_scores, self._tokens_since_log, self._last_log = [], 0, now
            if self.loss.objective is Objective.CPO_LAGRANGIAN:
                logs["multiplier"] = self.objective_state.multiplier
        super().log(logs, start_time)


def _column(values: NDArray[np.float64], pack: Pack) -> Tensor:
    return torch.from_numpy(values[pack.pairs]).to(pack.input_ids.device)


def _exchange(accelerator: Any, model: nn.Module, last: bool) -> Any:
    from contextlib import nullcontext

    return nullcontext() if last else accelerator.no_sync(model)
