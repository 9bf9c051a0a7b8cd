-- grain: one row per slice and value of the votes
-- slice: what it is cut by: all, source, criterion, batch, week or prompt_group
-- slice_value: which one
-- level: nominal or ordinal
-- alpha: Krippendorff's alpha; NULL where it is not defined
-- alpha_low: lower end of the 95 % bootstrap interval over pairs
-- alpha_high: upper end of the 95 % bootstrap interval over pairs
-- num_units: pairs with at least two votes
-- num_units_excluded: pairs with fewer than two votes
-- num_votes: votes on the units
-- raw_agreement: share of vote pairs that agree
-- run_id: run that wrote it
create table raw.agreement (
    slice varchar not null,
    slice_value varchar not null,
    level varchar not null,
    alpha double,
    alpha_low double,
    alpha_high double,
    num_units bigint not null,
    num_units_excluded bigint not null,
    num_votes bigint not null,
    raw_agreement double,
    run_id varchar not null
);
