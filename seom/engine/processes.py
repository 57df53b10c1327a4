"""docker top: the host's ps, restricted to the processes of one container."""

from __future__ import annotations

import asyncio

from seom.errors import InvalidParameter, NotSupported, SystemFailure


async def list_processes(pids: set[int], ps_args: str) -> tuple[list[str], list[list[str]]]:
    """(column titles, one row of cells per process). Raises InvalidParameter for options ps refuses."""
    try:
        ps = await asyncio.create_subprocess_exec(
            "ps", *ps_args.split(), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
    except FileNotFoundError as error:
        raise NotSupported("ps is not installed on this host; install the package procps") from error
    output, complaint = await ps.communicate()
    if ps.returncode != 0:
        raise InvalidParameter(f"ps {ps_args}: {complaint.decode(errors='replace').strip()}")
    lines = output.decode(errors="replace").splitlines()
    titles = lines[0].split() if lines else []
    if "PID" not in titles:
        raise SystemFailure("Couldn't find PID field in ps output")
    column = titles.index("PID")
    rows = []
    for line in lines[1:]:
        cells = line.split(None, len(titles) - 1)
        if len(cells) > column and cells[column].isdecimal() and int(cells[column]) in pids:
            rows.append(cells)
    return titles, rows
