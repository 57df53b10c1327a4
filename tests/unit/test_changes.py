import pytest

from seom.errors import InvalidParameter
from seom.images.changes import apply_changes
from seom.oci.image_config import ExecutionConfig


def test_every_instruction_changes_its_part() -> None:
    config = apply_changes(
        ExecutionConfig(env=["A=old", "B=kept"], labels={"l": "1"}),
        [
            'CMD ["echo", "x y"]',
            "ENTRYPOINT run this",
            'ENV A=new C="two words"',
            "ENV D three words here",
            "EXPOSE 80 53/udp 8000-8002",
            'LABEL m=2 "n"=3',
            "USER 1000:1000",
            'VOLUME ["/a b", "/c"]\nVOLUME /d /e',
            "WORKDIR /srv",
            "WORKDIR app",
            "STOPSIGNAL SIGINT",
            "ONBUILD RUN make",
            "HEALTHCHECK --interval=1m30s --retries=3 CMD curl localhost",
            "# a comment",
        ],
    )
    assert config.cmd == ["echo", "x y"]
    assert config.entrypoint == ["/bin/sh", "-c", "run this"]
    assert config.env == ["A=new", "B=kept", "C=two words", "D=three words here"]
    assert list(config.exposed_ports or {}) == ["80/tcp", "53/udp", "8000/tcp", "8001/tcp", "8002/tcp"]
    assert config.labels == {"l": "1", "m": "2", "n": "3"}
    assert config.user == "1000:1000"
    assert list(config.volumes or {}) == ["/a b", "/c", "/d", "/e"]
    assert config.working_dir == "/srv/app"
    assert config.stop_signal == "SIGINT"
    assert config.on_build == ["RUN make"]
    assert config.healthcheck is not None
    assert config.healthcheck.test == ["CMD-SHELL", "curl localhost"]
    assert (config.healthcheck.interval, config.healthcheck.retries) == (90_000_000_000, 3)


def test_the_given_configuration_is_left_as_it_is() -> None:
    config = ExecutionConfig(env=["A=1"])
    apply_changes(config, ["ENV A=2"])
    assert config.env == ["A=1"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("RUN make", "RUN is not a valid change command"),
        ("ENV A", "ENV must have two arguments"),
        ("ENV A=1 B", "Syntax error - can't find = in 'B'. Must be of the form: name=value"),
        ('ENV A="', "cannot read"),
        ("EXPOSE http", "invalid containerPort: http"),
        ("EXPOSE 99999", "invalid containerPort: 99999"),
        ("USER", "USER requires at least one argument"),
        ("ONBUILD ONBUILD RUN x", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("HEALTHCHECK --interval=fast CMD x", 'time: invalid duration "fast"'),
        ("HEALTHCHECK maybe", 'Unknown type "maybe" in HEALTHCHECK (try CMD)'),
    ],
)
def test_a_malformed_instruction_is_refused(change: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        apply_changes(ExecutionConfig(), [change])
    assert str(refused.value).startswith(message)
