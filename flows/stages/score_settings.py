"""With what a run scores: what was given, then ``[scoring]``, then the reference policy that was used last."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from curation.scoring.engines import choose_engine
from curation.scoring.settings import ScoringSettings
from flows.workspace import Workspace
from schemas.errors import ConfigError, ModelError
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
    if is_last:
        last = last_policy(lake)
        if last is None:
            raise ModelError("no reference policy was given", mend="winnow score --model FOLDER_OR_HUB_ID")
        named = last | {key: value for key, value in named.items() if key != "model"}
    return _validated(named), is_last


def _validated(values: dict[str, Any]) -> ScoringSettings:
    try:
        return ScoringSettings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"scoring: {key}: {first['msg']}", mend="see docs/settings.md for every key") from error
