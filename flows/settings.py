"""``winnow.toml``: one frozen model, put together from the settings that stand beside what they configure."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from curation.export.settings import ExportSettings
from curation.ingest.settings import IngestSettings
from curation.rules.settings import CurateSettings
from curation.scoring.settings import ScoringSettings
from curation.settings import DiagnoseSettings
from schemas.errors import ConfigError
from schemas.validation import first_problem
from training.settings import TrainSettings
from warehouse.query_settings import QuerySettings
from warehouse.settings import LakeSettings

FILE_NAME = "winnow.toml"


class Settings(BaseModel):
    """Everything that a workspace can be told. Unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lake: LakeSettings = Field(default_factory=LakeSettings)
    query: QuerySettings = Field(default_factory=QuerySettings)
    ingest: IngestSettings = Field(default_factory=IngestSettings)
    curate: CurateSettings = Field(default_factory=CurateSettings)
    export: ExportSettings = Field(default_factory=ExportSettings)
    diagnose: DiagnoseSettings = Field(default_factory=DiagnoseSettings)
    scoring: ScoringSettings = Field(default_factory=ScoringSettings)
    train: TrainSettings = Field(default_factory=TrainSettings)


def load_settings(path: Path) -> Settings:
    """Read ``winnow.toml``.

    Raises:
        ConfigError: it is not TOML, or has an unknown key or a bad value; the message names the key.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    return parse_settings(values, origin=f"{path}: ")


def parse_settings(values: dict[str, Any], *, origin: str = "") -> Settings:
    """Validate settings; ``origin`` stands before the key in the error."""
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise ConfigError(
            f"{origin}{first_problem(error, Settings)}", mend="see docs/settings.md for every key and its default"
        ) from error
