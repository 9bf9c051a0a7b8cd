"""Where the lake lives, and how much of the machine it may use."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class LakeSettings(BaseModel):
    """The ``[lake]`` table of ``winnow.toml``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    catalog: str = Field(
        default="sqlite:catalog.sqlite",
        description="DuckLake catalog: sqlite:FILE (relative to the workspace), or postgres:dbname=... host=...",
    )
    data_path: str = Field(
        default="data/", description="Folder (relative to the workspace) or object-store URL of the Parquet files"
    )
    memory_limit: str = Field(default="8GB", description="Memory that DuckDB may use, before it spills to disk")
    threads: int | None = Field(default=None, ge=1, description="Threads of DuckDB; all cores when absent")
    busy_timeout_seconds: float = Field(
        default=120, gt=0, description="How long a write waits for a busy catalog before it gives up"
    )
