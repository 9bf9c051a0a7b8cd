"""What ``winnow curate`` can be told: the ``[curate]`` table of ``winnow.toml``."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class CurateSettings(BaseModel):
    """The ``[curate]`` table of ``winnow.toml``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rules: str = Field(default="dpo-safe", description="Profile, or TOML file of rules, when --rules is not given")
