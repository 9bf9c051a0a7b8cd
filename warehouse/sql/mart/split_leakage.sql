-- grain: one row per two splits, in both directions, that share a prompt up to near-duplication
-- source_1: source of the first split
-- split_1: the first split, as the source gives it
-- source_2: source of the second split
-- split_2: the second split
-- num_prompt_groups: groups of near-duplicate prompts with a prompt in both; an equal prompt is a group too
-- num_prompts_1: prompts of the first split in those groups
-- num_prompts_2: prompts of the second split in those groups
-- share_2: num_prompts_2 of all prompts of the second split: for train first and test second, what has leaked of test
-- example_group_id: one of the groups, the lowest
with judged as (
    select distinct
        prompt_id,
        source,
        source_split
    from raw.judgments
    where source_split is not null
),

prompt_groups as (
    select
        item_id as prompt_id,
        group_id
    from raw.near_duplicates
    where kind = 'prompt'
),

members as (
    select
        coalesce(prompt_groups.group_id, judged.prompt_id) as prompt_group_id,
        judged.source,
        judged.source_split,
        count(*) as num_prompts
    from judged
    left join prompt_groups using (prompt_id)
    group by all
),

sizes as (
    select
        source,
        source_split,
        count(*) as num_prompts
    from judged
    group by all
)

select
    first.source as source_1,
    first.source_split as split_1,
    second.source as source_2,
    second.source_split as split_2,
    count(*) as num_prompt_groups,
    sum(first.num_prompts)::bigint as num_prompts_1,
    sum(second.num_prompts)::bigint as num_prompts_2,
    sum(second.num_prompts) / any_value(sizes.num_prompts) as share_2,
    min(first.prompt_group_id) as example_group_id
from members as first
inner join members as second
    on
        first.prompt_group_id = second.prompt_group_id
        and (first.source, first.source_split) <> (second.source, second.source_split)
inner join sizes on second.source = sizes.source and second.source_split = sizes.source_split
group by first.source, first.source_split, second.source, second.source_split;
