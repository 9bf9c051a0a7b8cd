-- grain: one row per pair (two responses and a criterion) under one reference policy
-- pair_id: content hash of the unordered responses and the criterion
-- reference_id: the reference policy; NULL while nothing is scored
-- prompt_id: prompt of both responses
-- prompt_group_id: group of near-duplicate prompts; the prompt's own id where it has none
-- criterion: what was asked, 'overall' where the source does not say
-- source: source of its first judgment, in alphabetical order
-- chosen_id: the response that the consensus prefers
-- rejected_id: the other response
-- num_votes: judgments on the pair
-- num_votes_chosen: judgments for the chosen response
-- num_votes_rejected: judgments for the rejected response
-- num_ties: judgments for neither
-- num_annotators: distinct annotators
-- vote_share_chosen: share of the votes for the chosen response, a tie counting one half
-- p_chosen: posterior probability that a random annotator who does not tie prefers chosen
-- p_tie: posterior probability that a random annotator calls it a tie
-- p_consensus_right: posterior probability that chosen is the better response
-- is_tied: the posterior is exactly even, so chosen is arbitrary
-- is_taste_split: two groups of annotators who agree within themselves oppose each other; NULL where not tested
-- vote_q_value: adjusted p-value of the votes against a coin, one an annotator; NULL below two
-- reward_gap [nats]: Bradley-Terry reward difference, logit(p_chosen)
-- reference_chosen_logps [nats]: log-prob of the chosen response under the reference policy, summed over tokens
-- reference_rejected_logps [nats]: log-prob of the rejected response under the reference policy, summed over tokens
-- chosen_num_tokens: tokens of the chosen response, end of turn included; NULL where it cannot be tokenized
-- rejected_num_tokens: tokens of the rejected response, end of turn included; NULL where it cannot be tokenized
-- reference_margin [nats]: reference_chosen_logps - reference_rejected_logps
-- reference_margin_mean [nats a token]: the same difference of log-probs per token
-- is_margin_uncertain: reference_margin is within twice the noise between engines and dtypes; NULL where that is unknown
-- is_reference_wrong: reference_margin is below 0: the reference favors the rejected response
-- is_reference_wrong_mean: reference_margin_mean is below 0
-- rlhf_margin [nats]: margin of the KL-regularised optimum, reference_margin + reward_gap / beta, at the workspace's beta
-- is_assumption_held: rlhf_margin is above 0: the optimum itself prefers the chosen response
-- beta_max: largest beta at which the assumption holds; infinity where reference_margin is not below 0
-- p_flip: calibrated probability that the label is wrong; not computed yet, so always NULL
-- is_truncated: a response was not scored because it does not fit beside its prompt
-- is_prompt_cut: both were scored, one at least behind a prompt that was cut from the left to fit
-- is_contradicted: at least one row of mart.contradictions names the pair
-- contradiction_kinds: kinds of those rows; empty where there are none
-- is_in_cycle: the majority of its votes lies on a cycle of its prompt's preference graph
-- shortest_cycle_length: edges of the shortest such cycle; NULL where there is none
-- is_in_feedback_arc_set: reversing chosen and rejected is part of the cheapest way to a ranking of the prompt's majorities
-- curl_ratio: share of the prompt's preference energy that no ranking explains; NULL where the graph has no loop
-- has_near_duplicate_prompt: another prompt is a near-duplicate of this one
-- is_identical: both responses are the same text up to white space
-- is_near_identical: the responses' shingle similarity is at least 0.8
-- is_token_identical: both are the same tokens once cut at the trainer's length; NULL without a scored policy at hand
-- response_similarity: Jaccard similarity of the two responses' word shingles
-- chosen_num_chars: characters of the chosen response
-- rejected_num_chars: characters of the rejected response
-- length_difference [tokens]: chosen_num_tokens - rejected_num_tokens
-- is_empty: a response is nothing but white space
-- is_chosen_refusal: the chosen response reads like a refusal
-- is_rejected_refusal: the rejected response reads like a refusal
-- is_chosen_cut_off: the chosen response stops in the middle of a sentence or inside an open code fence
-- is_rejected_cut_off: the rejected response stops so
-- is_language_mismatch: a response is in another language than the prompt; NULL where unsure
with

estimates as (
    select * from raw.pair_estimates
),

policies as (
    select reference_id from raw.reference_policies
),

-- not materialized: a copy of the table would hold all of its columns, whatever the query reads
scores as not materialized (
    select * from raw.reference_scores
),

prompt_groups as (
    select item_id as prompt_id, group_id from raw.near_duplicates where kind = 'prompt'
),

features as not materialized (
    select * from raw.response_features
),

contradicted as (
    select pair_id, list_sort(list(distinct kind)) as kinds from raw.contradictions group by pair_id
),

parameters as (
    select coalesce(max(value) filter (where name = 'beta'), 0.1) as beta from raw.parameters
),

