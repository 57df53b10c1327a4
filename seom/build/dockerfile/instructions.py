"""The instructions of a Dockerfile, as data.

Words are kept as they are written, with quotes and variables, because their values are known only
when an instruction is executed: expanded() gives an instruction's words their final form, by
Docker's rule for that instruction.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

from seom.build.dockerfile.errors import Location
from seom.build.dockerfile.expansion import Scope
from seom.build.dockerfile.lines import Heredoc
from seom.build.dockerfile.mounts import Mount, parse_mount


@dataclass(frozen=True, slots=True)
class KeyValue:
    """One of the assignments of ENV and LABEL."""

    key: str
    value: str


@dataclass(frozen=True, slots=True)
class Argument:
    """One of the names of ARG; default is None if the name stands alone."""

    name: str
    default: str | None = None


@dataclass(frozen=True, slots=True)
class Command:
    """What RUN, CMD and ENTRYPOINT execute: a line for the shell, or the arguments of a program."""

    arguments: tuple[str, ...]
    shell: bool
    """arguments has one element, for the SHELL in force; without it, arguments is a JSON list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """What all instructions have. keyword is in upper case, original is all of the text."""

    keyword: ClassVar[str]

    location: Location
    original: str
    """The logical line: continuations joined, comments dropped; without here-documents."""

    def expanded(self, scope: Scope) -> Self:
        """The instruction with the words that Docker expands in it in their final form."""
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class From(Instruction):
    """FROM: the words are expanded with the global arguments alone."""

    keyword: ClassVar[str] = "FROM"

    base: str
    name: str = ""
    """In lower case: names of stages are compared without regard to case."""
    platform: str = ""

    def expanded(self, scope: Scope) -> Self:
        return replace(self, base=scope.word(self.base), platform=scope.word(self.platform))


