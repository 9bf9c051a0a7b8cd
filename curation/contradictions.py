"""Contradictions: judgments that cannot all be right, each with its kind and the ids that show it.

Kinds: two annotators on one pair; one annotator against themselves; the two display orders; two sources; a pair and a
near-duplicate of it; a pair on a cycle of preferences. Ties oppose nobody. The first four are seen in the votes on one
criterion, as numbers, some pairs at a time; the other two in the pairs.
"""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import numpy as np
import polars as pl
from numpy.typing import NDArray

from curation.annotators.votes import BACKWARD, FORWARD, HIGH, LOW, TIE, Votes
from schemas.identity import sql_digest

_SCHEMA = {
    "contradiction_id": pl.String,
    "kind": pl.String,
    "pair_id": pl.String,
    "other_pair_id": pl.String,
    "annotator_id": pl.String,
    "num_for": pl.Int32,
    "num_against": pl.Int32,
    "evidence": pl.String,
}

_CHUNK_VOTES = 1_000_000

_BETWEEN_ANNOTATORS = """
    select
        'between_annotators' as kind, pair, null::varchar as other_pair_id, null::integer as annotator,
        count(*) filter (is_for) as num_for, count(*) filter (not is_for) as num_against,
        to_json({
            'for': list(judgment_id order by judgment_id) filter (is_for),
            'against': list(judgment_id order by judgment_id) filter (not is_for)
        }) as evidence
    from sides
    group by pair
    having bool_or(is_for) and not bool_and(is_for)
        -- unnamed voters are taken to be different people
        and count(distinct annotator) + count(*) filter (annotator is null) > 1
"""

_WITHIN_ANNOTATOR = """
    select
        'within_annotator' as kind, pair, null::varchar as other_pair_id, annotator,
        count(*) filter (is_for) as num_for, count(*) filter (not is_for) as num_against,
        to_json({
            'for': list(judgment_id order by judgment_id) filter (is_for),
            'against': list(judgment_id order by judgment_id) filter (not is_for),
            'is_swapped': count(distinct display_order) > 1
        }) as evidence
    from sides
    where annotator is not null
    group by pair, annotator
    having bool_or(is_for) and not bool_and(is_for)
"""

_BETWEEN_GROUPS = """
    with majorities as (
        select
            pair, {column} as part,
            count(*) filter (is_for) as num_for, count(*) filter (not is_for) as num_against
        from sides
        where {column} is not null
        group by pair, {column}
    )
    select
        '{kind}' as kind, pair, null::varchar as other_pair_id, null::integer as annotator,
        sum(num_for)::bigint as num_for, sum(num_against)::bigint as num_against,
        to_json({{
            'for': list(part order by part) filter (num_for > num_against),
            'against': list(part order by part) filter (num_for < num_against),
            'pair': any_value(pair_id)
        }}) as evidence
    from majorities
    join contested using (pair)
    group by pair
    having bool_or(num_for > num_against) and bool_or(num_for < num_against)
"""

_BETWEEN_ORDERS = _BETWEEN_GROUPS.format(column="display_order", kind="between_orders")
_BETWEEN_SOURCES = _BETWEEN_GROUPS.format(column="source", kind="between_sources")

_BETWEEN_NEAR_DUPLICATES = """
    with prompt_groups as (select item_id, group_id from near_duplicates where kind = 'prompt'),
    response_groups as (select item_id, group_id from near_duplicates where kind = 'response'),
    grouped as (
        select
            pairs.pair_id, pairs.criterion, pairs.num_votes_chosen, pairs.num_votes_rejected,
            coalesce(prompt_groups.group_id, pairs.prompt_id) as prompt_group,
            coalesce(chosen.group_id, pairs.chosen_id) as chosen_group,
            coalesce(rejected.group_id, pairs.rejected_id) as rejected_group
        from pairs
        left join prompt_groups on prompt_groups.item_id = pairs.prompt_id
        left join response_groups as chosen on chosen.item_id = pairs.chosen_id
        left join response_groups as rejected on rejected.item_id = pairs.rejected_id
        where not pairs.is_tied
    ),
    sided as (
        select
            *, least(chosen_group, rejected_group) as low_group, greatest(chosen_group, rejected_group) as high_group,
            chosen_group < rejected_group as is_low
        from grouped
        where chosen_group <> rejected_group
    ),
    opposed as (
        select
            prompt_group, criterion, low_group, high_group,
            min(pair_id) filter (is_low) as first_low, min(pair_id) filter (not is_low) as first_high,
            sum(case when is_low then num_votes_chosen else num_votes_rejected end)::bigint as votes_low,
            sum(case when is_low then num_votes_rejected else num_votes_chosen end)::bigint as votes_high,
            to_json({
                'for': list(pair_id order by pair_id) filter (is_low),
                'against': list(pair_id order by pair_id) filter (not is_low)
            }) as evidence
        from sided
        group by prompt_group, criterion, low_group, high_group
        having bool_or(is_low) and not bool_and(is_low)
    )
    select
        'between_near_duplicates' as kind, sided.pair_id,
        case when sided.is_low then first_high else first_low end as other_pair_id, null::varchar as annotator_id,
        case when sided.is_low then votes_low else votes_high end as num_for,
        case when sided.is_low then votes_high else votes_low end as num_against,
        opposed.evidence
    from sided
    join opposed using (prompt_group, criterion, low_group, high_group)
"""