joined as (
    select
        estimates.*,
        policies.reference_id,
        coalesce(prompt_groups.group_id, estimates.prompt_id) as prompt_group_id,
        prompt_groups.group_id is not null as has_near_duplicate_prompt,
        ln(estimates.p_chosen / (1 - estimates.p_chosen)) as reward_gap,
        chosen.logps as reference_chosen_logps,
        rejected.logps as reference_rejected_logps,
        nullif(chosen.num_tokens, 0) as chosen_num_tokens,
        nullif(rejected.num_tokens, 0) as rejected_num_tokens,
        chosen.logps - rejected.logps as reference_margin,
        sqrt(chosen.noise * chosen.noise + rejected.noise * rejected.noise) as reference_margin_noise,
        chosen.logps / chosen.num_tokens - rejected.logps / rejected.num_tokens as reference_margin_mean,
        (chosen.is_truncated and chosen.logps is null) or (rejected.is_truncated and rejected.logps is null)
            as is_truncated,
        (chosen.is_truncated or rejected.is_truncated) and chosen.logps is not null and rejected.logps is not null
            as is_prompt_cut,
        coalesce(contradicted.kinds, []) as contradiction_kinds,
        pair_graph.shortest_cycle_length,
        pair_graph.pair_id is not null as is_in_cycle,
        -- the graph's edges are the majorities': where the consensus is the other side, it is with the ranking
        coalesce(
            pair_graph.is_in_feedback_arc_set and estimates.num_votes_chosen > estimates.num_votes_rejected, false
        ) as is_in_feedback_arc_set,
        graphs.curl_ratio,
        pair_features.is_identical,
        pair_features.is_near_identical,
        pair_features.is_token_identical,
        pair_features.response_similarity,
        chosen_features.num_chars as chosen_num_chars,
        rejected_features.num_chars as rejected_num_chars,
        chosen_features.is_empty or rejected_features.is_empty as is_empty,
        chosen_features.is_refusal as is_chosen_refusal,
        rejected_features.is_refusal as is_rejected_refusal,
        chosen_features.is_cut_off as is_chosen_cut_off,
        rejected_features.is_cut_off as is_rejected_cut_off,
        chosen_features.is_language_mismatch or rejected_features.is_language_mismatch as is_language_mismatch,
        parameters.beta
    from estimates
    cross join parameters
    left join policies on true
    left join prompt_groups on estimates.prompt_id = prompt_groups.prompt_id
    left join scores as chosen
        on policies.reference_id = chosen.reference_id and estimates.chosen_id = chosen.response_id
    left join scores as rejected
        on policies.reference_id = rejected.reference_id and estimates.rejected_id = rejected.response_id
    left join contradicted on estimates.pair_id = contradicted.pair_id
    left join raw.pair_graph as pair_graph on estimates.pair_id = pair_graph.pair_id
    left join raw.prompt_graphs as graphs
        on estimates.prompt_id = graphs.prompt_id and estimates.criterion = graphs.criterion
    left join raw.pair_features as pair_features on estimates.pair_id = pair_features.pair_id
    left join features as chosen_features on estimates.chosen_id = chosen_features.response_id
    left join features as rejected_features on estimates.rejected_id = rejected_features.response_id
)

select
    pair_id,
    reference_id,
    prompt_id,
    prompt_group_id,
    criterion,
    source,
    chosen_id,
    rejected_id,
    num_votes,
    num_votes_chosen,
    num_votes_rejected,
    num_ties,
    num_annotators,
    (num_votes_chosen + num_ties / 2) / num_votes as vote_share_chosen,
    p_chosen,
    p_tie,
    p_consensus_right,
    is_tied,
    is_taste_split,
    vote_q_value,
    reward_gap,
    reference_chosen_logps,
    reference_rejected_logps,
    chosen_num_tokens,
    rejected_num_tokens,
    reference_margin,
    reference_margin_mean,
    abs(reference_margin) < 2 * reference_margin_noise as is_margin_uncertain,
    reference_margin < 0 as is_reference_wrong,
    reference_margin_mean < 0 as is_reference_wrong_mean,
    reference_margin + reward_gap / beta as rlhf_margin,
    reference_margin + reward_gap / beta > 0 as is_assumption_held,
    case
        when reference_margin >= 0 then 'infinity'::double
        when reference_margin < 0 then reward_gap / -reference_margin
    end as beta_max,
    null::double as p_flip,
    is_truncated,
    is_prompt_cut,
    len(contradiction_kinds) > 0 as is_contradicted,
    contradiction_kinds,
    is_in_cycle,
    shortest_cycle_length,
    is_in_feedback_arc_set,
    curl_ratio,
    has_near_duplicate_prompt,
    is_identical,
    is_near_identical,
    is_token_identical,
    response_similarity,
    chosen_num_chars,
    rejected_num_chars,
    chosen_num_tokens - rejected_num_tokens as length_difference,
    is_empty,
    is_chosen_refusal,
    is_rejected_refusal,
    is_chosen_cut_off,
    is_rejected_cut_off,
    is_language_mismatch
from joined
