-- grain: one row per human decision on a pair; the latest one counts, and it overrides every rule
-- pair_id: the pair
-- action: drop, keep or flip
-- chosen_id: the response that is right, where the action is keep or flip
-- reason: why
-- adjudicated_by: who decided
-- adjudicated_at [UTC]: when
-- run_id: run that inserted it
create table raw.adjudications (
    pair_id varchar not null,
    action varchar not null,
    chosen_id varchar,
    reason varchar,
    adjudicated_by varchar,
    adjudicated_at timestamp not null,
    run_id varchar not null
);
