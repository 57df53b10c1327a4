"""Formats without I/O: references, descriptors, manifests, image and runtime configuration."""
