"""What -v, --mount, --tmpfs and --volumes-from mean, and what is refused."""

from __future__ import annotations

import re

import pytest

from seom.containers.config import BindOptions, MountRequest, TmpfsOptions, VolumeOptions
from seom.engine.mount_requests import (
    is_local,
    merge_tmpfs_options,
    mount_point,
    parse_bind,
    parse_volumes_from,
    tmpfs_point,
)
from seom.engine.mounts import MountPoint, oci_mounts, rootfs_propagation
from seom.errors import InvalidParameter


def test_a_host_path_is_bound_and_made_when_missing() -> None:
    point = parse_bind("/srv/data/:/data:ro,rslave")
    assert point.inspect() == {
        "Type": "bind",
        "Source": "/srv/data",
        "Destination": "/data",
        "Mode": "ro,rslave",
        "RW": False,
        "Propagation": "rslave",
    }
    assert point.create_source


def test_a_name_is_a_volume() -> None:
    point = parse_bind("cache:/var/cache:nocopy")
    assert (point.type, point.name, point.destination) == ("volume", "cache", "/var/cache")
    assert not point.copy_data


def test_a_path_alone_is_an_anonymous_volume() -> None:
    point = parse_bind("/data")
    assert (point.type, point.name, point.copy_data) == ("volume", "", True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "invalid volume specification: ''"),
        (":/x", "invalid volume specification: ':/x'"),
        ("/x:ro", "invalid volume specification: '/x:ro'"),
        ("/a:/b:what", "invalid mode: what"),
        ("/a:/b:ro,rw", "invalid mode: ro,rw"),
        ("/a:/b:c:d", "invalid mode: c:d"),
        (
            "/a:b",
            "invalid volume specification: '/a:b': invalid mount config for type \"bind\": "
            "invalid mount path: 'b' mount path must be absolute",
        ),
        (
            "v:/",
            "invalid volume specification: 'v:/': invalid mount config for type \"volume\": "
            "invalid specification: destination can't be '/'",
        ),
    ],
)
def test_wrong_volume_specifications_are_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as refusal:
        parse_bind(text)
    assert str(refusal.value) == message


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (MountRequest(type="bind", source="/a"), 'type "bind": field Target must not be empty'),
        (MountRequest(type="bind", target="/a"), 'type "bind": field Source must not be empty'),
        (
            MountRequest(type="bind", source="a", target="/a"),
            "type \"bind\": invalid mount path: 'a' mount path must be absolute",
        ),
        (
            MountRequest(type="bind", source="/a", target="/a", volume_options=VolumeOptions()),
            'type "bind": field VolumeOptions must not be specified',
        ),
        (
            MountRequest(type="bind", source="/a", target="/a", bind_options=BindOptions(propagation="up")),
            'type "bind": invalid propagation mode: up',
        ),
        (
            MountRequest(type="volume", target="/a", read_only=True),
            'type "volume": must not set ReadOnly mode when using anonymous volumes',
        ),
        (
            MountRequest(
                type="volume", source="v", target="/a", volume_options=VolumeOptions(subpath="../x")
            ),
            'type "volume": subpath must be a relative path within the volume',
        ),
        (
            MountRequest(type="tmpfs", source="x", target="/a"),
            'type "tmpfs": field Source must not be specified',
        ),
        (MountRequest(type="disk", target="/a"), 'type "disk": mount type unknown'),
    ],
)
def test_wrong_mounts_are_refused(request_: MountRequest, message: str) -> None:
    with pytest.raises(InvalidParameter, match=f"^{re.escape('invalid mount config for ' + message)}$"):
        mount_point(request_)


def test_a_mount_does_not_make_its_source_unless_asked() -> None:
    request = MountRequest(type="bind", source="/a", target="/b")
    assert not mount_point(request).create_source
    request.bind_options = BindOptions(create_mountpoint=True)
    assert mount_point(request).create_source


def test_tmpfs_options_replace_the_defaults_they_contradict() -> None:
    assert merge_tmpfs_options(["exec", "size=1m", "size=2m", "mode=1777"]) == [
        "nosuid",
        "nodev",
        "exec",
        "size=2m",
        "mode=1777",
    ]


def test_an_unknown_tmpfs_option_is_refused() -> None:
    with pytest.raises(InvalidParameter, match=r'^invalid tmpfs option "colour"$'):
        merge_tmpfs_options(["colour=red"])


def test_tmpfs_by_mount_is_listed_and_by_tmpfs_is_not() -> None:
    request = MountRequest(
        type="tmpfs", target="/t", tmpfs_options=TmpfsOptions(size_bytes=4096, mode=0o700, options=[["exec"]])
    )
    point = mount_point(request)
    assert point.listed
    assert point.tmpfs_options == ["nosuid", "nodev", "size=4096", "mode=700", "exec"]
    assert not tmpfs_point("/t", "").listed


def test_a_relative_tmpfs_is_refused() -> None:
    with pytest.raises(InvalidParameter, match=r"^invalid mount path: 'run' mount path must be absolute$"):
        tmpfs_point("run", "")


@pytest.mark.parametrize("mode", ["rshared", "nocopy", "x"])
def test_volumes_from_takes_no_propagation_and_no_copy_mode(mode: str) -> None:
    with pytest.raises(InvalidParameter, match=f"^invalid mode: {mode}$"):
        parse_volumes_from(f"db:{mode}")


@pytest.mark.parametrize(
    ("path", "inside"),
    [("a/b", True), ("a/../b", True), ("..", False), ("a/../../b", False), ("/a", False), ("", False)],
)
def test_a_local_path_does_not_leave_its_directory(path: str, inside: bool) -> None:
    assert is_local(path) is inside


def test_parents_are_mounted_before_what_is_below_them() -> None:
    points = [parse_bind("/x:/a/b/c"), parse_bind("/x:/a:ro"), tmpfs_point("/a/b", "")]
    mounts = oci_mounts(points, {})
    assert [mount.destination for mount in mounts] == ["/a", "/a/b", "/a/b/c"]
    assert mounts[0].options == ["rbind", "ro", "rro", "rprivate"]
    assert mounts[1].type == "tmpfs"


def test_the_root_propagates_as_the_binds_ask() -> None:
    assert rootfs_propagation([parse_bind("/x:/a")]) == ""
    assert rootfs_propagation([parse_bind("/x:/a:slave"), parse_bind("/x:/b:rshared")]) == "rshared"
    assert rootfs_propagation([MountPoint(type="bind", destination="/b", propagation="rslave")]) == "rslave"
