"""POST /build and /build/prune: the classic build API, as docker uses it with DOCKER_BUILDKIT=0."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from seom.api.images import request_body
from seom.api.json_body import json_response
from seom.api.progress_stream import stream_progress
from seom.api.query import flag, number
from seom.build.builds import Builds
from seom.build.cache import Record
from seom.build.options import BuildOptions
from seom.engine.engine import Engine
from seom.engine.filters import Filters, parse_filters
from seom.engine.images import check_unambiguous
from seom.engine.timestamps import format_timestamp, parse_timestamp
from seom.errors import InvalidParameter, NotSupported
from seom.images.auth import decode_credentials_map
from seom.oci.reference import Reference, parse_reference

BUILDKIT = (
    "BuildKit builds are not supported yet: set DOCKER_BUILDKIT=0 and build with `docker build` (not "
    "buildx), or use `seom build`"
)

Value = TypeVar("Value")


def routes(engine: Engine, builds: Builds) -> list[web.RouteDef]:
    """The endpoints of builds."""
    handlers = _Handlers(builds)
    return [
        web.post("/build", handlers.build),
        web.post("/build/prune", handlers.prune),
        web.post("/session", _refuse_buildkit),
        web.post("/grpc", _refuse_buildkit),
        web.get("/session", _refuse_buildkit),
        web.get("/grpc", _refuse_buildkit),
    ]


async def _refuse_buildkit(request: web.Request) -> web.Response:
    raise NotSupported(BUILDKIT)


class _Handlers:
    def __init__(self, builds: Builds) -> None:
        self._builds = builds

    async def build(self, request: web.Request) -> web.StreamResponse:
        """Build an image from the context in the body, or with check=1 only look at its Dockerfile."""
        options = build_options(request)
        work = self._builds.check if flag(request, "check") else self._builds.build
        return await stream_progress(request, lambda report: work(request_body(request), options, report))

    async def prune(self, request: web.Request) -> web.Response:
        """Remove records of the build cache."""
        filters = parse_filters(request.query.get("filters"))
        keep_bytes = number(request, "keep-storage") or number(request, "reserved-space")
        removed, freed = await self._builds.prune(flag(request, "all"), _accepting(filters), keep_bytes)
        return json_response({"CachesDeleted": removed or None, "SpaceReclaimed": freed})


def build_options(request: web.Request) -> BuildOptions:
    """What a request's query and headers ask for. Raises InvalidParameter and NotSupported."""
    query = request.query
    if query.get("version", "1") not in ("", "1"):
        raise NotSupported(BUILDKIT)
    if query.get("remote") and query["remote"] != "client-session":
        raise NotSupported(
            f"cannot build from {query['remote']}: send the context itself (docker build downloads it)"
        )
    if query.get("outputs"):
        raise NotSupported(f"--output needs BuildKit, which is not supported yet; {BUILDKIT}")
    return BuildOptions(
        dockerfile=query.get("dockerfile") or "Dockerfile",
        tags=tuple(dict.fromkeys(_tag(text) for text in query.getall("t", []) if text)),
        build_args=_json(query.get("buildargs", ""), dict[str, str | None], {}),
        labels=_json(query.get("labels", ""), dict[str, str], {}),
        target=query.get("target", ""),
        platform=query.get("platform", ""),
        no_cache=flag(request, "nocache"),
        pull=flag(request, "pull"),
        quiet=flag(request, "q"),
        squash=flag(request, "squash"),
        network_mode=query.get("networkmode", ""),
        shm_bytes=number(request, "shmsize"),
        memory_bytes=number(request, "memory"),
        memory_swap_bytes=number(request, "memswap"),
        cpu_shares=number(request, "cpushares"),
        cpu_period_us=number(request, "cpuperiod"),
        cpu_quota_us=number(request, "cpuquota"),
        cpuset_cpus=query.get("cpusetcpus", ""),
        cpuset_mems=query.get("cpusetmems", ""),
        cgroup_parent=query.get("cgroupparent", ""),
        extra_hosts=_extra_hosts(query.getall("extrahosts", [])),
        ulimits=query.get("ulimits", "").encode(),
        accounts=decode_credentials_map(request.headers.get("X-Registry-Config", "")),
    )


def _tag(text: str) -> Reference:
    try:
        reference = parse_reference(text)
    except InvalidParameter as error:
        raise InvalidParameter(f'invalid argument "{text}" for "-t, --tag" flag: {error}') from error
    if reference.digest:
        raise InvalidParameter("build tag cannot contain a digest")
    check_unambiguous(reference)
    return reference.with_default_tag()


def _extra_hosts(values: list[str]) -> tuple[str, ...]:
    """One NAME:ADDRESS for each value, or several in one, separated by commas or as a JSON list."""
    found: list[str] = []
    for value in values:
        entries = _json(value, list[str], []) if value.startswith("[") else re.split(r"[,\s]+", value)
        found += [entry.replace("=", ":", 1) for entry in entries if entry]
    return tuple(found)


def _json(text: str, type: type[Value], default: Value) -> Value:
    if not text:
        return default
    try:
        return msgspec.json.decode(text, type=type | None) or default
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidParameter(f"invalid JSON: {error}") from error


# Pruning

_KNOWN = {"until", "unused-for", "id", "parent", "type", "description", "inuse", "shared", "private"}


def _accepting(filters: Filters) -> Callable[[Record], bool]:
    """The records that filters let through; until and unused-for mean: not used since."""
    limits = [parse_timestamp(text) for name in ("until", "unused-for") for text in filters.values(name)]
    before_ns = min(limits, default=None)

    def accept(record: Record) -> bool:
        return (
            (before_ns is None or record.used_ns < before_ns)
            and filters.matches("id", record.key)
            and filters.matches("parent", record.parent)
            and filters.matches("type", record.type)
            and filters.matches_part("description", record.description)
            and _flags_match(filters, record)
        )

    return accept


def _flags_match(filters: Filters, record: Record) -> bool:
    states = {"inuse": record.in_use, "shared": record.shared, "private": not record.shared}
    return all(name not in filters or filters.flag(name, True) == state for name, state in states.items())


def cache_document(record: Record) -> dict[str, Any]:
    """A record in the answer to GET /system/df."""
    return {
        "ID": record.key.removeprefix("sha256:")[:25],
        "Parents": [record.parent.removeprefix("sha256:")[:25]] if record.parent else None,
        "Type": record.type,
        "Description": record.description,
        "InUse": record.in_use,
        "Shared": record.shared,
        "Size": record.size_bytes,
        "CreatedAt": format_timestamp(record.created_ns),
        "LastUsedAt": format_timestamp(record.used_ns) if record.uses else None,
        "UsageCount": record.uses,
    }
