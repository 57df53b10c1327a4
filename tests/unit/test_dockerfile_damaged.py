"""Whatever a Dockerfile holds, the answer is a Dockerfile or a DockerfileError, soon."""

from __future__ import annotations

import random

import pytest

from seom.build.dockerfile import DockerfileError, IgnoreRules, Scope, parse
from seom.build.dockerfile.arguments import global_arguments
from seom.build.dockerfile.instructions import Run
from seom.build.dockerfile.lint import lint
from seom.errors import InvalidParameter

TEXT = """\
# syntax=docker/dockerfile:1
# check=experimental=all
ARG A=1 B="x y" C=${A:+"all=-N -l"}
FROM --platform=$BUILDPLATFORM golang:${A}-alpine${B%% *} AS tools
RUN --mount=type=cache,sharing=locked,id=$A,target=/c,mode=0700 --mount=type=tmpfs,target=/t,size=1g \\
  --mount=from=other <<EOT
  set -e
EOT
COPY --link --chmod=755 <<EOF <<-'X' /docker-entrypoint.sh
exec ${A//x*/y} \\\\
EOF
	a
	X
ENV a=b c='d e' f="g $h"
LABEL x y
HEALTHCHECK --interval=1m --retries=3 CMD ["a", "b"]
ONBUILD ADD --checksum=sha256:aa https://example.com/x /y
EXPOSE 80/TCP $P
SHELL ["/bin/sh", "-c"]
FROM tools AS other
COPY --from=0 [a-c]* **/d !e /f/
"""
PIECES = [
    *"${}<\\`\n'\"[]#%/=,*?!@ \t-",
    "<<EOF",
    "--mount=",
    "--from=",
    ":-",
    "ONBUILD ",
    "RUN ",
    "\r\n",
    "\x00",
    "\udc80",
    "\u0661",
    "9" * 5000,
    "${a:-" * 2000,
    "[" * 5000,
]


def damaged(seed: int) -> str:
    """The text with some pieces put in, taken out and copied elsewhere."""
    chance = random.Random(seed)
    text = TEXT
    for _ in range(chance.randint(1, 6)):
        place, other = chance.randrange(len(text)), chance.randrange(len(text))
        choice = chance.random()
        if choice < 0.5:
            text = text[:place] + chance.choice(PIECES) + text[place:]
        elif choice < 0.8:
            text = text[:place] + text[place + chance.randint(1, 12) :]
        else:
            text = text[:place] + text[other : other + 60] + text[place:]
    return text


def use(text: str) -> None:
    """All that can be done with the text of a Dockerfile."""
    dockerfile = parse(text)
    lint(dockerfile)
    scope = Scope({"A": "1", "a": "x/y.z"}, dockerfile.escape)
    for stage in dockerfile.stages:
        for instruction in stage.instructions:
            if isinstance(instruction.expanded(scope), Run) and isinstance(instruction, Run):
                instruction.mounts(scope)
    dockerfile.stages_needed("", global_arguments(dockerfile, {}, {}))


@pytest.mark.parametrize("seed", range(0, 600, 100))
def test_a_damaged_dockerfile_is_read_or_refused(seed: int) -> None:
    for variation in range(seed, seed + 100):
        try:
            use(damaged(variation))
        except DockerfileError as error:
            assert error.message in error.render()


@pytest.mark.parametrize("seed", range(0, 300, 100))
def test_a_damaged_ignore_file_is_read_or_refused(seed: int) -> None:
    for variation in range(seed, seed + 100):
        try:
            rules = IgnoreRules(damaged(variation))
            rules.ignores("a/b/c.d")
            rules.may_keep_beneath("a/b")
        except InvalidParameter as error:
            assert str(error).startswith(".dockerignore:")
