-- grain: one row per criterion of the latest diagnosis: what holds of all its votes together
-- criterion: on what
-- num_judgments: votes
-- num_pairs: distinct pairs
-- num_annotators: distinct annotators, unnamed ones by source
-- length_bias [log-odds a doubling]: slope of all votes by the logarithm of the responses' lengths; an association, no fault by itself
-- length_bias_low [log-odds a doubling]: lower end of the 95 % interval
-- length_bias_high [log-odds a doubling]: upper end of the 95 % interval
-- log_likelihood [nats]: of all votes under the annotator model
-- num_rounds: rounds of its fit
-- is_converged: whether the fit reached its tolerance
-- taste_gain [nats a vote]: held-out log-likelihood of two groups of annotators less that of one; NULL where not tested
-- taste_gain_error [nats a vote]: its standard error; above 2.58 of them there are two groups
-- run_id: run that diagnosed it
with

diagnoses as (
    select
        run_id,
        facts
    from raw.runs
    where stage = 'diagnose'
    order by ended_at desc, run_id desc
    limit 1
),

figures as (
    select
        diagnoses.run_id,
        each.key as criterion,
        each.value as found
    from diagnoses
    cross join json_each(diagnoses.facts) as each
)

select
    criterion,
    (found ->> '$.num_judgments')::bigint as num_judgments,
    (found ->> '$.num_pairs')::bigint as num_pairs,
    (found ->> '$.num_annotators')::bigint as num_annotators,
    (found ->> '$.length_bias[0]')::double as length_bias,
    (found ->> '$.length_bias[1]')::double as length_bias_low,
    (found ->> '$.length_bias[2]')::double as length_bias_high,
    (found ->> '$.log_likelihood')::double as log_likelihood,
    (found ->> '$.num_rounds')::bigint as num_rounds,
    (found ->> '$.is_converged')::boolean as is_converged,
    (found ->> '$.taste_gain[0]')::double as taste_gain,
    (found ->> '$.taste_gain[1]')::double as taste_gain_error,
    run_id
from figures
