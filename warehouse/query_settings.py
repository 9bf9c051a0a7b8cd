"""How much a user's query may take: the ``[query]`` table of ``winnow.toml``."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class QuerySettings(BaseModel):
    """The ``[query]`` table of ``winnow.toml``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    memory_limit: str = Field(default="4GB", description="Memory of a query, before it spills to a temporary folder")
    temporary_limit: str = Field(default="50GB", description="Disk that a query may spill to")
    timeout_seconds: float = Field(default=300, gt=0, description="Longest time of a query")
    threads: int | None = Field(default=None, ge=1, description="Threads of a query; all cores when absent")
