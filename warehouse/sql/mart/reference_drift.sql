-- grain: one row per two reference policies that both scored both responses of a pair
-- reference_id: the policy that was used first
-- other_reference_id: the policy that was used later
-- model: of reference_id: folder, absolute, or Hub id
-- other_model: of other_reference_id
-- num_pairs: pairs that both scored
-- num_sign_changes: pairs of which one policy prefers one response and the other policy the other
-- share_sign_changes: share of the pairs that those are
-- rank_correlation: Spearman correlation of the two policies' margins over those pairs; NULL where one is constant
-- mean_abs_margin_difference [nats]: mean over the pairs of the absolute difference of the two margins
with

pairs as (
    select distinct
        least(response_a_id, response_b_id) as one_id,
        greatest(response_a_id, response_b_id) as other_id
    from raw.judgments
    where response_a_id <> response_b_id
),

margins as (
    select
        policies.reference_id,
        policies.created_at,
        policies.model,
        pairs.one_id,
        pairs.other_id,
        one.logps - other.logps as margin
    from pairs
    join raw.reference_scores as one on pairs.one_id = one.response_id
    join raw.reference_scores as other
        on pairs.other_id = other.response_id and one.reference_id = other.reference_id
    join raw.reference_policies as policies on one.reference_id = policies.reference_id
    where one.logps is not null and other.logps is not null
),

both_scored as (
    select
        first.reference_id,
        later.reference_id as other_reference_id,
        first.model,
        later.model as other_model,
        first.margin,
        later.margin as other_margin
    from margins as first
    join margins as later on first.one_id = later.one_id and first.other_id = later.other_id
    where (first.created_at, first.reference_id) < (later.created_at, later.reference_id)
),

ranked as (
    select
        *,
        rank() over by_margin + (count(*) over same_margin - 1) / 2 as margin_rank,
        rank() over by_other_margin + (count(*) over same_other_margin - 1) / 2 as other_margin_rank
    from both_scored
    window
        by_margin as (partition by reference_id, other_reference_id order by margin),
        same_margin as (partition by reference_id, other_reference_id, margin),
        by_other_margin as (partition by reference_id, other_reference_id order by other_margin),
        same_other_margin as (partition by reference_id, other_reference_id, other_margin)
)

select
    reference_id,
    other_reference_id,
    any_value(model) as model,
    any_value(other_model) as other_model,
    count(*) as num_pairs,
    count(*) filter (where margin * other_margin < 0) as num_sign_changes,
    count(*) filter (where margin * other_margin < 0) / count(*) as share_sign_changes,
    if(
        stddev_pop(margin_rank) > 0 and stddev_pop(other_margin_rank) > 0, corr(margin_rank, other_margin_rank), null
    ) as rank_correlation,
    avg(abs(margin - other_margin)) as mean_abs_margin_difference
from ranked
group by reference_id, other_reference_id
