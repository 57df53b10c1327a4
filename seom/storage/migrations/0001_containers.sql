-- Documents are JSON of the structures named; what is searched for has its own column.
CREATE TABLE container (
    id          TEXT PRIMARY KEY,           -- 64 hexadecimal digits
    name        TEXT NOT NULL UNIQUE,       -- without the leading slash
    created_ns  INTEGER NOT NULL,           -- nanoseconds since the epoch
    definition  BLOB NOT NULL,              -- what was asked for: engine.container.Definition
    state       BLOB NOT NULL               -- what became of it: engine.container.State
) STRICT;
