-- grain: one row per pair with its consensus, from the annotator model
-- pair_id: the pair
-- prompt_id: prompt of both responses
-- criterion: on what
-- source: source of its first judgment, in alphabetical order
-- chosen_id: the response that the consensus prefers; the lower id where it is exactly even
-- rejected_id: the other one
-- num_votes: judgments on the pair
-- num_votes_chosen: votes for the chosen response
-- num_votes_rejected: votes for the rejected response
-- num_ties: votes for neither
-- num_annotators: distinct annotators; unnamed ones count once a source
-- p_chosen: posterior probability that a random annotator who does not tie prefers chosen; never 0 or 1
-- p_tie: posterior probability that a random annotator calls it a tie
-- p_consensus_right: posterior probability that chosen is the better response
-- is_tied: the posterior is exactly even
-- is_taste_split: two groups of annotators who agree within themselves oppose each other here; NULL where not tested
-- vote_q_value: Benjamini-Hochberg adjusted p-value of the votes against a coin, one an annotator; NULL below two
-- run_id: run that wrote it
create table raw.pair_estimates (
    pair_id varchar not null,
    prompt_id varchar not null,
    criterion varchar not null,
    source varchar not null,
    chosen_id varchar not null,
    rejected_id varchar not null,
    num_votes integer not null,
    num_votes_chosen integer not null,
    num_votes_rejected integer not null,
    num_ties integer not null,
    num_annotators integer not null,
    p_chosen double not null,
    p_tie double not null,
    p_consensus_right double not null,
    is_tied boolean not null,
    is_taste_split boolean,
    vote_q_value double,
    run_id varchar not null
);
