-- grain: one row per pair that the latest curation run decided on
-- pair_id: the pair
-- is_dropped: it does not train
-- is_flipped: chosen and rejected changed places
-- is_chosen_lower: chosen, after flips, is the response with the lower id, whatever later votes say
-- weight: product of the weights of the rules that matched; 0 where it is dropped
-- soft_label: probability that chosen, after flips, is right; NULL where no rule set it
-- objective: objective that a rule routed it to; NULL for the set's own
-- rules: names of the rules that did something, in order
-- is_adjudicated: a human decision overrode the rules
select pair_id, is_dropped, is_flipped, is_chosen_lower, weight, soft_label, objective, rules, is_adjudicated
from raw.decisions
where end_run = 2147483647
