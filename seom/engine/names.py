"""Identifiers and names of containers."""

from __future__ import annotations

import re
import secrets

_NAME = re.compile(r"/?[a-zA-Z0-9][a-zA-Z0-9_.-]+")

_MANNERS = (
    "amber bold brave bright calm clever crisp eager early fair fleet fond gentle glad golden grand happy "
    "hardy hidden humble keen kind lively lone lucky lunar mellow merry mighty misty modest noble pale "
    "patient placid polite proud quick quiet rapid serene shy silent silver sleek solar steady still "
    "stormy sunny swift tender tidal tranquil vast vivid warm windy wise young"
).split()

_ISLANDS = (
    "anmado baengnyeong biyangdo bogil bukchon chagwido cheongsan chuja daecheong daemado deokjeok dokdo "
    "gadeok ganghwa gangjin geoje geomun gapado geumodo gogunsan gyodong hansan haui heuksan hongdo imja "
    "jangbong jawol jeju jeung jindo jido jukdo manjae marado mokpo muui namhae nohwa oenaro oeyeon saryang "
    "seokmo seonyu sinui sindo sorok soyeonpyeong suncheon uido ulleung ulung wando wido yeonhwa yeonpyeong "
    "yeongheung yeongjong yokji"
).split()


def new_id() -> str:
    """64 random hexadecimal digits, never all decimal in the short form (it must not read as a number)."""
    while True:
        id = secrets.token_hex(32)
        if not id[:12].isdecimal():
            return id


def random_name() -> str:
    """A manner and an island, such as quiet_jeju."""
    return f"{secrets.choice(_MANNERS)}_{secrets.choice(_ISLANDS)}"


def is_valid_name(name: str) -> bool:
    """Whether Docker accepts the name for a container."""
    return _NAME.fullmatch(name) is not None
