"""info: the daemon and the machine it runs on."""

from __future__ import annotations

from seom import __version__
from seom.cli import formats, output, units
from seom.cli.commands import Command, Invocation
from seom.cli.errors import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _info(invocation: Invocation) -> int:
    template = formats.document_template(invocation.options)
    client = {"Version": __version__, "Context": "default", "Debug": False, "Plugins": [], "Warnings": None}
    document: dict[str, Any] = {"ClientInfo": client}
    problem: CommandError | None = None
    try:
        document = {**invocation.client.get("/info"), "ClientInfo": client}
    except CommandError as error:
        problem = error
        document["ServerErrors"] = [error.message]
    if template is not None:
        output.line(template.render(document))
    else:
        output.write(_text(document, problem))
    if problem is not None:
        raise CommandError("errors pretty printing info" if template is None else problem.message)
    for warning in document.get("Warnings") or ():
        output.error(warning)
    return 0


def _text(document: dict[str, Any], problem: CommandError | None) -> str:
    lines = [
        "Client: Seom",
        f" Version:    {__version__}",
        " Context:    default",
        " Debug Mode: false",
        "",
        "Server:",
    ]
    if problem is not None:
        return "\n".join([*lines, f"ERROR: {problem.message}"]) + "\n"
    for part in (_objects, _plugins, _security, _host, _daemon):
        lines.extend(part(document))
    return "\n".join(lines) + "\n"


def _objects(document: dict[str, Any]) -> list[str]:
    lines = [
        f" Containers: {document.get('Containers', 0)}",
        f"  Running: {document.get('ContainersRunning', 0)}",
        f"  Paused: {document.get('ContainersPaused', 0)}",
        f"  Stopped: {document.get('ContainersStopped', 0)}",
        f" Images: {document.get('Images', 0)}",
        f" Server Version: {document.get('ServerVersion', '')}",
        f" Storage Driver: {document.get('Driver', '')}",
    ]
    lines.extend(f"  {name}: {value}" for name, value in document.get("DriverStatus") or ())
    lines.append(f" Logging Driver: {document.get('LoggingDriver', '')}")
    if document.get("CgroupDriver"):
        lines.append(f" Cgroup Driver: {document['CgroupDriver']}")
    if document.get("CgroupVersion"):
        lines.append(f" Cgroup Version: {document['CgroupVersion']}")
    return lines


def _plugins(document: dict[str, Any]) -> list[str]:
    plugins = document.get("Plugins") or {}
    kinds = [kind for kind in ("Volume", "Network", "Authorization", "Log") if plugins.get(kind)]
    lines = [" Plugins:", *(f"  {kind}: {' '.join(plugins[kind])}" for kind in kinds)]
    runtimes = document.get("Runtimes") or {}
    if runtimes:
        lines.append(f" Runtimes: {' '.join(sorted(runtimes))}")
        lines.append(f" Default Runtime: {document.get('DefaultRuntime', '')}")
    if document.get("InitBinary"):
        lines.append(f" Init Binary: {document['InitBinary']}")
    return lines


def _security(document: dict[str, Any]) -> list[str]:
    options = document.get("SecurityOptions") or ()
    if not options:
        return []
    lines = [" Security Options:"]
    for option in options:
        for index, pair in enumerate(option.split(",")):
            key, _, value = pair.partition("=")
            if index == 0:
                lines.append(f"  {value or key}")
            else:
                lines.append(f"   {key.capitalize()}: {value}")
    return lines


def _host(document: dict[str, Any]) -> list[str]:
    return [
        f" Kernel Version: {document.get('KernelVersion', '')}",
        f" Operating System: {document.get('OperatingSystem', '')}",
        f" OSType: {document.get('OSType', '')}",
        f" Architecture: {document.get('Architecture', '')}",
        f" CPUs: {document.get('NCPU', 0)}",
        f" Total Memory: {units.binary_size(document.get('MemTotal') or 0)}",
        f" Name: {document.get('Name', '')}",
        f" ID: {document.get('ID', '')}",
        f" Docker Root Dir: {document.get('DockerRootDir', '')}",
    ]


def _daemon(document: dict[str, Any]) -> list[str]:
    lines = [f" Debug Mode: {str(bool(document.get('Debug'))).lower()}"]
    for label in document.get("Labels") or ():
        lines.extend([" Labels:", f"  {label}"] if " Labels:" not in lines else [f"  {label}"])
    lines.append(f" Experimental: {str(bool(document.get('ExperimentalBuild'))).lower()}")
    insecure = [
        *(document.get("RegistryConfig") or {}).get("InsecureRegistryCIDRs", ()),
        *(
            name
            for name, entry in ((document.get("RegistryConfig") or {}).get("IndexConfigs") or {}).items()
            if not entry.get("Secure")
        ),
    ]
    if insecure:
        lines.append(" Insecure Registries:")
        lines.extend(f"  {entry}" for entry in insecure)
    lines.append(f" Live Restore Enabled: {str(bool(document.get('LiveRestoreEnabled'))).lower()}")
    return lines


INFO = Command(_info, "[OPTIONS]", (0, 0), (formats.DOCUMENT_FORMAT,))
