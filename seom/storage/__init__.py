"""Storage: database, content-addressed blobs, layers, snapshots, garbage collection."""
