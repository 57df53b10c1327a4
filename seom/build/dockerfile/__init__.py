"""Dockerfiles, without any I/O: text -> instructions and stages, words -> values, lint, .dockerignore.

How they go together:

    text --lines.py--> logical lines --parser.py--> Dockerfile(stages(instructions))
                                                       |
             arguments.py, expansion.py: values -------+--> executed elsewhere
             lint.py: findings (checks.py) ------------+
"""

from seom.build.dockerfile.dockerfile import Dockerfile, Stage
from seom.build.dockerfile.errors import DockerfileError, Location
from seom.build.dockerfile.expansion import Scope, expand
from seom.build.dockerfile.parser import parse, parse_instruction
from seom.dockerignore import IgnoreRules

__all__ = [
    "Dockerfile",
    "DockerfileError",
    "IgnoreRules",
    "Location",
    "Scope",
    "Stage",
    "expand",
    "parse",
    "parse_instruction",
]
