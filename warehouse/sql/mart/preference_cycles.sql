-- grain: one row per strongly connected component, of two or more responses, of a prompt's strict-majority preference graph
-- component_id: content hash of its responses and criterion
-- prompt_id: the prompt
-- criterion: on what
-- response_ids: its responses
-- num_responses: how many
-- num_edges: strict-majority preferences inside it; each lies on a cycle
-- num_three_cycles: directed triangles in it
-- shortest_cycle_length: preferences on its shortest cycle
-- feedback_arc_set_size: fewest preferences whose reversal leaves no cycle
-- is_feedback_arc_set_exact: whether that number is proven minimal (up to 12 responses) or found greedily
-- feedback_pair_ids: pairs whose preference is reversed in that cheapest way to a ranking
-- curl_ratio: share of the prompt's preference energy that no ranking explains; NULL without a loop
-- curl_ratio_null: its expectation when every preference is turned at random; 1 - 2 / n on an evenly voted complete graph
-- curl_p_value: share of random turnings with a curl_ratio as low; small where a ranking explains more than chance
-- zeta: Kendall-Smith coefficient of consistency of the prompt's graph; NULL unless that is complete
with components as (
    select * from raw.preference_components
),

feedback as (
    select
        component_id,
        list(pair_id order by pair_id) as feedback_pair_ids
    from raw.pair_graph
    where is_in_feedback_arc_set
    group by component_id
)

select
    components.component_id,
    components.prompt_id,
    components.criterion,
    components.response_ids,
    components.num_responses,
    components.num_edges,
    components.num_three_cycles,
    components.shortest_cycle_length,
    components.feedback_arc_set_size,
    components.is_feedback_arc_set_exact,
    feedback.feedback_pair_ids,
    graphs.curl_ratio,
    graphs.curl_ratio_null,
    graphs.curl_p_value,
    graphs.zeta
from components
left join raw.prompt_graphs as graphs
    on components.prompt_id = graphs.prompt_id and components.criterion = graphs.criterion
left join feedback using (component_id);
