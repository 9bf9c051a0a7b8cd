-- grain: one row per response
-- response_id: the response
-- num_chars: characters
-- is_empty: nothing but white space
-- is_refusal: reads like a refusal
-- is_cut_off: stops in the middle of a sentence or inside an open code fence
-- language: ISO 639-1 code of its script and commonest words; NULL where unsure
-- is_language_mismatch: language known, and other than the prompt's
-- run_id: run that wrote it
create table raw.response_features (
    response_id varchar not null,
    num_chars integer not null,
    is_empty boolean not null,
    is_refusal boolean not null,
    is_cut_off boolean not null,
    language varchar,
    is_language_mismatch boolean,
    run_id varchar not null
);
