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
    run_id varchar not null
);
