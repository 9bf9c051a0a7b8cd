-- grain: one row per input row that could not become a judgment, and per response that no engine could score
-- quarantine_id: content hash of source, reason and payload, and of the number of equal rows above it in the source
-- source: name of the source
-- source_row: row in the source, from 0
-- reason: reason code
-- detail: the reason in words
-- payload: the row as it was read
-- run_id: run that inserted it
create table raw.quarantine (
    quarantine_id varchar not null,
    source varchar not null,
    source_row bigint,
    reason varchar not null,
    detail varchar not null,
    payload varchar,
    run_id varchar not null
);
