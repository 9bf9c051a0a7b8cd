-- grain: one row per prompt and criterion of which three or more responses were compared
-- prompt_id: the prompt
-- criterion: on what
-- num_responses: responses in the graph
-- num_pairs: pairs with a vote
-- num_edges: pairs with a strict majority
-- num_three_cycles: directed triangles among the strict majorities
-- curl_ratio: share of the prompt's preference energy that no ranking explains; NULL without a loop
-- curl_ratio_null: its expectation when every preference is turned at random; 1 - 2 / n on an evenly voted complete graph
-- curl_p_value: share of random turnings with a curl_ratio as low; NULL where no pair lies on a cycle
-- zeta: Kendall-Smith coefficient of consistency; NULL unless the graph is complete
-- run_id: run that wrote it
create table raw.prompt_graphs (
    prompt_id varchar not null,
    criterion varchar not null,
    num_responses integer not null,
    num_pairs integer not null,
    num_edges integer not null,
    num_three_cycles bigint not null,
    curl_ratio double,
    curl_ratio_null double,
    curl_p_value double,
    zeta double,
    run_id varchar not null
);
