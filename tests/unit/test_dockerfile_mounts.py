"""RUN --mount."""

from __future__ import annotations

from typing import Any

import pytest

from seom.build.dockerfile import DockerfileError, Location, Scope, parse_instruction
from seom.build.dockerfile.instructions import Run
from seom.build.dockerfile.mounts import CacheSharing, Mount, MountType, parse_mount


def unchanged(word: str) -> str:
    return word


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("target=/t", {"target": "/t"}),
        ("type=bind,source=a,target=/t,from=base", {"source": "a", "target": "/t", "origin": "base"}),
        ("src=a,dst=/t,rw", {"source": "a", "target": "/t", "read_only": False}),
        ("destination=/t,readonly=false", {"target": "/t", "read_only": False}),
        ("target=/t,rw,ro", {"target": "/t"}),
        ("type=cache,target=/c", {"type": MountType.CACHE, "target": "/c", "read_only": False}),
        (
            "type=cache,id=x,target=/c,sharing=locked,from=base,source=s,mode=0700,uid=1,gid=2,ro",
            {
                "type": MountType.CACHE,
                "id": "x",
                "target": "/c",
                "sharing": CacheSharing.LOCKED,
                "origin": "base",
                "source": "s",
                "mode": 0o700,
                "uid": 1,
                "gid": 2,
            },
        ),
        ("type=tmpfs,target=/t", {"type": MountType.TMPFS, "target": "/t", "read_only": False}),
        (
            "type=tmpfs,target=/t,size=1.5g",
            {"type": MountType.TMPFS, "target": "/t", "read_only": False, "size_bytes": 3 << 29},
        ),
        (
            "type=secret,id=x,required,env=TOKEN",
            {"type": MountType.SECRET, "id": "x", "required": True, "env": "TOKEN"},
        ),
        (
            "type=secret,id=x,target=/s,mode=440,required=false",
            {"type": MountType.SECRET, "id": "x", "target": "/s", "mode": 0o440},
        ),
        ("type=ssh", {"type": MountType.SSH}),
        (
            "type=SSH,id=k,target=/s,required=true",
            {"type": MountType.SSH, "id": "k", "target": "/s", "required": True},
        ),
        ('type=bind,"source=a,b",target=/t', {"source": "a,b", "target": "/t"}),
    ],
)
def test_a_mount_is_read(text: str, expected: dict[str, Any]) -> None:
    assert parse_mount(text, unchanged) == Mount(**expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("type=x,target=/t", 'unsupported mount type "x"'),
        ("tpye=cache,target=/t", "unexpected key 'tpye' in 'tpye=cache' (did you mean type?)"),
        ("target", "invalid field 'target' must be a key=value pair"),
        ("type=cache,target=/t,sharing=lock", 'unsupported sharing value "lock" (did you mean locked?)'),
        ("target=/t,sharing=shared", "invalid cache sharing set for bind mount"),
        ("target=/t,ro=maybe", "invalid value for readonly: maybe"),
        ("target=/t,required", "unexpected key 'required' for mount type 'bind'"),
        ("target=/t,size=1", "unexpected key 'size' for mount type 'bind'"),
        ("type=ssh,env=X", "unexpected key 'env' for mount type 'ssh'"),
        ("target=/t,mode=755", 'mode not allowed for "bind" type mounts'),
        ("type=tmpfs,target=/t,uid=1", 'uid not allowed for "tmpfs" type mounts'),
        ("type=cache,target=/t,mode=788", "invalid value 788 for mode"),
        ("type=cache,target=/t,uid=-1", "invalid value -1 for uid"),
        ("type=cache,target=/t,gid=4294967296", "invalid value 4294967296 for gid"),
        ("type=tmpfs,target=/t,size=big", "invalid value for size: big"),
        ("type=secret", "invalid secret mount. one of source, target required"),
        ("type=secret,id=a,source=b", "both source and id can't be set"),
        ("type=secret,id=a,from=b", "secret mount should not have a from"),
        ("type=secret,id=a,sharing=shared", "secret mount should not define sharing"),
    ],
)
def test_an_impossible_mount_is_refused(text: str, message: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        parse_mount(text, unchanged)
    assert str(caught.value) == message


def test_values_are_expanded_one_by_one() -> None:
    run = parse_instruction("RUN --mount=type=cache,id=$id,target=${dir:-/c} make", Location(1, 1))
    assert isinstance(run, Run)
    (mount,) = run.mounts(Scope({"id": "a,b"}))
    assert (mount.id, mount.target) == ("a,b", "/c")
