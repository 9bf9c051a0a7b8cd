-- grain: one row per strongly connected component, of two or more responses, of a prompt's preference graph
-- component_id: content hash of its responses and criterion
-- prompt_id: the prompt
-- criterion: on what
-- response_ids: its responses
-- num_responses: how many
-- num_edges: strict-majority preferences inside it
-- num_three_cycles: directed triangles in it
-- shortest_cycle_length: edges of its shortest cycle
-- feedback_arc_set_size: fewest preferences whose reversal leaves no cycle
-- is_feedback_arc_set_exact: whether that number is proven minimal
-- curl_ratio: share of the prompt's preference energy that no ranking explains; NULL without a loop
-- curl_ratio_null: its expectation when every preference is turned at random; 1 - 2 / n on an evenly voted complete graph
-- curl_p_value: share of random turnings with a curl_ratio as low; small where a ranking explains more than chance
-- zeta: Kendall-Smith coefficient of consistency; NULL unless the prompt's graph is complete
-- run_id: run that wrote it
create table raw.preference_components (
    component_id varchar not null,
    prompt_id varchar not null,
    criterion varchar not null,
    response_ids varchar[] not null,
    num_responses integer not null,
    num_edges integer not null,
    num_three_cycles bigint not null,
    shortest_cycle_length integer not null,
    feedback_arc_set_size integer not null,
    is_feedback_arc_set_exact boolean not null,
    curl_ratio double,
    curl_ratio_null double,
    curl_p_value double,
    zeta double,
    run_id varchar not null
);
