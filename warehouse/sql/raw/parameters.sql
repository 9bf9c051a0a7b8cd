-- grain: one row per named number that views read
-- name: for example beta
-- value: its value
create table raw.parameters (
    name varchar not null,
    value double not null
);
