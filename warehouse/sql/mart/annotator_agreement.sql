-- grain: one row per two annotators and criterion on which both judged the same pairs
-- annotator_1: the lower id
-- annotator_2: the higher id
-- criterion: on what
-- num_shared: pairs that both judged
-- raw_agreement: share of them on which they agree; several votes of one annotator on a pair count once
-- chance_agreement: agreement expected from their vote frequencies
-- kappa: chance-corrected agreement (Cohen); NULL where chance agreement is 1
with

annotator_pairs as (
    select * from raw.annotator_pairs
)

select
    annotator_1,
    annotator_2,
    criterion,
    num_shared,
    raw_agreement,
    chance_agreement,
    kappa
from annotator_pairs
