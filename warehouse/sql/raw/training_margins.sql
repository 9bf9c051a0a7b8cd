-- grain: one row per training run and held-out pair
-- training_run_id: the run
-- pair_id: the pair
-- chosen_logps [nats]: of the trained policy
-- rejected_logps [nats]: of the trained policy
-- policy_margin [nats]: chosen_logps - rejected_logps
-- reference_margin [nats]: as exported; NULL where the export has no reference log-probs
-- is_undesirable: reference_margin < policy_margin < 0, the first beyond rounding (1e-5 nats a root token)
create table raw.training_margins (
    training_run_id varchar not null,
    pair_id varchar not null,
    chosen_logps double not null,
    rejected_logps double not null,
    policy_margin double not null,
    reference_margin double,
    is_undesirable boolean not null
);
