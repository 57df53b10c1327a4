"""Imports point down the layers of docs/ARCHITECTURE.md, and never sideways."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "seom"

MAY_IMPORT: dict[str, set[str]] = {
    "cli": set(),
    "daemon": {
        "api",
        "build",
        "engine",
        "storage",
        "containers",
        "network",
        "images",
        "volumes",
        "linux",
        "oci",
    },
    "api": {"build", "engine", "containers", "images", "network", "volumes", "storage", "oci", "linux"},
    "build": {"engine", "images", "network", "containers", "volumes", "storage", "oci", "linux"},
    "engine": {"images", "network", "containers", "volumes", "storage", "oci", "linux"},
    "images": {"storage", "oci", "linux"},
    "network": {"storage", "oci", "linux"},
    "containers": {"storage", "oci", "linux"},
    "volumes": {"storage", "oci", "linux"},
    "storage": {"oci", "linux"},
    "oci": set(),
    "linux": set(),
}
EVERYWHERE = {"errors", "dockerignore", ""}


def imported_packages(module: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(module.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [node.module]
        for name in names:
            if name == "seom" or name.startswith("seom."):
                yield ([*name.split("."), ""])[1]


@pytest.mark.parametrize("layer", sorted(MAY_IMPORT))
def test_imports_point_down(layer: str) -> None:
    modules = list((PACKAGE / layer).rglob("*.py")) or [PACKAGE / f"{layer}.py"]
    allowed = MAY_IMPORT[layer] | EVERYWHERE | {layer}
    for module in modules:
        if module.exists():
            sideways = set(imported_packages(module)) - allowed
            assert not sideways, f"{module.relative_to(PACKAGE)} imports {sorted(sideways)}"


def test_every_package_has_a_layer() -> None:
    packages = {entry.stem for entry in PACKAGE.iterdir() if not entry.name.startswith("_")}
    assert packages <= set(MAY_IMPORT) | EVERYWHERE
