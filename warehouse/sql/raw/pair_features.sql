-- grain: one row per pair
-- pair_id: the pair
-- is_identical: both responses are the same text up to white space
-- response_similarity: Jaccard similarity of the two responses' shingles of two words; 1 where they are identical
-- is_near_identical: similarity of at least 0.8
-- is_token_identical: both are the same tokens once cut at the trainer's length; NULL without a scored policy at hand
-- run_id: run that wrote it
create table raw.pair_features (
    pair_id varchar not null,
    is_identical boolean not null,
    response_similarity double not null,
    is_near_identical boolean not null,
    is_token_identical boolean,
    run_id varchar not null
);
