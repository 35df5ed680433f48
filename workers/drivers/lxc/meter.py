"""What running guests use, from their control groups (version 1 and 2) and the host's end of their cable."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from vmcloud.domain.messages import Usage
from workers.drivers.base import CannotLook

from . import folder
from .cgroups import Groups
from .config import host_veth
from .folder import Marker
from .guests import Guests

NETWORK = Path("/sys/class/net")


def usage(guests: Guests) -> list[Usage]:
    """That of every running guest of ours; one that ends meanwhile is left out."""
    found = []
    for _, marker in folder.entries(guests.path):
        life = guests.look(marker) if marker is not None else None
        if marker is not None and life is not None and life.init:
            with suppress(CannotLook):
                found.append(measure(marker, life.groups))
    return found


def measure(marker: Marker, groups: Groups, network: Path = NETWORK) -> Usage:
    """One guest's. What this kernel does not count is 0. Raises :class:`CannotLook` if the groups are gone."""
    if groups.version == 2:
        cpu = _words(groups.read("cpu.stat")).get("usage_usec", 0) / 1e6
        memory, peak = _number(groups.read("memory.current")), _number(groups.read("memory.peak"))
        disk_read, written = _io_stat(groups.read("io.stat"))
    else:
        cpu = _number(groups.read("cpuacct.usage")) / 1e9
        memory, peak = _number(groups.read("memory.usage_in_bytes")), _number(groups.read("memory.max_usage_in_bytes"))
        disk_read, written = _io_service_bytes(groups.read("blkio.throttle.io_service_bytes"))
    processes = _number(groups.read("pids.current"))
    if not processes:
        raise CannotLook("usage", f"{marker.guest.native} has ended")
    cable = network / host_veth(marker.guest) / "statistics"
    return Usage(
        ve=marker.guest.ve,
        cpu_seconds=cpu,
        memory_bytes=memory,
        memory_peak_bytes=max(peak, memory),
        disk_read_bytes=disk_read,
        disk_written_bytes=written,
        # The host's end receives what the guest sends.
        received_bytes=_number(_read(cable / "tx_bytes")),
        sent_bytes=_number(_read(cable / "rx_bytes")),
        processes=processes,
    )


def _io_stat(text: str) -> tuple[int, int]:
    """Bytes read and written, of all devices: ``8:0 rbytes=1 wbytes=2 …``."""
    sums = {"rbytes": 0, "wbytes": 0}
    for word in text.split():
        name, _, value = word.partition("=")
        if name in sums:
            sums[name] += _number(value)
    return sums["rbytes"], sums["wbytes"]


def _io_service_bytes(text: str) -> tuple[int, int]:
    """Bytes read and written, of all devices: lines ``8:0 Read 1``, and last ``Total 3``."""
    sums = {"Read": 0, "Write": 0}
    for line in text.splitlines():
        match line.split():
            case [_, name, value] if name in sums:
                sums[name] += _number(value)
    return sums["Read"], sums["Write"]


def _words(text: str) -> dict[str, int]:
    """Lines ``name number``."""
    return {name: _number(value) for name, _, value in (line.partition(" ") for line in text.splitlines())}


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
