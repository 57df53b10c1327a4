"""Containers: specification, spawner, monitor, sandbox, exec, logs, stats."""
