"""A trainer that scores pairs: log-probs, losses and metrics under the policy as it is now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import TrainingArguments

from training.clock import Clock
from training.data import EncodedPairs
from training.gather import of_all_processes
from training.monitor import PairScores, join_scores, metrics, metrics_by_slice
from training.objective_loss import PairBatch, route_of, routed_loss
from training.objective_state import ObjectiveState
from training.packing import Batching, Pack, pack_pairs
from training.policy import PairLogps, pair_logps
from training.resumable import ResumableTrainer
from training.settings import LossSettings


class ScoringTrainer(ResumableTrainer):
    """Scores pairs in packs, each process its part, and gives the metrics of those that are held out.

    Args:
        objectives: the run's own, then those to which pairs are routed.
        slice_by: column by whose values metrics are also given, or ``none``.
        eval_pairs: held out.
        token_budget: tokens of a forward pass.
        clock: stands still during an evaluation.
        trainer: arguments of ``transformers.Trainer``.
    """

    def __init__(
        self,
        model: nn.Module,
        args: TrainingArguments,
        *,
        objectives: Sequence[LossSettings],
        slice_by: str,
        eval_pairs: EncodedPairs,
        token_budget: int,
        batching: Batching,
        clock: Clock,
        **trainer: Any,
    ) -> None:
        super().__init__(model, args, **trainer)
        self.objectives = tuple(objectives)
        self.slice_by = slice_by
        self.eval_pairs = eval_pairs
        self.token_budget, self.batching = token_budget, batching
        self.clock = clock
        self.objective_state = ObjectiveState()

    def passes(self, pairs: EncodedPairs, packs: list[Pack]) -> list[tuple[Pack, bool]]:
        """Packs, and whether each counts: with FSDP all processes make as many, because each is made together."""
        passes = [(pack, True) for pack in packs]
        if self.is_fsdp_enabled:
            most = int(self.accelerator.gather(torch.tensor([len(packs)], device=self.args.device)).max())
            if most > len(packs):
                spare = packs[-1] if packs else pack_pairs(pairs, [0], token_budget=1, batching=self.batching)[0]
                passes += [(spare, False)] * (most - len(packs))
        return passes

    def logps_of(self, model: nn.Module, pack: Pack) -> PairLogps:
        """One forward pass."""
        return pair_logps(model, pack, unwrapped=self.accelerator.unwrap_model(model))

    def losses_of(self, pairs: EncodedPairs, pack: Pack, policy: PairLogps) -> tuple[Tensor, PairScores]:
        """Loss of each pair of a pack, with its gradient, and all that is known of the pairs. Shape (pairs,)."""
        names = ("reference_chosen_logps", "reference_rejected_logps", "soft_label", "best_share")
        batch = PairBatch(policy, *(column(getattr(pairs, name), pack) for name in names))
        route = torch.from_numpy(route_of(pairs.objective[pack.pairs], self.objectives)).to(pack.input_ids.device)
        losses = routed_loss(batch, route, self.objectives, self.objective_state)
        return losses, batch.scores(losses, column(pairs.weight, pack))

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
            for pack, counts in self.passes(pairs, packs):
                pack = pack.to(self.args.device)
                policy = self.logps_of(chosen, pack)
                if not counts:
                    continue
                parts.append((pack.pairs, self.losses_of(pairs, pack, policy)[1]))
                if advance is not None:
                    advance(len(pack.pairs), "")
        chosen.train(was_training)
        return self._in_order(parts)

    def _in_order(self, own: list[tuple[NDArray[np.int64], PairScores]]) -> PairScores:
        """The scores of all processes, by the pairs' numbers."""
        parts = [part for process in of_all_processes(own, world_size=self.args.world_size) for part in process]
        rows = np.concatenate([rows for rows, _ in parts]) if parts else np.zeros(0, np.int64)
        return join_scores([scores for _, scores in parts]).take(np.argsort(rows, kind="stable"))

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Metrics of the held-out pairs, logged under ``eval_``."""
        with self.clock.paused():
            scores = self.score(self.eval_pairs)
        found = {f"{metric_key_prefix}_{name}": value for name, value in self.sliced(self.eval_pairs, scores).items()}
        self.log(found)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, found)
        return found

    def log_metrics_of(self, scores: PairScores) -> dict[str, float]:
        """Metrics of held-out pairs that were scored already, logged as an evaluation."""
        self.log({f"eval_{name}": value for name, value in self.sliced(self.eval_pairs, scores).items()})
        return metrics(scores)

    def sliced(self, pairs: EncodedPairs, scores: PairScores) -> dict[str, float]:
        """Metrics of pairs, and again as ``name/slice`` for every slice that is asked for."""
        found = metrics(scores)
        if self.slice_by != "none":
            labels = pairs.labels(self.slice_by, own_objective=self.objectives[0].objective)
            for label, part in metrics_by_slice(scores, labels).items():
                found.update({f"{name}/{label}": value for name, value in part.items()})
        return found

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        with self.clock.paused():
            super()._save_checkpoint(model, trial)


def column(values: NDArray[np.float64], pack: Pack) -> Tensor:
    """A column's values of the pairs of a pack, on its device. Shape (pairs,)."""
    return torch.from_numpy(values[pack.pairs]).to(pack.input_ids.device)
