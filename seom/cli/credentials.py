"""Docker's client configuration: registry credentials, detach keys. Shared with Docker's own CLI.

    ~/.docker/config.json
        {"auths": {"registry.example": {"auth": base64 of user:password}},
         "credsStore": "pass", "credHelpers": {"registry.example": "ecr-login"}}

A store or helper NAME is the program docker-credential-NAME, asked over stdin and stdout.
"""

from __future__ import annotations

import os

from seom.cli import jsontext
from seom.cli.errors import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DOCKER_HUB = "https://index.docker.io/v1/"


def config_path() -> str:
    """The file's place: DOCKER_CONFIG, or .docker in the home folder."""
    folder = os.environ.get("DOCKER_CONFIG") or os.path.join(os.path.expanduser("~"), ".docker")
    return os.path.join(folder, "config.json")


def load_config() -> dict[str, Any]:
    """The file's content; {} when there is none. Raises CommandError when it is damaged."""
    path = config_path()
    try:
        with open(path, encoding="utf-8") as file:
            content = jsontext.decode(file.read() or "{}")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise CommandError(f"cannot read {path}: {error}; correct the file or remove it") from None
    return content if isinstance(content, dict) else {}


def save_config(config: dict[str, Any]) -> None:
    """Replace the file in one step, readable by its owner only."""
    path = os.path.realpath(config_path())
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    unfinished = f"{path}.{os.getpid()}"
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(jsontext.encode(config, indent=8).replace(" " * 8, "\t") + "\n")
        file.flush()
        os.fsync(descriptor)
    os.replace(unfinished, path)


def registry_of(reference: str) -> str:
    """The key under which an image's registry keeps its credentials."""
    first, slash, _ = reference.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return DOCKER_HUB if first in ("docker.io", "index.docker.io") else first
    return DOCKER_HUB


def server_key(server: str) -> str:
    """What the user typed for a registry as the key in the file."""
    host = server.removeprefix("https://").removeprefix("http://").split("/")[0]
    return DOCKER_HUB if host in ("", "docker.io", "index.docker.io", "registry-1.docker.io") else host


def auth_for(registry: str) -> dict[str, str]:
    """The API's AuthConfig for a registry; {} when nothing is known."""
    config = load_config()
    helper = helper_for(config, registry)
    if helper:
        return _from_helper(helper, registry)
    auths = config.get("auths") or {}
    for key, entry in auths.items():
        if key == registry or server_key(key) == registry:
            return _from_entry(entry, registry)
    return {}


def helper_for(config: dict[str, Any], registry: str) -> str:
    """The credential program in charge of a registry, or ""."""
    return str((config.get("credHelpers") or {}).get(registry) or config.get("credsStore") or "")


def _from_entry(entry: dict[str, Any], registry: str) -> dict[str, str]:
    auth = {"serveraddress": registry}
    if entry.get("identitytoken"):
        auth["identitytoken"] = entry["identitytoken"]
    if entry.get("auth"):
        import binascii

        try:
            user, _, password = binascii.a2b_base64(entry["auth"]).decode().partition(":")
        except ValueError:
            raise CommandError(
                f"the credentials for {registry} in {config_path()} are damaged; log in again"
            ) from None
        auth |= {"username": user, "password": password.strip("\0")}
    elif entry.get("username"):
        auth |= {"username": entry["username"], "password": entry.get("password", "")}
    return auth if len(auth) > 1 else {}


def _from_helper(helper: str, registry: str) -> dict[str, str]:
    try:
        answer = jsontext.decode(ask_helper(helper, "get", registry))
    except (CommandError, ValueError):
        return {}
    if answer.get("Username") == "<token>":
        return {"identitytoken": answer["Secret"], "serveraddress": registry}
    return {"username": answer["Username"], "password": answer["Secret"], "serveraddress": registry}


def ask_helper(helper: str, action: str, text: str) -> str:
    """Run docker-credential-HELPER. Raises CommandError with what it printed."""
    import subprocess

    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run([program, action], input=text.encode(), capture_output=True, check=False)
    except FileNotFoundError:
        raise CommandError(
            f"the credential program {program} is not installed, but {config_path()} asks for it; "
            "install it or remove credsStore and credHelpers from that file"
        ) from None
    if done.returncode:
        raise CommandError(f"{program} {action} failed: {(done.stdout or done.stderr).decode().strip()}")
    return done.stdout.decode()


def encode_auth(auth: dict[str, Any]) -> str:
    """The value of the header X-Registry-Auth, or of X-Registry-Config for accounts by registry."""
    import binascii

    raw = binascii.b2a_base64(jsontext.encode(auth).encode(), newline=False).decode()
    return raw.replace("+", "-").replace("/", "_")


def auth_header(reference: str) -> dict[str, str]:
    """The header that carries an image's registry credentials; {} when there are none."""
    auth = auth_for(registry_of(reference))
    return {"X-Registry-Auth": encode_auth(auth)} if auth else {}