@dataclass(frozen=True, slots=True, kw_only=True)
class Arg(Instruction):
    keyword: ClassVar[str] = "ARG"

    arguments: tuple[Argument, ...]

    def expanded(self, scope: Scope) -> Self:
        return replace(
            self,
            arguments=tuple(
                Argument(scope.word(each.name), None if each.default is None else scope.word(each.default))
                for each in self.arguments
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Env(Instruction):
    """ENV: all its values see the variables as they were before it."""

    keyword: ClassVar[str] = "ENV"

    variables: tuple[KeyValue, ...]
    legacy: bool = False
    """Written without "=": ENV name value."""

    def expanded(self, scope: Scope) -> Self:
        return replace(self, variables=_expanded_pairs(self.variables, scope))


@dataclass(frozen=True, slots=True, kw_only=True)
class Label(Instruction):
    keyword: ClassVar[str] = "LABEL"

    labels: tuple[KeyValue, ...]
    legacy: bool = False

    def expanded(self, scope: Scope) -> Self:
        return replace(self, labels=_expanded_pairs(self.labels, scope))


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(Instruction):
    """RUN: the shell expands the command, Docker only the values of --mount (see mounts())."""

    keyword: ClassVar[str] = "RUN"

    command: Command
    heredocs: tuple[Heredoc, ...] = ()
    mount_flags: tuple[str, ...] = ()
    network: str = "default"
    """One of default, none, host."""
    security: str = "sandbox"
    """One of sandbox, insecure."""
    devices: tuple[str, ...] = ()

    def mounts(self, scope: Scope) -> tuple[Mount, ...]:
        """The mounts that --mount asks for; raises DockerfileError."""
        return tuple(parse_mount(flag, scope.word) for flag in self.mount_flags)

    @property
    def script(self) -> str | None:
        """The here-document that is the whole command (RUN <<EOF); None for any other command.

        One that begins with "#!" is a program to be executed, any other is a line for the shell.
        """
        if len(self.heredocs) == 1 and self.command.shell and self.command.arguments[0].startswith("<<"):
            return self.heredocs[0].content if len(self.command.arguments[0].split()) == 1 else None
        return None

    @property
    def shell_line(self) -> str:
        """What the shell gets for the shell form: the line, with the here-documents that belong to it."""
        script = self.script
        if script is not None:
            return script
        documents = "".join(f"\n{document.raw}{document.name}" for document in self.heredocs)
        return self.command.arguments[0] + documents


@dataclass(frozen=True, slots=True, kw_only=True)
class Cmd(Instruction):
    keyword: ClassVar[str] = "CMD"

    command: Command


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrypoint(Instruction):
    keyword: ClassVar[str] = "ENTRYPOINT"

    command: Command


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer(Instruction):
    """What COPY and ADD have in common."""

    sources: tuple[str, ...]
    """Without here-documents."""
    destination: str
    documents: tuple[Heredoc, ...] = ()
    """Files given as here-documents; each is called by its name unless destination names a file."""
    chown: str = ""
    chmod: str = ""
    link: bool = False
    exclude: tuple[str, ...] = ()

    def expanded(self, scope: Scope) -> Self:
        return replace(
            self,
            sources=tuple(map(scope.word, self.sources)),
            destination=scope.word(self.destination),
            documents=tuple(_expanded_document(document, scope) for document in self.documents),
            chown=scope.word(self.chown),
            chmod=scope.word(self.chmod),
            exclude=tuple(map(scope.word, self.exclude)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy(Transfer):
    keyword: ClassVar[str] = "COPY"

    origin: str = ""
    """--from: name or index of a stage, name of a build context, or an image. Never expanded."""
    parents: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Add(Transfer):
    keyword: ClassVar[str] = "ADD"

    checksum: str = ""
    keep_git_dir: bool | None = None
    """None: as the build argument BUILDKIT_CONTEXT_KEEP_GIT_DIR says."""
    unpack: bool | None = None
    """None: local archives are unpacked, downloaded ones are not."""

    def expanded(self, scope: Scope) -> Self:
        # super() without arguments fails in a slotted dataclass: its cell names the class before slots.
        return replace(Transfer.expanded(self, scope), checksum=scope.word(self.checksum))


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintainer(Instruction):
    keyword: ClassVar[str] = "MAINTAINER"

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Expose(Instruction):
    """EXPOSE: a variable may hold several ports, so expansion may give more words than were written."""

    keyword: ClassVar[str] = "EXPOSE"

    ports: tuple[str, ...]

    def expanded(self, scope: Scope) -> Self:
        return replace(self, ports=tuple(port for word in self.ports for port in scope.word(word).split()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume(Instruction):
    keyword: ClassVar[str] = "VOLUME"

    paths: tuple[str, ...]

    def expanded(self, scope: Scope) -> Self:
        return replace(self, paths=tuple(map(scope.word, self.paths)))


@dataclass(frozen=True, slots=True, kw_only=True)
class User(Instruction):
    keyword: ClassVar[str] = "USER"

    user: str

    def expanded(self, scope: Scope) -> Self:
        return replace(self, user=scope.word(self.user))


@dataclass(frozen=True, slots=True, kw_only=True)
class Workdir(Instruction):
    keyword: ClassVar[str] = "WORKDIR"

    path: str

    def expanded(self, scope: Scope) -> Self:
        return replace(self, path=scope.word(self.path))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell(Instruction):
    keyword: ClassVar[str] = "SHELL"

    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StopSignal(Instruction):
    keyword: ClassVar[str] = "STOPSIGNAL"

    signal: str

    def expanded(self, scope: Scope) -> Self:
        return replace(self, signal=scope.word(self.signal))


@dataclass(frozen=True, slots=True, kw_only=True)
class Healthcheck(Instruction):
    """HEALTHCHECK. Times and retries are 0 where nothing is said."""

    keyword: ClassVar[str] = "HEALTHCHECK"

    test: tuple[str, ...]
    """As in an image's configuration: NONE, or CMD and arguments, or CMD-SHELL and a line."""
    interval_ns: int = 0
    timeout_ns: int = 0
    start_period_ns: int = 0
    start_interval_ns: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Onbuild(Instruction):
    """ONBUILD: nothing is expanded before the trigger is executed, in another build."""

    keyword: ClassVar[str] = "ONBUILD"

    expression: str
    """The trigger's text, with its here-documents, as an image's configuration stores it."""
    trigger: Instruction = field(repr=False)


def _expanded_pairs(pairs: tuple[KeyValue, ...], scope: Scope) -> tuple[KeyValue, ...]:
    return tuple(KeyValue(scope.word(pair.key), scope.word(pair.value)) for pair in pairs)


def _expanded_document(document: Heredoc, scope: Scope) -> Heredoc:
    return replace(document, raw=scope.document(document.raw)) if document.expand else document
