-- grain: one row per reference policy and beta on a fixed grid from 0.001 to 10
-- reference_id: the reference policy
-- beta: strength of the pull towards the reference
-- num_pairs: scored pairs that are not tied
-- share_failing: share of them for which the assumption fails, that is rlhf_margin is not above 0
-- num_failing: how many those are
-- weight_share_failing: the same share by the weight of the latest curation run; NULL before the first one
with

betas as (
    select unnest([0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 2.5, 3, 5, 10])::double as beta
),

decisions as (
    select pair_id, weight from model.standing_decisions
),

pairs as (
    select diagnostics.reference_id, diagnostics.reference_margin, diagnostics.reward_gap, decisions.weight
    from mart.pair_diagnostics as diagnostics
    left join decisions on diagnostics.pair_id = decisions.pair_id
    where diagnostics.reference_margin is not null and not diagnostics.is_tied
),

failing as (
    select
        pairs.reference_id,
        betas.beta,
        pairs.weight,
        pairs.reference_margin + pairs.reward_gap / betas.beta <= 0 as is_failing
    from pairs
    cross join betas
)

select
    reference_id,
    beta,
    count(*) as num_pairs,
    count(*) filter (where is_failing) / count(*) as share_failing,
    count(*) filter (where is_failing) as num_failing,
    sum(weight) filter (where is_failing) / nullif(sum(weight), 0) as weight_share_failing
from failing
group by reference_id, beta
