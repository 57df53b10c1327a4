"""The command line: a thin HTTP client. Imports nothing of the engine."""
