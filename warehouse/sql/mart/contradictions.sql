-- grain: one row per contradiction and pair that it touches
-- contradiction_id: content hash of kind and evidence
-- kind: between_annotators, within_annotator, between_orders, between_near_duplicates, between_sources or transitive
-- pair_id: the pair
-- other_pair_id: the pair that contradicts it, where it is another one
-- prompt_id: prompt of the pair
-- criterion: on what
-- source: source of the pair's first judgment, in alphabetical order
-- chosen_id: the response that the consensus prefers
-- rejected_id: the other response
-- annotator_id: the annotator, for within_annotator
-- num_for: judgments for the pair's chosen response
-- num_against: judgments against it
-- p_chosen: posterior probability that a random annotator who does not tie prefers chosen
-- is_taste_split: two groups of annotators who agree within themselves oppose each other; NULL where not tested
-- evidence: ids of the judgments, responses or pairs that show it, as JSON
with

contradictions as (
    select * from raw.contradictions
),

estimates as (
    select * from raw.pair_estimates
)

select
    contradictions.contradiction_id,
    contradictions.kind,
    contradictions.pair_id,
    contradictions.other_pair_id,
    estimates.prompt_id,
    estimates.criterion,
    estimates.source,
    estimates.chosen_id,
    estimates.rejected_id,
    contradictions.annotator_id,
    contradictions.num_for,
    contradictions.num_against,
    estimates.p_chosen,
    estimates.is_taste_split,
    contradictions.evidence
from contradictions
left join estimates using (pair_id)
