"""What really is on this machine: containers by LXC's own tools, and what they and the parts leave in the kernel's files."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from .facts import Guest

GROUPS = Path("/sys/fs/cgroup")
STATES = {"RUNNING": "running", "STOPPED": "stopped", "FROZEN": "suspended", "STARTING": "starting", "STOPPING": "stopping"}
COMPANIONS = ("lxcfs", "dnsmasq", "lxc-monitord")
"""Daemons that outlive a worker on purpose."""
_NATIVE = re.compile(r"lxc\.(?:payload|monitor)\.(.+?)(?:-\d+)?$")


def containers(node: str, home: str) -> Iterator[Guest]:
    """The real guests of one node."""
    path = f"{home}/lxc"
    for name in _tool("lxc-ls", "-P", path, "-1").split():
        state = STATES.get(_tool("lxc-info", "-P", path, "-n", name, "-s", "-H").strip(), "unknown")
        pid = _tool("lxc-info", "-P", path, "-n", name, "-p", "-H").strip()
        memory = 0
        if pid.isdigit():
            groups = _groups(pid, name)
            state = "suspended" if _frozen(groups) else state
            memory = _memory(groups)
        snapshots = Path(path, name, "snapshots")
        kept = {each.name for each in snapshots.iterdir() if not each.name.startswith(".")} if snapshots.is_dir() else set()
        yield Guest(node, name, state, memory, frozenset(kept))


def left(nodes: Mapping[str, str], guests: Sequence[Guest], data: Sequence[str], supervisors: Sequence[int]) -> list[str]:
    """What lies about and belongs to no guest that is there, in words."""
    real = [guest for guest in guests if not Path(nodes[guest.node], "simulated.sqlite3").exists()]
    alive = {guest.native for guest in real if guest.state in ("running", "suspended")}
    found = [f"folder {path}" for home in nodes.values() for path in _folders(Path(home))]
    groups = {(path.name, match[1]) for path in GROUPS.rglob("lxc.*.*") if (match := _NATIVE.match(path.name))}
    found += [f"control group {name}" for name, native in sorted(groups) if native not in alive]
    cables = [path.name for path in Path("/sys/class/net").iterdir() if (path / "brport").exists()]
    if len(cables) != len(alive):
        found.append(f"{len(cables)} cables for {len(alive)} guests that run: {', '.join(sorted(cables))}")
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    found += [f"mount {line.split()[4]}" for line in mounts if any(f"{home}/lxc/" in line for home in nodes.values())]
    return found + list(_processes(data, supervisors, alive))


def _folders(home: Path) -> Iterator[Path]:
    """What is being made or removed: nothing is, just now."""
    for name in (".making", ".trash"):
        if (home / "lxc" / name).is_dir():
            yield from (home / "lxc" / name).iterdir()
    if (home / "images").is_dir():
        yield from (path for path in (home / "images").iterdir() if path.name.startswith("."))


def _processes(data: Sequence[str], supervisors: Sequence[int], alive: set[str]) -> Iterator[str]:
    """Of these clouds, those that no supervisor looks after and that are no guest's and no companion."""
    parents: dict[int, int] = {}
    ours: dict[int, str] = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            environment = (folder / "environ").read_bytes().split(b"\0")
            words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue
        if words.startswith("[lxc monitor]"):
            if words.split()[-1] not in alive and any(each in words for each in data):
                yield f"process {folder.name}: {words}"
        elif any(f"VMCLOUD_DATA={each}".encode() in environment for each in data):
            ours[int(folder.name)] = words
    for pid, words in ours.items():
        above = pid
        while above > 1 and above not in supervisors:
            above = parents.get(above, 0)
        program = words.split(" ")[0].rpartition("/")[2]
        if above not in supervisors and program not in COMPANIONS:
            yield f"process {pid}: {words[:200]}"


def _groups(pid: str, native: str) -> dict[str, Path]:
    """The folders of a guest's control groups, by controller; the one of version 2 under an empty name."""
    found = {}
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, group = line.split(":", 2)
        path = GROUPS / controllers.removeprefix("name=") / group.strip("/") if controllers else GROUPS / group.strip("/")
        while native not in path.name and path != GROUPS and native in str(path):
            path = path.parent
        found.update(dict.fromkeys(controllers.split(","), path))
    return found


def _frozen(groups: Mapping[str, Path]) -> bool:
    said = [_read(groups.get("freezer"), "freezer.state"), _read(groups.get(""), "cgroup.freeze")]
    return "FROZEN" in said or "1" in said


def _memory(groups: Mapping[str, Path]) -> int:
    """The limit in MiB; 0 where there is none to be read."""
    for controller, file in (("memory", "memory.limit_in_bytes"), ("", "memory.max")):
        if (text := _read(groups.get(controller), file)).isdigit() and int(text) < 1 << 50:
            return int(text) >> 20
    return 0


def _read(folder: Path | None, name: str) -> str:
    try:
        return (folder / name).read_text().strip() if folder else ""
    except OSError:
        return ""


def _tool(*argv: str) -> str:
    """What a program says; empty where it fails."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    return done.stdout if done.returncode == 0 else ""
