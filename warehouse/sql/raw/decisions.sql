-- grain: one row per curation run and pair
-- run_id: the curation run
-- pair_id: the pair
-- reference_id: reference policy whose margins the rules read; NULL where nothing is scored
-- is_dropped: it does not train
-- is_flipped: chosen and rejected changed places
-- weight: product of the weights of the rules that matched
-- soft_label: probability that chosen, after flips, is right; NULL where no rule set it
-- objective: objective that a rule routed it to; NULL for the set's own
-- rules: names of the rules that matched, in order
-- effects: what each of them did, as JSON
-- is_adjudicated: a human decision overrode the rules
create table raw.decisions (
    run_id varchar not null,
    pair_id varchar not null,
    reference_id varchar,
    is_dropped boolean not null,
    is_flipped boolean not null,
    weight double not null,
    soft_label double,
    objective varchar,
    rules varchar[] not null,
    effects varchar,
    is_adjudicated boolean not null
);
