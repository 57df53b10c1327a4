"""What lint finds in a Dockerfile: shown by `seom build --check`, and an error with "# check=error=true"."""

from __future__ import annotations

from collections.abc import Collection

from seom.build.dockerfile import Dockerfile, DockerfileError, Scope, parse
from seom.build.dockerfile.arguments import global_arguments, platform_arguments
from seom.build.dockerfile.lint import Context, chosen_checks, lint
from seom.build.options import BuildOptions
from seom.build.workspace import Workspace
from seom.dockerignore import IgnoreRules
from seom.errors import InvalidParameter, NotFound
from seom.images.progress import Message, Report
from seom.images.store import ImageStore
from seom.oci.descriptor import host_platform, parse_platform

LARGEST_FILE_BYTES = 8 << 20


class ChecksFailed(InvalidParameter):
    """Lint found something; what that is was reported."""


def check(workspace: Workspace, options: BuildOptions, images: ImageStore, report: Report) -> None:
    """Report what lint finds in the Dockerfile of a context. Raises ChecksFailed if it finds anything.

    Environment variables of base images are known if the images are here; none is pulled for it.
    """
    name = options.dockerfile
    try:
        dockerfile = parse(_read(workspace, name))
        context = _context(dockerfile, workspace, options, images)
        findings = lint(dockerfile, context)
    except DockerfileError as error:
        raise InvalidParameter(error.render(name)) from error
    for finding in findings:
        report(Message(stream=f"{finding.render(dockerfile.text, name)}\n\n"))
    if findings:
        found = "1 warning has" if len(findings) == 1 else f"{len(findings)} warnings have"
        raise ChecksFailed(f"Check complete, {found} been found!")
    report(Message(stream="Check complete, no warnings found.\n"))


def refuse_findings(
    dockerfile: Dockerfile, workspace: Workspace, options: BuildOptions, images: ImageStore, report: Report
) -> None:
    """What "# check=error=true" asks of a build: raises ChecksFailed if lint finds anything.

    Raises DockerfileError for a malformed directive.
    """
    if not chosen_checks(dockerfile, _given(options)).error:
        return
    findings = lint(dockerfile, _context(dockerfile, workspace, options, images))
    for finding in findings:
        report(Message(stream=f"{finding.render(dockerfile.text, options.dockerfile)}\n\n"))
    if findings:
        names = dict.fromkeys(finding.rule.name for finding in findings)
        raise ChecksFailed(f"lint violation found for rules: {', '.join(names)}")


def _read(workspace: Workspace, name: str) -> str:
    content = workspace.read_context(name, LARGEST_FILE_BYTES)
    if content is None:
        raise InvalidParameter(f"Cannot locate specified Dockerfile: {name}")
    return content.decode("utf-8", "replace")


def _context(
    dockerfile: Dockerfile, workspace: Workspace, options: BuildOptions, images: ImageStore
) -> Context:
    given = _given(options)
    rules = workspace.read_context(f"{options.dockerfile}.dockerignore", LARGEST_FILE_BYTES)
    if rules is None:
        rules = workspace.read_context(".dockerignore", LARGEST_FILE_BYTES) or b""
    return Context(
        given=given,
        ignore=IgnoreRules(rules.decode("utf-8", "replace")),
        environments=_environments(dockerfile, options, given, images),
    )


def _given(options: BuildOptions) -> dict[str, str]:
    return {name: value for name, value in options.build_args.items() if value is not None}


def _environments(
    dockerfile: Dockerfile, options: BuildOptions, given: dict[str, str], images: ImageStore
) -> dict[str, Collection[str]]:
    """Names of the variables of those base images that are here, by the image's name in FROM."""
    platform = parse_platform(options.platform) if options.platform else host_platform()
    predefined = platform_arguments(host_platform(), platform, options.target)
    scope = Scope(global_arguments(dockerfile, given, predefined), dockerfile.escape)
    environments: dict[str, Collection[str]] = {}
    for base in {scope.word(stage.base) for stage in dockerfile.stages}:
        try:
            variables = images.resolve(base).config.execution.env or ()
        except (NotFound, InvalidParameter):
            continue
        environments[base] = [entry.partition("=")[0] for entry in variables]
    return environments
