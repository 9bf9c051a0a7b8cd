"""What each objective needs and which values its authors use. No torch here, so that settings can be checked early."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Objective(StrEnum):
    """The losses that the trainer knows; formulas and sources stand in ``training/losses.py``."""

    DPO = "dpo"
    CDPO = "cdpo"
    RDPO = "rdpo"
    ROPO = "ropo"
    CPO = "cpo"
    CPO_CLIP = "cpo_clip"
    CPO_REFERENCE = "cpo_reference"
    CPO_LAGRANGIAN = "cpo_lagrangian"
    IPO = "ipo"
    HINGE = "hinge"
    KTO = "kto"
    ORPO = "orpo"
    SIMPO = "simpo"
    RRHF = "rrhf"
    CPO_CONTRASTIVE = "cpo_contrastive"


@dataclass(frozen=True)
class ObjectiveTraits:
    """What an objective needs, and the defaults of the parameters that it has.

    Attributes:
        defaults: every parameter that the objective takes, with its published or customary value.
        needs_reference: whether reference log-probs must be in the export.
        takes_soft_labels: whether a pair's soft label has a meaning; the others refuse an export that has some.
        length_normalized: default of the option; None where the objective is defined on one of both only.
        soft_label_reason: why soft labels are refused.
    """

    defaults: dict[str, float] = field(default_factory=dict)
    needs_reference: bool = True
    takes_soft_labels: bool = True
    length_normalized: bool | None = False
    soft_label_reason: str = ""


_OWN_NOISE_MODEL = "it models label noise itself"

TRAITS: dict[Objective, ObjectiveTraits] = {
    Objective.DPO: ObjectiveTraits({"beta": 0.1}),
    Objective.CDPO: ObjectiveTraits({"beta": 0.1}),
    Objective.RDPO: ObjectiveTraits(
        {"beta": 0.1, "label_noise": 0.1}, takes_soft_labels=False, soft_label_reason=_OWN_NOISE_MODEL
    ),
    Objective.ROPO: ObjectiveTraits(
        {"beta": 0.1, "alpha": 14.0}, takes_soft_labels=False, soft_label_reason=_OWN_NOISE_MODEL
    ),
    Objective.CPO: ObjectiveTraits({"beta": 2.5, "gamma": 0.05, "tau": 2.0, "alpha": 1.0}, length_normalized=True),
    Objective.CPO_CLIP: ObjectiveTraits({"beta": 2.5}, length_normalized=True),
    Objective.CPO_REFERENCE: ObjectiveTraits({"beta": 2.5, "gamma": 0.05}, length_normalized=True),
    Objective.CPO_LAGRANGIAN: ObjectiveTraits(
        {"beta": 0.1, "gamma": 0.05, "epsilon": 0.0, "multiplier_step": 0.01},
        takes_soft_labels=False,
        soft_label_reason="its constraint asks for a policy margin in one direction",
    ),
    Objective.IPO: ObjectiveTraits({"beta": 0.1}, length_normalized=True),
    Objective.HINGE: ObjectiveTraits({"beta": 0.1}),
    Objective.KTO: ObjectiveTraits(
        {"beta": 0.1, "desirable_weight": 1.0, "undesirable_weight": 1.0}, length_normalized=None
    ),
    Objective.ORPO: ObjectiveTraits(
        {"beta": 0.1},
        needs_reference=False,
        takes_soft_labels=False,
        length_normalized=None,
        soft_label_reason="its likelihood term is for the chosen response alone",
    ),
    Objective.SIMPO: ObjectiveTraits({"beta": 2.0, "gamma": 1.0}, needs_reference=False, length_normalized=None),
    Objective.RRHF: ObjectiveTraits(
        {},
        needs_reference=False,
        takes_soft_labels=False,
        length_normalized=None,
        soft_label_reason="it takes a ranking",
    ),
    Objective.CPO_CONTRASTIVE: ObjectiveTraits(
        {"beta": 0.1, "sft_weight": 1.0},
        needs_reference=False,
        takes_soft_labels=False,
        length_normalized=False,
        soft_label_reason="its likelihood term is for the chosen response alone",
    ),
}

PARAMETERS = (
    "beta",
    "gamma",
    "tau",
    "alpha",
    "epsilon",
    "multiplier_step",
    "label_noise",
    "desirable_weight",
    "undesirable_weight",
)
"""Names of the numbers an objective may take, ``sft_weight`` apart, which every objective takes."""
