-- grain: one row per annotator and criterion, from the annotator model
-- annotator_id: who; 'unnamed:SOURCE' where the source gives no annotator
-- criterion: on what
-- num_votes: judgments
-- reliability: probability of voting for the better response when not tying
-- reliability_low: lower end of the 95 % interval
-- reliability_high: upper end of the 95 % interval
-- position_bias: log-odds shift towards the response shown first; 0 is none
-- position_bias_low: lower end of the 95 % interval
-- position_bias_high: upper end of the 95 % interval
-- length_bias [log-odds a doubling]: slope of voting for a response by the logarithm of its length; NULL without votes
-- length_bias_low [log-odds a doubling]: lower end of the 95 % interval
-- length_bias_high [log-odds a doubling]: upper end of the 95 % interval
-- tie_rate: share of ties expected of them
-- is_adversarial: reliability is below one half, at a false discovery rate of 5 % over the posterior
-- is_position_biased: position bias differs from 0 after correction for many annotators
-- is_careless: agrees with the others less than the rest do, after correction for many annotators
-- agreement_q_value: Benjamini-Hochberg adjusted p-value of 'this annotator agrees as the rest do'
-- run_id: run that wrote it
create table raw.annotator_estimates (
    annotator_id varchar not null,
    criterion varchar not null,
    num_votes integer not null,
    reliability double not null,
    reliability_low double not null,
    reliability_high double not null,
    position_bias double not null,
    position_bias_low double not null,
    position_bias_high double not null,
    length_bias double,
    length_bias_low double,
    length_bias_high double,
    tie_rate double not null,
    is_adversarial boolean not null,
    is_position_biased boolean not null,
    is_careless boolean not null,
    agreement_q_value double,
    run_id varchar not null
);
