-- grain: one row per response and criterion on which it was compared with another one
-- response_id: the response
-- prompt_id: its prompt
-- criterion: on what
-- bradley_terry [nats]: Bradley-Terry reward, mean 0 over the responses that votes connect; a tie is half a win for each
-- bradley_terry_low [nats]: lower end of the 95 % interval
-- bradley_terry_high [nats]: upper end of the 95 % interval
-- hodge_rank: HodgeRank score of the mean votes, mean 0 over the same responses
with

estimates as (
    select * from raw.response_estimates
),

responses as not materialized (
    select response_id, prompt_id from raw.responses
)

select
    estimates.response_id,
    responses.prompt_id,
    estimates.criterion,
    estimates.bradley_terry,
    estimates.bradley_terry_low,
    estimates.bradley_terry_high,
    estimates.hodge_rank
from estimates
left join responses on estimates.response_id = responses.response_id
