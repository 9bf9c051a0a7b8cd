"""All pairs of several rated or ranked responses to one prompt."""

from __future__ import annotations

from curation.ingest.candidates import candidates
from curation.ingest.settings import IngestSettings


def all_pairs(ratings: str, settings: IngestSettings, *, extra: str = "null::varchar") -> str:
    """Candidates from every two responses of a row, the one that stands first as a.

    Args:
        ratings: a query that returns ``source_row``, ``doc``, ``prompt`` (JSON), ``criterion`` (text, NULL for
            overall), ``annotator_kind`` and ``items``: a list of structs ``response`` (JSON), ``score`` (text, more is
            better) and ``model`` (text).
        extra: SQL of the other columns over ``doc``.
    """
    pairs = f"""(
        with ratings as ({ratings}),
        places as (select *, unnest(range(1, len(items) + 1)) as i from ratings),
        pairs as (select *, unnest(range(i + 1, len(items) + 1)) as j from places)
        select
            *,
            items[i] as a,
            items[j] as b,
            try_cast(items[i].score as double) - try_cast(items[j].score as double) as difference
        from pairs
    )"""
    return candidates(
        pairs,
        prompt="prompt",
        response_a="a.response",
        response_b="b.response",
        model_a="a.model",
        model_b="b.model",
        criterion="criterion",
        annotator_kind="annotator_kind",
        vote=vote_of_difference("difference", settings),
        strength="abs(difference)::varchar",
        extra=extra,
        reason="case when difference is null or not isfinite(difference) then 'bad_rating' end",
    )


def vote_of_difference(difference: str, settings: IngestSettings) -> str:
    """SQL of the vote: a tie within ``tie_threshold``, else the side with more."""
    return (
        f"case when abs({difference}) <= {settings.tie_threshold!r} then 'tie'"
        f" when {difference} > 0 then 'a' when {difference} < 0 then 'b' end"
    )
