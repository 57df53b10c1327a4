-- Documents are JSON of the structures named.
CREATE TABLE network (
    id          TEXT PRIMARY KEY,           -- 64 hexadecimal digits
    name        TEXT NOT NULL UNIQUE,
    created_ns  INTEGER NOT NULL,           -- nanoseconds since the epoch
    definition  BLOB NOT NULL               -- network.definition.NetworkDefinition
) STRICT;

-- One row for each network that a running container is attached to, from before its interface
-- exists until after its namespace was let go.
CREATE TABLE endpoint (
    container_id TEXT NOT NULL,
    network_id   TEXT NOT NULL REFERENCES network (id),
    document     BLOB NOT NULL,             -- engine.network_records.Endpoint
    PRIMARY KEY (container_id, network_id)
) STRICT;

-- What a running container has beyond its endpoints: published ports, the port of its DNS server.
CREATE TABLE sandbox (
    container_id TEXT PRIMARY KEY,
    document     BLOB NOT NULL              -- engine.network_records.SandboxRecord
) STRICT;

-- Settings of the host that this instance changed, with their value before, to be put back.
CREATE TABLE host_setting (
    name        TEXT PRIMARY KEY,           -- below /proc/sys/net
    value       TEXT NOT NULL
) STRICT;
