-- What build steps led to: the build cache. Times in nanoseconds since the epoch.
CREATE TABLE build_step (
    key         TEXT PRIMARY KEY,           -- digest of the step before, the instruction and its input
    parent      TEXT NOT NULL,              -- key of the step before, '' after a FROM
    description TEXT NOT NULL,              -- the instruction, for people
    diff_id     TEXT REFERENCES layer,      -- the layer it made; NULL when it changed no files
    created_ns  INTEGER NOT NULL,
    used_ns     INTEGER NOT NULL,
    uses        INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX build_step_by_diff_id ON build_step (diff_id);
CREATE INDEX build_step_by_parent ON build_step (parent);

-- Directories of RUN --mount=type=cache, below DATA_ROOT/builds/mounts.
CREATE TABLE build_mount (
    id          TEXT PRIMARY KEY,           -- what the Dockerfile calls it
    folder      TEXT NOT NULL,              -- the name of its directory
    created_ns  INTEGER NOT NULL,
    used_ns     INTEGER NOT NULL,
    uses        INTEGER NOT NULL DEFAULT 0
) STRICT;
