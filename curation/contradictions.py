"""Contradictions: judgments that cannot all be right, each with its kind and the ids that show it.

Kinds: two annotators on one pair; one annotator against themselves; the two display orders; two sources; a pair and a
near-duplicate of it; a pair on a cycle of preferences. Ties oppose nobody. The first four are seen in the votes on one
criterion, as numbers, some pairs at a time; the other two in the pairs.
"""

from __future__ import annotations

import duckdb
import numpy as np
import polars as pl
from numpy.typing import NDArray

from curation.annotators.coded import BACKWARD, FORWARD, LOW, UNNAMED, CodedJudgments, chunks_of_pairs, opposed
from schemas.identity import sql_digest

_KINDS = pl.Enum(
    [
        "between_annotators",
        "within_annotator",
        "between_orders",
        "between_sources",
        "between_near_duplicates",
        "transitive",
    ]
)

_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "contradiction_id": pl.String,
    "kind": _KINDS,
    "pair_id": pl.String,
    "other_pair_id": pl.String,
    "annotator_id": pl.String,
    "num_for": pl.Int32,
    "num_against": pl.Int32,
    "evidence": pl.String,
}

_CHUNK_VOTES = 1_000_000
_MEMORY_LIMIT = "2GB"
"""Of DuckDB, beyond which it spills: what it is asked at a time is far below."""

_ORDERS = {FORWARD: "low_first", BACKWARD: "high_first"}

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


def between_votes(coded: CodedJudgments, pairs: pl.DataFrame) -> pl.DataFrame:
    """Contradictions among the votes on each pair: the columns of ``raw.contradictions`` but ``run_id``.

    Args:
        coded: judgments on one criterion.
        pairs: consensus in the order of their pairs: ``chosen_id``.
    """
    chosen = np.flatnonzero(opposed(coded.pair, coded.vote))
    is_named = ~coded.annotator_ids.str.starts_with(UNNAMED).to_numpy()
    found = [pl.DataFrame(schema=_SCHEMA)]
    for first, last in chunks_of_pairs(coded.pair[chosen], _CHUNK_VOTES):
        rows = chosen[first:last]
        pair, annotator, order = coded.pair[rows], coded.annotator[rows], coded.order[rows]
        codes = np.unique(pair)
        contested = pl.DataFrame({"pair": codes, "pair_id": coded.pair_ids.gather(codes)})
        low_is_chosen = pairs["chosen_id"].gather(codes) == coded.response_ids.gather(coded.low[codes])
        is_low_chosen = low_is_chosen.to_numpy()[np.searchsorted(codes, pair)]
        sides = pl.DataFrame(
            {
                "judgment_id": coded.opposed_ids[first:last],
                "source": coded.source.names.gather(coded.source.code[rows]),
                "pair": pair,
                "annotator": pl.select(pl.when(pl.Series(is_named[annotator])).then(pl.Series(annotator))).to_series(),
                "display_order": pl.Series(order).replace_strict(_ORDERS, default=None, return_dtype=pl.String),
                "is_for": (coded.vote[rows] == LOW) == is_low_chosen,
            }
        )
        part = _found(_queries(pair, annotator, sides), {"sides": sides, "contested": contested})
        named = part.with_columns(
            pair_id=coded.pair_ids.gather(part["pair"]), annotator_id=coded.annotator_ids.gather(part["annotator"])
        )
        found.append(named.select(pl.col(name).cast(kind) for name, kind in _SCHEMA.items()))
    return pl.concat(found)


def _queries(pair: NDArray[np.int32], annotator: NDArray[np.int32], sides: pl.DataFrame) -> str:
    """What can be found among some votes: most sets have one source, and nobody votes twice on a pair."""
    queries = [_BETWEEN_ANNOTATORS, _BETWEEN_ORDERS]
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
    ends = ("chosen_id", "rejected_id")
    known = pairs.lazy().select(
        "pair_id", "prompt_id", "criterion", *ends, "num_votes_chosen", "num_votes_rejected", "is_tied"
    )
    on_cycles = known.join(pair_graph.lazy(), on="pair_id", how="semi").collect()
    frames = {"pairs": on_cycles, "pair_graph": pair_graph, "components": components}
    found = [_found(_TRANSITIVE, frames)]
    # two pairs of matched responses differ in one response at least, and both have one of its group
    grouped = near_duplicates.filter(pl.col("kind") == "response")["item_id"].implode()
    matched = known.filter(pl.any_horizontal(pl.col(end).is_in(grouped) for end in ends)).collect()
    if len(matched) > 0:
        found.append(_found(_BETWEEN_NEAR_DUPLICATES, {"pairs": matched, "near_duplicates": near_duplicates}))
    return pl.concat(part.select(pl.col(name).cast(kind) for name, kind in _SCHEMA.items()) for part in found)


def _found(query: str, frames: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """Result of a query over frames, with the contradictions' identifiers."""
    options = {"autoinstall_known_extensions": False, "autoload_known_extensions": False}
    con = duckdb.connect(config={**options, "memory_limit": _MEMORY_LIMIT})
    try:
        for name, frame in frames.items():
            con.register(name, frame.to_arrow())
        return con.execute(
            f"select {sql_digest('kind', 'evidence::varchar')} as contradiction_id, * replace (evidence::varchar as "
            f"evidence) from ({query})"
        ).pl()
    finally:
        con.close()
