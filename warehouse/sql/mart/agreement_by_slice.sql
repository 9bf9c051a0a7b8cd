-- grain: one row per slice, value and level of measurement
-- slice: what it is cut by: all, source, criterion, batch, week or prompt_group
-- slice_value: which one
-- level: nominal; ordinal too where the source gives strengths
-- alpha: Krippendorff's alpha; NULL where it is not defined
-- alpha_low: lower end of the 95 % bootstrap interval over pairs
-- alpha_high: upper end of the 95 % bootstrap interval over pairs
-- num_units: pairs with at least two votes
-- num_units_excluded: pairs with fewer than two votes, which say nothing of agreement
-- num_votes: votes on the units
-- raw_agreement: share of vote pairs that agree
with

agreement as (
    select * from raw.agreement
)

select
    slice,
    slice_value,
    level,
    alpha,
    alpha_low,
    alpha_high,
    num_units,
    num_units_excluded,
    num_votes,
    raw_agreement
from agreement
