"""How stages of a build use one another, seen through `docker build`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.building import ClassicBuilder, write_context
from tests.harness.docker_cli import DockerCli


@pytest.fixture
def build(docker: DockerCli, name: str) -> Iterator[ClassicBuilder]:
    """The builder; the image called like the test is removed after it."""
    yield ClassicBuilder(docker)
    docker("rmi", "--force", name)


def test_a_stage_takes_files_from_a_later_one(
    docker: DockerCli, build: ClassicBuilder, tmp_path: Path, name: str
) -> None:
    context = write_context(
        tmp_path,
        """
        FROM busybox AS first
        COPY --from=tool /made /taken
        RUN --mount=from=tool,source=/made,target=/mounted cat /taken /mounted > /both
        FROM busybox AS tool
        RUN echo tool > /made
        FROM busybox AS unused
        RUN false
        """,
        {},
    )
    build.succeed(context, "-t", name, "--target", "first")
    assert docker.out("run", "--rm", name, "cat", "/both") == "tool\ntool"


def test_stages_that_need_each_other_are_refused_with_the_line(build: ClassicBuilder, tmp_path: Path) -> None:
    context = write_context(
        tmp_path,
        """
        FROM busybox AS one
        COPY --from=two /a /a
        FROM busybox AS two
        COPY --from=one /a /a
        """,
        {},
    )
    message = build(context, "--target", "two").stderr
    assert "circular dependency detected on stage: two" in message
    marked = next(line for line in message.splitlines() if ">>>" in line)
    assert marked.endswith("COPY --from=two /a /a")


def test_a_mount_without_a_target_is_the_working_directory(
    docker: DockerCli, build: ClassicBuilder, tmp_path: Path, name: str
) -> None:
    context = write_context(
        tmp_path,
        """
        FROM busybox
        WORKDIR /work
        RUN --mount=type=bind,source=dir ls > /listing
        """,
        {"dir/inner": "x"},
    )
    build.succeed(context, "-t", name)
    assert docker.out("run", "--rm", name, "cat", "/listing") == "inner"


def test_labels_of_the_client_are_taken_as_they_are(
    docker: DockerCli, build: ClassicBuilder, tmp_path: Path, name: str
) -> None:
    build.succeed(write_context(tmp_path, "FROM busybox\n"), "-t", name, "--label", "a=$PATH 'b\"")
    assert docker.out("image", "inspect", "--format", '{{index .Config.Labels "a"}}', name) == "$PATH 'b\""


def test_a_base_without_a_name_is_refused_with_the_line(build: ClassicBuilder, tmp_path: Path) -> None:
    done = build(write_context(tmp_path, "ARG BASE\nFROM $BASE\n"))
    assert done.returncode == 1
    assert "   2 | >>> FROM $BASE" in done.stderr
    assert "base name ($BASE) should not be blank" in done.stderr


def test_a_dockerfile_may_ask_to_be_checked(build: ClassicBuilder, tmp_path: Path) -> None:
    dockerfile = "# check=error=true\nFROM busybox\nCMD sh\nMAINTAINER me\n"
    done = build(write_context(tmp_path, dockerfile))
    assert done.returncode == 1
    assert "   3 | >>> CMD sh" in done.stdout
    assert "lint violation found for rules: JSONArgsRecommended, MaintainerDeprecated" in done.stderr
