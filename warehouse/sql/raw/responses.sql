-- grain: one row per response to a prompt
-- response_id: content hash of prompt and text
-- prompt_id: its prompt
-- text: the answer
-- model: what wrote it, where the source says so
-- source: where it was first seen
-- run_id: run that inserted it
create table raw.responses (
    response_id varchar not null,
    prompt_id varchar not null,
    text varchar not null,
    model varchar,
    source varchar not null,
    run_id varchar not null
);
