"""What ``winnow export`` can be told: the ``[export]`` table of ``winnow.toml``."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class ExportSettings(BaseModel):
    """The ``[export]`` table of ``winnow.toml``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    test_share: float = Field(
        default=0.1, ge=0, lt=1, description="Share of the prompt groups that is held out as the test split"
    )
    seed: int = Field(default=0, description="Another seed holds out other prompt groups")
    shard_rows: int = Field(default=50_000, ge=1, description="Rows of one file")
    licence: str | None = Field(default=None, description="Licence of the exported set, for its data card")
    source_licences: dict[str, str] = Field(
        default_factory=dict, description="Licence of each source by its name, for the manifest and the data card"
    )
