-- grain: one row per source file that ingest has read to its end
-- fingerprint: hash of the file's bytes, its source name, its format and the settings that matter
-- source: name of the source
-- format: how it was read
-- num_rows [rows]: rows of the file
-- num_judgments [judgments]: judgments that they hold
-- num_quarantined [rows]: rows of which at least a part went to quarantine
-- run_id: run that read it
create table raw.source_files (
    fingerprint varchar not null,
    source varchar not null,
    format varchar not null,
    num_rows bigint not null,
    num_judgments bigint not null,
    num_quarantined bigint not null,
    run_id varchar not null
);
