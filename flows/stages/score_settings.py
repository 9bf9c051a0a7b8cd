"""With what a run scores: what was given, then ``[scoring]``, then the reference policy that was used last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from pydantic import ValidationError

from curation.scoring.engines import available_engines, choose_engine
from curation.scoring.settings import DtypeName, ScoringSettings
from flows.workspace import Workspace
from schemas.errors import ConfigError, ModelError
from schemas.validation import first_problem
from schemas.wording import counted
from warehouse.lake import Lake
from warehouse.scores import last_policy


def scoring_settings(workspace: Workspace, lake: Lake, given: dict[str, Any]) -> tuple[ScoringSettings, bool]:
    """Settings of a run, with a model, and whether that is the one used last because nothing names one.

    Where a model is named, what else is left open has its default. Where none is, the whole policy that was used last
    stands in: model, revision, adapter, template, longest sequence, truncation and quantisation.

    Args:
        workspace: holds ``[scoring]``.
        lake: holds the policies so far.
        given: keys of ``[scoring]``, which win where they are not None.

    Raises:
        ConfigError: a value is not allowed, or a server is given to an engine that asks none.
        EngineError: the engine that is given is unknown or not installed.
        ModelError: no model is named, and none was used so far.
    """
    chosen = {key: value for key, value in given.items() if value is not None}
    if "server" in chosen and chosen.setdefault("engine", "vllm-server") != "vllm-server":
        raise ConfigError(f"--server is for engine vllm-server, not {chosen['engine']}", mend="leave one of them out")
    if "engine" in chosen:
        choose_engine(chosen["engine"])
    configured = workspace.settings.scoring
    named = {key: getattr(configured, key) for key in configured.model_fields_set} | chosen
    is_last = named.get("model") is None
    if named.get("server") and named.get("engine", "auto") == "auto":
        named["engine"] = "vllm-server"
    if is_last:
        last = last_policy(lake)
        if last is None:
            raise ModelError("no reference policy was given", mend="winnow score --model FOLDER_OR_HUB_ID")
        named = last | {key: value for key, value in named.items() if key != "model"}
    return validated(named), is_last


def as_before(settings: ScoringSettings, earlier: Sequence[tuple[str, str, int]]) -> tuple[ScoringSettings, str]:
    """Settings that go on with the engine and dtype of a policy's earlier scores, where none was asked for.

    Args:
        settings: what was asked for, in flags or in ``[scoring]``, is among its ``model_fields_set``.
        earlier: as :func:`warehouse.scores.scored_by` gives them.

    Returns:
        The settings, and why they do not go on as before; empty where they do, or where another was asked for.
    """
    if not earlier:
        return settings, ""
    engine, dtype, count = earlier[0]
    changed: dict[str, Any] = {}
    obstacle = ""
    if "engine" not in settings.model_fields_set:
        obstacle = _obstacle(engine, settings)
        changed |= {} if obstacle else {"engine": engine}
    if "dtype" not in settings.model_fields_set and dtype_alone(dtype) in get_args(DtypeName):
        changed["dtype"] = dtype_alone(dtype)
    why = f"{counted(count, 'response')} scored by {engine}, {obstacle}: another engine goes on" if obstacle else ""
    return settings.model_copy(update=changed), why


def dtype_alone(dtype: str) -> str:
    """The dtype of the computation, without the quantisation behind it."""
    return dtype.partition("/")[0]


def _obstacle(engine: str, settings: ScoringSettings) -> str:
    """Why an engine cannot go on; empty where it can."""
    if engine == "vllm-server":
        return "" if settings.server else "which needs its URL (--server)"
    return (
        "" if any(each.name == engine and each.is_available for each in available_engines()) else "not installed here"
    )


def validated(values: dict[str, Any]) -> ScoringSettings:
    """Settings of scoring from keys of ``[scoring]``.

    Raises:
        ConfigError: a value is not allowed.
    """
    try:
        return ScoringSettings.model_validate(values)
    except ValidationError as error:
        problem = first_problem(error, ScoringSettings)
        raise ConfigError(f"scoring.{problem}", mend="see docs/settings.md for every key") from error
