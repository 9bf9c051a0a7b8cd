-- grain: one row per export
-- export_id: identifier
-- curation_run_id: decisions that it holds
-- snapshot_id: snapshot of the lake that it was read from
-- path: folder
-- format: winnow, trl, ...
-- manifest_hash: SHA-256 of its manifest
-- num_pairs: pairs in it
-- run_id: run that wrote it
create table raw.exports (
    export_id varchar not null,
    curation_run_id varchar not null,
    snapshot_id bigint,
    path varchar not null,
    format varchar not null,
    manifest_hash varchar not null,
    num_pairs bigint not null,
    run_id varchar not null
);
