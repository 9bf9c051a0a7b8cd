-- grain: one row per prompt
-- prompt_id: content hash of the messages
-- messages: the conversation up to the answer, canonical JSON, a list of {role, content}
-- source: where it was first seen
-- run_id: run that inserted it
create table raw.prompts (
    prompt_id varchar not null,
    messages varchar not null,
    source varchar not null,
    run_id varchar not null
);
