-- grain: one row per curation run and pair whose decision differs from the run before; winnow diff compares any two
-- run_id: the later run
-- previous_run_id: the run before it
-- pair_id: the pair
-- change: new, gone or changed
-- was_dropped: dropped before; NULL for a new pair
-- is_dropped: dropped now; NULL for a pair that is gone
-- was_flipped: flipped before
-- is_flipped: flipped now
-- is_chosen_other: another response is chosen than before
-- previous_weight: weight before
-- weight: weight now
-- previous_soft_label: soft label before
-- soft_label: soft label now
-- previous_rules: rules that did something before
-- rules: rules that do something now
with

runs as (
    select
        run_id,
        run_number,
        lag(run_id) over (order by run_number) as previous_run_id
    from raw.curation_runs
),

before as (
    select * from raw.decisions where end_run < 2147483647
),

after as (
    select * from raw.decisions where first_run > 1
),

changed as (
    select
        coalesce(after.first_run, before.end_run) as run_number,
        coalesce(after.pair_id, before.pair_id) as pair_id,
        case
            when before.pair_id is null then 'new'
            when after.pair_id is null then 'gone'
            else 'changed'
        end as change,
        before.is_dropped as was_dropped,
        after.is_dropped,
        before.is_flipped as was_flipped,
        after.is_flipped,
        before.is_chosen_lower <> after.is_chosen_lower as is_chosen_other,
        before.weight as previous_weight,
        after.weight,
        before.soft_label as previous_soft_label,
        after.soft_label,
        before.rules as previous_rules,
        after.rules,
        before.objective is distinct from after.objective
        or before.amounts is distinct from after.amounts
        or before.actions is distinct from after.actions
        or before.is_adjudicated is distinct from after.is_adjudicated as is_otherwise_changed
    from before
    full join after on before.end_run = after.first_run and before.pair_id = after.pair_id
)

select
    runs.run_id,
    runs.previous_run_id,
    changed.pair_id,
    changed.change,
    changed.was_dropped,
    changed.is_dropped,
    changed.was_flipped,
    changed.is_flipped,
    changed.is_chosen_other,
    changed.previous_weight,
    changed.weight,
    changed.previous_soft_label,
    changed.soft_label,
    changed.previous_rules,
    changed.rules
from changed
inner join runs on changed.run_number = runs.run_number
where
    runs.previous_run_id is not null
    and (
        changed.change <> 'changed'
        or changed.is_otherwise_changed
        or changed.is_chosen_other
        or changed.was_dropped <> changed.is_dropped
        or changed.was_flipped <> changed.is_flipped
        or changed.previous_weight <> changed.weight
        or changed.previous_soft_label is distinct from changed.soft_label
        or changed.previous_rules <> changed.rules
    )
