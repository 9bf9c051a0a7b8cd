-- grain: one row per pair that trains, by the latest curation run
-- pair_id: the pair
-- prompt_id: prompt of both responses
-- prompt_group_id: group of near-duplicate prompts; a split never cuts through one
-- criterion: what was asked, 'overall' where the source does not say
-- prompt: the conversation up to the answer, canonical JSON, a list of {role, content}
-- chosen: the preferred response, after flips
-- rejected: the other response
-- reference_chosen_logps [nats]: log-prob of chosen under the reference policy, summed over tokens
-- reference_rejected_logps [nats]: log-prob of rejected under the reference policy, summed over tokens
-- chosen_num_tokens: tokens of chosen, end of turn included
-- rejected_num_tokens: tokens of rejected, end of turn included
-- weight: weight in the loss
-- soft_label: probability that chosen is right; NULL means 1
-- objective: objective that a rule routed it to; NULL for the set's own
-- source: source of its first judgment, in alphabetical order
-- is_flipped: chosen and rejected changed places
-- chosen_id: response id of chosen
-- rejected_id: response id of rejected
-- reference_id: the reference policy; NULL where nothing is scored
-- curation_run_id: the latest curation run
with

latest_run as (
    select run_id, reference_id from raw.curation_runs order by run_number desc limit 1
),

decided as (
    select * from model.standing_decisions where not is_dropped
),

groups as (
    select item_id as prompt_id, group_id from raw.near_duplicates where kind = 'prompt'
),

scores as (
    select scores.*
    from raw.reference_scores as scores
    semi join latest_run on scores.reference_id = latest_run.reference_id
),

oriented as (
    select
        decided.*,
        estimates.prompt_id,
        estimates.criterion,
        estimates.source,
        if(
            decided.is_chosen_lower,
            least(estimates.chosen_id, estimates.rejected_id),
            greatest(estimates.chosen_id, estimates.rejected_id)
        ) as chosen_id,
        if(
            decided.is_chosen_lower,
            greatest(estimates.chosen_id, estimates.rejected_id),
            least(estimates.chosen_id, estimates.rejected_id)
        ) as rejected_id
    from decided
    inner join raw.pair_estimates as estimates on decided.pair_id = estimates.pair_id
)

select
    oriented.pair_id,
    oriented.prompt_id,
    coalesce(groups.group_id, oriented.prompt_id) as prompt_group_id,
    oriented.criterion,
    prompts.messages as prompt,
    chosen.text as chosen,
    rejected.text as rejected,
    chosen_scores.logps as reference_chosen_logps,
    rejected_scores.logps as reference_rejected_logps,
    chosen_scores.num_tokens as chosen_num_tokens,
    rejected_scores.num_tokens as rejected_num_tokens,
    oriented.weight,
    oriented.soft_label,
    oriented.objective,
    oriented.source,
    oriented.is_flipped,
    oriented.chosen_id,
    oriented.rejected_id,
    latest_run.reference_id,
    latest_run.run_id as curation_run_id
from oriented
cross join latest_run
inner join raw.prompts as prompts on oriented.prompt_id = prompts.prompt_id
inner join raw.responses as chosen on oriented.chosen_id = chosen.response_id
inner join raw.responses as rejected on oriented.rejected_id = rejected.response_id
left join groups on oriented.prompt_id = groups.prompt_id
left join scores as chosen_scores on oriented.chosen_id = chosen_scores.response_id
left join scores as rejected_scores on oriented.rejected_id = rejected_scores.response_id
