"""The Docker Engine API, and Seom's own under /seom/: decode, call the engine, encode."""
