"""What can be refused before torch is imported: libraries that are missing, pairs that an objective cannot use."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from schemas.errors import EngineError, TrainingError
from schemas.wording import counted
from training.objectives import TRAITS, Objective
from training.settings import LossSettings, TrainSettings

PAIR_NUMBERS = (
    "pair_id",
    "reference_chosen_logps",
    "reference_rejected_logps",
    "weight",
    "soft_label",
    "objective",
)
"""The columns of an export that are looked at here: none of the texts."""


def check_requirements(settings: TrainSettings) -> None:
    """Refuse settings that need a library which is not installed.

    Raises:
        EngineError: it names the setting, the library and the way out.
    """
    needs = [("adamw_8bit", "train.optimizer = 'adamw_8bit'", "bitsandbytes", "set it to 'adamw'")]
    wanted = {"adamw_8bit"} if settings.optimizer == "adamw_8bit" else set()
    if settings.lora is not None and settings.lora.quantize != "none":
        name = f"train.lora.quantize = {settings.lora.quantize!r}"
        needs.append(("quantize", name, "bitsandbytes", "set it to 'none'"))
        wanted.add("quantize")
    needs.append(("wandb", "train.report_to with 'wandb'", "wandb", "leave it out"))
    if "wandb" in settings.report_to:
        wanted.add("wandb")
    for key, what, library, otherwise in needs:
        if key in wanted and importlib.util.find_spec(library) is None:
            raise EngineError(
                f"{what} needs {library}, which is not installed", mend=f"pip install {library}, or {otherwise}"
            )


def resolve_objective(name: str | None, rules: Mapping[str, Any]) -> LossSettings:
    """An objective by name, else that of an export's rules, else dpo, with its defaults and the rules' beta.

    Raises:
        TrainingError: it is not known.
    """
    known = known_objective(name or rules.get("objective") or Objective.DPO)
    return LossSettings.resolve(TrainSettings(objective=known), known, rules_beta=rules.get("beta"))


def known_objective(name: str) -> Objective:
    """The objective of a name.

    Raises:
        TrainingError: there is none.
    """
    try:
        return Objective(name)
    except ValueError as error:
        raise TrainingError(f"there is no objective {name!r}", mend=f"choose one of {', '.join(Objective)}") from error


def routed_objectives(table: pa.Table, loss: LossSettings, *, rules_beta: float | None) -> tuple[LossSettings, ...]:
    """The other objectives to which an export routes pairs, with their defaults.

    Raises:
        TrainingError: one is not known.
    """
    found = []
    for name in sorted(set(_names(table)) - {"", loss.objective.value}):
        if name not in list(Objective):
            raise TrainingError(
                f"the export routes pairs to objective {name!r}", mend=f"use one of {', '.join(Objective)} in the rules"
            )
        own = TrainSettings(objective=Objective(name))
        found.append(LossSettings.resolve(own, Objective(name), rules_beta=rules_beta))
    return tuple(found)


def check_pairs(table: pa.Table, objectives: Sequence[LossSettings]) -> None:
    """Refuse pairs that their objective cannot use; those without weight do not matter.

    Args:
        table: columns :data:`PAIR_NUMBERS`.
        objectives: the run's own, then those to which pairs are routed.

    Raises:
        TrainingError: a value is out of range, there are no pairs, or an objective lacks reference log-probs or has
            no use for soft labels.
    """
    check_values(table)
    weight, soft = numbers(table, "weight", 1.0), numbers(table, "soft_label", 1.0)
    if not bool((weight > 0).any()):
        none = "no pairs" if table.num_rows == 0 else f"{counted(table.num_rows, 'pair')}, and the weight of each is 0"
        raise TrainingError(f"the export has {none}: there are no pairs to train on", mend="loosen the rules")
    reference = numbers(table, "reference_chosen_logps", np.nan) + numbers(table, "reference_rejected_logps", np.nan)
    names = _names(table)
    routed = [loss.objective.value for loss in objectives[1:]]
    for number, loss in enumerate(objectives):
        own = ~np.isin(names, routed) if number == 0 else names == loss.objective.value
        rows = own & (weight > 0)
        _check_objective(loss, int(np.isnan(reference[rows]).sum()), int((soft[rows] < 1).sum()))


def _check_objective(loss: LossSettings, num_without_reference: int, num_soft: int) -> None:
    traits = TRAITS[loss.objective]
    if traits.needs_reference and num_without_reference:
        raise TrainingError(
            f"{counted(num_without_reference, 'pair')} without reference log-probs, which objective"
            f" {loss.objective.value} needs",
            mend="winnow score, then curate and export again",
        )
    if num_soft and not traits.takes_soft_labels:
        raise TrainingError(
            f"{counted(num_soft, 'pair')} with a soft label, which has no meaning for objective {loss.objective.value}:"
            f" {traits.soft_label_reason}",
            mend="use cdpo, dpo or cpo, or rules without soft labels",
        )
    if num_soft and loss.sft_weight > 0:
        raise TrainingError(
            f"{counted(num_soft, 'pair')} with a soft label, which has no meaning for train.sft_weight:"
            " its likelihood term is for the chosen response alone",
            mend="leave sft_weight out, or use rules without soft labels",
        )


def numbers(table: pa.Table, name: str, missing: float) -> NDArray[np.float64]:
    """A column with its nulls filled in. Shape (N,)."""
    return np.asarray(table.column(name).fill_null(missing).to_numpy(), dtype=np.float64)


def check_values(table: pa.Table) -> None:
    """Name the first pair whose weight or soft label is out of range.

    Raises:
        TrainingError: there is one.
    """
    weight, soft = numbers(table, "weight", 1.0), numbers(table, "soft_label", 1.0)
    _check_range(table, "weight", weight, (weight >= 0) & np.isfinite(weight), ">= 0 and finite")
    _check_range(table, "soft_label", soft, (soft >= 0) & (soft <= 1), "in [0, 1]")


def _check_range(table: pa.Table, name: str, values: NDArray[np.float64], good: NDArray[np.bool_], rule: str) -> None:
    if not good.all():
        row = int(np.flatnonzero(~good)[0])
        raise TrainingError(
            f"pair {table.column('pair_id')[row].as_py()}: {name} is {values[row]}, must be {rule}",
            mend="mend the curation rule that gave it and export again",
        )


def _names(table: pa.Table) -> NDArray[np.object_]:
    return np.asarray(table.column("objective").fill_null("").to_pylist(), dtype=object)