_TRANSITIVE = """
    select
        'transitive' as kind, pair_graph.pair_id, null::varchar as other_pair_id, null::varchar as annotator_id,
        pairs.num_votes_chosen as num_for, pairs.num_votes_rejected as num_against,
        to_json({
            'component_id': components.component_id,
            'response_ids': list_sort(components.response_ids),
            'shortest_cycle_length': components.shortest_cycle_length
        }) as evidence
    from pair_graph
    join components using (component_id)
    join pairs on pairs.pair_id = pair_graph.pair_id
"""


def between_votes(votes: Votes, judgments: pl.DataFrame, pairs: pl.DataFrame) -> pl.DataFrame:
    """Contradictions among the votes on each pair: the columns of ``raw.contradictions`` but ``run_id``.

    Args:
        votes: on one criterion.
        judgments: that they were made from: ``judgment_id``, ``annotator_id``, ``source``.
        pairs: consensus in the order of the votes' pairs: ``chosen_id``.
    """
    low_is_chosen: NDArray[np.bool_] = (pairs["chosen_id"] == votes.low_ids).to_numpy()
    is_contested: NDArray[np.bool_] = np.minimum(votes.tally[:, LOW], votes.tally[:, HIGH]) > 0
    found = [pl.DataFrame(schema=_SCHEMA)]
    for chosen in _chunks(np.flatnonzero(is_contested[votes.pair] & (votes.vote != TIE)), votes.pair):
        pair = votes.pair[chosen]
        row = votes.row[chosen]
        order = votes.order[chosen]
        sides = judgments.select("judgment_id", "annotator_id", "source")[row].select(
            "judgment_id",
            "source",
            pair=pl.Series(pair),
            annotator=pl.when(pl.col("annotator_id").is_not_null()).then(pl.Series(votes.annotator[chosen])),
            display_order=pl.when(pl.Series(order == FORWARD))
            .then(pl.lit("low_first"))
            .when(pl.Series(order == BACKWARD))
            .then(pl.lit("high_first")),
            is_for=pl.Series((votes.vote[chosen] == LOW) == low_is_chosen[pair]),
        )
        codes = np.unique(pair)
        contested = pl.DataFrame({"pair": codes, "pair_id": votes.pair_ids.gather(codes)})
        part = _found(_queries(votes, chosen, sides), {"sides": sides, "contested": contested})
        named = part.with_columns(
            pair_id=votes.pair_ids.gather(part["pair"]), annotator_id=votes.annotator_ids.gather(part["annotator"])
        )
        found.append(named.select(pl.col(name).cast(kind) for name, kind in _SCHEMA.items()))
    return pl.concat(found)


def _queries(votes: Votes, chosen: NDArray[np.int64], sides: pl.DataFrame) -> str:
    """What can be found among some votes: most sets have one source, and nobody votes twice on a pair."""
    queries = [_BETWEEN_ANNOTATORS, _BETWEEN_ORDERS]
    pair, annotator = votes.pair[chosen], votes.annotator[chosen]
    if ((pair[1:] == pair[:-1]) & (annotator[1:] == annotator[:-1])).any():
        queries.append(_WITHIN_ANNOTATOR)
    if sides["source"].n_unique() > 1:
        queries.append(_BETWEEN_SOURCES)
    return " union all by name ".join(f"(select * from ({query}))" for query in queries)


def between_pairs(
    pairs: pl.DataFrame, near_duplicates: pl.DataFrame, pair_graph: pl.DataFrame, components: pl.DataFrame
) -> pl.DataFrame:
    """Contradictions among pairs: the columns of ``raw.contradictions`` but ``run_id``.

    Args:
        pairs: ``pair_id``, ``prompt_id``, ``criterion``, ``chosen_id``, ``rejected_id``, ``num_votes_chosen``,
            ``num_votes_rejected``, ``is_tied``.
        near_duplicates: ``kind`` (prompt or response), ``item_id``, ``group_id``.
        pair_graph: ``pair_id``, ``component_id``: pairs that lie on a cycle.
        components: ``component_id``, ``response_ids``, ``shortest_cycle_length``.
    """
    known = pairs.select(
        "pair_id",
        "prompt_id",
        "criterion",
        "chosen_id",
        "rejected_id",
        "num_votes_chosen",
        "num_votes_rejected",
        "is_tied",
    )
    frames = {"pairs": known, "pair_graph": pair_graph, "components": components}
    found = [_found(_TRANSITIVE, frames)]
    if len(near_duplicates) > 0:
        found.append(_found(_BETWEEN_NEAR_DUPLICATES, {"pairs": known, "near_duplicates": near_duplicates}))
    return pl.concat(part.select(pl.col(name).cast(kind) for name, kind in _SCHEMA.items()) for part in found)


def _chunks(chosen: NDArray[np.int64], pair: NDArray[np.int32]) -> Iterator[NDArray[np.int64]]:
    """Parts of some votes, cut where a pair ends."""
    start = 0
    while start < len(chosen):
        stop = min(start + _CHUNK_VOTES, len(chosen))
        while stop < len(chosen) and pair[chosen[stop]] == pair[chosen[stop - 1]]:
            stop += 1
        yield chosen[start:stop]
        start = stop


def _found(query: str, frames: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """Result of a query over frames, with the contradictions' identifiers."""
    con = duckdb.connect(config={"autoinstall_known_extensions": False, "autoload_known_extensions": False})
    try:
        for name, frame in frames.items():
            con.register(name, frame.to_arrow())
        return con.execute(
            f"select {sql_digest('kind', 'evidence::varchar')} as contradiction_id, * replace (evidence::varchar as "
            f"evidence) from ({query})"
        ).pl()
    finally:
        con.close()
