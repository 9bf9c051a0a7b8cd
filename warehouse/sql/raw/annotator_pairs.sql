-- grain: one row per two annotators and criterion on which both judged the same pairs
-- annotator_1: the lower id
-- annotator_2: the higher id
-- criterion: on what
-- num_shared: pairs that both judged
-- raw_agreement: share on which they agree
-- chance_agreement: agreement expected from their vote frequencies
-- kappa: chance-corrected agreement (Cohen); NULL where chance agreement is 1
-- run_id: run that wrote it
create table raw.annotator_pairs (
    annotator_1 varchar not null,
    annotator_2 varchar not null,
    criterion varchar not null,
    num_shared integer not null,
    raw_agreement double not null,
    chance_agreement double not null,
    kappa double,
    run_id varchar not null
);
