-- grain: one row per training run and held-out pair
-- training_run_id: the run
-- objective: its loss
-- export_id: what it trained on
-- pair_id: the pair
-- reference_id: the reference policy of the export; NULL without one, or where the lake does not know the export
-- criterion: what the pair was judged on; NULL where the lake does not hold the pair
-- source: source of the pair's first judgment; NULL where the lake does not hold the pair
-- is_flipped: curation exchanged chosen and rejected; NULL where the lake does not know the export
-- reference_margin [nats]: of the reference policy, chosen minus rejected as exported; NULL without a reference
-- policy_margin [nats]: of the trained policy, chosen minus rejected as exported
-- margin_change [nats]: policy_margin - reference_margin
-- is_right: policy_margin is above 0: the trained policy prefers the chosen response
-- is_reference_wrong: reference_margin is below 0: the reference favors the rejected response
-- is_turned: the reference favors the rejected response and the trained policy the chosen
-- is_lost: the reference favors the chosen response and the trained policy the rejected
-- is_in_undesirable_set: reference_margin < policy_margin < 0: better than the reference, beyond rounding, and wrong
-- num_votes: judgments on the pair
-- p_chosen: posterior probability that a random annotator prefers the response that the votes choose
-- reward_gap [nats]: Bradley-Terry reward difference, logit(p_chosen)
-- p_flip: calibrated probability that the votes' label is wrong; NULL until label-noise scoring has run
-- beta_max: largest beta at which the assumption holds for the votes' label
-- is_assumption_held: the RLHF optimum prefers the response that the votes choose, at the workspace's beta
-- is_contradicted: the pair's judgments oppose each other or those of another pair
-- is_in_cycle: the pair lies on a cycle of its prompt's preference graph
-- length_difference [tokens]: of the response that the votes choose and the other
with

curated as (
    select distinct exports.export_id, exports.curation_run_id, curation_runs.reference_id
    from raw.exports as exports
    inner join raw.curation_runs as curation_runs on exports.curation_run_id = curation_runs.run_id
),

runs as (
    select
        training_runs.training_run_id,
        training_runs.objective,
        training_runs.export_id,
        curated.curation_run_id,
        curated.reference_id
    from raw.training_runs as training_runs
    left join curated on training_runs.export_id = curated.export_id
)

select
    runs.training_run_id,
    runs.objective,
    runs.export_id,
    margins.pair_id,
    runs.reference_id,
    diagnostics.criterion,
    diagnostics.source,
    decisions.is_flipped,
    margins.reference_margin,
    margins.policy_margin,
    margins.policy_margin - margins.reference_margin as margin_change,
    margins.policy_margin > 0 as is_right,
    margins.reference_margin < 0 as is_reference_wrong,
    margins.reference_margin < 0 and margins.policy_margin > 0 as is_turned,
    margins.reference_margin > 0 and margins.policy_margin < 0 as is_lost,
    margins.is_undesirable as is_in_undesirable_set,
    diagnostics.num_votes,
    diagnostics.p_chosen,
    diagnostics.reward_gap,
    diagnostics.p_flip,
    diagnostics.beta_max,
    diagnostics.is_assumption_held,
    diagnostics.is_contradicted,
    diagnostics.is_in_cycle,
    diagnostics.length_difference
from raw.training_margins as margins
inner join runs on margins.training_run_id = runs.training_run_id
left join mart.decisions as decisions
    on runs.curation_run_id = decisions.run_id and margins.pair_id = decisions.pair_id
left join mart.pair_diagnostics as diagnostics
    on margins.pair_id = diagnostics.pair_id and runs.reference_id is not distinct from diagnostics.reference_id
