"""Anthropic HH: ``chosen`` and ``rejected`` are whole transcripts that share everything but the last answer."""

from __future__ import annotations

from curation.ingest.candidates import candidates, extra_columns, text
from curation.ingest.formats.format import Format, Sample, all_have
from curation.ingest.settings import IngestSettings

_TURN = r"\n\n(?:Human|Assistant):"

# each step in a query of its own: an alias used in the same select would be computed anew
_PARTS = f"""(
    with transcripts as (
        select
            *,
            json_type(doc, '$.chosen') as chosen_type,
            json_type(doc, '$.rejected') as rejected_type,
            {text("$.chosen")} as chosen,
            {text("$.rejected")} as rejected
        from rows
    ),

    answers as (
        select
            *,
            string_split(chosen, e'\\n\\nAssistant:')[-1] as chosen_answer,
            string_split(rejected, e'\\n\\nAssistant:')[-1] as rejected_answer
        from transcripts
    ),

    -- what stands before the last answer, the 12 characters of '\\n\\nAssistant:' left out
    contexts as (
        select
            *,
            left(chosen, length(chosen) - length(chosen_answer) - 12) as context,
            left(rejected, length(rejected) - length(rejected_answer) - 12) as rejected_context
        from answers
    )

    select
        *,
        string_split_regex(context, '{_TURN}') as contents,
        regexp_extract_all(context, e'\\n\\n(Human|Assistant):', 1) as names
    from contexts
)"""

# zipped, because a list that a lambda captures is copied for every element
_MESSAGES = """case when names is not null then to_json(list_transform(
    list_zip(names, contents[2:]), lambda turn: {'role': lower(turn[1]), 'content': trim(turn[2], e' \\n\\t\\r')}
)) end"""

_REASON = """case
    when chosen_type is null or chosen_type = 'NULL' or rejected_type is null or rejected_type = 'NULL'
        then 'missing_response'
    when chosen_type <> 'VARCHAR' or rejected_type <> 'VARCHAR' then 'response_not_text'
    when chosen_answer = chosen or rejected_answer = rejected or contents[1] <> '' then 'bad_transcript'
    when contains(chosen_answer, e'\\n\\nHuman:') or contains(rejected_answer, e'\\n\\nHuman:') then 'ends_with_user'
    when context <> rejected_context then 'prompt_mismatch'
end"""


def _query(settings: IngestSettings) -> str:
    return candidates(
        _PARTS,
        prompt=_MESSAGES,
        response_a="to_json(trim(chosen_answer, e' \\n\\t\\r'))",
        response_b="to_json(trim(rejected_answer, e' \\n\\t\\r'))",
        vote="'a'",
        extra=extra_columns(["chosen", "rejected"]),
        reason=_REASON,
    )


def _matches(sample: Sample) -> bool:
    if not all_have(sample, "chosen", "rejected") or all_have(sample, "prompt"):
        return False
    return sum("\n\nAssistant:" in str(row.get("chosen")) for row in sample) * 2 > len(sample)


HH = Format("hh", "Anthropic HH transcripts, split at the last '\\n\\nAssistant:'", _matches, _query)
