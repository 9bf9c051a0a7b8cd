"""What a training run will do, settled before anything is loaded, and named by everything that decides its result.

No torch here: what cannot be trained is refused before the seconds that its import takes.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from schemas.errors import ConfigError, TrainingError
from schemas.model_identity import weights_hash
from training.export_folder import ExportFolder
from training.model_folder import model_folder
from training.objectives import TRAITS, Objective
from training.preflight import PAIR_NUMBERS, check_pairs, check_requirements, known_objective, routed_objectives
from training.processes import check_processes
from training.settings import LossSettings, TrainSettings

VERSION = 2
"""Raised when the same settings would give other weights than before."""


@dataclass(frozen=True)
class TrainingPlan:
    """What a run will do, before anything is loaded.

    Attributes:
        training_run_id: hash of everything that decides the result, after the objective's name.
        export: what it trains on.
        model: name as given, and its folder.
        loss: the resolved objective.
        routed: the other objectives to which the export routes pairs.
        settings: how.
    """

    training_run_id: str
    export: ExportFolder
    model: str
    folder: Path
    is_reference: bool
    loss: LossSettings
    routed: tuple[LossSettings, ...]
    settings: TrainSettings

    @property
    def max_length(self) -> int | None:
        """Longest prompt with response, tokens: the settings' or the scorer's; None where neither names one."""
        return self.settings.max_length or (self.export.reference or {}).get("max_length")

    @property
    def score_again(self) -> str:
        """What gives pairs that are cut as this run cuts them reference log-probs of the prompt as it is cut."""
        return f"winnow score --max-length {self.max_length} --truncate left, then curate and export again"

    def mend_too_long(self) -> str:
        """What a user can do to train on pairs that are longer than ``max_length``."""
        raising = "raise train.max_length"
        if (self.settings.truncate or (self.export.reference or {}).get("truncate")) == "left":
            return f"{raising}, as cutting the prompt is not enough"
        needs_reference = any(TRAITS[loss.objective].needs_reference for loss in (self.loss, *self.routed))
        return f"{raising}, or " + (self.score_again if needs_reference else "set train.truncate = 'left'")

    @classmethod
    def make(
        cls, export: ExportFolder, settings: TrainSettings, *, model: str | None = None, objective: str | None = None
    ) -> TrainingPlan:
        """Fill in what was left open.

        Raises:
            TrainingError: no model is known, or the objective is not, or it cannot use the pairs.
            EngineError: a library that the settings need is not installed.
            ModelError: the model is not there.
        """
        reference = export.reference
        name = model or (str(reference["model"]) if reference else None)
        if name is None:
            raise TrainingError("the export names no reference policy to start from", mend="give --model")
        if model is None and reference is not None and reference.get("adapter"):
            raise TrainingError(
                f"the export was scored by an adapter ({reference['adapter']}) on {name}, which cannot be trained on",
                mend="merge it into its base (peft: merge_and_unload, save_pretrained) and give that folder as --model",
            )
        known = known_objective(objective or settings.objective or export.rules.get("objective") or Objective.DPO)
        settings = _with_objective(settings, known)
        loss = LossSettings.resolve(settings, known, rules_beta=export.rules.get("beta"))
        check_requirements(settings)
        table = export.table("train", PAIR_NUMBERS)
        routed = routed_objectives(table, loss, rules_beta=export.rules.get("beta"))
        check_pairs(table, (loss, *routed))
        check_processes(settings, num_pairs=table.num_rows)
        same = reference is not None and (model is None or model == reference["model"])
        folder = model_folder(name, revision=reference.get("revision") if reference and same else None)
        weights = weights_hash(folder)
        identity = {
            "version": VERSION,
            "export_id": export.export_id,
            "weights": weights,
            "loss": loss.as_json(),
            "settings": _deciding(settings),
        }
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
        is_reference = reference is not None and weights == reference.get("weights_hash")
        return cls(f"{known.value}-{digest}", export, name, folder, is_reference, loss, routed, settings)


def _with_objective(settings: TrainSettings, objective: Objective) -> TrainSettings:
    try:
        return TrainSettings.model_validate({**settings.model_dump(), "objective": objective})
    except ValidationError as error:
        raise ConfigError(
            f"train: {error.errors()[0]['msg']}", mend="leave the key out, or change objective"
        ) from error


_NOT_DECIDING = {
    "sharding",
    "optimizer_in_backward",
    "save_steps",
    "log_steps",
    "report_to",
    "slice_by",
    "eval_steps",
    "check_pairs",
    "check_tolerance",
}


def _deciding(settings: TrainSettings) -> dict[str, Any]:
    """The settings that decide the weights: the alarm is one only where it may end the training."""
    excluded = _NOT_DECIDING if settings.alarm.stop else _NOT_DECIDING | {"alarm"}
    return settings.model_dump(mode="json", exclude=excluded)
