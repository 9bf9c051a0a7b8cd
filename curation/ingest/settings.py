"""What ingest accepts, and how much memory it may use."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class IngestSettings(BaseModel):
    """The ``[ingest]`` table of ``winnow.toml``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_quarantined_share: float = Field(
        default=0.05, ge=0, le=1, description="The run stops when more than this share of a file's rows is bad"
    )
    identical_responses: Literal["quarantine", "keep"] = Field(
        default="quarantine", description="What happens to a vote between two responses of exactly the same text"
    )
    tie_threshold: float = Field(
        default=0, ge=0, description="Two ratings or ranks that differ by no more than this are a tie"
    )
    max_row_bytes: int = Field(default=16 << 20, ge=1024, description="A larger row is quarantined")
    max_payload_bytes: int = Field(
        default=64 << 10, ge=256, description="How much of a bad row is kept in raw.quarantine.payload"
    )
    batch_bytes: int = Field(default=16 << 20, ge=1 << 16, description="Text that one core parses at a time")
    commit_bytes: int = Field(
        default=8 << 30,
        ge=0,
        description="Files are written together, all or none, until this much text is read; then a new transaction",
    )
    memory_limit: str = Field(default="1GB", description="Memory of DuckDB while it parses and while it writes")
