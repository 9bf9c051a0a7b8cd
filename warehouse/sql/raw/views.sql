-- grain: one row per view of the lake, so that a view is replaced only when its file changed
-- name: schema and view
-- sql_hash: hash of its SQL file
create table raw.views (
    name varchar not null,
    sql_hash varchar not null
);
