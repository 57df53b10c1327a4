"""The Docker Engine API, and Seom's own under /seom/: decode, call the engine, encode."""

API_VERSION = "1.51"
MIN_API_VERSION = "1.24"
