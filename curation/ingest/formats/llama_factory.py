"""LLaMA-Factory's ranking sets (alpaca and sharegpt) and axolotl's chat_template.default."""

from __future__ import annotations

from curation.ingest.candidates import candidates, extra_columns, text, value
from curation.ingest.formats.format import Format, Sample, all_have
from curation.ingest.formats.sql import first_value
from curation.ingest.settings import IngestSettings

_ALPACA_USER = f"""concat_ws(e'\\n', {text("$.instruction")}, nullif({text("$.input")}, ''))"""
_TURN = '{"role":"VARCHAR","content":"JSON"}'

# history is a list of [question, answer]; system and history come before the instruction
_ALPACA = f"""(
    select
        *,
        {text("$.system")} as system_text,
        coalesce(json_extract(doc, '$.history[*]'), []) as history,
        to_json(flatten([
            case when coalesce(system_text, '') <> '' then [{{'role': 'system', 'content': to_json(system_text)}}]
                else [] end,
            flatten(list_transform(history, lambda turn: [
                {{'role': 'user', 'content': json_extract(turn, '$[0]')}},
                {{'role': 'assistant', 'content': json_extract(turn, '$[1]')}}
            ])),
            [{{'role': 'user', 'content': to_json({_ALPACA_USER})}}]
        ])) as turns,
        json_extract(doc, '$.output') as output
    from rows
)"""


def _alpaca(settings: IngestSettings) -> str:
    return candidates(
        _ALPACA,
        prompt=f"case when {_ALPACA_USER} <> '' then turns end",
        response_a="coalesce(json_extract(doc, '$.chosen'), json_extract(output, '$[0]'))",
        response_b="coalesce(json_extract(doc, '$.rejected'), json_extract(output, '$[1]'))",
        vote="'a'",
        extra=extra_columns(["instruction", "input", "system", "history", "output", "chosen", "rejected"]),
    )


def _one_turn(name: str) -> str:
    """An answer that is one message, as a list of one; anything else as it is."""
    found = value(f"$.{name}")
    return f"case when json_type({found}) = 'OBJECT' then json_array({found}) else {found} end"


def _sharegpt(settings: IngestSettings) -> str:
    turns = first_value("conversations", "messages", "conversation")
    system = text("$.system")
    with_system = (
        f"case when coalesce({system}, '') <> '' and json_type({turns}) = 'ARRAY' then to_json(list_prepend("
        f"json_object('role', 'system', 'content', {system}), json_extract({turns}, '$[*]'))) else {turns} end"
    )
    return candidates(
        "rows",
        prompt=with_system,
        response_a=_one_turn("chosen"),
        response_b=_one_turn("rejected"),
        vote="'a'",
        extra=extra_columns(["conversations", "messages", "conversation", "chosen", "rejected", "system"]),
    )


def _matches_alpaca(sample: Sample) -> bool:
    if not all_have(sample, "instruction"):
        return False
    ranked = [row for row in sample if isinstance(row.get("output"), list) and len(row["output"]) > 1]
    return all_have(sample, "chosen", "rejected") or len(ranked) * 2 > len(sample)


def _matches_sharegpt(sample: Sample) -> bool:
    objects = [row for row in sample if isinstance(row.get("chosen"), dict) and isinstance(row.get("rejected"), dict)]
    return len(objects) * 2 > len(sample)


LLAMA_FACTORY_ALPACA = Format(
    "llama-factory-alpaca",
    "LLaMA-Factory ranking, alpaca: instruction, input, chosen, rejected",
    _matches_alpaca,
    _alpaca,
)
LLAMA_FACTORY_SHAREGPT = Format(
    "llama-factory-sharegpt",
    "LLaMA-Factory ranking, sharegpt, and axolotl chat_template: conversations or messages; chosen, rejected a message",
    _matches_sharegpt,
    _sharegpt,
)
