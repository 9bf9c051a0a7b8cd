"""Contradictions: judgments that cannot all be right, each with its kind and the ids that show it.

Kinds: two annotators on one pair; one annotator against themselves; the two display orders; two sources; a pair and a
near-duplicate of it; a pair on a cycle of preferences. Ties oppose nobody.
"""

from __future__ import annotations

import duckdb
import polars as pl

from schemas.identity import sql_digest

_COLUMNS = "contradiction_id, kind, pair_id, other_pair_id, annotator_id, num_for, num_against, evidence"

_PREPARE = """
    create temp table contested as
    select pair_id, chosen_id, rejected_id
    from pairs
    where num_votes_chosen > 0 and num_votes_rejected > 0;

    create temp table sides as
    select
        judgments.pair_id,
        judgments.judgment_id,
        judgments.annotator_id,
        judgments.source,
        case
            when judgments.is_display_order_known
            then case when judgments.response_a_id < judgments.response_b_id then 'low_first' else 'high_first' end
        end as display_order,
        (judgments.vote = 'a') = (judgments.response_a_id = contested.chosen_id) as is_for
    from judgments
    join contested using (pair_id)
    where judgments.vote <> 'tie'
"""

_BETWEEN_ANNOTATORS = """
    select
        'between_annotators' as kind, pair_id, null::varchar as other_pair_id, null::varchar as annotator_id,
        count(*) filter (is_for) as num_for, count(*) filter (not is_for) as num_against,
        to_json({
            'for': list(judgment_id order by judgment_id) filter (is_for),
            'against': list(judgment_id order by judgment_id) filter (not is_for)
        }) as evidence
    from sides
    group by pair_id
    having bool_or(is_for) and not bool_and(is_for)
        -- unnamed voters are taken to be different people
        and count(distinct annotator_id) + count(*) filter (annotator_id is null) > 1
"""

_WITHIN_ANNOTATOR = """
    select
        'within_annotator' as kind, pair_id, null::varchar as other_pair_id, annotator_id,
        count(*) filter (is_for) as num_for, count(*) filter (not is_for) as num_against,
        to_json({
            'for': list(judgment_id order by judgment_id) filter (is_for),
            'against': list(judgment_id order by judgment_id) filter (not is_for),
            'is_swapped': count(distinct display_order) > 1
        }) as evidence
    from sides
    where annotator_id is not null
    group by pair_id, annotator_id
    having bool_or(is_for) and not bool_and(is_for)
"""

_BETWEEN_GROUPS = """
    with majorities as (
        select
            pair_id, {column} as part,
            count(*) filter (is_for) as num_for, count(*) filter (not is_for) as num_against
        from sides
        where {column} is not null
        group by pair_id, {column}
    )
    select
        '{kind}' as kind, pair_id, null::varchar as other_pair_id, null::varchar as annotator_id,
        sum(num_for)::bigint as num_for, sum(num_against)::bigint as num_against,
        to_json({{
            'for': list(part order by part) filter (num_for > num_against),
            'against': list(part order by part) filter (num_for < num_against),
            'pair': pair_id
        }}) as evidence
    from majorities
    group by pair_id
    having bool_or(num_for > num_against) and bool_or(num_for < num_against)
"""

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


def contradictions(
    judgments: pl.DataFrame,
    pairs: pl.DataFrame,
    near_duplicates: pl.DataFrame,
    pair_graph: pl.DataFrame,
    components: pl.DataFrame,
) -> pl.DataFrame:
    """Every contradiction: the columns of ``raw.contradictions`` but ``run_id``, sorted.

    Args:
        judgments: ``judgment_id``, ``pair_id``, ``response_a_id``, ``response_b_id``, ``vote``,
            ``is_display_order_known``, ``annotator_id``, ``source``.
        pairs: ``pair_id``, ``prompt_id``, ``criterion``, ``chosen_id``, ``rejected_id``, ``num_votes_chosen``,
            ``num_votes_rejected``, ``is_tied``.
        near_duplicates: ``kind`` (prompt or response), ``item_id``, ``group_id``.
        pair_graph: ``pair_id``, ``component_id``: pairs that lie on a cycle.
        components: ``component_id``, ``response_ids``, ``shortest_cycle_length``.
    """
    queries = (
        _BETWEEN_ANNOTATORS,
        _WITHIN_ANNOTATOR,
        _BETWEEN_GROUPS.format(column="display_order", kind="between_orders"),
        _BETWEEN_GROUPS.format(column="source", kind="between_sources"),
        _BETWEEN_NEAR_DUPLICATES,
        _TRANSITIVE,
    )
    con = duckdb.connect(config={"autoinstall_known_extensions": False, "autoload_known_extensions": False})
    try:
        frames = {
            "judgments": judgments,
            "pairs": pairs,
            "near_duplicates": near_duplicates,
            "pair_graph": pair_graph,
            "components": components,
        }
        for name, frame in frames.items():
            con.register(name, frame.to_arrow())
        con.execute(_PREPARE)
        found = " union all by name ".join(f"(select * from ({query}))" for query in queries)
        identified = f"select {sql_digest('kind', 'evidence::varchar')} as contradiction_id, * from ({found})"
        ordered = f"select {_COLUMNS} from ({identified}) order by kind, contradiction_id, pair_id, annotator_id"
        return (
            con.execute(ordered)
            .pl()
            .with_columns(pl.col("num_for", "num_against").cast(pl.Int32), pl.col("evidence").cast(pl.String))
        )
    finally:
        con.close()
