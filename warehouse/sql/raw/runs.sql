-- grain: one row per run of a stage that changed something
-- run_id: time-ordered identifier
-- stage: ingest, score, diagnose, curate, export, train or adjudicate
-- flow_run_id: identifier that the stages of one flow run share
-- started_at [UTC]: when it began
-- ended_at [UTC]: when it ended; NULL while it runs, or if it was killed
-- input_hash: hash of its settings and of the runs that made its input
-- settings: what ran, in full, as JSON
-- num_changed [rows]: rows that it inserted, changed or removed
-- facts: figures that it reported, as JSON
-- winnow_version: version of the code
create table raw.runs (
    run_id varchar not null,
    stage varchar not null,
    flow_run_id varchar,
    started_at timestamp not null,
    ended_at timestamp,
    input_hash varchar not null,
    settings varchar not null,
    num_changed bigint not null,
    facts varchar,
    winnow_version varchar not null
);
