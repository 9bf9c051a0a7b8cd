"""The objective's loss of pairs that were scored elsewhere, so that any model has the metrics of a training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from training.data import EncodedPairs
from training.export_folder import ExportFolder
from training.monitor import PairScores
from training.objective_loss import PairBatch, route_of, routed_loss
from training.objective_state import ObjectiveState
from training.policy import PairLogps
from training.preflight import PAIR_NUMBERS, resolve_objective, routed_objectives
from training.settings import LossSettings

FILE = "winnow_loss.json"
"""In a trained model's folder: the objective with every number that it ended with, and the dtype of the weights."""


def describe(loss: LossSettings, state: ObjectiveState, *, dtype: str) -> str:
    """Content of :data:`FILE`.

    Args:
        loss, state: of the run's objective, at its end.
        dtype: in which the model computed, under an adapter the base.
    """
    return json.dumps({"loss": loss.as_json(), "state": state.as_dict(), "dtype": dtype}, indent=1)


def dtype_of_training(model: str) -> str | None:
    """In which dtype a model computed while it was trained; None for one that training did not write."""
    file = Path(model) / FILE
    return json.loads(file.read_text(encoding="utf-8")).get("dtype") if file.is_file() else None


def objective_of(
    model: str, export: ExportFolder, *, objective: str | None, split: str
) -> tuple[tuple[LossSettings, ...], ObjectiveState]:
    """By which losses a model is measured on an export, its own first, then those to which pairs are routed.

    Args:
        model: a folder that training wrote gives the loss that it was trained with.
        export: else its rules give the loss.
        objective: goes before both, with that objective's own parameters.
        split: of the export.

    Raises:
        TrainingError: the objective is not known.
    """
    file = Path(model) / FILE
    state = ObjectiveState()
    if objective is None and file.is_file():
        saved = json.loads(file.read_text(encoding="utf-8"))
        loss, state = LossSettings(**saved["loss"]), ObjectiveState(**saved["state"])
    else:
        loss = resolve_objective(objective, export.rules)
    routed = routed_objectives(export.table(split, PAIR_NUMBERS), loss, rules_beta=export.rules.get("beta"))
    return (loss, *routed), state


def with_losses(
    scores: PairScores, pairs: EncodedPairs, objectives: Sequence[LossSettings], state: ObjectiveState
) -> PairScores:
    """The same scores with the loss of each pair; NaN where its objective needs reference log-probs that it lacks."""
    route = route_of(pairs.objective, objectives)
    if len(scores) == 0:
        return scores
    policy = PairLogps(
        *(
            torch.from_numpy(values)
            for values in (
                scores.chosen_logps,
                scores.rejected_logps,
                scores.chosen_num_tokens,
                scores.rejected_num_tokens,
            )
        )
    )
    columns: list[Any] = [
        scores.reference_chosen_logps,
        scores.reference_rejected_logps,
        pairs.soft_label,
        pairs.best_share,
    ]
    batch = PairBatch(policy, *(torch.from_numpy(values) for values in columns))
    return replace(scores, loss=routed_loss(batch, torch.from_numpy(route), objectives, state).numpy())
