"""The image store: pull, push, registry client, archives."""
