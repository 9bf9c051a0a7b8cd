-- Candidates of any format -> one row a vote with canonical texts, and the reason where it is bad.
-- Parameters of the template: the format's query; what decodes JSON in a text, where the container cannot hold lists;
-- the characters that are blank; whether identical responses are bad.
with candidates as (
    {candidates}
),

decoded as (
    select
        * replace (
            {decode_prompt} as prompt,
            {decode_a} as response_a,
            {decode_b} as response_b
        )
    from candidates
),

typed as (
    select
        *,
        given_type(prompt) as prompt_type,
        given_type(response_a) as a_type,
        given_type(response_b) as b_type,
        case when prompt_type = 'ARRAY' then conversation(prompt) end as prompt_turns,
        case when a_type = 'ARRAY' then conversation(response_a) end as a_turns,
        case when b_type = 'ARRAY' then conversation(response_b) end as b_turns
    from decoded
),

read as (
    select
        *,
        case prompt_type
            when 'VARCHAR' then [message_json('user', prompt->>'$')]
            when 'ARRAY' then rendered(prompt_turns)
        end as given_prompt,
        case when len(a_turns) > 1 then rendered(a_turns[:-2]) end as a_prompt,
        case when len(b_turns) > 1 then rendered(b_turns[:-2]) end as b_prompt,
        case a_type when 'VARCHAR' then response_a->>'$' when 'ARRAY' then a_turns[-1].content->>'$' end as a_text,
        case b_type when 'VARCHAR' then response_b->>'$' when 'ARRAY' then b_turns[-1].content->>'$' end as b_text
    from typed
),

joined as (
    select
        *,
        case when a_prompt is not null and (given_prompt is null or a_prompt[-len(given_prompt):] = given_prompt)
            then a_prompt else given_prompt end as turns,
        case when len(turns) >= 0 then '[' || array_to_string(turns, ',') || ']' end as messages,
        try_cast(strength as double) as strength_number,
        case when annotated_at is not null then time_of(annotated_at) end as annotated_time,
        lower(trim(vote)) as clean_vote
    from read
)

select
    source_row,
    other_row,
    messages,
    a_text as response_a,
    b_text as response_b,
    coalesce(nullif(trim(criterion), ''), 'overall') as criterion,
    case when clean_vote = 'both_bad' then 'tie' else clean_vote end as vote,
    is_display_order_known,
    strength_number as strength,
    clean_vote is not distinct from 'both_bad' as is_both_bad,
    nullif(annotator_id, '') as annotator_id,
    nullif(lower(annotator_kind), '') as annotator_kind,
    annotated_time as annotated_at,
    batch,
    source_split,
    model_a,
    model_b,
    extra,
    case
        when reason is not null then reason
        when prompt_type not in ('VARCHAR', 'ARRAY') then 'prompt_not_text'
        when a_type is null or b_type is null then 'missing_response'
        when a_type not in ('VARCHAR', 'ARRAY') or b_type not in ('VARCHAR', 'ARRAY') then 'response_not_text'
        when len(a_turns) = 0 or len(b_turns) = 0 then 'missing_response'
        when a_type = 'ARRAY' and has_key_twice(response_a) or b_type = 'ARRAY' and has_key_twice(response_b)
            or prompt_type = 'ARRAY' and has_key_twice(prompt) then 'duplicate_keys'
        when len(list_filter(
            flatten([coalesce(prompt_turns, []), coalesce(a_turns, []), coalesce(b_turns, [])]),
            lambda m: m.content is null or json_type(m.content) <> 'VARCHAR')) > 0 then 'message_not_text'
        when len(list_filter(
            flatten([coalesce(prompt_turns, []), coalesce(a_turns, []), coalesce(b_turns, [])]),
            lambda m: m.role is null)) > 0 then 'unknown_role'
        when a_turns[-1].role <> 'assistant' or b_turns[-1].role <> 'assistant' then 'ends_with_user'
        when prompt_type is null and a_prompt is null and b_prompt is null and not may_lack_prompt
            then 'missing_prompt'
        when a_turns[1].role = 'assistant' and len(a_turns) > 1 or b_turns[1].role = 'assistant' and len(b_turns) > 1
            then 'multi_turn_response'
        when a_prompt is distinct from b_prompt and (a_prompt is not null and b_prompt is not null or given_prompt is null)
            then 'prompt_mismatch'
        when a_prompt <> turns or b_prompt <> turns then 'prompt_mismatch'
        when prompt_type = 'VARCHAR' and trim(prompt->>'$', {blank}) = '' and a_prompt is null
            then 'missing_prompt'
        when prompt_type = 'VARCHAR' and is_nested(prompt->>'$') then 'nested_json'
        when is_nested(a_text) or is_nested(b_text) then 'nested_json'
        when len(turns) = 0 and not may_lack_prompt then 'missing_prompt'
        when len(turns) > 0 and prompt_type is distinct from 'VARCHAR' and not contains(messages, '{{"role":"user"')
            then 'prompt_without_user'
        when contains(messages, '\u0000') and list_contains(
            list_transform(coalesce(prompt_turns, a_turns), lambda m: contains(m.content->>'$', chr(0))), true)
            then 'nul_character'
        when contains(coalesce(prompt->>'$', ''), chr(0)) or contains(a_text, chr(0)) or contains(b_text, chr(0))
            then 'nul_character'
        when trim(a_text, {blank}) = '' or trim(b_text, {blank}) = '' then 'empty_response'
        when {identical} and a_text = b_text then 'identical_responses'
        when clean_vote is null or clean_vote = '' then 'missing_vote'
        when clean_vote not in ('a', 'b', 'tie', 'both_bad') then 'bad_vote'
        when strength is not null and (strength_number is null or not isfinite(strength_number)) then 'bad_strength'
        when annotated_at is not null and annotated_time is null then 'bad_time'
        when lower(annotator_kind) not in ('human', 'model', '') then 'bad_annotator_kind'
    end as reason,
    detail
from joined
