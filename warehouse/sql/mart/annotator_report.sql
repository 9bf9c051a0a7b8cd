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
-- median_seconds [s]: median time since their last judgments, gaps above half an hour left out; NULL without times
-- self_consistency: share of pairs judged more than once on which they always said the same; NULL without such pairs
-- cycle_share: share of their votes, ties among them, for a majority to be reversed on the cheapest way to a ranking
-- is_adversarial: reliability is below one half, at a false discovery rate of 5 % over the posterior
-- is_position_biased: position bias differs from 0 after correction for many annotators
-- is_careless: agrees with the others less than the rest do, after correction for many annotators
-- agreement_q_value: Benjamini-Hochberg adjusted p-value of 'this annotator agrees as the rest do'
with

estimates as (
    select * from raw.annotator_estimates
),

-- the graph's edges are the majorities', which need not be the consensus
against_ranking as (
    select
        pair_graph.pair_id,
        case when pairs.num_votes_chosen > pairs.num_votes_rejected then pairs.chosen_id else pairs.rejected_id end
            as preferred_id
    from raw.pair_graph as pair_graph
    inner join raw.pair_estimates as pairs on pair_graph.pair_id = pairs.pair_id
    where pair_graph.is_in_feedback_arc_set
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

-- a form that asks for several criteria hands in several judgments at one time
moments as (
    select distinct annotator_id, annotated_at from judgments where annotated_at is not null
),

timed as (
    select
        annotator_id,
        annotated_at,
        epoch(annotated_at - lag(annotated_at) over (partition by annotator_id order by annotated_at)) as seconds
    from moments
),

handed_in as (
    select distinct annotator_id, criterion, annotated_at from judgments where annotated_at is not null
),

speed as (
    select
        handed_in.annotator_id,
        handed_in.criterion,
        median(timed.seconds) filter (timed.seconds <= 1800) as median_seconds
    from handed_in
    inner join timed
        on handed_in.annotator_id = timed.annotator_id and handed_in.annotated_at = timed.annotated_at
    group by handed_in.annotator_id, handed_in.criterion
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
        avg(coalesce(judgments.preferred_id = against_ranking.preferred_id, false)::integer) as cycle_share
    from judgments
    left join against_ranking on judgments.pair_id = against_ranking.pair_id
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
