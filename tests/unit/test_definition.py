"""Merging an image's defaults into a create request, and what is refused."""

from __future__ import annotations

import pytest

from seom.containers.config import Config, HealthConfig, HostConfig, LogConfig, RestartPolicy
from seom.engine.definition import (
    check,
    command_line,
    fill_host_defaults,
    merge_image_defaults,
    parse_size,
)
from seom.errors import InvalidParameter

IMAGE = Config(
    entrypoint=["/entry"],
    cmd=["default"],
    env=["PATH=/bin", "A=image"],
    labels={"a": "image", "b": "image"},
    working_dir="/srv",
)


def merged(**wanted: object) -> Config:
    config = Config(**wanted)  # type: ignore[arg-type]
    merge_image_defaults(config, IMAGE)
    return config


def test_an_empty_request_takes_everything_from_the_image() -> None:
    config = merged()
    assert command_line(config) == ["/entry", "default"]
    assert config.working_dir == "/srv"


def test_a_command_keeps_the_images_entrypoint() -> None:
    assert command_line(merged(cmd=["mine"])) == ["/entry", "mine"]


def test_an_entrypoint_drops_the_images_command() -> None:
    assert command_line(merged(entrypoint=["/mine"])) == ["/mine"]


def test_an_empty_entrypoint_leaves_only_the_command() -> None:
    assert command_line(merged(entrypoint=[""], cmd=["echo"])) == ["echo"]


def test_environment_and_labels_merge_by_key() -> None:
    config = merged(env=["A=mine", "PATH"], labels={"a": "mine"})
    assert config.env == ["A=mine"]
    assert config.labels == {"a": "mine", "b": "image"}


def test_no_command_at_all_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="no command specified"):
        command_line(Config())


@pytest.mark.parametrize(
    ("host", "message"),
    [
        (HostConfig(restart_policy=RestartPolicy("sometimes")), "unknown policy 'sometimes'"),
        (HostConfig(restart_policy=RestartPolicy("always", 3)), "only be used with 'on-failure'"),
        (HostConfig(auto_remove=True, restart_policy=RestartPolicy("always")), "AutoRemove"),
        (HostConfig(log_config=LogConfig("syslog")), "no log driver named 'syslog'"),
        (HostConfig(log_config=LogConfig("json-file", {"max-size": "big"})), "invalid size: 'big'"),
        (HostConfig(runtime="nope"), "unknown or invalid runtime name: nope"),
    ],
)
def test_impossible_combinations_are_refused(host: HostConfig, message: str) -> None:
    fill_host_defaults(host)
    with pytest.raises(InvalidParameter, match=message):
        check(Config(), host)


def test_a_health_check_faster_than_a_millisecond_is_refused() -> None:
    host = HostConfig()
    fill_host_defaults(host)
    with pytest.raises(InvalidParameter, match="Interval in Healthcheck cannot be less than 1ms"):
        check(Config(healthcheck=HealthConfig(test=["CMD", "true"], interval=10)), host)


def test_swap_defaults_to_twice_the_memory() -> None:
    host = HostConfig(memory=64 << 20)
    fill_host_defaults(host)
    assert host.memory_swap == 128 << 20


@pytest.mark.parametrize(
    ("text", "size"), [("10", 10), ("10k", 10240), ("1.5m", 1572864), ("2GiB", 2 << 30), ("-1", -1)]
)
def test_sizes_are_powers_of_1024(text: str, size: int) -> None:
    assert parse_size(text) == size
