"""Crowd-Kit's pairwise long form: ``worker, left, right, label``; the label repeats the item that won."""

from __future__ import annotations

from curation.ingest.candidates import candidates, extra_columns, text, value
from curation.ingest.formats.format import Format, Sample, all_have
from curation.ingest.formats.sql import first_value
from curation.ingest.settings import IngestSettings

_LABEL = text("$.label")
_KEYS = ["worker", "left", "right", "label", "prompt", "question", "task", "criterion"]


def _query(settings: IngestSettings) -> str:
    prompt = first_value("prompt", "question")
    return candidates(
        "rows",
        prompt=f"coalesce({prompt}, '[]'::json)",
        may_lack_prompt="true",
        response_a=value("$.left"),
        response_b=value("$.right"),
        vote=f"case {_LABEL} when {text('$.left')} then 'a' when {text('$.right')} then 'b'"
        f" when 'left' then 'a' when 'right' then 'b' else {_LABEL} end",
        criterion=text("$.criterion"),
        annotator_id=text("$.worker"),
        annotator_kind=f"case when {text('$.worker')} is not null then 'human' end",
        batch=text("$.task"),
        is_display_order_known="true",
        extra=extra_columns(_KEYS),
    )


def _matches(sample: Sample) -> bool:
    return all_have(sample, "worker", "left", "right", "label")


CROWD_KIT = Format("crowd-kit", "Crowd-Kit's pairwise long form: worker, left, right, label", _matches, _query)
