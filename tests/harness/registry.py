"""Debian's docker-registry as a private server of a test: plain, with TLS and a password, or with tokens."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import subprocess
import threading
import time
import uuid
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.harness.network_namespace import NetworkNamespace

USER = "jeju"
PASSWORD = "island"
IDENTITY_TOKEN = "refresh-me"
# bcrypt, the only kind that docker-registry reads.
HTPASSWD = f"{USER}:$2b$04$abcdefghijklmnopqrstuugn9CFJiRMRfJKG0eIOrwBjIbhbox8Oi\n"


class Authority:
    """A certificate authority of a test's own, and one server certificate for localhost."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.certificate = directory / "ca.crt"
        self.server_certificate = directory / "server.crt"
        self.server_key = directory / "server.key"
        authority_key = directory / "ca.key"
        request = directory / "server.csr"
        names = directory / "names.cnf"
        names.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        elliptic = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        self._openssl(
            "req", "-x509", *elliptic, "-days", "30", "-subj", "/CN=test authority",
            "-keyout", authority_key, "-out", self.certificate,
        )  # fmt: skip
        self._openssl("req", *elliptic, "-subj", "/CN=localhost", "-keyout", self.server_key, "-out", request)
        self._openssl(
            "x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", authority_key,
            "-CAcreateserial", "-days", "30", "-extfile", names, "-out", self.server_certificate,
        )  # fmt: skip

    def trust_for(self, host: str, folder: Path) -> None:
        """Put the authority's certificate where a client looks for host's."""
        (folder / host).mkdir(parents=True)
        (folder / host / "ca.crt").write_bytes(self.certificate.read_bytes())

    def sign(self, content: bytes) -> bytes:
        """The SHA-256 ECDSA signature of the server's key, as the two numbers a JWT wants."""
        command = ["openssl", "dgst", "-sha256", "-sign", str(self.server_key)]
        der = subprocess.run(command, input=content, capture_output=True, check=True).stdout
        first_length = der[3]
        first = der[4 : 4 + first_length]
        second = der[6 + first_length :]
        return b"".join(number.lstrip(b"\0").rjust(32, b"\0") for number in (first, second))

    def _openssl(self, *arguments: str | Path) -> None:
        subprocess.run(["openssl", *map(str, arguments)], capture_output=True, check=True)


class TokenServer:
    """A token server after the distribution project's specification, on a port of its own.

    Anonymous callers get pull, USER everything; a wrong password gets 401. ``requests`` keeps
    what was asked: (method, fields).
    """

    def __init__(self, authority: Authority, network: NetworkNamespace | None = None) -> None:
        self.authority = authority
        self.requests: list[tuple[str, dict[str, list[str]]]] = []
        self.life_s = 300
        make = self._make_server
        self.server = network.call(make) if network else make()
        self.realm = f"http://127.0.0.1:{self.server.server_address[1]}/token"
        self._thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def answer(self, method: str, fields: dict[str, list[str]], authorization: str) -> tuple[int, Any]:
        """Decide about one request."""
        self.requests.append((method, fields))
        known = False
        if authorization:
            known = authorization == "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        elif fields.get("grant_type") == ["refresh_token"]:
            known = fields["refresh_token"] == [IDENTITY_TOKEN]
        if not known and (authorization or method == "POST"):
            error = {"code": "UNAUTHORIZED", "message": "incorrect username or password"}
            return 401, {"errors": [error]}
        scopes = " ".join(fields.get("scope", [])).split()
        token = self.token(scopes, known)
        answer: dict[str, Any] = {"token": token, "access_token": token, "expires_in": self.life_s}
        if "offline_token" in fields and known:
            answer["refresh_token"] = IDENTITY_TOKEN
        return 200, answer

    def token(self, scopes: list[str], known: bool) -> str:
        """A signed token for what the caller may do of the wanted."""
        access = []
        for scope in scopes:
            kind, name, actions = scope.split(":")
            allowed = [action for action in actions.split(",") if known or action == "pull"]
            access.append({"type": kind, "name": name, "actions": allowed})
        pem = self.authority.server_certificate.read_text().splitlines()
        der = "".join(line for line in pem if not line.startswith("-"))
        now = int(time.time())
        claims = {
            "iss": "test", "sub": USER if known else "", "aud": "registry", "exp": now + self.life_s,
            "nbf": now - 5, "iat": now, "jti": uuid.uuid4().hex, "access": access,
        }  # fmt: skip
        header = {"typ": "JWT", "alg": "ES256", "x5c": [der]}
        parts = [_base64url(json.dumps(part).encode()) for part in (header, claims)]
        signed = ".".join(parts)
        return f"{signed}.{_base64url(self.authority.sign(signed.encode()))}"

    def close(self) -> None:
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()

    def _make_server(self) -> ThreadingHTTPServer:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._reply("GET", parse_qs(urlsplit(self.path).query))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                self._reply("POST", parse_qs(body))

            def _reply(self, method: str, fields: dict[str, list[str]]) -> None:
                status, answer = owner.answer(method, fields, self.headers.get("Authorization", ""))
                content = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *arguments: object) -> None:
                pass

        return ThreadingHTTPServer(("127.0.0.1", 0), Handler)


