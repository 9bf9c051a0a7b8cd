-- grain: one row per training run, step, phase and metric
-- training_run_id: the run
-- step: optimizer steps done
-- phase: train or eval
-- slice: slice of the export, 'all' for the whole
-- metric: name
-- value: value, in the metric's unit
create table raw.training_metrics (
    training_run_id varchar not null,
    step bigint not null,
    phase varchar not null,
    slice varchar not null,
    metric varchar not null,
    value double
);
