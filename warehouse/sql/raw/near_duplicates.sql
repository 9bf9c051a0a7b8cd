-- grain: one row per prompt or response that has a near-duplicate
-- kind: prompt or response
-- item_id: prompt_id or response_id
-- group_id: lowest item_id of its group
-- run_id: run that wrote it
create table raw.near_duplicates (
    kind varchar not null,
    item_id varchar not null,
    group_id varchar not null,
    run_id varchar not null
);
