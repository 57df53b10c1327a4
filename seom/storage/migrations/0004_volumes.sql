-- The content of a volume lives in volumes/NAME/_data under the data root.
CREATE TABLE volume (
    name        TEXT PRIMARY KEY,
    created_ns  INTEGER NOT NULL,           -- nanoseconds since the epoch
    driver      TEXT NOT NULL,
    labels      BLOB NOT NULL,              -- JSON object
    options     BLOB NOT NULL               -- JSON object: type, device, o
) STRICT;
