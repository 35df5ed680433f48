"""The guests of one node as their folders, and how a call finds the one that it is about."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from vmcloud.domain.vocabulary import Observed
from workers.drivers import tools
from workers.drivers.base import BadRequest, DriverError, NoSpace, NoSuchGuest, TimedOut, ToolFailed, check_name

from . import cgroups, folder, hold, process
from .config import Host, LxcSettings, limits
from .folder import POWER, Marker
from .process import Life

log = logging.getLogger(__name__)

LOG = "lxc.log"
CONSOLE = "console.log"

SETTLE = 10.0
"""Seconds that a guest between two states is given to arrive."""

NO_SPACE = ("No space left on device", "Disk quota exceeded")


class Guests:
    """Those of one LXCPATH. ``host`` are the machine's facts that shape new ones."""

    def __init__(self, settings: LxcSettings, host: Host) -> None:
        self.settings, self.host = settings, host
        self.path = settings.guests

    def folder(self, native: str) -> Path:
        """The folder of a guest of ours, there or not. Raises :class:`BadRequest` for a name that ours do not have."""
        check_name(native, "name")
        return self.path / native

    def marker(self, native: str, operation: str) -> Marker:
        """Our marker of a guest. Raises :class:`NoSuchGuest`, and :class:`BadRequest` for a guest that is not ours."""
        path = self.folder(native)
        marker = folder.read_marker(path)
        if marker is not None:
            return marker
        if path.exists():
            raise BadRequest(operation, f"{native} was not made by vmcloud", todo="Use the tools it was made with.")
        raise NoSuchGuest(operation, f"no guest is called {native} on this node")

    def look(self, marker: Marker) -> Life:
        """The guest's power now; what a snapshot froze counts as running, and is thawed if that snapshot was killed."""
        native = marker.guest.native
        life = process.recall(self.path, native)
        if life is None:
            life = process.look(self.path, native)
            self.booted(marker, life)
        if life.state is Observed.SUSPENDED and hold.mend(self.path / native, life):
            return Life(Observed.RUNNING, life.init, life.monitor)
        return life

    def booted(self, marker: Marker, life: Life, *, fresh: bool = False) -> None:
        """What a guest needs that runs by other processes than before. One that rebooted itself has from liblxc the sizes of its
        last start, and not those that it was given since; one that we started just now (``fresh``) has those."""
        if life.init and life.state in (Observed.RUNNING, Observed.SUSPENDED):
            with suppress(DriverError):
                if not fresh:
                    life.groups.set(limits(marker.guest, self.settings, self.host))
                life.groups.count_disk(self.path)
            process.remember(self.path, marker.guest.native, life)

    def settled(self, native: str) -> Life:
        """The guest's power once it is not on its way between two states, and no killed snapshot's hold is left. Raises
        :class:`TimedOut`."""
        end = time.monotonic() + SETTLE
        while True:
            life = process.look(self.path, native)
            if life.state not in (Observed.STARTING, Observed.STOPPING):
                if not hold.held(self.path / native):
                    return life
                hold.mend(self.path / native, life)
            if time.monotonic() > end:
                what = "held for a snapshot" if hold.held(self.path / native) else str(life.state)
                raise TimedOut("state", f"{native} has been {what} for {SETTLE:g} s")
            time.sleep(0.002)

    def running(self, native: str, operation: str) -> Life:
        """The guest's life. :class:`NoSuchGuest`; :class:`BadRequest` unless it runs."""
        self.marker(native, operation)
        life = self.settled(native)
        if life.state is Observed.SUSPENDED:
            raise BadRequest(operation, f"{native} is suspended, so nothing in it would answer", todo="Resume it first.")
        if life.state is not Observed.RUNNING:
            raise BadRequest(operation, f"{native} is {life.state}", todo="Start it first.")
        return life

    def power(self, native: str) -> str:
        """What we last ordered: ``running`` or ``stopped``."""
        return read(self.path / native / POWER).strip()

    def set_power(self, native: str, power: Observed) -> None:
        """Record what we order; durable when this returns, since it tells a crash from a shutdown after a power cut."""
        self.order_power(native, power)()

    def order_power(self, native: str, power: Observed) -> Callable[[], None]:
        """Record what we order; durable once the function that this returns was called, which must be. In between there is time
        to carry it out. Both raise :class:`DriverError`."""
        path = self.path / native / POWER

        def durably() -> None:
            try:
                sync()
            except OSError as error:
                raise translate("power", error) from error

        try:
            sync = folder.overwrite(path, power)
        except (FileNotFoundError, ValueError):
            sync = partial(folder.replace_durably, {path: power})
            durably()
            return lambda: None
        except OSError as error:
            raise translate("power", error) from error
        return durably

    def unplug(self, veth: str) -> None:
        """Remove a cable that a killed liblxc left; the next start could not make one of the same name."""
        if veth and Path(f"/sys/class/net/{veth}").exists():
            argv = [tools.require("ip", operation="network", package="iproute2"), "link", "del", veth]
            tools.run(argv, operation="network", timeout=10, check=False)

    def remove_groups(self, native: str) -> None:
        """Remove empty control groups that a killed liblxc left."""
        cgroups.remove_leftovers(native, self.settings.cgroup_prefix)


def copy_tree(source: Path, target: Path, operation: str) -> None:
    """Copy a tree with everything: owners, times, hard links, holes, device files (whiteouts of an overlay) and extended
    attributes. Shares blocks where the file system can. Raises :class:`NoSpace`."""
    keep = "--preserve=mode,ownership,timestamps,links,xattr"
    argv = [tools.require("cp", operation=operation, package="coreutils"), "-dR", keep, "--sparse=auto", "--reflink=auto"]
    try:
        tools.run([*argv, "--", os.fspath(source), os.fspath(target)], operation=operation, timeout=3600)
    except ToolFailed as error:
        if any(word in error.stderr for word in NO_SPACE):
            raise full(operation, str(target.parent)) from error
        raise


def full(operation: str, what: str) -> NoSpace:
    """The error of a full disk."""
    return NoSpace(operation, f"no space left: {what}", todo="Delete guests, snapshots or images on this node, or add disk.")


def translate(operation: str, error: OSError) -> DriverError:
    """An error of the file system as one of ours."""
    text = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    return full(operation, text) if error.errno in (28, 122) else ToolFailed(operation, text)  # ENOSPC, EDQUOT


def read(path: Path) -> str:
    """A file's text, or nothing."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def changed(path: Path) -> float:
    """When a file was last written, in seconds since the epoch; 0 if it is not there."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
