-- grain: one row per curation run and pair
-- run_id: the curation run
-- pair_id: the pair
-- reference_id: reference policy whose margins the rules read; NULL where nothing is scored
-- action: the strongest thing that was done: drop, flip, route, soft_label, reweight or keep
-- is_dropped: it does not train
-- is_flipped: chosen and rejected changed places
-- weight: product of the weights of the rules that matched; 0 where it is dropped
-- soft_label: probability that chosen, after flips, is right; NULL where no rule set it, which means 1
-- objective: objective that it trains with
-- rules: names of the rules that did something, in order
-- effects: what each of them did: rule, action, and its factor or soft label
-- is_adjudicated: a human decision overrode the rules
with

runs as (
    select * from raw.curation_runs
),

spans as (
    select * from raw.decisions
)

select
    runs.run_id,
    spans.pair_id,
    runs.reference_id,
    case
        when spans.is_dropped then 'drop'
        when spans.is_flipped then 'flip'
        when spans.objective is not null then 'route'
        when spans.soft_label is not null then 'soft_label'
        when spans.weight <> 1 then 'reweight'
        else 'keep'
    end as action,
    spans.is_dropped,
    spans.is_flipped,
    spans.weight,
    spans.soft_label,
    coalesce(spans.objective, runs.objective) as objective,
    spans.rules,
    list_transform(
        list_zip(spans.rules, spans.actions, spans.amounts),
        lambda effect: {'rule': effect[1], 'action': effect[2], 'amount': effect[3]}
    ) as effects,
    spans.is_adjudicated
from spans
inner join runs on runs.run_number >= spans.first_run and runs.run_number < spans.end_run
