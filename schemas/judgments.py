"""The long form: what every reader of ``curation/ingest`` yields, one row a vote, and what must hold of it."""

from __future__ import annotations

from typing import Annotated, Any

import pandera.polars as pa
import polars as pl

from schemas.enums import Vote

_ID = r"^[0-9a-f]{32}$"


class Judgments(pa.DataFrameModel):
    """One row a vote, with its texts; the columns of ``raw.judgments``, ``raw.prompts`` and ``raw.responses``."""

    judgment_id: str = pa.Field(
        str_matches=_ID, description="content hash of source and vote; equal votes are told apart in the lake"
    )
    pair_id: str = pa.Field(str_matches=_ID, description="content hash of the unordered responses and the criterion")
    prompt_id: str = pa.Field(str_matches=_ID, description="content hash of the messages")
    response_a_id: str = pa.Field(str_matches=_ID, description="content hash of prompt and text")
    response_b_id: str = pa.Field(str_matches=_ID, description="content hash of prompt and text")
    messages: str = pa.Field(str_startswith="[", description="the prompt as canonical JSON messages; [] where none")
    response_a: str = pa.Field(str_length={"min_value": 1}, description="text shown first")
    response_b: str = pa.Field(str_length={"min_value": 1}, description="text shown second")
    model_a: str = pa.Field(nullable=True, description="what wrote response_a")
    model_b: str = pa.Field(nullable=True, description="what wrote response_b")
    criterion: str = pa.Field(str_length={"min_value": 1}, description="what was asked")
    vote: str = pa.Field(isin=[vote.value for vote in Vote], description="a, b or tie, in display order")
    is_display_order_known: bool = pa.Field(description="whether a and b are the order in which they were shown")
    strength: float = pa.Field(nullable=True, description="strength of the preference as given")
    is_both_bad: bool = pa.Field(description="a tie because both responses are bad")
    annotator_id: str = pa.Field(nullable=True, description="who voted; NULL where the source does not say")
    annotator_kind: str = pa.Field(nullable=True, isin=["human", "model"], description="human or model")
    annotated_at: Annotated[pl.Datetime, "us", None] = pa.Field(nullable=True, description="when, UTC")
    batch: str = pa.Field(nullable=True, description="batch or task of the annotation")
    source_split: str = pa.Field(nullable=True, description="split that the source gives")
    source: str = pa.Field(str_length={"min_value": 1}, description="name of the source")
    source_row: int = pa.Field(ge=0, description="row in the source, from 0")
    extra: str = pa.Field(nullable=True, description="other columns of the row, as a JSON object")

    class Config:
        """No column may be missing or added."""

        strict = True
        ordered = True

    @pa.dataframe_check
    @classmethod
    def both_bad_is_a_tie(cls, data: Any) -> pl.LazyFrame:
        """Only a tie can say that both responses are bad."""
        return data.lazyframe.select(~pl.col("is_both_bad") | (pl.col("vote") == "tie"))
