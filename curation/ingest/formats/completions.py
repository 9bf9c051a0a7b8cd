"""Several rated or ranked answers in one row: UltraFeedback, distilabel, NeMo-RL, Nectar."""

from __future__ import annotations

from curation.ingest.candidates import extra_columns
from curation.ingest.formats.format import Format, Sample, all_have
from curation.ingest.formats.ranked import all_pairs
from curation.ingest.formats.sql import first_value
from curation.ingest.settings import IngestSettings

_ULTRAFEEDBACK = f"""
    with completions as (
        select source_row, doc, {first_value("instruction", "prompt")} as prompt,
            json_extract(doc, '$.completions[*]') as completions
        from rows
    ),

    aspects as (
        select *, null::varchar as criterion,
            list_transform(completions, lambda c: {{
                'response': json_extract(c, '$.response'), 'model': json_extract_string(c, '$.model'),
                'score': coalesce(json_extract_string(c, '$.overall_score'),
                                  json_extract_string(c, '$."fine-grained_score"'))
            }}) as items
        from completions
        union all by name
        select * exclude aspect, aspect as criterion,
            list_transform(completions, lambda c: {{
                'response': json_extract(c, '$.response'), 'model': json_extract_string(c, '$.model'),
                'score': json_extract_string(c, '$.annotations.' || aspect || '.Rating')
            }}) as items
        from (select *, unnest(json_keys(completions[1], '$.annotations')) as aspect from completions)
    )

    select source_row, doc, prompt, criterion, 'model' as annotator_kind, items
    from aspects
    -- an aspect that was not rated, or "N/A", says nothing; that the overall score is missing is a defect
    where criterion is null or len(list_filter(items, lambda item: try_cast(item.score as double) is null)) = 0
"""

_DISTILABEL = f"""
    select source_row, doc, {first_value("instruction", "prompt", "input")} as prompt, null::varchar as criterion,
        'model' as annotator_kind,
        list_transform(json_extract(doc, '$.generations[*]'), lambda g, i: {{
            'response': g,
            'score': json_extract_string(doc, '$.ratings[' || (i - 1) || ']'),
            'model': coalesce(json_extract_string(doc, '$.generation_models[' || (i - 1) || ']'),
                              json_extract_string(doc, '$.model_names[' || (i - 1) || ']'))
        }}) as items
    from rows
"""

_NEMO = """
    select source_row, doc, json_extract(doc, '$.context') as prompt, null::varchar as criterion,
        null::varchar as annotator_kind,
        list_transform(json_extract(doc, '$.completions[*]'), lambda c: {
            'response': json_extract(c, '$.completion'),
            'score': (-try_cast(json_extract_string(c, '$.rank') as double))::varchar,
            'model': null::varchar
        }) as items
    from rows
"""

_NECTAR_TURNS = r"""
    select *,
        regexp_extract_all(transcript, e'\n\n(Human|Assistant):', 1) as names,
        string_split_regex(transcript, e'\n\n(?:Human|Assistant):') as contents
    from (
        select *, regexp_replace(json_extract_string(doc, '$.prompt'), e'\n\nAssistant:\\s*$', '') as transcript
        from rows
    )
"""

_NECTAR = f"""
    select source_row, doc, null::varchar as criterion, 'model' as annotator_kind,
        case
            when len(names) > 0 and contents[1] = '' then to_json(list_transform(names, lambda name, i: {{
                'role': lower(name), 'content': trim(contents[i + 1], e' \\n\\t\\r') }}))
            else json_extract(doc, '$.prompt')
        end as prompt,
        list_transform(json_extract(doc, '$.answers[*]'), lambda c: {{
            'response': json_extract(c, '$.answer'),
            'score': (-try_cast(json_extract_string(c, '$.rank') as double))::varchar,
            'model': json_extract_string(c, '$.model')
        }}) as items
    from ({_NECTAR_TURNS})
"""


def _format(name: str, about: str, ratings: str, keys: list[str], matches_row: tuple[str, str, str]) -> Format:
    """A format of which most rows have a list under ``matches_row[0]`` whose first element has the other two keys."""
    column, *inner = matches_row

    def matches(sample: Sample) -> bool:
        fitting = [
            row for row in sample
            if isinstance(row.get(column), list) and row[column]
            and (not inner[0] or (isinstance(row[column][0], dict) and all(each in row[column][0] for each in inner)))
        ]  # fmt: skip
        return all_have(sample, *keys) and len(fitting) * 2 > len(sample)

    def query(settings: IngestSettings) -> str:
        return all_pairs(ratings, settings, extra=extra_columns([*keys, column]))

    return Format(name, about, matches, query)


ULTRAFEEDBACK = _format(
    "ultrafeedback", "UltraFeedback: rated completions, overall and by aspect", _ULTRAFEEDBACK,
    ["instruction"], ("completions", "response", "model"),
)  # fmt: skip
DISTILABEL = _format(
    "distilabel", "distilabel: generations with ratings", _DISTILABEL, ["ratings"], ("generations", "", "")
)
NEMO_RL = _format(
    "nemo-rl", "NeMo-RL: context and completions with ranks, 0 the best", _NEMO,
    ["context"], ("completions", "rank", "completion"),
)  # fmt: skip
NECTAR = _format(
    "nectar", "Nectar (axolotl's zephyr.nectar): prompt and answers with ranks, 1 the best", _NECTAR,
    ["prompt"], ("answers", "answer", "rank"),
)  # fmt: skip
