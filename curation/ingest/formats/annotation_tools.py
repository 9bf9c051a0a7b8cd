"""Argilla records and Label Studio's pairwise tasks: several annotators a row."""

from __future__ import annotations

from curation.ingest.candidates import candidates, key, literal, value
from curation.ingest.formats.format import Format, Sample
from curation.ingest.formats.sql import PROMPTS, SIDES, first_value
from curation.ingest.settings import IngestSettings

_NAMES = [name for pair in SIDES for name in pair]


def _side(position: int, source: str = "doc") -> str:
    """SQL of the first pair of names that the record has: its first or second response."""
    cases = " ".join(
        f"when json_exists({source}, {literal(key(a))}) and json_exists({source}, {literal(key(b))})"
        f" then json_extract({source}, {literal(key((a, b)[position]))})"
        for a, b in SIDES
    )
    return f"case {cases} end"


def _vote(answer: str) -> str:
    """SQL of the vote of an answer that names a response, a side, or a tie."""
    first = ", ".join(literal(each) for each in sorted({a for a, _ in SIDES} | {"1", "first", "model_a", "response a"}))
    second = ", ".join(
        literal(each) for each in sorted({b for _, b in SIDES} | {"2", "second", "model_b", "response b"})
    )
    clean = f"lower(trim({answer}))"
    return (
        f"case when {clean} in ({first}) then 'a' when {clean} in ({second}) then 'b'"
        f" when {clean} in ('tie', 'equal', 'same', 'both', 'draw', '0', 'both_good') then 'tie'"
        f" when {clean} in ('both_bad', 'both bad', 'neither', 'bothbad') then 'both_bad' else {answer} end"
    )


# one row a question and annotator; a ranking names the best response first, two of one rank are a tie
_ARGILLA = """(
    with questions as (
        select *, unnest(list_filter(json_keys(doc), lambda k: ends_with(k, '.responses'))) as question_key from rows
    ),

    answers as (
        select *,
            question_key[:-11] as question,
            unnest(range(json_array_length(doc, '$."' || question_key || '"')::bigint)) as i
        from questions
        where json_type(doc, '$."' || question_key || '"') = 'ARRAY'
    ),

    answered as (
        select *,
            json_extract(doc, '$."' || question_key || '"[' || i || ']') as answer,
            json_extract_string(doc, '$."' || question_key || '.users"[' || i || ']') as annotator,
            coalesce(json_extract_string(doc, '$."' || question_key || '.status"[' || i || ']'), 'submitted') as status
        from answers
    )

    select *,
        case json_type(answer)
            when 'ARRAY' then
                case
                    when json_extract_string(answer, '$[0].rank') = json_extract_string(answer, '$[1].rank') then 'tie'
                    when try_cast(json_extract_string(answer, '$[0].rank') as integer)
                        <= try_cast(json_extract_string(answer, '$[1].rank') as integer)
                        then json_extract_string(answer, '$[0].value')
                    else json_extract_string(answer, '$[1].value')
                end
            when 'OBJECT' then json_extract_string(answer, '$.value')
            else json_extract_string(answer, '$')
        end as said
    from answered
    where status = 'submitted'
)"""


def _argilla(settings: IngestSettings) -> str:
    return candidates(
        _ARGILLA,
        prompt=first_value(*PROMPTS),
        response_a=_side(0),
        response_b=_side(1),
        vote=_vote("said"),
        criterion="question",
        annotator_id="annotator",
        annotator_kind="'human'",
        is_display_order_known="true",
        extra="json_extract(doc, '$.metadata')::varchar",
    )


def _matches_argilla(sample: Sample) -> bool:
    def has_question(row: object) -> bool:
        return isinstance(row, dict) and any(
            name.endswith(".responses") and isinstance(values, list) for name, values in row.items()
        )

    return sum(has_question(row) for row in sample) * 2 > len(sample)


_LABEL_STUDIO = """(
    with annotations as (
        select source_row, doc, json_extract(doc, '$.data') as data,
            unnest(coalesce(json_extract(doc, '$.annotations[*]'), json_extract(doc, '$.completions[*]'), []))
                as annotation
        from rows
    ),

    results as (
        select *, unnest(json_extract(annotation, '$.result[*]')) as result
        from annotations
        where coalesce(json_extract_string(annotation, '$.was_cancelled'), 'false') <> 'true'
    )

    select *,
        coalesce(json_extract_string(result, '$.value.selected'), json_extract_string(result, '$.value.choices[0]'))
            as said,
        coalesce(json_extract_string(annotation, '$.completed_by.email'),
            json_extract_string(annotation, '$.completed_by.id'), json_extract_string(annotation, '$.completed_by'))
            as annotator
    from results
    where json_extract_string(result, '$.type') in ('pairwise', 'choices')
)"""


def _label_studio(settings: IngestSettings) -> str:
    return candidates(
        _LABEL_STUDIO,
        prompt=first_value(*PROMPTS, source="data"),
        response_a=_side(0, "data"),
        response_b=_side(1, "data"),
        vote=_vote("said"),
        criterion="case when json_extract_string(result, '$.type') = 'choices'"
        " then json_extract_string(result, '$.from_name') end",
        annotator_id="annotator",
        annotator_kind="'human'",
        annotated_at="json_extract_string(annotation, '$.created_at')",
        batch="json_extract_string(doc, '$.project')",
        is_display_order_known="true",
        extra=f"json_extract(json_object('id', {value('$.id')}, 'meta', {value('$.meta')}), '$')::varchar",
    )


def _matches_label_studio(sample: Sample) -> bool:
    fitting = [row for row in sample if isinstance(row.get("data"), dict) and isinstance(row.get("annotations"), list)]
    return len(fitting) * 2 > len(sample)


ARGILLA = Format("argilla", "Argilla records: QUESTION.responses, .users, .status", _matches_argilla, _argilla)
LABEL_STUDIO = Format("label-studio", "Label Studio's pairwise JSON export", _matches_label_studio, _label_studio)
