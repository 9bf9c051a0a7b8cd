-- grain: one row per annotator and criterion
-- annotator_id: who; 'unnamed:SOURCE' where the source gives no annotator
-- criterion: on what
-- kind: human or model; NULL where no source says
-- num_votes: judgments
-- num_pairs: distinct pairs
-- reliability: probability of voting for the better response when not tying
-- reliability_low: lower end of the 95 % interval
-- reliability_high: upper end of the 95 % interval
-- position_bias [log-odds]: shift towards the response shown first; 0 is none
-- position_bias_low [log-odds]: lower end of the 95 % interval
-- position_bias_high [log-odds]: upper end of the 95 % interval
-- length_bias [log-odds a doubling]: slope of voting for a response by the logarithm of its length; NULL without votes
-- length_bias_low [log-odds a doubling]: lower end of the 95 % interval
-- length_bias_high [log-odds a doubling]: upper end of the 95 % interval
-- tie_rate: share of ties expected of them
-- median_seconds [s]: median time since their previous judgment, gaps above half an hour left out; NULL without times
-- self_consistency: share of pairs judged more than once on which they always said the same; NULL without such pairs
-- cycle_share: share of their votes that hold up a preference whose reversal is part of the cheapest way to a ranking
-- is_adversarial: reliability is below one half with 95 % confidence, one-sided
-- is_position_biased: position bias differs from 0 after correction for many annotators
-- is_careless: agrees with the others less than the rest do, after correction for many annotators
-- agreement_q_value: Benjamini-Hochberg adjusted p-value of 'this annotator agrees as the rest do'
with

estimates as (
    select * from raw.annotator_estimates
),

consensus as (
    select pair_id, chosen_id from raw.pair_estimates
),

cycles as (
    select pair_id, is_in_feedback_arc_set from raw.pair_graph
),

judgments as (
    select
        coalesce(annotator_id, 'unnamed:' || source) as annotator_id,
        criterion,
        pair_id,
        annotator_kind,
        annotated_at,
        vote,
        case vote when 'a' then response_a_id when 'b' then response_b_id end as preferred_id
    from raw.judgments
),

timed as (
    select
        annotator_id,
        criterion,
        epoch(annotated_at - lag(annotated_at) over (partition by annotator_id order by annotated_at)) as seconds
    from judgments
    where annotated_at is not null
),

speed as (
    select annotator_id, criterion, median(seconds) filter (seconds <= 1800) as median_seconds
    from timed
    group by annotator_id, criterion
),

repeats as (
    select annotator_id, criterion, pair_id, count(distinct coalesce(preferred_id, 'tie')) = 1 as is_consistent
    from judgments
    where not starts_with(annotator_id, 'unnamed:')
    group by annotator_id, criterion, pair_id
    having count(*) > 1
),

consistency as (
    select annotator_id, criterion, avg(is_consistent::integer) as self_consistency
    from repeats
    group by annotator_id, criterion
),

volume as (
    select
        judgments.annotator_id,
        judgments.criterion,
        min(judgments.annotator_kind) as kind,
        count(distinct judgments.pair_id) as num_pairs,
        avg((
            coalesce(cycles.is_in_feedback_arc_set, false) and judgments.preferred_id = consensus.chosen_id
        )::integer) as cycle_share
    from judgments
    left join consensus on judgments.pair_id = consensus.pair_id
    left join cycles on judgments.pair_id = cycles.pair_id
    group by judgments.annotator_id, judgments.criterion
)

select
    estimates.annotator_id,
    estimates.criterion,
    volume.kind,
    estimates.num_votes,
    volume.num_pairs,
    estimates.reliability,
    estimates.reliability_low,
    estimates.reliability_high,
    estimates.position_bias,
    estimates.position_bias_low,
    estimates.position_bias_high,
    estimates.length_bias,
    estimates.length_bias_low,
    estimates.length_bias_high,
    estimates.tie_rate,
    speed.median_seconds,
    consistency.self_consistency,
    coalesce(volume.cycle_share, 0) as cycle_share,
    estimates.is_adversarial,
    estimates.is_position_biased,
    estimates.is_careless,
    estimates.agreement_q_value
from estimates
left join volume on estimates.annotator_id = volume.annotator_id and estimates.criterion = volume.criterion
left join speed on estimates.annotator_id = speed.annotator_id and estimates.criterion = speed.criterion
left join consistency
    on estimates.annotator_id = consistency.annotator_id and estimates.criterion = consistency.criterion
