-- A batch as read (source_row, line, reason) -> the rows with their text, and the reason where a row is no JSON object.
with texts as (
    select source_row, line, reason as read_reason, try(decode(line)) as text
    from batch
)

select
    source_row,
    line,
    text as doc,
    case
        when read_reason is not null then read_reason
        when text is null then 'invalid_utf8'
        when not json_valid(text) then
            case when regexp_matches(text, '\\u[dD][89a-fA-F][0-9a-fA-F]{2}') then 'lone_surrogate' else 'not_json' end
        when json_type(text) <> 'OBJECT' then 'not_an_object'
        when len(json_keys(text)) <> len(list_distinct(json_keys(text))) then 'duplicate_keys'
    end as reason
from texts
where text is null or not regexp_full_match(text, '\s*')
