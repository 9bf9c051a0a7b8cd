-- grain: one row per response and criterion whose prompt's preference graph it is part of
-- response_id: the response
-- criterion: on what
-- bradley_terry [nats]: reward, mean 0 in its connected component
-- bradley_terry_low [nats]: lower end of the 95 % interval
-- bradley_terry_high [nats]: upper end of the 95 % interval
-- hodge_rank: HodgeRank score, mean 0 in its connected component
-- run_id: run that wrote it
create table raw.response_estimates (
    response_id varchar not null,
    criterion varchar not null,
    bradley_terry double,
    bradley_terry_low double,
    bradley_terry_high double,
    hodge_rank double,
    run_id varchar not null
);
