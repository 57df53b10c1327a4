"""login and logout: registry credentials in Docker's configuration file or a credential program."""

from __future__ import annotations

import os

from seom.cli import credentials, jsontext, output
from seom.cli.commands import Command, Invocation
from seom.cli.errors import CommandError
from seom.cli.flags import Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _login(invocation: Invocation) -> int:
    options = invocation.options
    registry = credentials.server_key(invocation.arguments[0] if invocation.arguments else "")
    user, password = _ask(options.text("username"), _given_password(invocation), registry)
    request = {"username": user, "password": password, "serveraddress": registry}
    answer = invocation.client.call("POST", "/auth", body=request).json()
    token = answer.get("IdentityToken") or ""
    _store(registry, user, password, token)
    output.line("\n" + (answer.get("Status") or "Login Succeeded"))
    return 0


def _given_password(invocation: Invocation) -> str:
    options = invocation.options
    if not options.on("password-stdin"):
        if "password" in options.changed:
            output.error("WARNING! Using --password via the CLI is insecure. Use --password-stdin.")
        return options.text("password")
    if options.text("password"):
        raise CommandError("--password and --password-stdin are mutually exclusive")
    if not options.text("username"):
        raise CommandError("Must provide --username with --password-stdin")
    typed = b""
    while piece := os.read(0, 4096):
        typed += piece
    return typed.decode().rstrip("\r\n")


def _ask(user: str, password: str, registry: str) -> tuple[str, str]:
    if user and password:
        return user, password
    if not os.isatty(0):
        raise CommandError(
            "Error: Cannot perform an interactive login from a non TTY device; "
            "give --username and --password-stdin"
        )
    known = credentials.auth_for(registry).get("username", "")
    if not user:
        output.write(f"Username{f' ({known})' if known else ''}: ")
        user = _read_line() or known
    if not user:
        raise CommandError("Error: Non-null Username Required")
    if not password:
        import getpass

        password = getpass.getpass("Password: ")
    if not password:
        raise CommandError("Error: Password Required")
    return user, password


def _read_line() -> str:
    typed = b""
    while not typed.endswith(b"\n") and (letter := os.read(0, 1)):
        typed += letter
    return typed.decode().strip()


def _store(registry: str, user: str, password: str, token: str) -> None:
    import binascii

    config = credentials.load_config()
    helper = credentials.helper_for(config, registry)
    if helper:
        secret = {
            "ServerURL": registry,
            "Username": "<token>" if token else user,
            "Secret": token or password,
        }
        credentials.ask_helper(helper, "store", jsontext.encode(secret))
        return
    secret_text = f"{user}:{'' if token else password}"
    entry: dict[str, Any] = {"auth": binascii.b2a_base64(secret_text.encode(), newline=False).decode()}
    if token:
        entry["identitytoken"] = token
    config.setdefault("auths", {})[registry] = entry
    credentials.save_config(config)
    output.error(
        f"\nWARNING! Your credentials are stored unencrypted in '{credentials.config_path()}'.\n"
        "Configure a credential helper (credsStore in that file) to remove this warning."
    )


def _logout(invocation: Invocation) -> int:
    registry = credentials.server_key(invocation.arguments[0] if invocation.arguments else "")
    config = credentials.load_config()
    output.line(f"Removing login credentials for {registry}")
    helper = credentials.helper_for(config, registry)
    if helper:
        credentials.ask_helper(helper, "erase", registry)
    auths = config.get("auths") or {}
    stale = [key for key in auths if key == registry or credentials.server_key(key) == registry]
    for key in stale:
        del auths[key]
    if stale:
        credentials.save_config(config)
    return 0


LOGIN = Command(
    _login,
    "[OPTIONS] [SERVER]",
    (0, 1),
    (
        Flag("password", "string", "Password or Personal Access Token (PAT)", short="p"),
        Flag("password-stdin", "bool", "Take the Password or Personal Access Token (PAT) from stdin"),
        Flag("username", "string", "Username", short="u"),
    ),
    details="Docker Hub is meant when no server is given.",
)
LOGOUT = Command(_logout, "[SERVER]", (0, 1), details="Docker Hub is meant when no server is given.")
