-- grain: one row: what made this lake
-- version: layout version of the lake; another version is refused
-- created_at [UTC]: when the workspace was made
create table raw.workspace (
    version integer not null,
    created_at timestamp not null
);
