"""UltraFeedback-binarized and distilabel pairs: ``chosen`` and ``rejected`` with ratings and models beside them."""

from __future__ import annotations

from curation.ingest.candidates import candidates, extra_columns
from curation.ingest.formats.format import Format, Sample, all_have
from curation.ingest.formats.sql import first_text, first_value, with_system
from curation.ingest.settings import IngestSettings


def _ratings(side: str) -> tuple[str, ...]:
    return (f"score_{side}", f"{side}_score", f"{side}_rating", f"{side}-rating", f"rating_{side}")


def _models(side: str) -> tuple[str, ...]:
    return (f"{side}_model", f"{side}-model", f"model_{side}")


_KEYS = [
    "chosen", "rejected", "prompt", "instruction", "system", "messages",
    *(name for side in ("chosen", "rejected") for name in (*_ratings(side), *_models(side))),
]  # fmt: skip

_RATED = f"""(
    select
        *,
        {first_text(*_ratings("chosen"))} as chosen_rating,
        {first_text(*_ratings("rejected"))} as rejected_rating,
        {first_text("prompt", "instruction")} as question,
        {first_text("system")} as system_text,
        try_cast(chosen_rating as double) - try_cast(rejected_rating as double) as difference
    from rows
)"""


def _query(settings: IngestSettings) -> str:
    prompt = first_value("prompt", "instruction")
    return candidates(
        _RATED,
        prompt=f"case when json_type({prompt}) = 'VARCHAR' then {with_system('system_text', 'question')}"
        f" else {prompt} end",
        response_a=first_value("chosen"),
        response_b=first_value("rejected"),
        model_a=first_text(*_models("chosen")),
        model_b=first_text(*_models("rejected")),
        vote=f"case when abs(difference) <= {settings.tie_threshold!r} then 'tie' else 'a' end",
        strength="difference::varchar",
        reason="case when difference is null and (chosen_rating is not null or rejected_rating is not null)"
        " then 'bad_rating' end",
        extra=extra_columns(_KEYS),
    )


def _matches(sample: Sample) -> bool:
    if not all_have(sample, "chosen", "rejected") or all_have(sample, "conversations"):
        return False
    return any(all_have(sample, name) for name in (*_ratings("chosen"), *_models("chosen")))


RATED_PAIRS = Format(
    "ultrafeedback-binarized",
    "UltraFeedback-binarized and distilabel pairs: chosen, rejected, score_* or *_rating, *_model",
    _matches,
    _query,
)
