"""Map elements by raw netlink, compared with what libnftables shows."""

from __future__ import annotations

import pytest

from seom.linux.network_namespace import in_own_thread, unshare_network
from seom.linux.nft_elements import MapElement, NftElements, concatenate
from seom.linux.nftables import Nftables

TABLE = "table inet t { map m { type inet_proto . inet_service : ipv4_addr . inet_service; }\n}"


def element(port: int, target: int = 80) -> MapElement:
    return MapElement(
        "m",
        concatenate(b"\6", port.to_bytes(2, "big")),
        concatenate(bytes([172, 17, 0, 2]), target.to_bytes(2, "big")),
    )


def test_elements_come_and_go_all_or_none() -> None:
    def body() -> None:
        unshare_network()
        rules = Nftables()
        rules.run(TABLE)
        elements = NftElements("t")
        elements.add([element(8080), element(8081)])
        listed = rules.run("list map inet t m")
        assert "tcp . 8080 : 172.17.0.2 . 80" in listed and "tcp . 8081 : 172.17.0.2 . 80" in listed
        elements.add([element(8080)])
        with pytest.raises(FileExistsError):
            elements.add([element(8082), element(8080, target=81)])
        with pytest.raises(FileNotFoundError):
            elements.delete([element(8081), element(9999)])
        listed = rules.run("list map inet t m")
        assert "8082" not in listed and "8081" in listed
        elements.delete([element(8080), element(8081)])
        assert "elements" not in rules.run("list map inet t m")

    in_own_thread(body)


def test_an_unknown_table_is_an_error() -> None:
    def body() -> None:
        unshare_network()
        with pytest.raises(FileNotFoundError):
            NftElements("nowhere").add([element(8080)])

    in_own_thread(body)
