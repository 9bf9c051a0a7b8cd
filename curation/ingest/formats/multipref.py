"""MultiPref: annotations of normal and of expert workers, overall and by aspect, each on a scale of five."""

from __future__ import annotations

from curation.ingest.candidates import candidates, extra_columns, text
from curation.ingest.formats.format import Format, Sample, all_have
from curation.ingest.formats.sql import first_value
from curation.ingest.settings import IngestSettings

_LISTS = ("normal_worker_annotations", "expert_worker_annotations")
_ASPECTS = {
    "overall_pref": "overall", "helpful_pref": "helpful", "truthful_pref": "truthful", "harmless_pref": "harmless",
}  # fmt: skip
_STRENGTHS = {"slightly": 1, "clearly": 2}

_ANNOTATIONS = " union all by name ".join(
    f"select source_row, doc, '{name}' as worker_list, unnest(json_extract(doc, '$.{name}[*]')) as annotation from rows"
    for name in _LISTS
)


def _query(settings: IngestSettings) -> str:
    return " union all by name ".join(_aspect(column, criterion) for column, criterion in _ASPECTS.items())


def _aspect(column: str, criterion: str) -> str:
    said = f"(select *, json_extract_string(annotation, '$.{column}') as said from ({_ANNOTATIONS}))"
    strengths = " ".join(f"when contains(lower(said), '{word}') then '{rank}'" for word, rank in _STRENGTHS.items())
    where = "" if criterion == "overall" else " where said is not null"
    query = candidates(
        said,
        prompt=first_value("prompt", "text"),
        response_a=first_value("completion_a"),
        response_b=first_value("completion_b"),
        model_a=text("$.model_a"),
        model_b=text("$.model_b"),
        criterion=f"'{criterion}'",
        vote="case when starts_with(said, 'A-') then 'a' when starts_with(said, 'B-') then 'b' else said end",
        strength=f"case {strengths} end",
        annotator_id="coalesce(json_extract_string(annotation, '$.evaluator'), "
        "json_extract_string(annotation, '$.worker_id'))",
        annotator_kind="'human'",
        annotated_at="json_extract_string(annotation, '$.timestamp')",
        batch="replace(worker_list, '_worker_annotations', '')",
        is_display_order_known="true",
        extra=extra_columns(["prompt", "text", "completion_a", "completion_b", "model_a", "model_b", *_LISTS]),
    )
    return f"({query}{where})"


def _matches(sample: Sample) -> bool:
    return all_have(sample, "completion_a", "completion_b") and any(all_have(sample, name) for name in _LISTS)


MULTIPREF = Format("multipref", "MultiPref: normal_ and expert_worker_annotations, four criteria", _matches, _query)
