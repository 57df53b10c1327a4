"""Credentials, challenges and tokens, without a network."""

from __future__ import annotations

import asyncio
import base64
import json

import pytest

from seom.errors import InvalidParameter, Unauthorized
from seom.images.auth import (
    Authorizer,
    Credentials,
    TokenAnswer,
    TokenRequest,
    decode_credentials,
    decode_credentials_map,
    parse_challenges,
    registry_of_account,
)

BEARER = 'Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull"'


class TokenDesk:
    """Hands out a numbered token for each request and remembers the requests."""

    def __init__(self, refresh_token: str | None = None) -> None:
        self.requests: list[TokenRequest] = []
        self.refresh_token = refresh_token

    async def __call__(self, request: TokenRequest) -> TokenAnswer:
        self.requests.append(request)
        return TokenAnswer(token=f"t{len(self.requests)}", refresh_token=self.refresh_token)


def encoded(document: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).decode()


def test_credentials_are_read_from_base64url_json_with_and_without_padding() -> None:
    header = encoded({"username": "jeju", "password": "?>island<", "serveraddress": "host:5000", "new": 1})
    for text in (header, header.rstrip("=")):
        assert decode_credentials(text).login() == ("jeju", "?>island<")


def test_null_and_absent_are_the_same_as_docker_py_sends_them() -> None:
    header = encoded({"username": "jeju", "password": "island", "email": None, "auth": None})
    assert decode_credentials(header).login() == ("jeju", "island")


def test_the_joined_form_of_user_and_password_is_understood() -> None:
    assert Credentials(auth=base64.b64encode(b"jeju:a:b").decode()).login() == ("jeju", "a:b")
    assert Credentials(auth="%%%").login() == ("", "")


@pytest.mark.parametrize("header", ["%%%", "bm90IGpzb24=", encoded([1]), encoded({"username": 5})])
def test_a_malformed_credentials_header_is_refused(header: str) -> None:
    with pytest.raises(InvalidParameter, match="X-Registry-Auth"):
        decode_credentials(header)


def test_an_empty_credentials_header_means_anonymous() -> None:
    assert decode_credentials("").login() == ("", "")


def test_the_credentials_of_many_registries_are_found_by_host() -> None:
    header = encoded(
        {"https://index.docker.io/v1/": {"username": "hub"}, "localhost:5000": {"username": "me"}}
    )
    found = decode_credentials_map(header)
    assert {host: each.username for host, each in found.items()} == {
        "docker.io": "hub",
        "localhost:5000": "me",
    }


@pytest.mark.parametrize(
    ("address", "registry"),
    [
        ("https://index.docker.io/v1/", "docker.io"),
        ("", "docker.io"),
        ("registry-1.docker.io", "docker.io"),
        ("http://127.0.0.1:5000", "127.0.0.1:5000"),
        ("quay.io/v2/", "quay.io"),
    ],
)
def test_a_server_address_names_its_registry(address: str, registry: str) -> None:
    assert registry_of_account(address) == registry


def test_challenges_are_split_though_commas_stand_between_and_within() -> None:
    challenges = parse_challenges(
        'Basic realm="a, \\"b\\"", Bearer realm="https://x/token",scope="repository:a:pull,push",error=invalid'
    )
    assert [challenge.scheme for challenge in challenges] == ["basic", "bearer"]
    assert challenges[0].parameters == {"realm": 'a, "b"'}
    assert challenges[1].parameters["scope"] == "repository:a:pull,push"
    assert challenges[1].parameters["error"] == "invalid"


@pytest.mark.parametrize("header", ["", "=", ",,,", 'Bearer realm="unfinished'])
def test_a_malformed_challenge_is_no_crash(header: str) -> None:
    assert all(not challenge.parameters.get("realm") for challenge in parse_challenges(header))


def test_nothing_is_sent_before_it_is_demanded() -> None:
    authorizer = Authorizer(Credentials(username="jeju", password="island"), TokenDesk())
    assert asyncio.run(authorizer.header("repository:a/b:pull")) == ""


def test_a_password_is_sent_when_demanded_and_not_repeated_when_refused() -> None:
    authorizer = Authorizer(Credentials(username="jeju", password="island"), TokenDesk())
    assert authorizer.challenged('Basic realm="x"', "", "")
    header = asyncio.run(authorizer.header(""))
    assert header == "Basic " + base64.b64encode(b"jeju:island").decode()
    assert not authorizer.challenged('Basic realm="x"', "", header)


def test_a_password_that_is_not_there_is_missed_with_dockers_words() -> None:
    authorizer = Authorizer(Credentials(), TokenDesk())
    authorizer.challenged('Basic realm="x"', "", "")
    with pytest.raises(Unauthorized, match="no basic auth credentials"):
        asyncio.run(authorizer.header(""))


def test_a_token_is_kept_for_its_scope_until_it_is_refused() -> None:
    desk = TokenDesk()
    authorizer = Authorizer(Credentials(username="jeju", password="island"), desk)
    authorizer.challenged(BEARER, "pull", "")

    async def talk() -> list[str]:
        first = [await authorizer.header("pull"), await authorizer.header("pull")]
        other = await authorizer.header("pull push")
        authorizer.challenged(BEARER, "pull", first[0])
        return [*first, other, await authorizer.header("pull")]

    assert asyncio.run(talk()) == ["Bearer t1", "Bearer t1", "Bearer t2", "Bearer t3"]
    assert ("service", "registry.example") in desk.requests[0].fields
    assert desk.requests[0].basic and not desk.requests[0].post
    assert [value for name, value in desk.requests[1].fields if name == "scope"] == ["pull", "push"]


def test_an_identity_token_is_traded_by_post_and_renewed_when_the_server_sends_a_new_one() -> None:
    desk = TokenDesk(refresh_token="second")
    authorizer = Authorizer(Credentials(identitytoken="first"), desk)
    authorizer.challenged(BEARER, "pull", "")
    asyncio.run(authorizer.header("pull"))
    fields = dict(desk.requests[0].fields)
    assert desk.requests[0].post
    assert (fields["grant_type"], fields["refresh_token"]) == ("refresh_token", "first")
    assert authorizer.identity_token == "second"


def test_a_registry_token_is_used_as_it_is() -> None:
    authorizer = Authorizer(Credentials(registrytoken="given"), TokenDesk())
    assert asyncio.run(authorizer.header("any")) == "Bearer given"
    assert not authorizer.challenged(BEARER, "any", "Bearer given")
