"""Winnow's own exports: ``winnow``, whose prompt is JSON in a text, and ``hf-dataset``, whose prompt is messages."""

from __future__ import annotations

from curation.ingest.candidates import candidates, extra_columns, text, value
from curation.ingest.formats.format import Format, Sample, all_have
from curation.ingest.settings import IngestSettings

_READ = ("criterion", "prompt", "chosen", "rejected")
_PROMPT = f"""(
    select
        *,
        try_cast(case json_type(doc, '$.prompt') when 'VARCHAR' then {text("$.prompt")} end as json) as inner_json,
        case when json_type(inner_json) = 'ARRAY' then inner_json else {value("$.prompt")} end as messages
    from rows
)"""


def _query(settings: IngestSettings) -> str:
    return candidates(
        _PROMPT,
        prompt="messages",
        response_a=value("$.chosen"),
        response_b=value("$.rejected"),
        vote="'a'",
        criterion=text("$.criterion"),
        may_lack_prompt="coalesce(messages::varchar = '[]', false)",
        extra=extra_columns(_READ),
    )


def _matches(sample: Sample) -> bool:
    return all_have(sample, "pair_id", "prompt_group_id", *_READ)


WINNOW = Format(
    "winnow",
    "Winnow's exports as winnow and hf-dataset: pair_id, prompt_group_id, criterion, prompt, chosen, rejected",
    _matches,
    _query,
)
