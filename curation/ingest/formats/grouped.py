"""One response a row: HelpSteer's ratings and KTO's labels. Rows of one prompt are compared with each other."""

from __future__ import annotations

from curation.ingest.candidates import candidates, key, text, value
from curation.ingest.formats.format import Format, Sample, all_have
from curation.ingest.formats.ranked import vote_of_difference
from curation.ingest.settings import IngestSettings

HELPSTEER_ASPECTS = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
_PROMPT = value("$.prompt")


def _pairs(columns: str) -> str:
    """Every two rows of one prompt, the earlier one as a; ``columns`` is what is taken of each."""
    taken = f"select source_row, {_PROMPT} as prompt, {columns} from rows"
    return (
        f"(with taken as ({taken}) select a.source_row as source_row, b.source_row as second_row, a.prompt as prompt,"
        " a as a, b as b from taken as a join taken as b on a.prompt = b.prompt and a.source_row < b.source_row)"
    )


def _helpsteer(settings: IngestSettings) -> str:
    ratings = ", ".join(f"{text(key(aspect))} as {aspect}" for aspect in HELPSTEER_ASPECTS)
    pairs = _pairs(f"{value('$.response')} as response, {ratings}")
    return " union all by name ".join(_helpsteer_aspect(pairs, aspect, settings) for aspect in HELPSTEER_ASPECTS)


def _helpsteer_aspect(pairs: str, aspect: str, settings: IngestSettings) -> str:
    difference = f"(try_cast(a.{aspect} as double) - try_cast(b.{aspect} as double))"
    return "(" + candidates(
        pairs,
        other_row="second_row",
        prompt="prompt",
        response_a="a.response",
        response_b="b.response",
        criterion=f"'{aspect}'",
        vote=vote_of_difference(difference, settings),
        strength=f"abs({difference})::varchar",
        reason=f"case when {difference} is null then 'bad_rating' end",
    ) + ")"  # fmt: skip


def _kto(settings: IngestSettings) -> str:
    label = f"try_cast({text('$.label')} as boolean)"
    pairs = _pairs(f"{value('$.completion')} as completion, {label} as label")
    return candidates(
        f"(select * from {pairs} where a.label is distinct from b.label)",
        other_row="second_row",
        prompt="prompt",
        response_a="a.completion",
        response_b="b.completion",
        vote="case when a.label and not b.label then 'a' when b.label and not a.label then 'b' end",
        reason="case when a.label is null or b.label is null then 'bad_rating' end",
    )


def _matches_helpsteer(sample: Sample) -> bool:
    return all_have(sample, "prompt", "response", "helpfulness")


def _matches_kto(sample: Sample) -> bool:
    return all_have(sample, "prompt", "completion", "label")


HELPSTEER = Format(
    "helpsteer", "HelpSteer: one rated response a row; the responses of one prompt make pairs, a criterion each",
    _matches_helpsteer, _helpsteer, group_by=_PROMPT,
)  # fmt: skip
KTO = Format(
    "kto", "KTO: prompt, completion, label; a true and a false label of one prompt make a pair",
    _matches_kto, _kto, group_by=_PROMPT,
)  # fmt: skip
