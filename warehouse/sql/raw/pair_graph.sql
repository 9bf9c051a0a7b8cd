-- grain: one row per pair that lies on a cycle of its prompt's preference graph
-- pair_id: the pair
-- component_id: its strongly connected component
-- shortest_cycle_length: edges of the shortest cycle through this pair
-- is_in_feedback_arc_set: reversing the majority's preference is part of the cheapest way to a ranking
-- run_id: run that wrote it
create table raw.pair_graph (
    pair_id varchar not null,
    component_id varchar not null,
    shortest_cycle_length integer not null,
    is_in_feedback_arc_set boolean not null,
    run_id varchar not null
);
