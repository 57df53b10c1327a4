-- An image is its configuration: the id is that document's digest. Times in nanoseconds since the epoch.
CREATE TABLE image (
    id          TEXT PRIMARY KEY,           -- sha256:HEX of config
    config      BLOB NOT NULL,              -- the document, byte for byte
    created_ns  INTEGER NOT NULL,           -- what the configuration says, 0 if nothing
    parent      TEXT NOT NULL DEFAULT '',   -- id of the image this one was made from here, if any
    manifest    TEXT NOT NULL DEFAULT '',   -- digest of the manifest it came with or was given
    tagged_ns   INTEGER NOT NULL DEFAULT 0, -- when it was last tagged here
    removed     INTEGER NOT NULL DEFAULT 0  -- 1: removed by force, kept only for stopped containers
) STRICT;

CREATE TABLE layer (
    diff_id     TEXT PRIMARY KEY,           -- digest of the uncompressed tar
    size_bytes  INTEGER NOT NULL,           -- of its regular files
    tar_bytes   INTEGER NOT NULL,           -- of the uncompressed tar
    blob        TEXT NOT NULL,              -- digest of a compressed form in the blob store
    blob_bytes  INTEGER NOT NULL,
    media_type  TEXT NOT NULL,              -- of that form
    boot_id     TEXT NOT NULL DEFAULT ''    -- not yet synced to disk while this boot lasts
) STRICT;

CREATE TABLE image_layer (
    image_id    TEXT NOT NULL REFERENCES image ON DELETE CASCADE,
    position    INTEGER NOT NULL,           -- 0 is the lowest
    diff_id     TEXT NOT NULL REFERENCES layer,
    PRIMARY KEY (image_id, position)
) STRICT;
CREATE INDEX image_layer_by_diff_id ON image_layer (diff_id);

-- What an image keeps alive in the blob store: configuration, manifest, index, layers.
CREATE TABLE image_blob (
    image_id    TEXT NOT NULL REFERENCES image ON DELETE CASCADE,
    digest      TEXT NOT NULL,
    PRIMARY KEY (image_id, digest)
) STRICT;

CREATE TABLE tag (
    repository  TEXT NOT NULL,              -- full name: docker.io/library/debian
    tag         TEXT NOT NULL,
    image_id    TEXT NOT NULL REFERENCES image ON DELETE CASCADE,
    PRIMARY KEY (repository, tag)
) STRICT;
CREATE INDEX tag_by_image ON tag (image_id);

-- The manifests or indexes by which registries know an image.
CREATE TABLE repository_digest (
    repository  TEXT NOT NULL,
    digest      TEXT NOT NULL,
    image_id    TEXT NOT NULL REFERENCES image ON DELETE CASCADE,
    PRIMARY KEY (repository, digest)
) STRICT;
CREATE INDEX repository_digest_by_image ON repository_digest (image_id);

-- What a tag meant over time, newest last; images that are gone stay named.
CREATE TABLE tag_history (
    repository  TEXT NOT NULL,
    tag         TEXT NOT NULL,
    image_id    TEXT NOT NULL,
    tagged_ns   INTEGER NOT NULL
) STRICT;
CREATE INDEX tag_history_by_tag ON tag_history (repository, tag);

-- Where a registry is known to hold a blob, so that a push may mount it instead of sending it.
CREATE TABLE blob_source (
    digest      TEXT NOT NULL,
    repository  TEXT NOT NULL,
    PRIMARY KEY (digest, repository)
) STRICT;
