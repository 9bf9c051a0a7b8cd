-- grain: one row per pair and span of curation runs over which its decision stayed the same
-- pair_id: the pair
-- first_run: number of the first curation run of the span
-- end_run: number of the first run after the span; 2147483647 while the decision stands
-- is_dropped: it does not train
-- is_flipped: chosen and rejected changed places
-- is_chosen_lower: chosen, after flips, is the response with the lower id, whatever later votes say
-- weight: product of the weights of the rules that matched; 0 where it is dropped
-- soft_label: probability that chosen, after flips, is right; NULL where no rule set it
-- objective: objective that a rule routed it to; NULL for the set's own
-- rules: names of the rules that did something, in order
-- actions: what each of them did
-- amounts: factor or soft label of each of them, NULL for actions without one; NULL where all of them are
-- is_adjudicated: a human decision overrode the rules
create table raw.decisions (
    pair_id varchar not null,
    first_run integer not null,
    end_run integer not null,
    is_dropped boolean not null,
    is_flipped boolean not null,
    is_chosen_lower boolean not null,
    weight double not null,
    soft_label double,
    objective varchar,
    rules varchar[] not null,
    actions varchar[] not null,
    amounts double[],
    is_adjudicated boolean not null
);
