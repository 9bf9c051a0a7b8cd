-- grain: one row per curation run
-- run_id: the run
-- content_id: hash of rules, reference policy and decisions; runs that decide alike share it
-- run_number: 1, 2, 3, ...; spans of raw.decisions refer to it
-- name: profile, or name of the rule file
-- rules_hash: SHA-256 over everything in the rule file that decides
-- rules: the rule file as canonical JSON
-- objective: loss of the pairs that no rule routes elsewhere
-- beta: strength of the pull towards the reference that the rules assume
-- reference_id: reference policy whose margins the rules read; NULL where nothing is scored
-- input_snapshot_id: snapshot of the lake whose votes and scores it rests on; a restored run has that of the run it repeats
-- restored_from: run that it repeats; NULL unless it is a restore
-- num_pairs: pairs that it decided on
-- num_dropped: pairs that do not train
-- num_flipped: pairs whose responses changed places
-- num_adjudicated: pairs that a person decided
-- num_changed: pairs whose decision is new, other than in the run before, or gone
-- total_weight: sum of the weights of the pairs that train
create table raw.curation_runs (
    run_id varchar not null,
    content_id varchar not null,
    run_number integer not null,
    name varchar not null,
    rules_hash varchar not null,
    rules varchar not null,
    objective varchar not null,
    beta double not null,
    reference_id varchar,
    input_snapshot_id bigint not null,
    restored_from varchar,
    num_pairs bigint not null,
    num_dropped bigint not null,
    num_flipped bigint not null,
    num_adjudicated bigint not null,
    num_changed bigint not null,
    total_weight double not null
);
