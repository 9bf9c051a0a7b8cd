-- grain: one row per reference policy and response
-- reference_id: the reference policy
-- response_id: the response
-- logps [nats]: sum over the response's tokens, end of turn included; NULL where it was not scored
-- noise [nats]: standard deviation of logps among engines, dtypes and kernels; NULL where it was not measured
-- num_tokens: tokens of the response, end of turn included; 0 where it cannot be tokenized
-- num_prompt_tokens: tokens of the prompt
-- is_truncated: prompt and response do not fit in max_length; where logps is given, the prompt was cut
-- embedding: random projection of the last token's hidden state; NULL where not asked for
-- engine: what scored it
-- engine_path: which path of the engine
-- engine_version: version of the engine
-- dtype: dtype of the computation
-- scored_at [UTC]: when
-- run_id: run that inserted it
create table raw.reference_scores (
    reference_id varchar not null,
    response_id varchar not null,
    logps double,
    noise double,
    num_tokens integer not null,
    num_prompt_tokens integer not null,
    is_truncated boolean not null,
    embedding float[],
    engine varchar not null,
    engine_path varchar not null,
    engine_version varchar not null,
    dtype varchar not null,
    scored_at timestamp not null,
    run_id varchar not null
);
