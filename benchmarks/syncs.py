"""How often processes wait for the disk, counted by strace(1)."""

from __future__ import annotations

import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

CALLS = "fsync,fdatasync,msync,sync_file_range"
PATIENCE = 10.0


@contextmanager
def counted(pids: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """By name, the calls of each process and its threads within the block; filled at its end."""
    found: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        traces = {name: Path(folder) / name for name in pids}
        runs = [_attach(pid, traces[name]) for name, pid in pids.items()]
        try:
            yield found
        finally:
            for run in runs:
                run.send_signal(signal.SIGINT)
            for run in runs:
                run.wait(PATIENCE)
        found.update({name: len(re.findall(r"sync[a-z_]*\(", path.read_text())) for name, path in traces.items()})


def _attach(pid: int, output: Path) -> subprocess.Popen[bytes]:
    run = subprocess.Popen(
        ["strace", "-f", "-qq", "-e", f"trace={CALLS}", "-o", str(output), "-p", str(pid)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + PATIENCE
    while not _traced(pid):
        assert run.poll() is None and time.monotonic() < deadline, f"strace does not attach to process {pid}"
        time.sleep(0.02)
    return run


def _traced(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("TracerPid:")[2].split()[0]) != 0
