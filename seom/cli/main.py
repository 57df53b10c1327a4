"""Entry: finds the command, parses its flags, runs it, turns failures into messages and statuses."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os
import sys

from seom.cli import commands, flags, output
from seom.cli.client import Client
from seom.cli.commands import GLOBAL_FLAGS, GROUPS, SPELLINGS, Invocation
from seom.cli.errors import CommandError, Exit, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from seom.cli.commands import Command

DEFAULT_ADDRESS = "unix:///run/seom/seom.sock"


def main() -> None:
    """Run this process's command line and leave, without tearing the interpreter down."""
    _fill_standard_descriptors()
    # A reader of stdout that goes away ends the command, as it ends every other one.
    _signal.signal(_signal.SIGPIPE, _signal.SIG_DFL)
    os._exit(run(sys.argv[1:]))


def _fill_standard_descriptors() -> None:
    """Open /dev/null where the caller closed stdin, stdout or stderr: no socket shall get their numbers."""
    descriptor = 0
    while descriptor <= 2:
        descriptor = os.open(os.devnull, os.O_RDWR)
    os.close(descriptor)


def run(argv: list[str]) -> int:
    """Run one command line; returns its exit status."""
    debug = False
    try:
        try:
            options, words = flags.parse(GLOBAL_FLAGS, argv, interspersed=False)
        except flags.HelpRequested:
            return _print_help("")
        debug = options.on("debug")
        if options.text("config"):
            os.environ["DOCKER_CONFIG"] = options.text("config")
        if options.on("version"):
            return _print_version()
        address = options.text("host") or os.environ.get("SEOM_HOST") or os.environ.get("DOCKER_HOST")
        return _dispatch(words, address or DEFAULT_ADDRESS)
    except UsageError as error:
        output.error(
            f"{error.message}\n\nUsage:  seom [OPTIONS] COMMAND [ARG...]\n\n"
            "Run 'seom --help' for more information"
        )
        return error.status
    except Exit as way_out:
        return way_out.status
    except CommandError as error:
        output.error(error.message)
        return error.status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 141
    except OSError as error:
        if debug:
            raise
        reason = (error.strerror or str(error)).lower()
        output.error(f"open {error.filename}: {reason}" if error.filename else f"seom: {reason}")
        return 1
    except Exception as error:
        if debug:
            raise
        output.error(
            f"seom: a defect in seom itself: {type(error).__name__}: {error}; `seom --debug ...` shows where"
        )
        return 1


def _dispatch(argv: list[str], address: str) -> int:
    if not argv:
        return _print_help("")
    words, rest = argv[0], argv[1:]
    if words == "help":
        return _print_help(" ".join(rest))
    if words == "__complete":
        from seom.cli.complete import complete

        return complete(rest, Client(address))
    if words in GROUPS:
        if not rest or rest[0] in ("--help", "-h"):
            return _print_help(words)
        words, rest = f"{words} {rest[0]}", rest[1:]
    if words not in SPELLINGS:
        return _unknown(words)
    return _run(words, commands.load(words), rest, address)


def _run(words: str, command: Command, argv: list[str], address: str) -> int:
    try:
        options, arguments = flags.parse(command.flags, argv, interspersed=command.interspersed)
        least, most = command.arguments
        if len(arguments) < least or (most is not None and len(arguments) > most):
            from seom.cli import help

            output.error(help.wrong_number(words, command))
            return 1
        return command.run(Invocation(words, options, arguments, Client(address)))
    except flags.HelpRequested:
        return _print_help(words)
    except UsageError as error:
        from seom.cli import help

        output.error(f"{error.message}\n\n{help.usage_and_pointer(words, command)}")
        return error.status
    except CommandError as error:
        if command.error_status == 1 or error.final:
            raise
        output.error(f"seom: {error.message}\n\nRun 'seom {words} --help' for more information")
        return error.status if error.status != 1 else command.error_status


def _unknown(words: str) -> int:
    group, _, name = words.rpartition(" ")
    near = flags.suggestion(name, {**commands.members(group), **({} if group else GROUPS)}, "")
    where = f"seom {group}".rstrip()
    output.error(f"seom: unknown command: seom {words}{near}\n\nRun '{where} --help' for more information")
    return 1


def _print_help(words: str) -> int:
    from seom.cli import help

    if not words:
        output.write(help.for_everything())
    elif words in GROUPS:
        output.write(help.for_group(words))
    elif words in SPELLINGS:
        output.write(help.for_command(words))
    else:
        return _unknown(words)
    return 0


def _print_version() -> int:
    from seom import __version__

    output.line(f"Seom version {__version__}")
    return 0
