"""The model that an evaluation measures: its base and adapter, and by which engine and in which dtype it is scored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from curation.scoring.settings import DtypeName, EngineName, ScoringSettings
from flows.stages.score_settings import dtype_alone, validated

if TYPE_CHECKING:
    from curation.scoring.policy import ReferencePolicy
    from training.export_folder import ExportFolder


@dataclass(frozen=True)
class Subject:
    """A model, by which engine and how it is scored."""

    model: str
    policy: ReferencePolicy
    engine: EngineName
    scoring: ScoringSettings


def open_subject(
    model: str, export: ExportFolder, *, engine: str | None, dtype: str | None, settings: ScoringSettings
) -> Subject:
    """What to score with; where no dtype is named, the reference in that of its scores, an adapter in its training's.

    Raises:
        ModelError: the model lacks a part.
        EngineError: the engine is not here.
    """
    from curation.scoring.engines import choose_engine
    from curation.scoring.policy import open_policy
    from training.evaluation import dtype_of_training

    chosen = choose_engine(engine or _engine_of(export))
    base, options = _base_and_adapter(model)
    given = {} if dtype is None else {"dtype": dtype}
    scoring = validated(settings.model_dump(exclude_unset=True) | options | given)
    policy = open_policy(scoring, base)
    if "dtype" not in scoring.model_fields_set and _is_reference(policy, export.reference):
        scoring = scoring.model_copy(update={"dtype": _known((export.reference or {}).get("dtype"))})
    elif "dtype" not in scoring.model_fields_set and "adapter" in options:
        scoring = scoring.model_copy(update={"dtype": _known(dtype_of_training(model))})
    return Subject(model, policy, chosen, scoring)


def _engine_of(export: ExportFolder) -> str | None:
    """The one engine that scored the export's reference, where it can be opened here by its name."""
    from curation.scoring.engines import available_engines

    engine = (export.reference or {}).get("engine")
    return engine if engine in {each.name for each in available_engines() if each.is_ready} else None


def _known(dtype: str | None) -> str:
    """A dtype's name, without the quantisation behind it, where engines take it; else ``auto``."""
    name = dtype_alone(dtype or "auto")
    return name if name in get_args(DtypeName) else "auto"


def _is_reference(policy: ReferencePolicy, reference: Mapping[str, Any] | None) -> bool:
    """Whether these weights are those that scored, whatever is cut."""
    if reference is None or policy.weights_hash != reference.get("weights_hash"):
        return False
    adapter = None if policy.adapter is None else str(policy.adapter)
    return adapter == reference.get("adapter")


def _base_and_adapter(model: str) -> tuple[str, dict[str, Any]]:
    """An adapter's folder stands for its base with the adapter."""
    file = Path(model) / "adapter_config.json"
    if not file.is_file() or (Path(model) / "config.json").is_file():
        return model, {}
    base = json.loads(file.read_text(encoding="utf-8"))["base_model_name_or_path"]
    return str(base), {"adapter": model}
