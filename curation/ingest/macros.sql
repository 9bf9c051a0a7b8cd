-- DuckDB macros that every format shares; :normalise.sql: uses them.

-- A text as a JSON string, written as Python's json.dumps(ensure_ascii=False) does: DuckDB writes \u001B, Python \u001b.
create macro json_text(x) as case
    when regexp_matches(x, '[\x0b\x0e\x0f\x1a-\x1f]') then replace(list_reduce(
        list_prepend(replace(to_json(x)::varchar, '\\', chr(1)), ['B', 'E', 'F', '1A', '1B', '1C', '1D', '1E', '1F']),
        lambda text, code: replace(text, '\u00' || lpad(code, 2, '0'), '\u00' || lower(lpad(code, 2, '0')))
    ), chr(1), '\\')
    else to_json(x)::varchar
end;

create macro message_json(role, content) as '{"role":"' || role || '","content":' || json_text(content) || '}';

-- The roles that the field uses, as system, user and assistant; NULL where unknown.
create macro role_of(x) as case lower(x)
    when 'system' then 'system'
    when 'user' then 'user' when 'human' then 'user' when 'prompter' then 'user'
    when 'assistant' then 'assistant' when 'gpt' then 'assistant' when 'model' then 'assistant'
    when 'chatbot' then 'assistant' when 'bot' then 'assistant'
end;

-- A JSON list of {role, content} or {from, value} as a list of structs; content stays JSON, so that its type is seen.
create macro conversation(x) as list_transform(
    from_json(x, '[{"role":"VARCHAR","content":"JSON","from":"VARCHAR","value":"JSON"}]'),
    lambda m: {'role': role_of(coalesce(m.role, m."from")), 'content': coalesce(m.content, m."value")}
);

create macro rendered(messages) as list_transform(messages, lambda m: message_json(m.role, m.content->>'$'));

-- Whether a message of a JSON list has a key twice.
create macro has_key_twice(x) as len(list_filter(json_keys(x, '$[*]'), lambda k: len(k) <> len(list_distinct(k)))) > 0;

-- JSON null and absence are the same: nothing was given.
create macro given_type(x) as nullif(json_type(x), 'NULL');

-- Whether a text is itself a JSON list of messages.
create macro is_nested(x) as
    starts_with(ltrim(x), '[') and json_valid(x) and json_type(x, '$[0]') is not distinct from 'OBJECT'
    and (json_exists(x, '$[0].role') or json_exists(x, '$[0].from'));

-- Bytes that are not UTF-8 as text to look at: what is not printable ASCII is written \xE9.
create macro bytes_as_text(x) as
    replace(replace(replace(replace(x::varchar, '\x22', '"'), '\x27', ''''), '\x0A', chr(10)), '\x5C', '\');

create macro time_of(x) as coalesce(
    try_cast(x as timestamptz) at time zone 'UTC',
    try(make_timestamp((try_cast(x as double) * case when try_cast(x as double) > 1e11 then 1e3 else 1e6 end)::bigint))
);
