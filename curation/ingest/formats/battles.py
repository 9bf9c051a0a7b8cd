"""Comparisons of two models: Chatbot Arena and MT-bench battles, AlpacaEval annotations."""

from __future__ import annotations

from curation.ingest.candidates import candidates, extra_columns, text, value
from curation.ingest.formats.format import Format, Sample, all_have
from curation.ingest.formats.sql import first_text, first_value
from curation.ingest.settings import IngestSettings

_ARENA_KEYS = [
    "conversation_a",
    "conversation_b",
    "winner",
    "judge",
    "judge_hash",
    "model_a",
    "model_b",
    "turn",
    "tstamp",
]

# MT-bench judges turn 1 of a conversation of two turns: what follows the judged answer was not part of it
_ARENA = f"""(
    select *,
        coalesce({text("$.turn")}, '') as turn,
        json_extract(doc, '$.conversation_a') as whole_a,
        json_extract(doc, '$.conversation_b') as whole_b,
        case when turn = '1' then to_json(json_extract(whole_a, '$[*]')[:2]) else whole_a end as a,
        case when turn = '1' then to_json(json_extract(whole_b, '$[*]')[:2]) else whole_b end as b,
        {first_text("judge", "judge_hash")} as judge,
        lower(trim({text("$.winner")})) as winner
    from rows
)"""

_PARTS = """json_type(a) = 'ARRAY' and json_type(b) = 'ARRAY'
    and json_extract(a, '$[*]')[:-2] is distinct from json_extract(b, '$[*]')[:-2]"""


def _arena(settings: IngestSettings) -> str:
    return candidates(
        _ARENA,
        response_a="a",
        response_b="b",
        vote="case winner when 'model_a' then 'a' when 'model_b' then 'b' when 'tie (bothbad)' then 'both_bad'"
        " when 'tie (both bad)' then 'both_bad' when 'both bad' then 'both_bad' when 'bothbad' then 'both_bad'"
        " else winner end",
        annotator_id="judge",
        annotator_kind="case when judge is null then null when starts_with(lower(judge), 'gpt')"
        " or starts_with(lower(judge), 'claude') then 'model' else 'human' end",
        annotated_at=first_text("tstamp", "timestamp"),
        batch="case when turn <> '' then 'turn ' || turn end",
        model_a=text("$.model_a"),
        model_b=text("$.model_b"),
        is_display_order_known="true",
        reason=f"case when {_PARTS} then 'multi_turn_battle' end",
        extra=extra_columns(_ARENA_KEYS),
    )


def _matches_arena(sample: Sample) -> bool:
    return all_have(sample, "conversation_a", "conversation_b", "winner")


# preference: 1 the first output, 2 the second, between them the judge's weight; 1.5 and (formerly) 0 a tie
_ALPACA_EVAL = f"""(
    select *, {text("$.preference")} as said, try_cast(said as double) as preference,
        coalesce({text("$.input")}, '') as further_input
    from rows
)"""


def _alpaca_eval(settings: IngestSettings) -> str:
    instruction = value("$.instruction")
    return candidates(
        _ALPACA_EVAL,
        prompt=f"case when json_type({instruction}) = 'VARCHAR' and further_input <> ''"
        f" then to_json(({instruction}->>'$') || e'\\n' || further_input) else {instruction} end",
        response_a=first_value("output_1"),
        response_b=first_value("output_2"),
        vote="case when preference = 0 or preference = 1.5 then 'tie' when preference between 1 and 1.5 then 'a'"
        " when preference between 1.5 and 2 then 'b' else said end",
        strength="case when preference between 1 and 2 then (abs(preference - 1.5) * 2)::varchar end",
        annotator_id=text("$.annotator"),
        annotator_kind=f"case when {text('$.annotator')} is null then null else 'model' end",
        model_a=text("$.generator_1"),
        model_b=text("$.generator_2"),
        extra=extra_columns(
            ["instruction", "input", "output_1", "output_2", "preference", "annotator", "generator_1", "generator_2"]
        ),
    )


def _matches_alpaca_eval(sample: Sample) -> bool:
    return all_have(sample, "instruction", "output_1", "output_2", "preference")


ARENA = Format(
    "arena", "Chatbot Arena and MT-bench battles: conversation_a, conversation_b, winner", _matches_arena, _arena
)
ALPACA_EVAL = Format("alpaca-eval", "AlpacaEval's annotations.json", _matches_alpaca_eval, _alpaca_eval)