class Registry:
    """docker-registry on a random loopback port (of a network namespace, if given); a context manager."""

    def __init__(
        self,
        directory: Path,
        *,
        authority: Authority | None = None,
        password: bool = False,
        tokens: TokenServer | None = None,
        network: NetworkNamespace | None = None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.authority = authority
        self.password = password
        self.tokens = tokens
        self.network = network
        self.log: list[str] = []
        self.port = 0

    @property
    def host(self) -> str:
        """Host and port, as an image's name begins."""
        return f"127.0.0.1:{self.port}"

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """One request past the client under test, with the password if the registry has one."""
        headers = dict(headers or {})
        if self.password:
            headers["Authorization"] = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        connection = self._connection()
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, dict(answer.getheaders()), content

    def put_blob(self, name: str, content: bytes, digest: str) -> None:
        """Store a blob past the client under test."""
        status, headers, body = self.request("POST", f"/v2/{name}/blobs/uploads/")
        assert status == 202, (status, body)
        place = urlsplit(headers["Location"])
        octets = {"Content-Type": "application/octet-stream"}
        status, _, body = self.request("PUT", f"{place.path}?{place.query}&digest={digest}", content, octets)
        assert status == 201, (status, body)

    def put_manifest(self, name: str, reference: str, content: bytes, media_type: str) -> None:
        """Store a manifest past the client under test."""
        status, _, body = self.request(
            "PUT", f"/v2/{name}/manifests/{reference}", content, {"Content-Type": media_type}
        )
        assert status == 201, (status, body)

    def __enter__(self) -> Registry:
        configuration = self.directory / "config.yml"
        configuration.write_text(json.dumps(self._configuration()))
        command = ["docker-registry", "serve", str(configuration)]
        options: dict[str, Any] = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.DEVNULL,
            "stderr": subprocess.PIPE,
        }
        self.process = (
            self.network.popen(command, **options) if self.network else subprocess.Popen(command, **options)
        )
        listening = threading.Event()
        self._reader = threading.Thread(target=self._read_log, args=(listening,))
        self._reader.start()
        if not listening.wait(20) or not self.port:
            self.__exit__(None, None, None)
            raise AssertionError("docker-registry does not listen:\n" + "".join(self.log))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stderr is not None
        self.process.stderr.close()

    def _read_log(self, listening: threading.Event) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            text = line.decode(errors="replace")
            self.log.append(text)
            if "listening on 127.0.0.1:" in text:
                self.port = int(text.split("listening on 127.0.0.1:")[1].split('"')[0].split(",")[0])
                listening.set()
        listening.set()

    def _configuration(self) -> dict[str, Any]:
        # The docker-registry of Debian reads YAML, and JSON is YAML.
        http: dict[str, Any] = {"addr": "127.0.0.1:0", "secret": "test"}
        if self.authority is not None and self.tokens is None:
            http["tls"] = {
                "certificate": str(self.authority.server_certificate),
                "key": str(self.authority.server_key),
            }
        configuration: dict[str, Any] = {
            "version": 0.1,
            "log": {"level": "info", "accesslog": {"disabled": False}},
            "storage": {"filesystem": {"rootdirectory": str(self.directory / "data")}},
            "http": http,
        }
        if self.password:
            (self.directory / "htpasswd").write_text(HTPASSWD)
            configuration["auth"] = {"htpasswd": {"realm": "test", "path": str(self.directory / "htpasswd")}}
        if self.tokens is not None:
            configuration["auth"] = {
                "token": {
                    "realm": self.tokens.realm,
                    "service": "registry",
                    "issuer": "test",
                    "rootcertbundle": str(self.tokens.authority.certificate),
                }
            }
        return configuration

    def _connection(self) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection
        if self.authority is not None and self.tokens is None:
            context = ssl.create_default_context(cafile=str(self.authority.certificate))
            connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=20, context=context)
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connect: Callable[[], None] = connection.connect
        self.network.call(connect) if self.network else connect()
        return connection


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")
