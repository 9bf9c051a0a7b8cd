-- grain: one row per training run
-- training_run_id: identifier
-- export_id: what it trained on
-- objective: loss
-- model: policy that it started from
-- checkpoint: folder of the result
-- settings: what ran, in full, as JSON
-- started_at [UTC]: when it began
-- ended_at [UTC]: when it ended
-- run_id: run that wrote it
create table raw.training_runs (
    training_run_id varchar not null,
    export_id varchar not null,
    objective varchar not null,
    model varchar not null,
    checkpoint varchar not null,
    settings varchar not null,
    started_at timestamp not null,
    ended_at timestamp,
    run_id varchar not null
);
