-- grain: one row per prompt and criterion of which three or more responses were compared
-- prompt_id: the prompt
-- criterion: on what
-- num_responses: responses in the preference graph
-- num_pairs: pairs with a vote
-- num_edges: pairs with a strict majority
-- num_pairs_on_cycles: pairs whose majority lies on a cycle
-- num_three_cycles: directed triangles among the strict majorities
-- curl_ratio: share of the prompt's preference energy that no ranking explains; NULL without a loop
-- curl_ratio_null: its expectation when every preference is turned at random; 1 - 2 / n on an evenly voted complete graph
-- curl_p_value: share of random turnings with a curl_ratio as low; NULL where no pair lies on a cycle
-- zeta: Kendall-Smith coefficient of consistency; NULL unless the graph is complete
with

graphs as (
    select * from raw.prompt_graphs
),

on_cycles as (
    select prompt_id, criterion, sum(num_edges)::bigint as num_pairs
    from raw.preference_components
    group by prompt_id, criterion
)

select
    graphs.prompt_id,
    graphs.criterion,
    graphs.num_responses,
    graphs.num_pairs,
    graphs.num_edges,
    coalesce(on_cycles.num_pairs, 0) as num_pairs_on_cycles,
    graphs.num_three_cycles,
    graphs.curl_ratio,
    graphs.curl_ratio_null,
    graphs.curl_p_value,
    graphs.zeta
from graphs
left join on_cycles on graphs.prompt_id = on_cycles.prompt_id and graphs.criterion = on_cycles.criterion
