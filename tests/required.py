"""Which tests may be skipped where a release is checked (CI, or SEOM_REQUIRE_ALL=1).

Every other test must run there, or the whole run fails.

A pattern (fnmatch, against the test's node id) is listed only with the reason why such a machine
cannot run it. tests/conftest.py enforces the list.
"""

MAY_SKIP: dict[str, str] = {
    "*a_nested_v2_root*": "runs where cgroup v2 has the controllers; on others in test_cgroup_v2's guest",
    "*apparmor*": "the kernel of the checking machine has no AppArmor",
    "*ipv6_forwarding*": "the kernel of the checking machine may be built without IPv6 NAT",
    "*test_same_view_as_docker*": "the real dockerd comes from another Debian suite, which may change",
    "*[[]kvm*": "the checking machine has no /dev/kvm",
}
